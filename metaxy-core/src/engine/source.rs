//! Where the engine gets the rows of a plan from.

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use crate::error::Result;
use crate::scan::{Scan, ScanRequest};

/// The rows of an input.
pub(crate) enum InputScan {
    Table(Scan),
    /// An optional input without a table, with the schema of the columns that are known of it.
    Missing(SchemaRef),
}

/// The tables of one plan.
#[async_trait]
pub(crate) trait PlanSource: Send + Sync {
    /// Begins to read an input, by its position in the plan, as its request says.
    async fn input(&self, index: usize) -> Result<InputScan>;

    /// Begins to read the feature's own table.
    async fn current(&self, request: &ScanRequest) -> Result<Scan>;
}
