//! The rows of a table as a table of a query: those of its live files, read by the readers of scans.
//!
//! DataFusion's own Parquet source knows neither deletion vectors nor column mapping, and decodes other types than those
//! that the table states. Inside of a query columns are named by their numbers, because DataFusion's names have a syntax.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use deltalake::datafusion::error::{DataFusionError, Result as DataFusionResult};
use deltalake::datafusion::execution::SendableRecordBatchStream;
use deltalake::datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::{self, StreamExt, TryStreamExt};
use metaxy_core::backend::BatchStream;
use metaxy_core::filter::Predicate;
use metaxy_core::{Error, Result};

use crate::table::files::{Filters, rows};
use crate::types::Column;

use super::Part;
#[cfg(feature = "ballista")]
use super::sent_part::NamedPart;

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

/// The table of [`LiveRows`].
#[derive(Clone)]
pub(super) enum Source {
    /// One that this process has opened.
    Open(Arc<Part>),
    /// One that another process has named: it is opened to be read.
    #[cfg(feature = "ballista")]
    Named(Arc<NamedPart>),
}

impl Source {
    pub(super) async fn open(self) -> Result<Arc<Part>> {
        match self {
            Self::Open(part) => Ok(part),
            #[cfg(feature = "ballista")]
            Self::Named(part) => part.open().await,
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Open(part) => part.table.name.clone(),
            #[cfg(feature = "ballista")]
            Self::Named(part) => part.sent.key.table_name(),
        }
    }
}

/// Some columns of the rows of a table for which a predicate is true.
#[derive(Clone)]
pub(super) struct LiveRows {
    pub(super) source: Source,
    pub(super) names: Vec<String>,
    pub(super) filter: Option<Predicate>,
    /// The columns in the query, as many as `names`.
    pub(super) schema: SchemaRef,
    /// The number of shares of the files that are read on their own.
    pub(super) shares: usize,
    pub(super) failure: Failure,
}

impl LiveRows {
    pub(super) fn new(part: &Arc<Part>, names: &[String], filter: Option<Predicate>, failure: &Failure) -> Self {
        let columns: Vec<&Column> = names.iter().filter_map(|name| part.state.schema.column(name)).collect();
        let field = |(number, column): (usize, &&Column)| {
            Field::new(column_name(number), column.logical.data_type().clone(), true)
        };
        let schema = Arc::new(Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>()));
        let names = columns.iter().map(|column| column.logical.name().clone()).collect();
        let source = Source::Open(part.clone());
        Self { source, names, filter, schema, shares: part.shares, failure: failure.clone() }
    }

    /// Returns some of the columns.
    pub(super) fn projected(&self, columns: &[usize]) -> DataFusionResult<Self> {
        let schema = Arc::new(self.schema.project(columns)?);
        let names = columns.iter().map(|column| self.names[*column].clone()).collect();
        Ok(Self { names, schema, ..self.clone() })
    }

    /// Reads the rows of a share.
    pub(super) fn read(&self, share: u64) -> SendableRecordBatchStream {
        let (schema, failure) = (self.schema.clone(), self.failure.clone());
        let named = self.clone().share(share).map(move |batch| {
            let batch = batch.map_err(|error| failure.keep(error))?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let batch = RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)?;
            Ok::<_, DataFusionError>(stream::iter(pieces(&batch).into_iter().map(Ok)))
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), named.try_flatten()))
    }

    fn share(self, share: u64) -> BatchStream {
        let Self { source, names, filter, shares, .. } = self;
        let opened = async move {
            let part = source.open().await?;
            let Part { table, state, .. } = part.as_ref();
            let first = usize::try_from(share).unwrap_or(usize::MAX);
            let files = state.files.iter().skip(first).step_by(shares.max(1)).cloned().collect();
            let filters = Filters { rows: filter, ..Filters::default() };
            Ok::<_, Error>(rows(table.clone(), state, files, &names, filters))
        };
        stream::once(opened).try_flatten().boxed()
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
        f.debug_struct("LiveRows").field("table", &self.source.name()).field("names", &self.names).finish()
    }
}
