//! Reading a log: all of it, or the commits since the last read.

use std::sync::Arc;

use bytes::Bytes;
use deltalake::kernel::Action;
use deltalake::logstore::{LogStoreRef, commit_uri_from_version, get_actions, logstore_with};
use deltalake::table::state::DeltaTableState;
use deltalake::{DeltaTable, DeltaTableError};
use futures::StreamExt;
use metaxy_core::error::{Error, Result};
use metaxy_core::fence;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectMeta, ObjectStoreExt};

use crate::table::storage::{LOG_DIRECTORY, runtime};

use super::hint::{LAST_CHECKPOINT, WithoutHint};
use super::state::{Anchor, DataFile, TableState};
use super::{COMMIT_ATTEMPTS, Table};

/// The number of new commits from which on a table is loaded from the beginning of its log.
const LONGEST_TAIL: u64 = 200;
/// The number of failed reads after which an unchanged log counts as damaged.
const LOAD_FAILURES: usize = 3;

impl Table {
    /// Reads the log from its beginning. While a table is dropped, its log is removed file by file, and another table
    /// may follow under its name: the result is valid if the first file of the log still exists afterwards.
    pub(super) async fn load(&self) -> Result<Option<Arc<TableState>>> {
        let mut failures = 0;
        for attempt in 0..COMMIT_ATTEMPTS {
            if attempt > 0 {
                self.back_off(attempt).await;
            }
            let Some(first) = self.first_of_log().await? else { return Ok(None) };
            let loaded = self.load_once().await;
            failures += usize::from(loaded.is_err());
            let now = self.log_object(&first.location).await?;
            let same = now.is_some_and(|now| same_object(&now, &first));
            if same && (loaded.is_ok() || failures == LOAD_FAILURES) {
                return loaded.map(Some);
            }
        }
        Err(self.conflict())
    }

    async fn load_once(&self) -> Result<Arc<TableState>> {
        let unreadable = |error| match error {
            DeltaTableError::NotATable(reason) => Error::corrupt(&self.name, self.context.redact(&reason)),
            error => self.context.log(&self.name, error),
        };
        let state = runtime::decode(&self.name, read_log(self.log.clone())).await?.map_err(unreadable)?.0;
        let files = state
            .snapshot()
            .try_log_data()
            .map_err(unreadable)?
            .iter()
            .map(|file| {
                let (partition, vector) = (file.partition_values_map(), file.deletion_vector_descriptor());
                DataFile::new(&self.name, file.path().into_owned(), file.size(), file.stats(), partition, vector)
            })
            .collect::<Result<_>>()?;
        let (metadata, protocol) = (state.metadata().clone(), state.protocol().clone());
        let mut state = TableState::new(&self.name, state.version(), metadata, protocol, files)?;
        state.anchor = self.anchor(state.version).await?;
        Ok(Arc::new(state))
    }

    /// Runs an operation of `deltalake` on the current version of the table.
    pub async fn on_loaded<T, F>(
        &self,
        operation: &'static str,
        work: impl FnOnce(DeltaTable) -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DeltaTableError>> + Send,
    {
        let log = self.log.clone();
        let both = async move {
            let (state, log) = read_log(log).await?;
            let mut table = DeltaTable::new(log);
            table.state = Some(state);
            Ok(work(table).await)
        };
        let loaded = runtime::decode(&self.name, both).await?;
        let outcome = loaded.map_err(|error| self.context.log(&self.name, error))?;
        outcome.map_err(|error| self.context.delta(operation, &self.name, error))
    }

    /// Returns a file of the log; `None` if there is none. Only the beginning of a listing is requested; if a bucket
    /// cannot be listed, that is an error.
    async fn first_of_log(&self) -> Result<Option<ObjectMeta>> {
        let mut listing = self.log.object_store(None).list(Some(&Path::from(LOG_DIRECTORY)));
        while let Some(object) = listing.next().await {
            match object {
                Ok(object) if is_log_file(object.location.filename().unwrap_or_default()) => return Ok(Some(object)),
                Ok(_) => {}
                Err(StoreError::NotFound { .. }) if self.directory.is_some() => return Ok(None),
                Err(error) => return Err(self.context.store("look for a table", Some(&self.name), error)),
            }
        }
        Ok(None)
    }

    pub(super) async fn log_object(&self, path: &Path) -> Result<Option<ObjectMeta>> {
        match self.log.object_store(None).head(path).await {
            Ok(object) => Ok(Some(object)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.context.store("read the log", Some(&self.name), error)),
        }
    }

    pub(super) async fn anchor(&self, version: u64) -> Result<Option<Anchor>> {
        let object = self.log_object(&commit_uri_from_version(Some(version))).await?;
        Ok(object.map(|object| Anchor { version, object }))
    }

    /// Reads the commits after a known state.
    pub(super) async fn follow(&self, state: Arc<TableState>) -> Result<Option<Arc<TableState>>> {
        let Some(anchor) = state.anchor.clone() else { return self.load().await };
        let mut state = state;
        for _ in 0..LONGEST_TAIL {
            // The anchor is checked after all new commits are read: then they belong to its table.
            let (now, next) = futures::join!(self.anchor(anchor.version), self.commit_at(state.version + 1));
            if !now?.is_some_and(|now| same_object(&now.object, &anchor.object)) {
                return self.load().await;
            }
            let Some((bytes, object)) = next? else { return Ok(Some(state)) };
            let version = state.version + 1;
            let actions = fence::decode(&self.name, || {
                get_actions(version, &bytes).map_err(|error| self.context.log(&self.name, error))
            });
            let Ok(actions) = actions else { return self.load().await };
            state = Arc::new(state.after(&self.name, &actions, Some(Anchor { version, object }))?);
        }
        self.load().await
    }

    /// Returns whether any version of a table up to this one had files. If the beginning of the log has been removed,
    /// the table counts as one that had.
    pub async fn had_files(&self, version: u64) -> Result<bool> {
        for version in 0..=version {
            let Some((bytes, _)) = self.commit_at(version).await? else { return Ok(true) };
            let actions = get_actions(version, &bytes).map_err(|error| self.context.log(&self.name, error))?;
            if actions.iter().any(|action| matches!(action, Action::Add(_) | Action::Remove(_))) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns a commit of the log; `None` if there is none.
    pub(super) async fn commit_at(&self, version: u64) -> Result<Option<(Bytes, ObjectMeta)>> {
        let failed = |error| self.context.store("read the log", Some(&self.name), error);
        match self.log.object_store(None).get(&commit_uri_from_version(Some(version))).await {
            Ok(answer) => {
                let object = answer.meta.clone();
                Ok(Some((answer.bytes().await.map_err(failed)?, object)))
            }
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Reads a log, and returns it with its log store; if the checkpoint of the pointer does not exist, a log store without
/// the pointer.
async fn read_log(log: LogStoreRef) -> Result<(DeltaTableState, LogStoreRef), DeltaTableError> {
    let error = match DeltaTableState::try_new(log.as_ref(), None).await {
        Ok(state) => return Ok((state, log)),
        Err(error) => error,
    };
    let hint = Path::from(LOG_DIRECTORY).join(LAST_CHECKPOINT);
    if log.object_store(None).head(&hint).await.is_err() {
        return Err(error);
    }
    let store = Arc::new(WithoutHint(log.root_object_store(None)));
    let log = logstore_with(store, log.root_url(), log.config().options().clone())?;
    match DeltaTableState::try_new(log.as_ref(), None).await {
        Ok(state) => Ok((state, log)),
        Err(_) => Err(error),
    }
}

pub(super) fn same_object(one: &ObjectMeta, other: &ObjectMeta) -> bool {
    match (&one.e_tag, &other.e_tag) {
        (Some(one), Some(other)) => one == other,
        _ => one.size == other.size && one.last_modified == other.last_modified,
    }
}

fn is_log_file(name: &str) -> bool {
    let version = name.get(..20).is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit()));
    version && (name.ends_with(".json") || name.ends_with(".parquet"))
}
