//! Commits: add the next version to the log of a table, unless another writer was faster.

use std::collections::{HashMap, HashSet};
use std::path::Path as FsPath;
use std::sync::Arc;

use bytes::Bytes;
use deltalake::kernel::transaction::{CommitData, TransactionError};
use deltalake::kernel::{Action, Add};
use deltalake::logstore::{CommitOrBytes, commit_uri_from_version, get_actions};
use deltalake::protocol::DeltaOperation;
use metaxy_core::error::{Error, Result};
use object_store::{Error as StoreError, ObjectStoreExt};
use serde_json::Value;
use uuid::Uuid;

use crate::table::storage::staged::Staged;

use super::load::same_object;
use super::protocol::{OTHER_PROGRAM, refused};
use super::row_ids;
use super::state::{TableState, path_below};
use super::{COMMIT_ATTEMPTS, Table};

/// The key of a unique number in every commit, by which its writer recognizes it.
const COMMIT_KEY: &str = "metaxyCommit";

/// The outcome of a commit.
pub(crate) enum Commit {
    /// It is in the log, as this version.
    Done(u64),
    /// Another writer has written the version; nothing was written.
    Raced,
}

impl Table {
    /// Tries to commit actions as the next version; `base` is the version for which they were computed.
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

    /// Returns the greatest row id. Every commit that adds rows states it, so that the last commits suffice.
    async fn greatest_row_id(&self, state: &TableState) -> Result<i64> {
        for version in (0..=state.version).rev() {
            let Some((bytes, _)) = self.commit_at(version).await? else {
                let what = "adding rows to a table with row tracking and without its last commits";
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

    /// Puts a commit into the log of a local table, and returns whether it is in the log. It is staged in the log's
    /// directory before the table is checked: if the table is dropped after that, the commit is removed with it, and
    /// cannot reach the next table.
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
            // The table was dropped together with its directory.
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

    /// Puts a commit into the log of a table in a bucket, and returns whether it is in the log. The table is checked
    /// again afterwards, and a commit in another table is removed.
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
            // The response may have been lost, so that the repeated put failed because of its own success.
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

    /// Returns whether the table is the one for which a commit was computed. A commit that creates the table needs only
    /// its files.
    pub(super) async fn is_still(&self, base: Option<&Arc<TableState>>, actions: &[Action]) -> Result<bool> {
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

    /// Returns whether data files without a commit still exist.
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

    /// Removes a commit from a table to which it does not belong. If other writers have added commits, it has to stay,
    /// and another commit removes its files.
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

    /// Returns the state after a commit; `None` if the log has to be read again, although the commit has succeeded.
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
}

fn is_race(error: &TransactionError) -> bool {
    match error {
        TransactionError::VersionAlreadyExists(_) => true,
        // The directory of the log does not exist: the table was dropped.
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
