//! The backend: what the core calls.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path as FsPath;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use deltalake::logstore::{StorageConfig, logstore_with, object_store_factories};
use futures::{StreamExt, TryStreamExt};
use metaxy_core::backend::{closed, not_found};
use metaxy_core::error::{Error, Result};
use metaxy_core::filter::Predicate;
use metaxy_core::secret::secrets_in;
use metaxy_core::{
    AccessMode, BackendInfo, FeatureKey, HashAlgorithm, Scan, ScanRequest, StoreBackend, blocking, columns,
};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore};
use url::Url;

use crate::KIND;
use crate::config::{DeltaSettings, Layout};
use crate::error::{ErrorContext, chain};
use crate::location::{Root, is_table_name};
use crate::locks;
use crate::log::state::TableState;
use crate::log::{Table, Upkeep};
use crate::storage::DurableFileSystem;
use crate::storage::LOG_DIRECTORY;
use crate::types::check_storable;
use crate::{delete, maintain, merge, probe, prune, read, write};

/// How many directories are listed at once.
const LISTINGS: usize = 16;
/// Requests are given up sooner than `object_store` would by itself, which tries for minutes.
const PATIENCE: [(&str, &str); 4] =
    [("max_retries", "6"), ("retry_timeout", "30s"), ("connect_timeout", "5s"), ("timeout", "30s")];

/// A metadata store on Delta Lake.
pub struct DeltaBackend {
    settings: DeltaSettings,
    root: Root,
    context: ErrorContext,
    session: RwLock<Option<Arc<Session>>>,
}

/// What an open store holds.
struct Session {
    mode: AccessMode,
    store: Arc<dyn ObjectStore>,
    config: StorageConfig,
    tables: Mutex<HashMap<FeatureKey, Arc<Table>>>,
}

impl DeltaBackend {
    /// A backend for these settings; opens nothing.
    ///
    /// # Errors
    /// [`Error::Config`] where `root_path` names no place that this crate can use.
    pub fn new(settings: DeltaSettings) -> Result<Self> {
        let root = Root::parse(&settings.root_path, settings.layout)?;
        let secrets = settings
            .storage_options
            .iter()
            .flat_map(|(name, value)| secrets_in(name, &value.to_string()))
            .chain(secrets_in("root_path", &settings.root_path))
            .collect();
        let context = ErrorContext { location: root.display(), secrets };
        Ok(Self { settings, root, context, session: RwLock::default() })
    }

    fn session(&self) -> Result<Arc<Session>> {
        let session = self.session.read().unwrap_or_else(PoisonError::into_inner).clone();
        session.ok_or_else(|| closed(&self.info()))
    }

    async fn writing(&self, operation: &'static str) -> Result<Arc<Session>> {
        let session = self.session()?;
        if session.mode == AccessMode::ReadOnly {
            return Err(Error::ReadOnly { store: self.context.location.clone(), operation });
        }
        self.probe(session.store.as_ref()).await?;
        Ok(session)
    }

    /// Refuses to write to a place that does not have what commits rely on. It is looked at once.
    async fn probe(&self, store: &dyn ObjectStore) -> Result<()> {
        if self.root.directory.is_some() {
            return Ok(());
        }
        let mut place = DefaultHasher::new();
        (self.root.url.as_str(), self.options().into_iter().collect::<BTreeMap<_, _>>()).hash(&mut place);
        probe::conditional_puts(store, &self.prefix()?, place.finish(), &self.context).await
    }

    fn table(&self, session: &Session, key: &FeatureKey) -> Result<Arc<Table>> {
        let mut tables = session.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = tables.get(key) {
            return Ok(table.clone());
        }
        let name = key.table_name();
        let log = logstore_with(session.store.clone(), &self.root.table_url(key), session.config.clone())
            .map_err(|error| self.context.delta("opening", &name, error))?;
        let upkeep = Upkeep {
            checkpoint_interval: self.settings.checkpoint_interval.get(),
            auto_compact: self.settings.auto_compact,
        };
        let (directory, context) = (self.root.table_directory(key), self.context.clone());
        let partition_by = self.settings.partition_columns();
        let table = Arc::new(Table::new(key.clone(), log, directory, context, upkeep, partition_by));
        tables.insert(key.clone(), table.clone());
        Ok(table)
    }

    /// A table that has to exist.
    async fn existing(&self, key: &FeatureKey) -> Result<(Arc<Table>, Arc<TableState>)> {
        let table = self.table(self.session()?.as_ref(), key)?;
        match table.refresh().await? {
            Some(state) => Ok((table, state)),
            None => Err(not_found(&self.info(), key)),
        }
    }

    /// The root as the object store sees it.
    fn prefix(&self) -> Result<Path> {
        let path = match &self.root.directory {
            Some(directory) => Path::from_absolute_path(directory),
            None => Path::from_url_path(self.root.url.path()),
        };
        path.map_err(|error| Error::backend(KIND, "reading `root_path`", error))
    }

    async fn connect(&self, mode: AccessMode) -> Result<Session> {
        let (store, config): (Arc<dyn ObjectStore>, StorageConfig) = match self.root.directory.clone() {
            Some(directory) => {
                blocking::run(move || check_directory(&directory, mode)).await?;
                (Arc::new(DurableFileSystem::new()), StorageConfig::default())
            }
            None => {
                if mode == AccessMode::ReadWrite && self.root.is_s3() {
                    locks::check(&self.settings)?;
                }
                let (store, config) = self.remote_store()?;
                self.check_remote(&store).await?;
                if mode == AccessMode::ReadWrite
                    && let Err(error @ Error::Unsupported { .. }) = self.probe(store.as_ref()).await
                {
                    return Err(error);
                }
                (store, config)
            }
        };
        Ok(Session { mode, store, config, tables: Mutex::default() })
    }

    fn remote_store(&self) -> Result<(Arc<dyn ObjectStore>, StorageConfig)> {
        let invalid = |reason: String| Error::Config {
            file: None,
            line: None,
            key: "storage_options".to_owned(),
            reason: self.context.redact(&reason),
        };
        let options = self.options();
        let config = StorageConfig::parse_options(options).map_err(|error| invalid(chain(&error)))?;
        let scheme = Url::parse(&format!("{}://", self.root.url.scheme())).map_err(|error| invalid(chain(&error)))?;
        let factories = object_store_factories();
        let Some(factory) = factories.get(&scheme) else {
            return Err(invalid(format!("{scheme} is not compiled in")));
        };
        let (store, _) =
            factory.value().parse_url_opts(&self.root.url, &config).map_err(|error| invalid(chain(&error)))?;
        Ok((store, config))
    }

    fn options(&self) -> HashMap<String, String> {
        let mut options: HashMap<String, String> = HashMap::new();
        for (name, value) in &self.settings.storage_options {
            if !locks::is_lock_option(name) {
                options.insert(name.clone(), value.to_string());
            }
        }
        for (name, value) in PATIENCE {
            let is_given = |known: &String| {
                let known = known.to_lowercase();
                let plain = ["aws_", "google_", "azure_"].iter().find_map(|prefix| known.strip_prefix(prefix));
                plain.unwrap_or(&known) == name
            };
            if !options.keys().any(is_given) {
                options.insert(name.to_owned(), value.to_owned());
            }
        }
        options
    }

    /// A listing of one object tells whether the bucket is there and lets us in.
    async fn check_remote(&self, store: &Arc<dyn ObjectStore>) -> Result<()> {
        match store.list(Some(&self.prefix()?)).next().await {
            None | Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(self.context.store("open", None, error)),
        }
    }

    /// The directories right below one that may hold tables, and the names of the tables among them.
    async fn listed(&self, store: &Arc<dyn ObjectStore>, directory: Path) -> Result<(Vec<Path>, Vec<String>)> {
        let found = match store.list_with_delimiter(Some(&directory)).await {
            Ok(found) => found.common_prefixes,
            Err(StoreError::NotFound { .. }) if self.root.directory.is_some() => Vec::new(),
            Err(error) => return Err(self.context.store("list tables", None, error)),
        };
        let root = self.prefix()?;
        let (mut directories, mut tables) = (Vec::new(), Vec::new());
        for path in found {
            let name = path.filename().unwrap_or_default();
            if name.starts_with(['.', '_']) {
                continue;
            }
            if !is_table_name(name) {
                directories.push(path);
                continue;
            }
            let below: String = path
                .prefix_match(&root)
                .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>())
                .unwrap_or_default()
                .join("/");
            if let Some(table) = self.root.table_name(&below)
                && has_log(store, &path).await.map_err(|error| self.context.store("list tables", None, error))?
            {
                tables.push(table);
            }
        }
        Ok((directories, tables))
    }
}

/// A directory may be made by the first write, but must not be something else.
fn check_directory(directory: &FsPath, mode: AccessMode) -> Result<()> {
    let location = directory.display().to_string();
    let not_a_store = |reason: String| Error::NotAStore { location: location.clone(), expected: "Delta store", reason };
    if let Some(file) = directory.ancestors().find(|ancestor| ancestor.is_file()) {
        return Err(not_a_store(format!("`{}` is a file; `root_path` names a directory", file.display())));
    }
    if directory.join(LOG_DIRECTORY).is_dir() {
        return Err(not_a_store(
            "it is a Delta table itself; `root_path` names the directory that holds tables".into(),
        ));
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

async fn has_log(store: &Arc<dyn ObjectStore>, table: &Path) -> Result<bool, StoreError> {
    match store.list(Some(&table.clone().join(LOG_DIRECTORY))).next().await {
        None | Some(Err(StoreError::NotFound { .. })) => Ok(false),
        Some(found) => found.map(|_| true),
    }
}

impl fmt::Debug for DeltaBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeltaBackend").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[async_trait]
impl StoreBackend for DeltaBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo {
            kind: KIND,
            location: self.context.location.clone(),
            default_hash: HashAlgorithm::Xxhash32,
            flat_names: self.settings.layout == Layout::Flat,
            auto_create_tables: true,
        }
    }

    async fn open(&self, mode: AccessMode) -> Result<()> {
        let session = self.connect(mode).await?;
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(session));
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    async fn schema(&self, table: &FeatureKey) -> Result<Option<SchemaRef>> {
        let table = self.table(self.session()?.as_ref(), table)?;
        Ok(table.refresh().await?.map(|state| state.schema.logical.clone()))
    }

    async fn append(&self, table: &FeatureKey, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
        let session = self.writing("write").await?;
        write::append(self.table(&session, table)?, schema, batches).await
    }

    fn check(&self, table: &FeatureKey, rows: &RecordBatch) -> Result<()> {
        let known = self.table(self.session()?.as_ref(), table)?.known_schema();
        check_storable(table, known.as_deref(), rows)
    }

    async fn scan(&self, table: &FeatureKey, request: &ScanRequest) -> Result<Scan> {
        let (table, state) = self.existing(table).await?;
        read::scan(table, state, request).await
    }

    async fn delete(&self, table: &FeatureKey, predicate: &Predicate) -> Result<u64> {
        let session = self.writing("delete").await?;
        delete::delete(self.table(&session, table)?, predicate).await
    }

    async fn drop_table(&self, table: &FeatureKey) -> Result<()> {
        let session = self.writing("drop a feature").await?;
        maintain::drop_table(&self.table(&session, table)?).await
    }

    async fn tables(&self) -> Result<Vec<String>> {
        let session = self.session()?;
        let mut names = Vec::new();
        let mut level = vec![self.prefix()?];
        while !level.is_empty() {
            let found: Vec<_> = futures::stream::iter(level)
                .map(|directory| self.listed(&session.store, directory))
                .buffered(LISTINGS)
                .try_collect()
                .await?;
            let (directories, tables): (Vec<Vec<Path>>, Vec<Vec<String>>) = found.into_iter().unzip();
            names.extend(tables.into_iter().flatten());
            level = match self.settings.layout {
                Layout::Nested => directories.into_iter().flatten().collect(),
                Layout::Flat => Vec::new(),
            };
        }
        names.sort();
        Ok(names)
    }

    async fn newest_stamp(&self, table: &FeatureKey) -> Result<Option<i64>> {
        let (table, state) = match self.existing(table).await {
            Err(Error::FeatureNotFound { .. }) => return Ok(None),
            found => found?,
        };
        let times = [columns::UPDATED_AT, columns::DELETED_AT];
        let (mut newest, mut unknown) = (None, Vec::new());
        for file in state.files.iter() {
            match prune::newest_time(file.stats(), &state.schema, times) {
                Some(time) => newest = newest.max(Some(time)),
                None => unknown.push(file.clone()),
            }
        }
        // Only files without statistics are left to look into.
        crate::log::state::check_files(&table.name, &unknown)?;
        let names = times.map(str::to_owned);
        let mut stream = read::rows(table, &state, unknown, &names, read::Filters::default());
        while let Some(batch) = stream.try_next().await? {
            newest = newest.max(columns::newest_time(&batch)?);
        }
        Ok(newest)
    }

    async fn has_held_rows(&self, table: &FeatureKey) -> Result<bool> {
        let (table, state) = self.existing(table).await?;
        Ok(!state.files.is_empty() || table.had_files(state.version).await?)
    }

    async fn compact(&self, table: &FeatureKey) -> Result<()> {
        let session = self.writing("compact").await?;
        merge::compact(&self.table(&session, table)?).await
    }

    async fn vacuum(&self, table: &FeatureKey, retention: Duration) -> Result<u64> {
        let session = self.writing("vacuum").await?;
        maintain::vacuum(&self.table(&session, table)?, retention).await
    }
}
