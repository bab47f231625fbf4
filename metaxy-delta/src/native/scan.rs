//! The rows of a table as a table of DataFusion, and the operator that reads them.

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use async_trait::async_trait;
use deltalake::datafusion::catalog::{Session, TableProvider};
use deltalake::datafusion::common::tree_node::TreeNodeRecursion;
use deltalake::datafusion::datasource::memory::MemorySourceConfig;
use deltalake::datafusion::error::{DataFusionError, Result};
use deltalake::datafusion::execution::{SendableRecordBatchStream, TaskContext};
use deltalake::datafusion::logical_expr::{Expr, TableType};
use deltalake::datafusion::physical_expr::PhysicalExpr;
use deltalake::datafusion::physical_plan::execution_plan::EmissionType;
use deltalake::datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use deltalake::datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::stream::{self, TryStreamExt};

use super::only_input::{only_input, properties_of};
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
        Ok(Arc::new(ReadRows::new(shares(self.shares)?, rows)))
    }
}

/// Returns the numbers of all shares, each as a partition. Ballista divides what it knows among tasks: it knows rows in
/// memory, and not our operators.
fn shares(count: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = Arc::new(Schema::new(vec![Field::new("share", DataType::UInt64, false)]));
    let number = |share: usize| -> Result<Vec<RecordBatch>> {
        let numbers = UInt64Array::from_value(share as u64, 1);
        Ok(vec![RecordBatch::try_new(schema.clone(), vec![Arc::new(numbers)])?])
    };
    let partitions = (0..count.max(1)).map(number).collect::<Result<Vec<_>>>()?;
    Ok(MemorySourceConfig::try_new_exec(&partitions, schema.clone(), None)?)
}

/// Reads the rows of the shares whose numbers it is given.
#[derive(Debug)]
pub(super) struct ReadRows {
    shares: Arc<dyn ExecutionPlan>,
    pub(super) rows: LiveRows,
    properties: Arc<PlanProperties>,
}

impl ReadRows {
    pub(super) fn new(shares: Arc<dyn ExecutionPlan>, rows: LiveRows) -> Self {
        let properties = properties_of(&shares, &rows.schema, EmissionType::Incremental);
        Self { shares, rows, properties }
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
        vec![&self.shares]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(only_input(children, self.name())?, self.rows.clone())))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.rows.clone();
        let numbers = self.shares.execute(partition, context)?;
        let read = numbers.map_ok(move |numbers| {
            let rows = rows.clone();
            let numbers = numbers.column(0).as_primitive::<UInt64Type>().values().to_vec();
            let of_shares = numbers.into_iter().map(move |number| Ok::<_, DataFusionError>(rows.read(number)));
            stream::iter(of_shares).try_flatten()
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.rows.schema.clone(), read.try_flatten())))
    }
}
