//! The data files into which a query writes its rows, as a table of DataFusion, and the operator that writes them.

use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::array::{RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use deltalake::datafusion::catalog::{Session, TableProvider};
use deltalake::datafusion::common::tree_node::TreeNodeRecursion;
use deltalake::datafusion::datasource::provider_as_source;
use deltalake::datafusion::error::{DataFusionError, Result};
use deltalake::datafusion::execution::{SendableRecordBatchStream, TaskContext};
use deltalake::datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType};
use deltalake::datafusion::physical_expr::PhysicalExpr;
use deltalake::datafusion::physical_plan::execution_plan::EmissionType;
use deltalake::datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use deltalake::datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::stream::{self, StreamExt};
use metaxy_core::backend::Completion;
use metaxy_core::{Error, executor};

use crate::write::write_below;

use super::Declined;
use super::only_input::{only_input, properties_of};
use super::query::ExpectedRows;
use super::rows::Source;

/// One row for each task: the number of rows that it has written, and its files as a JSON list of the actions that add
/// them to the table.
static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let fields = [Field::new("rows", DataType::UInt64, false), Field::new("files", DataType::Utf8, false)];
    Arc::new(Schema::new(fields.to_vec()))
});

/// Where and how rows are written.
#[derive(Clone)]
pub(super) struct Write {
    /// The table as it will be.
    pub(super) target: Source,
    /// The directory of the files below the table.
    pub(super) directory: String,
    pub(super) expected: ExpectedRows,
    pub(super) completion: Completion,
}

impl Write {
    /// Writes the rows of a task.
    async fn run(self, rows: SendableRecordBatchStream) -> metaxy_core::Result<RecordBatch> {
        let part = self.target.open().await?;
        let Self { directory, expected, completion, .. } = self;
        let schema = completion.schema.clone();
        let count = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counting = count.clone();
        let complete = move |batch: Result<RecordBatch>| {
            let batch = batch.map_err(|error| Error::backend(crate::KIND, "reading the rows to write", error))?;
            counting.fetch_add(batch.num_rows() as u64, std::sync::atomic::Ordering::Relaxed);
            executor::completed(&completion, &expected.of(&batch)?)
        };
        let files = write_below(&part.table, &part.state, &directory, &schema, rows.map(complete).boxed()).await?;
        let files = serde_json::to_string(&files)
            .map_err(|error| Error::backend(crate::KIND, "naming the files that were written", error))?;
        let rows = UInt64Array::from_value(count.load(std::sync::atomic::Ordering::Relaxed), 1);
        Ok(RecordBatch::try_new(SCHEMA.clone(), vec![Arc::new(rows), Arc::new(StringArray::from(vec![files]))])?)
    }
}

/// The files that a query writes when it is read.
pub(super) struct WrittenFiles {
    pub(super) query: LogicalPlan,
    pub(super) write: Write,
}

impl WrittenFiles {
    pub(super) fn new(query: LogicalPlan, write: Write) -> Self {
        Self { query, write }
    }

    /// Returns the query that writes.
    pub(super) fn query(self) -> std::result::Result<LogicalPlan, Declined> {
        Ok(LogicalPlanBuilder::scan("files", provider_as_source(Arc::new(self)), None)?.build()?)
    }
}

#[async_trait]
impl TableProvider for WrittenFiles {
    fn schema(&self) -> SchemaRef {
        SCHEMA.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        session: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // All columns are read, in their order.
        let rows = session.create_physical_plan(&self.query).await?;
        Ok(Arc::new(WriteRows::new(rows, self.write.clone())))
    }
}

/// Writes the rows of each partition, and returns the files.
#[derive(Debug)]
pub(super) struct WriteRows {
    rows: Arc<dyn ExecutionPlan>,
    pub(super) write: Write,
    properties: Arc<PlanProperties>,
}

impl WriteRows {
    pub(super) fn new(rows: Arc<dyn ExecutionPlan>, write: Write) -> Self {
        let properties = properties_of(&rows, &SCHEMA, EmissionType::Final);
        Self { rows, write, properties }
    }
}

impl DisplayAs for WriteRows {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteRows: {:?}", self.write)
    }
}

impl ExecutionPlan for WriteRows {
    fn name(&self) -> &str {
        "WriteRows"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.rows]
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
        Ok(Arc::new(Self::new(only_input(children, self.name())?, self.write.clone())))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (write, rows) = (self.write.clone(), self.rows.execute(partition, context)?);
        let written = async move { write.run(rows).await.map_err(|error| DataFusionError::External(Box::new(error))) };
        Ok(Box::pin(RecordBatchStreamAdapter::new(SCHEMA.clone(), stream::once(written).boxed())))
    }
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write").field("table", &self.target.name()).field("directory", &self.directory).finish()
    }
}

impl fmt::Debug for WrittenFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WrittenFiles").field("write", &self.write).finish_non_exhaustive()
    }
}
