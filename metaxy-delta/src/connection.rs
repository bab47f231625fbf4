//! The open store: the storage system, and the tables that have been read.

use std::collections::HashMap;
use std::path::Path as FsPath;
use std::sync::{Arc, Mutex, PoisonError};

use deltalake::logstore::{StorageConfig, logstore_with};
use futures::StreamExt;
use metaxy_core::error::{Error, Result};
use metaxy_core::{AccessMode, FeatureKey, blocking};
use object_store::ObjectStore;
use object_store::path::Path;

use crate::KIND;
use crate::config::DeltaConfig;
#[cfg(feature = "ballista")]
use crate::config::Executors;
use crate::error::ErrorContext;
use crate::location::Root;
#[cfg(feature = "ballista")]
use crate::scheduler::SchedulerAddress;
use crate::table::log::{Table, Upkeep};
use crate::table::storage::{
    LOG_DIRECTORY, below::Below, endpoint, file_system::DurableFileSystem, locks, probe, remote,
};

/// An open store.
pub(crate) struct Session {
    pub(crate) root: Root,
    pub(crate) context: ErrorContext,
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The scheduler of the cluster that computes increments.
    #[cfg(feature = "ballista")]
    pub(crate) scheduler: Option<SchedulerAddress>,
    /// The executors of that cluster.
    #[cfg(feature = "ballista")]
    pub(crate) executors: Executors,
    config: DeltaConfig,
    storage: StorageConfig,
    tables: Mutex<HashMap<FeatureKey, Arc<Table>>>,
}

impl Session {
    /// Opens a store, after checking that it exists and can be used in this mode.
    pub(crate) async fn open(
        config: &DeltaConfig,
        root: &Root,
        context: &ErrorContext,
        mode: AccessMode,
    ) -> Result<Self> {
        let (store, storage): (Arc<dyn ObjectStore>, StorageConfig) = match root.directory.clone() {
            Some(directory) => {
                blocking::run(move || check_directory(&directory, mode)).await?;
                (Arc::new(DurableFileSystem::new()), StorageConfig::default())
            }
            None => {
                if mode == AccessMode::ReadWrite && root.is_s3() {
                    locks::check(config)?;
                }
                if root.is_s3() {
                    endpoint::check(config)?;
                }
                remote::open(config, root, context)?
            }
        };
        #[cfg(feature = "ballista")]
        let scheduler = config.scheduler_address()?;
        let (config, root, context) = (config.clone(), root.clone(), context.clone());
        let session = Self {
            root,
            context,
            store,
            #[cfg(feature = "ballista")]
            scheduler,
            #[cfg(feature = "ballista")]
            executors: config.executors,
            config,
            storage,
            tables: Mutex::default(),
        };
        if session.root.directory.is_none() {
            session.check_bucket(mode).await?;
        }
        Ok(session)
    }

    /// Lists one object to check that the bucket exists and can be accessed, and checks whether it can be written to.
    async fn check_bucket(&self, mode: AccessMode) -> Result<()> {
        if let Some(Err(error)) = self.store.list(Some(&self.prefix()?)).next().await {
            return Err(self.context.store("open", None, error));
        }
        match mode {
            AccessMode::ReadOnly => Ok(()),
            // Other errors may be gone at the first write, which checks again.
            AccessMode::ReadWrite => match self.check_commits().await {
                Err(error @ Error::Unsupported { .. }) => Err(error),
                _ => Ok(()),
            },
        }
    }

    /// Checks that a bucket supports conditional puts, on which commits rely; once in a process.
    pub(crate) async fn check_commits(&self) -> Result<()> {
        if self.root.directory.is_some() {
            return Ok(());
        }
        let place = remote::fingerprint(&self.config, &self.root);
        probe::conditional_puts(self.store.as_ref(), &self.prefix()?, place, &self.context).await
    }

    /// Returns a table, which may not exist.
    pub(crate) fn table(&self, key: &FeatureKey) -> Result<Arc<Table>> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = tables.get(key) {
            return Ok(table.clone());
        }
        let path = self.root.table_path(key).split('/').fold(self.prefix()?, |path, part| path.join(part));
        let files = Arc::new(Below::new(self.store.clone(), path));
        let log = logstore_with(files, &self.root.table_url(key), self.storage.clone())
            .map_err(|error| self.context.delta("opening", &key.table_name(), error))?;
        let upkeep = Upkeep {
            checkpoint_interval: self.config.checkpoint_interval.get(),
            auto_compact: self.config.auto_compact,
        };
        let (directory, context) = (self.root.table_directory(key), self.context.clone());
        let partition_by = self.config.partition_columns();
        let table = Arc::new(Table::new(key.clone(), log, directory, context, upkeep, partition_by));
        tables.insert(key.clone(), table.clone());
        Ok(table)
    }

    /// Returns the path of the root in the object store.
    pub(crate) fn prefix(&self) -> Result<Path> {
        let path = match &self.root.directory {
            Some(directory) => Path::from_absolute_path(directory),
            None => Path::from_url_path(self.root.url.path()),
        };
        path.map_err(|error| Error::backend(KIND, "reading `root_path`", error))
    }
}

/// Checks that the root is a directory and not a table. Opened for writing, it may be missing: the first write creates
/// it.
fn check_directory(directory: &FsPath, mode: AccessMode) -> Result<()> {
    let location = directory.display().to_string();
    let not_a_store = |reason: String| Error::NotAStore { location: location.clone(), expected: "Delta store", reason };
    if let Some(file) = directory.ancestors().find(|ancestor| ancestor.is_file()) {
        return Err(not_a_store(format!("`{}` is a file; `root_path` must be a directory", file.display())));
    }
    if directory.join(LOG_DIRECTORY).is_dir() {
        let reason = "it is a Delta table itself; `root_path` must be the directory that contains the tables";
        return Err(not_a_store(reason.to_owned()));
    }
    match std::fs::read_dir(directory) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && mode == AccessMode::ReadWrite => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::location_not_found(
            location,
            "check `root_path`, or open the store with AccessMode::ReadWrite and write to it",
        )),
        Err(error) => Err(Error::of_io(location, "be read", error)),
    }
}
