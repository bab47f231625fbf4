//! Removing a table, so that no reader sees a part of it.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use deltalake::kernel::Action;
use deltalake::protocol::DeltaOperation;
use futures::{StreamExt, TryStreamExt};
use metaxy_core::blocking::{self, sync_directory};
use metaxy_core::error::{Error, Result};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore};
use uuid::Uuid;

use super::log::{Commit, Table};
use super::storage::LOG_DIRECTORY;
use super::storage::local_file::failed;

/// The number of attempts of the removal against other writers.
const ATTEMPTS: usize = 10;

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

/// Renames the table's directory to a name that no table has, and then removes its files.
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

/// Removes the objects of a table in a bucket, where nothing can be renamed. First a commit empties the table, so that
/// no reader sees a part of it; then the log is removed, its last commit last, and then the data.
async fn drop_objects(table: &Arc<Table>) -> Result<()> {
    empty(table).await?;
    let store = table.log.object_store(None);
    for _ in 0..ATTEMPTS {
        // A commit that is written during the removal belongs to the dropped table, and is removed too.
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
    // The pointer to the checkpoint sorts last by its name, and must be removed before the commits.
    let (commits, others): (Vec<Path>, Vec<Path>) =
        log.into_iter().partition(|path| path.filename().is_some_and(|name| name.ends_with(".json")));
    let (last, earlier) = commits.split_last().map_or((None, &[][..]), |(last, earlier)| (Some(last), earlier));
    remove(table, store, others).await?;
    remove(table, store, earlier.to_vec()).await?;
    remove(table, store, last.cloned().into_iter().collect()).await
}

/// Removes all files from a table, in a commit that describes the whole table: if the removal of the log is
/// interrupted, the rest reads as an empty table. A table with an unreadable log is removed as it is.
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
            Err(error) => return Err(table.context.store("drop", Some(&table.name), error)),
        }
    }
    Ok(())
}
