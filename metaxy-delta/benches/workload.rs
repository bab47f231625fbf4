//! The paper's workload on Delta tables in a directory, compared with the engine alone and the Python package on Delta.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use metaxy_core::error::BoxError;
use metaxy_core::{SharedBackend, VersioningEngine};
use metaxy_delta::{DeltaBackend, DeltaConfig};
use metaxy_testkit::workload::{self, Subject};

fn main() -> ExitCode {
    workload::run([
        Subject::engine_alone().reference("delta"),
        Subject::new("delta", open).reference("delta"),
        Subject::new("delta by streams", open).streamed().reference("delta"),
        Subject::new("delta native (DataFusion)", open).versioning_engine(VersioningEngine::Native).reference("delta"),
    ])
}

fn open(dir: &Path) -> Result<SharedBackend, BoxError> {
    Ok(Arc::new(DeltaBackend::new(DeltaConfig::new(dir.display().to_string()))?))
}
