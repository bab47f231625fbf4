//! Keeping tables in shape, and taking them away.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use deltalake::DeltaTable;
use deltalake::kernel::Action;
use deltalake::operations::vacuum::VacuumMode;
use deltalake::protocol::DeltaOperation;
use futures::{StreamExt, TryStreamExt};
use metaxy_core::blocking;
use metaxy_core::error::{Error, Result};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore};
use uuid::Uuid;

use crate::error::chain;
use crate::log::{Commit, Table};
use crate::storage::LOG_DIRECTORY;
use crate::storage::{failed, sync_directory};

/// A file that no commit names may belong to a write that is still under way; after this long it does not.
const LONGEST_WRITE: Duration = Duration::from_secs(24 * 60 * 60);
/// How often an operation of `deltalake` is tried against other writers.
const ATTEMPTS: usize = 10;

/// Removes files and log entries that no version within the retention needs; returns how many. A commit, a compaction or a
/// drop that comes in between may take away what was about to be read: whether that is damage, the table itself tells.
pub(crate) async fn vacuum(table: &Arc<Table>, retention: Duration) -> Result<u64> {
    let mut removed = 0;
    let mut attempt = 0;
    while table.refresh().await?.is_some() {
        attempt += 1;
        match vacuum_once(table, retention, &mut removed).await {
            Err(Error::Conflict { .. } | Error::Corrupt { .. } | Error::LocationNotFound { .. })
                if attempt < ATTEMPTS =>
            {
                table.back_off(attempt).await;
                table.forget();
            }
            outcome => return outcome.map(|()| removed),
        }
    }
    Ok(removed)
}

async fn vacuum_once(table: &Arc<Table>, retention: Duration, removed: &mut u64) -> Result<()> {
    // What the log once named, and what it never did.
    for (mode, age) in [(VacuumMode::Lite, retention), (VacuumMode::Full, retention.max(LONGEST_WRITE))] {
        let age = chrono::Duration::from_std(age).unwrap_or(chrono::Duration::MAX);
        *removed += table
            .on_loaded("vacuum", move |delta: DeltaTable| async move {
                let vacuum = delta.vacuum().with_mode(mode).with_retention_period(age);
                let (_, metrics) = vacuum.with_enforce_retention_duration(false).await?;
                Ok(metrics.files_deleted.len() as u64)
            })
            .await?;
    }
    *removed += table
        .on_loaded("vacuum", |delta: DeltaTable| async move {
            Ok(deltalake::checkpoints::cleanup_metadata(&delta, None).await? as u64)
        })
        .await?;
    if let Some(directory) = table.directory.clone() {
        *removed += blocking::run(move || Ok(remove_staged(&directory, retention.max(LONGEST_WRITE)))).await?;
    }
    Ok(())
}

/// Removes what writers that were killed have left of files they had not finished.
fn remove_staged(directory: &FsPath, age: Duration) -> u64 {
    let Some(limit) = SystemTime::now().checked_sub(age) else { return 0 };
    let entries = [directory.to_owned(), directory.join(LOG_DIRECTORY)]
        .into_iter()
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flatten()
        .flatten();
    let staged = entries.filter(|entry| {
        let name = entry.file_name();
        let suffix = name.to_str().and_then(|name| name.rsplit_once('#')).map(|(_, suffix)| suffix);
        let old = entry.metadata().and_then(|data| data.modified()).is_ok_and(|modified| modified < limit);
        old && suffix.is_some_and(|suffix| !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit()))
    });
    staged.filter(|entry| std::fs::remove_file(entry.path()).is_ok()).count() as u64
}

/// Removes a table.
pub(crate) async fn drop_table(table: &Arc<Table>) -> Result<()> {
    let _turn = table.turn.lock().await;
    let dropped = match table.directory.clone() {
        Some(directory) => {
            let place = directory.clone();
            let dropped = blocking::run(move || Ok(drop_directory(&directory))).await?;
            dropped.map_err(|error| table.context.store("drop", Some(&table.name), failed(&place, error)))
        }
        None => drop_objects(table).await,
    };
    table.forget();
    dropped
}

/// The table is gone at once, under a name that no table has; its files follow.
fn drop_directory(directory: &FsPath) -> std::io::Result<()> {
    let parent = directory.parent().unwrap_or(directory);
    let gone: PathBuf = parent.join(format!(".dropped-{}", Uuid::new_v4()));
    match std::fs::rename(directory, &gone) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    sync_directory(parent)?;
    std::fs::remove_dir_all(gone)
}

/// An object store renames nothing at once. First a commit empties the table, so that nobody sees half of it; then the
/// log goes, its last commit last, and then the data.
async fn drop_objects(table: &Arc<Table>) -> Result<()> {
    empty(table).await?;
    let store = table.log.object_store(None);
    for _ in 0..ATTEMPTS {
        // A commit that comes in while others go belongs to the table that is dropped, and goes too.
        let log = objects(table, &store, Some(&Path::from(LOG_DIRECTORY))).await?;
        if log.is_empty() {
            break;
        }
        remove_log(table, &store, log).await?;
    }
    let data = objects(table, &store, None).await?;
    remove(table, &store, data).await
}

async fn remove_log(table: &Arc<Table>, store: &Arc<dyn ObjectStore>, mut log: Vec<Path>) -> Result<()> {
    log.sort();
    // The pointer to the checkpoint sorts last by its name, and must not outlive it.
    let (commits, others): (Vec<Path>, Vec<Path>) =
        log.into_iter().partition(|path| path.filename().is_some_and(|name| name.ends_with(".json")));
    let (last, earlier) = commits.split_last().map_or((None, &[][..]), |(last, earlier)| (Some(last), earlier));
    remove(table, store, others).await?;
    remove(table, store, earlier.to_vec()).await?;
    remove(table, store, last.cloned().into_iter().collect()).await
}

/// Takes all files out of a table, in a commit that says all of the table by itself: when the log is removed and that stops
/// half way, what is left reads as an empty table. One whose log cannot be read any more is dropped as it is.
async fn empty(table: &Arc<Table>) -> Result<()> {
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            table.back_off(attempt).await;
        }
        let state = match table.refresh().await {
            Ok(Some(state)) => state,
            Ok(None) | Err(Error::Corrupt { .. } | Error::Unsupported { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut actions = vec![Action::Protocol(state.protocol.clone()), Action::Metadata(state.metadata.clone())];
        actions.extend(state.files.iter().map(|file| Action::Remove(file.remove(true))));
        match table.commit(Some(&state), actions, DeltaOperation::Delete { predicate: None }).await? {
            Commit::Done(_) => return Ok(()),
            Commit::Raced => {}
        }
    }
    Err(Error::Conflict { table: table.name.clone(), attempts: ATTEMPTS })
}

async fn objects(table: &Table, store: &Arc<dyn ObjectStore>, prefix: Option<&Path>) -> Result<Vec<Path>> {
    store
        .list(prefix)
        .map_ok(|object| object.location)
        .try_collect()
        .await
        .map_err(|error| table.context.store("drop", Some(&table.name), error))
}

async fn remove(table: &Table, store: &Arc<dyn ObjectStore>, paths: Vec<Path>) -> Result<()> {
    let mut removed = store.delete_stream(futures::stream::iter(paths.into_iter().map(Ok)).boxed());
    while let Some(result) = removed.next().await {
        match result {
            Ok(_) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => {
                tracing::debug!(table = table.name, error = chain(&error), "an object could not be removed");
                return Err(table.context.store("drop", Some(&table.name), error));
            }
        }
    }
    Ok(())
}
