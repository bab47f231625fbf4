//! Vacuum: removes files and log entries that no version within the retention needs.

use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use deltalake::DeltaTable;
use deltalake::operations::vacuum::VacuumMode;
use metaxy_core::blocking;
use metaxy_core::error::{Error, Result};

use super::log::Table;
use super::storage::LOG_DIRECTORY;

/// A file without a commit may belong to a running write; after this time it does not.
const LONGEST_WRITE: Duration = Duration::from_secs(24 * 60 * 60);
/// The number of attempts of an operation of `deltalake` against other writers.
const ATTEMPTS: usize = 10;

/// Removes files and log entries that no version within the retention needs, and returns their number. A concurrent
/// commit, compaction or drop may remove a file before it is read: the state of the table shows whether that is damage.
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
    // Files that the log once had, and files that it never had.
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

/// Removes unfinished files of killed writers.
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
