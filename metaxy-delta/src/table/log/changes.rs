//! What was appended to a table after a version: the files that later commits have added, if none of them removes or
//! changes a row.

use std::collections::HashSet;
use std::sync::Arc;

use deltalake::kernel::Action;
use deltalake::logstore::{commit_uri_from_version, get_actions};
use futures::{StreamExt, TryStreamExt};
use metaxy_core::backend::Position;
use metaxy_core::error::Result;
use metaxy_core::fence;
use object_store::{Error as StoreError, ObjectMeta, ObjectStoreExt};

use super::Table;
use super::load::same_object;
use super::state::{Anchor, DataFile, TableState};

/// The number of commits that are read. The log of a table that had more is read faster as a whole.
const MOST_COMMITS: u64 = 1_000;
/// The number of concurrent requests.
const REQUESTS: usize = 16;

/// The files that were appended, or why it cannot be told which.
pub(crate) type AppendedFiles = std::result::Result<Vec<Arc<DataFile>>, &'static str>;

impl Table {
    /// Returns the position of a version: the table's id, the version, and what distinguishes the version's commit from
    /// one that was written in its place, such as an older copy of the table.
    pub async fn position(&self, state: &TableState) -> Result<Option<Position>> {
        let known = state.anchor.clone().filter(|anchor| anchor.version == state.version);
        let anchor = match known {
            Some(anchor) => Some(anchor),
            None => self.anchor_at_last(state).await?,
        };
        let mark = |anchor: Anchor| format!("{} {} {}", state.version, state.id(), mark_of(&anchor.object));
        Ok(anchor.map(mark).map(Position::new))
    }

    /// Returns the last commit of a state, and makes it the state's anchor: then the next position needs no further
    /// request. While the earlier anchor is still there, the commit belongs to its table.
    async fn anchor_at_last(&self, state: &TableState) -> Result<Option<Anchor>> {
        let Some(last) = self.anchor(state.version).await? else { return Ok(None) };
        if let Some(earlier) = &state.anchor
            && let Some(now) = self.anchor(earlier.version).await?
            && same_object(&now.object, &earlier.object)
        {
            self.remember(Some(Arc::new(TableState { anchor: Some(last.clone()), ..state.clone() })));
        }
        Ok(Some(last))
    }

    /// Returns the files that were appended between a position and a version of the table.
    pub async fn appended(&self, since: &Position, state: &TableState) -> Result<AppendedFiles> {
        let mut parts = since.as_str().splitn(3, ' ');
        let then = parts.next().and_then(|version| version.parse::<u64>().ok());
        let (Some(then), Some(id), Some(mark)) = (then, parts.next(), parts.next()) else {
            return Ok(Err("the table was not there"));
        };
        if id != state.id() || then > state.version {
            return Ok(Err("the table was made anew"));
        }
        if state.version - then > MOST_COMMITS {
            return Ok(Err("it has had too many commits"));
        }
        let commit = self.log_object(&commit_uri_from_version(Some(then))).await?;
        if commit.is_none_or(|commit| mark_of(&commit) != mark) {
            return Ok(Err("its log no longer has the commit"));
        }
        let mut files = Vec::new();
        let commits = futures::stream::iter(then + 1..=state.version).map(|version| self.actions_of(version));
        let mut commits = commits.buffered(REQUESTS);
        while let Some(actions) = commits.try_next().await? {
            let Some(actions) = actions else { return Ok(Err("its log no longer has all commits")) };
            if let Err(reason) = self.collect(&actions, &mut files)? {
                return Ok(Err(reason));
            }
        }
        match self.all_exist(&files, state).await? {
            true => Ok(Ok(files)),
            false => Ok(Err("files that were appended have been merged and removed")),
        }
    }

    /// Adds the files that a commit has appended.
    fn collect(
        &self,
        actions: &[Action],
        files: &mut Vec<Arc<DataFile>>,
    ) -> Result<std::result::Result<(), &'static str>> {
        for action in actions {
            match action {
                Action::Add(add) if !add.data_change => {}
                Action::Add(add) if add.deletion_vector.is_some() => return Ok(Err("rows were removed")),
                Action::Add(add) => files.push(DataFile::from_add(&self.name, add)?),
                Action::Remove(remove) if remove.data_change => return Ok(Err("rows were removed or changed")),
                Action::Metadata(_) | Action::Protocol(_) => {
                    return Ok(Err("its schema or its properties have changed"));
                }
                _ => {}
            }
        }
        Ok(Ok(()))
    }

    async fn actions_of(&self, version: u64) -> Result<Option<Vec<Action>>> {
        let Some((bytes, _)) = self.commit_at(version).await? else { return Ok(None) };
        let decoded = fence::decode(&self.name, || {
            get_actions(version, &bytes).map_err(|error| self.context.log(&self.name, error))
        });
        decoded.map(Some)
    }

    /// Returns whether files are in the table, or have not been removed since they were merged into others.
    async fn all_exist(&self, files: &[Arc<DataFile>], state: &TableState) -> Result<bool> {
        let live: HashSet<&str> = state.files.iter().map(|file| file.name.as_str()).collect();
        let merged: Vec<Arc<DataFile>> =
            files.iter().filter(|file| !live.contains(file.name.as_str())).cloned().collect();
        let exist = futures::stream::iter(merged).map(|file| async move {
            match self.log.object_store(None).head(&file.path).await {
                Ok(_) => Ok(true),
                Err(StoreError::NotFound { .. }) => Ok(false),
                Err(error) => Err(self.context.file(&self.name, &file.name, error)),
            }
        });
        exist.buffered(REQUESTS).try_fold(true, |all, exists| async move { Ok(all && exists) }).await
    }
}

fn mark_of(commit: &ObjectMeta) -> String {
    match &commit.e_tag {
        Some(tag) => tag.clone(),
        None => format!("{} {}", commit.size, commit.last_modified.timestamp_micros()),
    }
}
