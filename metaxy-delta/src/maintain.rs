//! Keeping tables in shape, and taking them away.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use deltalake::kernel::Action;
use deltalake::operations::vacuum::VacuumMode;
use deltalake::protocol::DeltaOperation;
use futures::{StreamExt, TryStreamExt};
use metaxy_core::error::{Error, Result};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore};
use uuid::Uuid;

use crate::errors::chain;
use crate::log::{Commit, LOG_DIRECTORY, Table};
use crate::storage::failed;

/// A file that no commit names may belong to a write that is still under way; after this long it does not.
const LONGEST_WRITE: Duration = Duration::from_secs(24 * 60 * 60);
/// How often an operation of `deltalake` is tried against other writers.
const ATTEMPTS: usize = 10;

/// Removes files and log entries that no version within the retention needs; returns how many.
pub(crate) async fn vacuum(table: &Arc<Table>, retention: Duration) -> Result<u64> {
    if table.refresh().await?.is_none() {
        return Ok(0);
    }
    let failed = |error| table.context.delta("vacuuming", &table.name, error);
    let mut removed = 0;
    // What the log once named, and what it never did.
    for (mode, age) in [(VacuumMode::Lite, retention), (VacuumMode::Full, retention.max(LONGEST_WRITE))] {
        let age = chrono::Duration::from_std(age).unwrap_or(chrono::Duration::MAX);
        let (_, metrics) = table
            .loaded()
            .await?
            .vacuum()
            .with_mode(mode)
            .with_retention_period(age)
            .with_enforce_retention_duration(false)
            .await
            .map_err(failed)?;
        removed += metrics.files_deleted.len() as u64;
    }
    removed += deltalake::checkpoints::cleanup_metadata(&table.loaded().await?, None).await.map_err(failed)? as u64;
    if let Some(directory) = table.directory.clone() {
        removed += tokio::task::spawn_blocking(move || remove_staged(&directory, retention.max(LONGEST_WRITE))).await?;
    }
    Ok(removed)
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
            let result = tokio::task::spawn_blocking(move || drop_directory(&directory)).await?;
            result.map_err(|error| table.context.store("drop", Some(&table.name), failed(&place, error)))
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
    if cfg!(unix) {
        std::fs::File::open(parent)?.sync_all()?;
    }
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
