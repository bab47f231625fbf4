//! The paper's workload on Delta tables in a directory, compared with the engine alone and the Python package on Delta.

use std::process::ExitCode;
use std::sync::Arc;

use metaxy_delta::{DeltaBackend, DeltaConfig};
use metaxy_testkit::workload::{self, Subject};

fn main() -> ExitCode {
    workload::run([
        Subject::engine_alone().reference("delta"),
        Subject::new("delta", |dir| Ok(Arc::new(DeltaBackend::new(DeltaConfig::new(dir.display().to_string()))?)))
            .reference("delta"),
    ])
}
