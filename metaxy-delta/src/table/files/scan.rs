//! Scans: the files and row groups of a version are read by several workers.
//!
//! The files of one version of the table are divided into pieces (a small file, or one row group of a large one). A few
//! workers take them in turn, decode the requested columns on blocking threads, and send the rows. The number of
//! batches that are decoded and not yet fetched is bounded, so memory does not grow with the table.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt};
use metaxy_core::backend::BatchStream;
use metaxy_core::error::{Error, Result};

use crate::KIND;
use crate::table::log::Table;
use crate::table::log::state::{DataFile, TableState};

use super::job::{Filters, Job};
use super::piece::Piece;
use super::workers::{REMOTE_WORKERS, Workers};

/// Files up to this size are read in one piece.
const SMALL_FILE: u64 = 4 << 20;

/// A file, and whether its rows have to be filtered.
type Judged = (Arc<DataFile>, bool);

/// Reads columns of some files, for the rows that pass the filters.
pub(crate) fn rows(
    table: Arc<Table>,
    state: &TableState,
    files: Vec<Arc<DataFile>>,
    names: &[String],
    filters: Filters,
) -> BatchStream {
    let judge = |file: Arc<DataFile>| {
        let is_filtered = filters.judge(&state.schema, file.stats())?;
        Some((file, is_filtered))
    };
    let files: Vec<Judged> = files.into_iter().filter_map(judge).collect();
    run(Arc::new(Job::new(table, state, names, filters)), files)
}

/// Starts the workers when the stream is first polled, and returns their batches.
fn run(job: Arc<Job>, files: Vec<Judged>) -> BatchStream {
    let start = {
        let job = job.clone();
        async move {
            let pieces = cut(&job, files).await?;
            Ok::<_, Error>(Workers::start(&job, pieces))
        }
    };
    let batches = futures::stream::once(start).try_flatten_unordered(None);
    batches.or_else(move |error| explained(job.clone(), error)).boxed()
}

/// Returns the error of a read: a missing file is damage, unless the table was dropped.
async fn explained(job: Arc<Job>, error: Error) -> Result<RecordBatch> {
    let Error::Corrupt { .. } = error else { return Err(error) };
    let now = job.table.refresh().await;
    if now.is_ok_and(|now| now.is_some_and(|now| now.id() == job.table_id)) {
        return Err(error);
    }
    let dropped = "the table was dropped while it was being read";
    Err(Error::table(KIND, "reading", &job.table.name, dropped).with_transient(true))
}

/// Divides large files into row groups.
async fn cut(job: &Arc<Job>, files: Vec<Judged>) -> Result<VecDeque<Piece>> {
    let pieces = futures::stream::iter(files)
        .map(|(file, is_filtered)| {
            let job = job.clone();
            async move {
                match file.size <= SMALL_FILE {
                    true => Ok(vec![Piece::File(file, is_filtered)]),
                    false => Piece::row_groups(&job, &file, is_filtered).await,
                }
            }
        })
        .buffered(REMOTE_WORKERS);
    let pieces: Vec<Vec<Piece>> = pieces.try_collect().await?;
    Ok(pieces.into_iter().flatten().collect())
}
