//! The source from which the engine reads the tables of a plan.

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use crate::error::Result;
use crate::scan::{Scan, ScanRequest};

/// The rows of an input.
pub(crate) enum InputScan {
    Table(Scan),
    /// An optional input without a table, with the schema of its known columns.
    Missing(SchemaRef),
}

/// The tables of one plan.
#[async_trait]
pub(crate) trait PlanSource: Send + Sync {
    /// Begins to read an input, given by its position in the plan, with the plan's request.
    async fn input(&self, index: usize) -> Result<InputScan>;

    /// Begins to read the feature's own table.
    async fn current(&self, request: &ScanRequest) -> Result<Scan>;
}
