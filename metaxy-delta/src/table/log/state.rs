//! One version of a table, and its data files.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path as FsPath};
use std::sync::{Arc, OnceLock};

use deltalake::kernel::{Action, Add, DeletionVectorDescriptor, Metadata, Protocol, Remove, StorageType};
use metaxy_core::error::{Error, Result};
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::error::chain;
use crate::types::TableSchema;

use super::protocol::{Change, OTHER_PROGRAM, check_readable, check_writable, mapping_of, refused};
use super::statistics::FileStats;

/// One version of a table.
#[derive(Clone, Debug)]
pub(crate) struct TableState {
    /// The version.
    pub version: u64,
    /// The table's properties and schema.
    pub metadata: Metadata,
    /// The protocol that it requires.
    pub protocol: Protocol,
    /// The schema.
    pub schema: Arc<TableSchema>,
    /// The data files.
    pub files: Arc<Vec<Arc<DataFile>>>,
    /// A commit by which the table is recognized.
    pub(super) anchor: Option<Anchor>,
}

#[derive(Clone, Debug)]
pub(super) struct Anchor {
    pub(super) version: u64,
    pub(super) object: ObjectMeta,
}

/// One data file.
#[derive(Debug)]
pub(crate) struct DataFile {
    /// Its path below the table, as in the log.
    pub name: String,
    /// The same path in the object store.
    pub path: Path,
    /// Its size in bytes.
    pub size: u64,
    /// Its values of the partition columns.
    pub partition_values: HashMap<String, Option<String>>,
    /// The rows that count as removed.
    pub deletion_vector: Option<DeletionVectorDescriptor>,
    /// Its identity: its name, and its deletion vector.
    pub id: String,
    raw_stats: Option<String>,
    stats: OnceLock<FileStats>,
}

impl DataFile {
    pub(crate) fn new(
        table: &str,
        name: String,
        size: i64,
        raw_stats: Option<String>,
        partition_values: HashMap<String, Option<String>>,
        deletion_vector: Option<DeletionVectorDescriptor>,
    ) -> Result<Arc<Self>> {
        let path = path_below(table, &name)?;
        let size = u64::try_from(size)
            .map_err(|_| Error::corrupt(table, format!("its log gives the data file `{name}` a negative size")))?;
        let id = match &deletion_vector {
            Some(vector) => format!("{name}#{}@{:?}", vector.path_or_inline_dv, vector.offset),
            None => name.clone(),
        };
        let stats = OnceLock::new();
        Ok(Arc::new(Self { name, path, size, partition_values, deletion_vector, id, raw_stats, stats }))
    }

    pub(super) fn from_add(table: &str, add: &Add) -> Result<Arc<Self>> {
        let (partition, vector) = (add.partition_values.clone(), add.deletion_vector.clone());
        Self::new(table, add.path.clone(), add.size, add.stats.clone(), partition, vector)
    }

    /// Returns its number of rows without those that count as removed, if the log states it.
    pub fn rows(&self) -> Option<u64> {
        let removed = self.deletion_vector.as_ref().map_or(Some(0), |vector| u64::try_from(vector.cardinality).ok());
        self.stats().rows?.checked_sub(removed?)
    }

    /// Returns the statistics of its rows in the log.
    pub fn stats(&self) -> &FileStats {
        self.stats.get_or_init(|| FileStats::parse(self.raw_stats.as_deref()))
    }

    /// Returns the action that removes it from the table.
    pub fn remove(&self, data_change: bool) -> Remove {
        Remove {
            path: self.name.clone(),
            data_change,
            deletion_timestamp: Some(chrono::Utc::now().timestamp_millis()),
            extended_file_metadata: Some(true),
            size: i64::try_from(self.size).ok(),
            partition_values: Some(self.partition_values.clone()),
            tags: None,
            deletion_vector: self.deletion_vector.clone(),
            base_row_id: None,
            default_row_commit_version: None,
        }
    }
}

impl TableState {
    pub(crate) fn new(
        table: &str,
        version: u64,
        metadata: Metadata,
        protocol: Protocol,
        files: Vec<Arc<DataFile>>,
    ) -> Result<Self> {
        check_readable(table, &metadata, &protocol)?;
        let delta = metadata.parse_schema().map_err(|error| Error::corrupt(table, chain(&error)).with_source(error))?;
        let schema = Arc::new(TableSchema::from_delta(
            table,
            delta,
            metadata.partition_columns(),
            mapping_of(table, &metadata)?,
        )?);
        Ok(Self { version, metadata, protocol, schema, files: Arc::new(files), anchor: None })
    }

    /// Returns the state after the commit that creates a table.
    pub(super) fn first(table: &str, actions: &[Action]) -> Result<Self> {
        let (mut metadata, mut protocol, mut files) = (None, None, Vec::new());
        for action in actions {
            match action {
                Action::Metadata(found) => metadata = Some(found.clone()),
                Action::Protocol(found) => protocol = Some(found.clone()),
                Action::Add(add) => files.push(DataFile::from_add(table, add)?),
                _ => {}
            }
        }
        match (metadata, protocol) {
            (Some(metadata), Some(protocol)) => Self::new(table, 0, metadata, protocol, files),
            _ => Err(Error::corrupt(table, "its first commit has no schema")),
        }
    }

    /// Returns the state after a commit that has yet to be made, without files.
    #[cfg(feature = "ballista")]
    pub fn planned(table: &str, before: Option<&Self>, actions: &[Action]) -> Result<Self> {
        let planned = match before {
            Some(before) => before.after(table, actions, None)?,
            None => Self::first(table, actions)?,
        };
        Ok(Self { files: Arc::default(), ..planned })
    }

    /// Returns the id that distinguishes a table from a later one of the same name.
    pub fn id(&self) -> &str {
        self.metadata.id()
    }

    pub(super) fn is_same_table(&self, other: &Self) -> bool {
        self.id() == other.id()
    }

    /// Returns whether both are the same version of the same table.
    pub fn is_same_version(&self, other: &Self) -> bool {
        self.is_same_table(other) && self.version == other.version
    }

    /// Returns the state after one more commit.
    pub(super) fn after(&self, table: &str, actions: &[Action], anchor: Option<Anchor>) -> Result<Self> {
        let mut next = self.clone();
        next.version += 1;
        next.anchor = anchor.or_else(|| self.anchor.clone());
        let mut added: Vec<Arc<DataFile>> = Vec::new();
        let mut gone: HashSet<&str> = HashSet::new();
        let mut changed = false;
        for action in actions {
            match action {
                Action::Add(add) => {
                    gone.insert(&add.path);
                    added.push(DataFile::from_add(table, add)?);
                }
                Action::Remove(remove) => {
                    gone.insert(&remove.path);
                }
                Action::Metadata(metadata) => {
                    next.metadata = metadata.clone();
                    changed = true;
                }
                Action::Protocol(protocol) => {
                    next.protocol = protocol.clone();
                    changed = true;
                }
                _ => {}
            }
        }
        if !gone.is_empty() {
            let kept = self.files.iter().filter(|file| !gone.contains(file.name.as_str())).cloned();
            next.files = Arc::new(kept.chain(added).collect());
        }
        if changed {
            let files = next.files.as_ref().clone();
            let anchor = next.anchor.take();
            next = Self::new(table, next.version, next.metadata, next.protocol, files)?;
            next.anchor = anchor;
        }
        Ok(next)
    }

    /// Checks that this crate can make a change to the table.
    pub fn check_writable(&self, table: &str, change: Change) -> Result<()> {
        check_writable(table, &self.protocol, &self.metadata, &self.schema.delta, change)
    }

    /// Returns the ids of the files.
    pub fn file_ids(&self) -> HashSet<&str> {
        self.files.iter().map(|file| file.id.as_str()).collect()
    }
}

/// Returns the decoded path of a file in a log. A log is input: paths outside of the table's directory are refused.
pub(crate) fn path_below(table: &str, name: &str) -> Result<Path> {
    if name.starts_with('/') || name.contains("://") {
        return Err(refused(
            table,
            format_args!("the data file `{name}`, which is outside of the table"),
            OTHER_PROGRAM,
        ));
    }
    let is_below = FsPath::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    match Path::parse(name) {
        Ok(path) if is_below && path.as_ref() == name && !name.is_empty() => Ok(path),
        _ => {
            let reason =
                format!("its log names the data file `{}`, which is not a path below the table", name.escape_debug());
            Err(Error::corrupt(table, reason))
        }
    }
}

/// Checks that files can be read.
pub(crate) fn check_files(table: &str, files: &[Arc<DataFile>]) -> Result<()> {
    let is_outside = |file: &Arc<DataFile>| {
        file.deletion_vector.as_ref().is_some_and(|vector| vector.storage_type == StorageType::AbsolutePath)
    };
    if files.iter().any(is_outside) {
        return Err(refused(table, "deletion vectors outside of the table", OTHER_PROGRAM));
    }
    Ok(())
}
