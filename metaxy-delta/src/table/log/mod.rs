//! A table as described by its log: the state in memory, its refresh, and commits.
//!
//! The first read of a table replays its log through `deltalake`. The state is kept, and a refresh costs two small
//! requests: is the anchor commit of the state unchanged (the table may have been dropped and written again), and is
//! there a next commit? A commit is a put of the next version's file that fails if the file exists; a writer that loses
//! reads the other commit and tries again. A table has no other protection: no lock file, no lock service.

mod changes;
mod checkpoint;
mod commit;
pub(crate) mod constraints;
mod hint;
mod load;
pub(crate) mod protocol;
mod row_ids;
pub(crate) mod state;
pub(crate) mod statistics;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deltalake::logstore::LogStoreRef;
use metaxy_core::FeatureKey;
use metaxy_core::error::{Error, Result};

use crate::error::ErrorContext;
use crate::types::TableSchema;

use state::TableState;

pub(crate) use commit::Commit;

/// The maximum number of attempts of a commit against other writers.
pub(crate) const COMMIT_ATTEMPTS: usize = 300;

/// A table of a store, with its last known state.
pub(crate) struct Table {
    /// Its key.
    pub key: FeatureKey,
    /// Its name in errors.
    pub name: String,
    /// Its log, and its files.
    pub log: LogStoreRef,
    /// Its directory, if it is a local one.
    pub directory: Option<PathBuf>,
    /// The location and the secrets for errors.
    pub context: ErrorContext,
    /// The maintenance of small files and long logs.
    pub upkeep: Upkeep,
    /// The columns by which a new table is partitioned, if it has them.
    pub partition_by: Vec<String>,
    state: Mutex<Option<Arc<TableState>>>,
    /// Writers of one process take turns, so that they do not compete for the next version.
    pub turn: tokio::sync::Mutex<()>,
}

/// The maintenance of small files and long logs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upkeep {
    /// The number of commits between two runs.
    pub checkpoint_interval: u64,
    /// Whether small files are merged.
    pub auto_compact: bool,
}

impl Table {
    pub fn new(
        key: FeatureKey,
        log: LogStoreRef,
        directory: Option<PathBuf>,
        context: ErrorContext,
        upkeep: Upkeep,
        partition_by: Vec<String>,
    ) -> Self {
        let (state, turn) = (Mutex::default(), tokio::sync::Mutex::default());
        let name = key.table_name();
        Self { key, name, log, directory, context, upkeep, partition_by, state, turn }
    }

    /// Returns the current state of the table; `None` if it does not exist.
    pub async fn refresh(&self) -> Result<Option<Arc<TableState>>> {
        let known = self.known().clone();
        let current = match known {
            Some(state) => self.follow(state).await?,
            None => self.load().await?,
        };
        self.remember(current.clone());
        Ok(current)
    }

    /// Forgets the state of the table.
    pub fn forget(&self) {
        *self.known() = None;
    }

    /// Returns the last known state of the table.
    pub fn known_state(&self) -> Option<Arc<TableState>> {
        self.known().clone()
    }

    /// Returns the last known schema of the table.
    pub fn known_schema(&self) -> Option<Arc<TableSchema>> {
        self.known_state().map(|state| state.schema.clone())
    }

    fn known(&self) -> MutexGuard<'_, Option<Arc<TableState>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a state, unless a later one of the same table is already known.
    fn remember(&self, current: Option<Arc<TableState>>) {
        let mut known = self.known();
        let later = match (known.as_ref(), current.as_ref()) {
            (Some(known), Some(current)) => known.is_same_table(current) && known.version > current.version,
            _ => false,
        };
        if !later {
            *known = current;
        }
    }

    /// Waits before the next attempt, longer each time, with a random part, so that two writers do not collide again.
    pub async fn back_off(&self, attempt: usize) {
        let longest = 4u64 << attempt.min(5);
        let millis = rand::random_range(0..=longest);
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// Returns the error of a commit after too many attempts.
    pub fn conflict(&self) -> Error {
        Error::Conflict { table: self.name.clone(), attempts: COMMIT_ATTEMPTS }
    }
}
