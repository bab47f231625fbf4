//! The rows of a table as a table of DataFusion, and the operator that reads them.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use deltalake::datafusion::catalog::{Session, TableProvider};
use deltalake::datafusion::common::tree_node::TreeNodeRecursion;
use deltalake::datafusion::error::Result;
use deltalake::datafusion::execution::{SendableRecordBatchStream, TaskContext};
use deltalake::datafusion::logical_expr::{Expr, TableType};
use deltalake::datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use deltalake::datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use deltalake::datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use super::rows::LiveRows;

#[async_trait]
impl TableProvider for LiveRows {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = projection.map_or_else(|| Ok(self.clone()), |columns| self.projected(columns))?;
        Ok(Arc::new(ReadRows::new(rows)))
    }
}

/// Reads rows, each share of the files as a partition.
#[derive(Debug)]
pub(super) struct ReadRows {
    pub(super) rows: LiveRows,
    properties: Arc<PlanProperties>,
}

impl ReadRows {
    pub(super) fn new(rows: LiveRows) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(rows.schema.clone()),
            Partitioning::UnknownPartitioning(rows.shares.max(1)),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Self { rows, properties }
    }
}

impl DisplayAs for ReadRows {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadRows: {:?}", self.rows)
    }
}

impl ExecutionPlan for ReadRows {
    fn name(&self) -> &str {
        "ReadRows"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Ok(self.rows.read(partition))
    }
}
