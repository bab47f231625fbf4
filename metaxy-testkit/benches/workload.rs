//! The engine alone: the workload on batches in memory.

use std::process::ExitCode;

use metaxy_testkit::workload::{self, Subject};

fn main() -> ExitCode {
    workload::run([Subject::engine_alone().reference("delta")])
}
