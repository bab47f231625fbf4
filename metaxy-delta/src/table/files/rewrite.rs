//! Rewrites the rows of data files into new files, without a commit.

use std::sync::Arc;

use arrow::array::RecordBatch;
use deltalake::kernel::Add;
use futures::TryStreamExt;
use metaxy_core::blocking;
use metaxy_core::error::Result;

use crate::table::log::Table;
use crate::table::log::state::{DataFile, TableState};

use super::job::Filters;
use super::scan::rows;
use super::sink::FileSink;

/// Writes the rows of some files for which `keep` is true into new files, one for each partition.
pub(crate) async fn rewrite(
    table: &Arc<Table>,
    state: &Arc<TableState>,
    files: Vec<Arc<DataFile>>,
    keep: impl Fn(RecordBatch) -> Result<RecordBatch> + Send + 'static,
) -> Result<Vec<Add>> {
    let names: Vec<String> = state.schema.logical.fields().iter().map(|field| field.name().clone()).collect();
    let mut stream = rows(table.clone(), state, files, &names, Filters::default());
    let (table, schema) = (table.clone(), state.schema.clone());
    blocking::drive(async move {
        let mut sink = FileSink::new(&table, &schema);
        while let Some(batch) = stream.try_next().await? {
            sink.write(&keep(batch)?).await?;
        }
        sink.close().await
    })
    .await
}
