//! The buffered writer on Delta tables in a directory, compared with direct writes of the same size.

use std::process::ExitCode;
use std::sync::Arc;

use metaxy_delta::{DeltaBackend, DeltaConfig};
use metaxy_testkit::workload::{self, Subject};

fn main() -> ExitCode {
    workload::run_writer([Subject::new("delta", |dir| {
        Ok(Arc::new(DeltaBackend::new(DeltaConfig::new(dir.display().to_string()))?))
    })])
}
