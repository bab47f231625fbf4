//! Maintenance after some commits: small files are merged, and a checkpoint of the log is written.
//!
//! A store that is written every two seconds would soon have thousands of small files. After a number of commits the
//! small files are rewritten as one; a large file is never rewritten, so no row is rewritten often. The write that
//! triggers the maintenance takes longer, and succeeds even if the maintenance fails.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltalake::kernel::{Action, Add};
use deltalake::protocol::DeltaOperation;
use metaxy_core::error::Result;

use super::files;
use super::log::protocol::Change;
use super::log::state::{DataFile, TableState, check_files};
use super::log::{COMMIT_ATTEMPTS, Commit, Table};

/// Files of this size and larger are not rewritten.
const LARGE: u64 = 4 << 20;
/// Files of this size and larger are not rewritten even in a full compaction.
const FULL: u64 = 128 << 20;
/// The maximum number of bytes that are rewritten at a time.
const MOST: u64 = 64 << 20;
/// The minimum number of files that are merged.
const LEAST: usize = 10;
/// The number of attempts of the commit against other writers.
const ATTEMPTS: usize = 5;

/// Merges small files and writes a checkpoint, if a commit triggers it.
pub(crate) async fn after_commit(table: &Arc<Table>, version: u64) {
    if !(version + 1).is_multiple_of(table.upkeep.checkpoint_interval) {
        return;
    }
    if table.upkeep.auto_compact
        && let Err(error) = merge_small_files(table).await
    {
        tracing::warn!(table = table.name, version, %error, "small files could not be merged");
    }
    if let Err(error) = table.checkpoint().await {
        tracing::warn!(table = table.name, version, %error, "the checkpoint could not be written");
    }
}

async fn merge_small_files(table: &Arc<Table>) -> Result<()> {
    let Some(state) = table.refresh().await? else { return Ok(()) };
    let files = small_files(&state);
    if files.len() < LEAST {
        return Ok(());
    }
    let adds = rewrite(table, &state, &files).await?;
    replace(table, &files, &adds).await.map(|_| ())
}

/// Merges all files below the target size.
pub(crate) async fn compact(table: &Arc<Table>) -> Result<()> {
    for attempt in 0..COMMIT_ATTEMPTS {
        if attempt > 0 {
            table.back_off(attempt).await;
        }
        let Some(state) = table.refresh().await? else { return Ok(()) };
        let files: Vec<_> = partitions(&state, FULL).into_iter().filter(|files| files.len() > 1).flatten().collect();
        if files.len() < 2 {
            return table.checkpoint().await;
        }
        let adds = rewrite(table, &state, &files).await?;
        let _turn = table.turn.lock().await;
        if replace(table, &files, &adds).await? {
            return table.checkpoint().await;
        }
    }
    Err(table.conflict())
}

/// Replaces files by new ones, and returns whether it has. It has not if other writers have changed one of them since:
/// rows of a removed file must not be added again.
async fn replace(table: &Arc<Table>, files: &[Arc<DataFile>], adds: &[Add]) -> Result<bool> {
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            table.back_off(attempt).await;
        }
        let Some(state) = table.refresh().await? else { return Ok(false) };
        let ids = state.file_ids();
        if !files.iter().all(|file| ids.contains(file.id.as_str())) {
            return Ok(false);
        }
        let removes = files.iter().map(|file| Action::Remove(file.remove(false)));
        let actions = removes.chain(adds.iter().cloned().map(Action::Add)).collect();
        let operation = DeltaOperation::Optimize { predicate: None, target_size: LARGE.cast_signed() };
        match table.commit(Some(&state), actions, operation).await? {
            Commit::Done(_) => return Ok(true),
            Commit::Raced => {}
        }
    }
    Ok(false)
}

/// Returns the smallest files of each partition that has enough of them.
fn small_files(state: &TableState) -> Vec<Arc<DataFile>> {
    let mut bytes = 0;
    partitions(state, LARGE)
        .into_iter()
        .filter(|files| files.len() >= LEAST)
        .flat_map(|mut files| {
            files.sort_by_key(|file| file.size);
            files
        })
        .take_while(|file| {
            bytes += file.size;
            bytes <= MOST
        })
        .collect()
}

/// Returns the files below a size, grouped by partition; a table without partitions has one group.
fn partitions(state: &TableState, size: u64) -> Vec<Vec<Arc<DataFile>>> {
    let mut partitions: BTreeMap<BTreeMap<&str, Option<&str>>, Vec<Arc<DataFile>>> = BTreeMap::new();
    for file in state.files.iter().filter(|file| file.size < size) {
        let values = file.partition_values.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        partitions.entry(values.collect()).or_default().push(file.clone());
    }
    partitions.into_values().collect()
}

/// Rewrites the rows of some files into one file for each partition.
async fn rewrite(table: &Arc<Table>, state: &Arc<TableState>, files: &[Arc<DataFile>]) -> Result<Vec<Add>> {
    state.check_writable(&table.name, Change::Move)?;
    check_files(&table.name, files)?;
    let adds = files::rewrite(table, state, files.to_vec(), Ok).await?;
    Ok(adds.into_iter().map(|add| Add { data_change: false, ..add }).collect())
}
