//! A table as its log tells it: the state in memory, its refresh, and commits.
//!
//! The first look at a table replays its log through `deltalake`. From then on the state is kept, and a refresh costs two
//! small requests: is the commit that the state rests on still the same one (a table may have been dropped and made
//! anew), and is there a next one? A commit is a put of the next version's file that fails where the file exists; who
//! loses looks at what the winner did and tries again. Nothing else guards a table: no lock file, no lock service.

mod hint;
pub(crate) mod protocol;
mod row_ids;
pub(crate) mod state;

use std::collections::{HashMap, HashSet};
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use deltalake::DeltaTable;
use deltalake::DeltaTableError;
use deltalake::kernel::transaction::{CommitData, TransactionError};
use deltalake::kernel::{Action, Add};
use deltalake::logstore::{CommitOrBytes, LogStoreRef, commit_uri_from_version, get_actions, logstore_with};
use deltalake::protocol::DeltaOperation;
use deltalake::table::state::DeltaTableState;
use futures::StreamExt;
use metaxy_core::FeatureKey;
use metaxy_core::error::{Error, Result};
use metaxy_core::fence;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectMeta, ObjectStoreExt};
use serde_json::Value;
use uuid::Uuid;

use crate::error::ErrorContext;
use crate::runtime;
use crate::storage::{LOG_DIRECTORY, Staged};
use crate::types::TableSchema;

use hint::{LAST_CHECKPOINT, WithoutHint};
use protocol::{OTHER_PROGRAM, refused};
use state::{Anchor, DataFile, TableState, path_below};

/// Written into every commit, so that its writer knows it again.
const COMMIT_KEY: &str = "metaxyCommit";
/// So many commits behind, a table is loaded anew.
const LONGEST_TAIL: u64 = 200;
/// A log that cannot be read so often, while it stays where it is, is damaged.
const LOAD_FAILURES: usize = 3;
/// How often a commit is tried against other writers before it is given up.
pub(crate) const COMMIT_ATTEMPTS: usize = 300;

/// A table of a store, with what is known of it.
pub(crate) struct Table {
    /// Its key.
    pub key: FeatureKey,
    /// Its name in errors.
    pub name: String,
    /// Its log, and its files.
    pub log: LogStoreRef,
    /// Its directory, where it is a local one.
    pub directory: Option<PathBuf>,
    /// What errors need to know.
    pub context: ErrorContext,
    /// What is done about small files and long logs.
    pub upkeep: Upkeep,
    /// By which columns it is partitioned when it is made, as far as it has them.
    pub partition_by: Vec<String>,
    state: Mutex<Option<Arc<TableState>>>,
    /// Writers of one process take turns, rather than race and lose.
    pub turn: tokio::sync::Mutex<()>,
}

/// What is done about small files and long logs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upkeep {
    /// After how many commits.
    pub checkpoint_interval: u64,
    /// Whether small files are put together then.
    pub auto_compact: bool,
}

/// How a commit went.
pub(crate) enum Commit {
    /// It is in the log, as this version.
    Done(u64),
    /// Another writer took the version; nothing has happened.
    Raced,
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

    /// The table as it is now; `None` where there is none.
    pub async fn refresh(&self) -> Result<Option<Arc<TableState>>> {
        let known = self.known().clone();
        let current = match known {
            Some(state) => self.follow(state).await?,
            None => self.load().await?,
        };
        self.remember(current.clone());
        Ok(current)
    }

    /// Whether data files that no commit names yet are still there.
    pub async fn has_files(&self, files: &[Add]) -> Result<bool> {
        let store = self.log.object_store(None);
        for file in files {
            match store.head(&path_below(&self.name, &file.path)?).await {
                Ok(_) => {}
                Err(StoreError::NotFound { .. }) => return Ok(false),
                Err(error) => return Err(self.context.store("write", Some(&self.name), error)),
            }
        }
        Ok(true)
    }

    /// Forgets what is known of the table.
    pub fn forget(&self) {
        *self.known() = None;
    }

    /// The table as it was when it was last looked at.
    pub fn known_state(&self) -> Option<Arc<TableState>> {
        self.known().clone()
    }

    /// The schema that the table had when it was last looked at.
    pub fn known_schema(&self) -> Option<Arc<TableSchema>> {
        self.known_state().map(|state| state.schema.clone())
    }

    fn known(&self) -> MutexGuard<'_, Option<Arc<TableState>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a state, unless a later one of the same table has come in between.
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

    /// Reads the log from its beginning. While a table is dropped its log vanishes file by file, and another table may
    /// follow under its name: what was read counts where the log that it began with is still there.
    async fn load(&self) -> Result<Option<Arc<TableState>>> {
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

    /// Runs an operation of `deltalake` on the table as it is now.
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

    /// A file of the log; `None` where there is none. Only the beginning of a listing is asked for, and a bucket that
    /// cannot be listed is an error, never an answer.
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

    async fn anchor(&self, version: u64) -> Result<Option<Anchor>> {
        let object = self.log_object(&commit_uri_from_version(Some(version))).await?;
        Ok(object.map(|object| Anchor { version, object }))
    }

    async fn log_object(&self, path: &Path) -> Result<Option<ObjectMeta>> {
        match self.log.object_store(None).head(path).await {
            Ok(object) => Ok(Some(object)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.context.store("read the log", Some(&self.name), error)),
        }
    }

    /// Reads on from a state that is known.
    async fn follow(&self, state: Arc<TableState>) -> Result<Option<Arc<TableState>>> {
        let Some(anchor) = state.anchor.clone() else { return self.load().await };
        let mut state = state;
        for _ in 0..LONGEST_TAIL {
            // The anchor is looked at after all commits that are taken over: they belong to the table that it stands for.
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

    /// Whether any version of a table had files, up to this one. Where the log no longer reaches back to its beginning,
    /// the table has lived long enough to count as one that had.
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

    /// A commit of the log, where there is one.
    pub async fn commit_at(&self, version: u64) -> Result<Option<(bytes::Bytes, ObjectMeta)>> {
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

    /// Tries to make actions the next version of the table; `base` is the one that they were worked out for.
    pub async fn commit(
        &self,
        base: Option<&Arc<TableState>>,
        actions: Vec<Action>,
        operation: DeltaOperation,
    ) -> Result<Commit> {
        let actions = match base {
            Some(base) if row_ids::are_tracked(&base.protocol) => {
                let greatest = self.greatest_row_id(base).await?;
                row_ids::assigned(&self.name, base.version + 1, greatest, actions)?
            }
            _ => actions,
        };
        let id = Uuid::new_v4();
        let version = base.map_or(0, |base| base.version + 1);
        let marks = HashMap::from([(COMMIT_KEY.to_owned(), Value::String(id.to_string()))]);
        let data = CommitData::new(actions, operation, marks, Vec::new());
        let failed = |error: TransactionError| self.context.delta("committing", &self.name, error.into());
        let bytes = data.get_bytes().map_err(failed)?;
        let is_done = match &self.directory {
            Some(directory) => self.put_local(directory, base, version, bytes, &data.actions).await?,
            None => self.put_remote(base, version, bytes, id, &data.actions).await?,
        };
        if !is_done {
            return Ok(Commit::Raced);
        }
        self.remember(self.committed(base, version, &data.actions).await);
        Ok(Commit::Done(version))
    }

    /// The greatest id of a row. Every commit that adds rows states it, so that the last ones suffice.
    async fn greatest_row_id(&self, state: &TableState) -> Result<i64> {
        for version in (0..=state.version).rev() {
            let Some((bytes, _)) = self.commit_at(version).await? else {
                let what = "adding rows to a table with row tracking whose last commits are gone";
                return Err(refused(&self.name, what, OTHER_PROGRAM));
            };
            let actions = get_actions(version, &bytes)
                .map_err(|error| self.context.delta("reading the log", &self.name, error))?;
            if let Some(greatest) = row_ids::greatest(&actions) {
                return Ok(greatest);
            }
        }
        Ok(-1)
    }

    /// Puts a commit into the log of a local table; whether that has come about. It is staged in the log before the table is
    /// looked at: where the table is dropped after that look, the commit goes with it, and not into the next table.
    async fn put_local(
        &self,
        directory: &FsPath,
        base: Option<&Arc<TableState>>,
        version: u64,
        bytes: Bytes,
        actions: &[Action],
    ) -> Result<bool> {
        let path = commit_uri_from_version(Some(version));
        let file = directory.join(path.as_ref());
        let staged = match Staged::commit(file, bytes.into()).await {
            Ok(staged) => staged,
            // The table was dropped, and its directory with it.
            Err(StoreError::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(self.context.store("commit", Some(&self.name), error)),
        };
        if !self.is_still(base, actions).await? {
            return Ok(false);
        }
        match staged.publish().await {
            Ok(()) => Ok(true),
            Err(StoreError::NotFound { .. } | StoreError::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.context.store("commit", Some(&self.name), error)),
        }
    }

    /// Puts a commit into the log of a table in a bucket; whether that has come about. The table is looked at again after
    /// that, and a commit that has met another one is taken back.
    async fn put_remote(
        &self,
        base: Option<&Arc<TableState>>,
        version: u64,
        bytes: Bytes,
        id: Uuid,
        actions: &[Action],
    ) -> Result<bool> {
        let put = self.log.write_commit_entry(version, CommitOrBytes::LogBytes(bytes), id).await;
        if let Err(error) = put {
            // An answer may have been lost on the way, and the put repeated against its own success.
            let written = self.commit_at(version).await?;
            let ours = written.is_some_and(|(bytes, _)| contains(&bytes, id.to_string().as_bytes()));
            if !ours {
                return if is_race(&error) { Ok(false) } else { Err(self.commit_error(error)) };
            }
        }
        if self.is_still(base, actions).await? {
            return Ok(true);
        }
        self.take_back(version, actions).await?;
        Ok(false)
    }

    /// Whether the table is the one that a commit was worked out for. A commit that makes the table needs its files only.
    async fn is_still(&self, base: Option<&Arc<TableState>>, actions: &[Action]) -> Result<bool> {
        let Some(base) = base else {
            let adds = actions.iter().filter_map(|action| match action {
                Action::Add(add) => Some(add.clone()),
                _ => None,
            });
            return self.has_files(&adds.collect::<Vec<_>>()).await;
        };
        match &base.anchor {
            Some(anchor) => {
                let now = self.anchor(anchor.version).await?;
                Ok(now.is_some_and(|now| same_object(&now.object, &anchor.object)))
            }
            None => Ok(self.load().await?.is_some_and(|now| now.is_same_table(base))),
        }
    }

    /// Takes a commit out of a table that it does not belong to. Where others have built on it, it has to stay, and the files
    /// that it has added are removed by another one.
    async fn take_back(&self, version: u64, actions: &[Action]) -> Result<()> {
        self.forget();
        if self.commit_at(version + 1).await?.is_none() {
            let commit = commit_uri_from_version(Some(version));
            return match self.log.object_store(None).delete(&commit).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
                Err(error) => Err(self.context.store("commit", Some(&self.name), error)),
            };
        }
        let added: HashSet<&str> = actions
            .iter()
            .filter_map(|action| if let Action::Add(add) = action { Some(add.path.as_str()) } else { None })
            .collect();
        for attempt in 1..COMMIT_ATTEMPTS {
            let Some(state) = self.refresh().await? else { return Ok(()) };
            let ours = state.files.iter().filter(|file| added.contains(file.name.as_str()));
            let removes: Vec<_> = ours.map(|file| Action::Remove(file.remove(true))).collect();
            if removes.is_empty() {
                return Ok(());
            }
            let operation = DeltaOperation::Delete { predicate: None };
            match Box::pin(self.commit(Some(&state), removes, operation)).await? {
                Commit::Done(_) => return Ok(()),
                Commit::Raced => self.back_off(attempt).await,
            }
        }
        Err(self.conflict())
    }

    fn commit_error(&self, error: TransactionError) -> Error {
        match error {
            TransactionError::ObjectStore { source } => self.context.store("commit", Some(&self.name), source),
            error => self.context.delta("committing", &self.name, error.into()),
        }
    }

    /// The state after a commit of ours; `None` where the log has to be asked: the commit stands all the same.
    async fn committed(
        &self,
        base: Option<&Arc<TableState>>,
        version: u64,
        actions: &[Action],
    ) -> Option<Arc<TableState>> {
        match base {
            Some(base) => base.after(&self.name, actions, None).ok().map(Arc::new),
            None => {
                let mut state = TableState::first(&self.name, actions).ok()?;
                state.anchor = self.anchor(version).await.ok()?;
                Some(Arc::new(state))
            }
        }
    }

    /// Sums the log up in a checkpoint, as it is now.
    pub async fn checkpoint(&self) -> Result<()> {
        let Some(state) = self.refresh().await? else { return Ok(()) };
        let id = state.id().to_owned();
        let work = |table: DeltaTable| async move {
            let snapshot = table.snapshot()?;
            let version = snapshot.version();
            if snapshot.metadata().id() != id {
                return Ok(None);
            }
            deltalake::checkpoints::create_checkpoint(&table, None).await.map(|()| Some(version))
        };
        let written = self.on_loaded("writing a checkpoint", work).await;
        if self.is_still(Some(&state), &[]).await? {
            return written.map(drop);
        }
        // A table that is dropped needs none, whatever became of it.
        match written {
            Ok(Some(version)) => self.remove_checkpoint(version).await,
            _ => Ok(()),
        }
    }

    /// Removes a checkpoint that has come into a table that it does not belong to.
    async fn remove_checkpoint(&self, version: u64) -> Result<()> {
        self.forget();
        let log = Path::from(LOG_DIRECTORY);
        for name in [format!("{version:020}.checkpoint.parquet"), LAST_CHECKPOINT.to_owned()] {
            match self.log.object_store(None).delete(&log.clone().join(name)).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(self.context.store("remove a checkpoint", Some(&self.name), error)),
            }
        }
        Ok(())
    }

    /// Waits a little before the next attempt, longer each time, and never as long as the others.
    pub async fn back_off(&self, attempt: usize) {
        let longest = 4u64 << attempt.min(5);
        let millis = rand::random_range(0..=longest);
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// The error of a commit that was tried too often.
    pub fn conflict(&self) -> Error {
        Error::Conflict { table: self.name.clone(), attempts: COMMIT_ATTEMPTS }
    }
}

/// Reads a log, and gives the log store that found it: where the pointer to the last checkpoint leads nowhere, one that has
/// no such pointer.
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

fn same_object(one: &ObjectMeta, other: &ObjectMeta) -> bool {
    match (&one.e_tag, &other.e_tag) {
        (Some(one), Some(other)) => one == other,
        _ => one.size == other.size && one.last_modified == other.last_modified,
    }
}

fn is_race(error: &TransactionError) -> bool {
    match error {
        TransactionError::VersionAlreadyExists(_) => true,
        // The directory of the log is gone: somebody has dropped the table.
        TransactionError::ObjectStore { source: StoreError::NotFound { .. } } => true,
        TransactionError::ObjectStore {
            source: StoreError::AlreadyExists { .. } | StoreError::Precondition { .. },
        } => true,
        _ => false,
    }
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

fn is_log_file(name: &str) -> bool {
    let version = name.get(..20).is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit()));
    version && (name.ends_with(".json") || name.ends_with(".parquet"))
}
