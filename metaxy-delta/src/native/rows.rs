//! The rows of a table as a source of a query: those of its live files, read by the readers of scans.
//!
//! DataFusion's own Parquet source knows neither deletion vectors nor column mapping, and decodes other types than those
//! that the table states. Inside of a query columns are named by their numbers, because DataFusion's names have a syntax.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use deltalake::datafusion::error::DataFusionError;
use deltalake::datafusion::execution::{SendableRecordBatchStream, TaskContext};
use deltalake::datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use deltalake::datafusion::physical_plan::streaming::PartitionStream;
use futures::stream::{self, StreamExt, TryStreamExt};
use metaxy_core::Error;
use metaxy_core::filter::Predicate;

use crate::table::files::{Filters, rows};

use super::Part;

/// The rows and about the bytes that DataFusion gets at a time.
const PIECE_ROWS: usize = 8_192;
const PIECE_BYTES: usize = 1 << 20;

/// The first error of the readers of a query. DataFusion may wrap the errors of its sources, and hand one out several
/// times; the caller gets the original.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure(Arc<Mutex<Option<Error>>>);

impl Failure {
    /// Keeps an error if it is the first, and returns one for DataFusion.
    fn keep(&self, error: Error) -> DataFusionError {
        let text = error.to_string();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        DataFusionError::Execution(text)
    }

    /// Returns the error, once.
    pub(super) fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Some columns of the rows of a table for which a predicate is true.
pub(super) struct LiveRows {
    part: Arc<Part>,
    names: Vec<String>,
    filter: Option<Predicate>,
    schema: SchemaRef,
    failure: Failure,
}

impl LiveRows {
    pub(super) fn new(part: &Arc<Part>, names: &[String], filter: Option<Predicate>, failure: &Failure) -> Self {
        let columns = names.iter().filter_map(|name| part.state.schema.column(name)).enumerate();
        let field = |(number, column): (usize, &crate::types::Column)| {
            Field::new(column_name(number), column.logical.data_type().clone(), true)
        };
        let schema = Arc::new(Schema::new(columns.map(field).collect::<Vec<_>>()));
        Self { part: part.clone(), names: names.to_vec(), filter, schema, failure: failure.clone() }
    }
}

/// Divides rows: a sort cannot begin if the memory that is left does not hold a batch.
fn pieces(batch: &RecordBatch) -> Vec<RecordBatch> {
    let rows = batch.num_rows();
    let small = rows.saturating_mul(PIECE_BYTES) / batch.get_array_memory_size().max(1);
    let step = small.clamp(1, PIECE_ROWS);
    (0..rows).step_by(step).map(|start| batch.slice(start, step.min(rows - start))).collect()
}

/// Returns the name of a column inside of a query.
pub(super) fn column_name(number: usize) -> String {
    format!("c{number}")
}

impl fmt::Debug for LiveRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveRows").field("table", &self.part.table.name).field("names", &self.names).finish()
    }
}

impl PartitionStream for LiveRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let Part { table, state, .. } = self.part.as_ref();
        let filters = Filters { rows: self.filter.clone(), ..Filters::default() };
        let read = rows(table.clone(), state, state.files.to_vec(), &self.names, filters);
        let (schema, failure) = (self.schema.clone(), self.failure.clone());
        let named = read.map(move |batch| {
            let batch = batch.map_err(|error| failure.keep(error))?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let batch = RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)?;
            Ok::<_, DataFusionError>(stream::iter(pieces(&batch).into_iter().map(Ok)))
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), named.try_flatten()))
    }
}
