//! The tables of a store, and what their logs and statistics show without reading rows.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use metaxy_core::error::Result;
use metaxy_core::{FeatureKey, columns};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore};

use crate::connection::Session;
use crate::location::{Layout, is_table_name};
use crate::table::files::{Filters, rows};
use crate::table::log::Table;
use crate::table::log::state::{TableState, check_files};
use crate::table::log::statistics::newest_time;
use crate::table::storage::LOG_DIRECTORY;

/// The number of directories that are listed concurrently.
const LISTINGS: usize = 16;

/// An existing table, and its current version.
pub(crate) type Existing = (Arc<Table>, Arc<TableState>);

/// Finds a table; `None` if it does not exist.
pub(crate) async fn find(session: &Session, key: &FeatureKey) -> Result<Option<Existing>> {
    let table = session.table(key)?;
    Ok(table.refresh().await?.map(|state| (table, state)))
}

/// Returns the names of all tables, sorted.
pub(crate) async fn names(session: &Session) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut level = vec![session.prefix()?];
    while !level.is_empty() {
        let found: Vec<_> = futures::stream::iter(level)
            .map(|directory| list(session, directory))
            .buffered(LISTINGS)
            .try_collect()
            .await?;
        let (directories, tables): (Vec<Vec<Path>>, Vec<Vec<String>>) = found.into_iter().unzip();
        names.extend(tables.into_iter().flatten());
        level = match session.root.layout {
            Layout::Nested => directories.into_iter().flatten().collect(),
            Layout::Flat => Vec::new(),
        };
    }
    names.sort();
    Ok(names)
}

/// Lists the entries of a directory: the directories that may contain tables, and the names of the tables.
async fn list(session: &Session, directory: Path) -> Result<(Vec<Path>, Vec<String>)> {
    let failed = |error| session.context.store("list tables", None, error);
    let found = match session.store.list_with_delimiter(Some(&directory)).await {
        Ok(found) => found.common_prefixes,
        Err(StoreError::NotFound { .. }) if session.root.directory.is_some() => Vec::new(),
        Err(error) => return Err(failed(error)),
    };
    let (mut directories, mut tables) = (Vec::new(), Vec::new());
    for path in found {
        let name = path.filename().unwrap_or_default();
        if name.starts_with(['.', '_']) {
            continue;
        }
        if !is_table_name(name) {
            directories.push(path);
        } else if let Some(table) = table_at(session, &path)?
            && has_log(&session.store, &path).await.map_err(failed)?
        {
            tables.push(table);
        }
    }
    Ok((directories, tables))
}

/// Returns the name of the table in a directory; `None` if the directory cannot be that of a table.
fn table_at(session: &Session, path: &Path) -> Result<Option<String>> {
    let parts = path.prefix_match(&session.prefix()?).map(|parts| parts.map(|part| part.as_ref().to_owned()).collect());
    let parts: Vec<String> = parts.unwrap_or_default();
    Ok(session.root.table_name(&parts.join("/")))
}

async fn has_log(store: &Arc<dyn ObjectStore>, table: &Path) -> Result<bool, StoreError> {
    match store.list(Some(&table.clone().join(LOG_DIRECTORY))).next().await {
        None | Some(Err(StoreError::NotFound { .. })) => Ok(false),
        Some(found) => found.map(|_| true),
    }
}

/// Returns the time of the newest row, in microseconds from 1970; `None` for no rows.
pub(crate) async fn newest_stamp((table, state): Existing) -> Result<Option<i64>> {
    let times = [columns::UPDATED_AT, columns::DELETED_AT];
    let (mut newest, mut unknown) = (None, Vec::new());
    for file in state.files.iter() {
        match newest_time(file.stats(), &state.schema, times) {
            Some(time) => newest = newest.max(Some(time)),
            None => unknown.push(file.clone()),
        }
    }
    // Only files without statistics have to be read.
    check_files(&table.name, &unknown)?;
    let mut stream = rows(table, &state, unknown, &times.map(str::to_owned), Filters::default());
    while let Some(batch) = stream.try_next().await? {
        newest = newest.max(columns::newest_time(&batch)?);
    }
    Ok(newest)
}

/// Returns whether any version of a table had rows.
pub(crate) async fn has_held_rows((table, state): Existing) -> Result<bool> {
    Ok(!state.files.is_empty() || table.had_files(state.version).await?)
}
