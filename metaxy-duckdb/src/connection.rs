//! Open databases. A process opens a file only once, for all stores that use it: DuckDB's lock on a file excludes other
//! processes, but not a second instance in the same process.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duckdb::{Config, Connection};
use metaxy_core::hash::RowHasher;
use metaxy_core::shared::{Handle, Handles};
use metaxy_core::{AccessMode, Error, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::arrow_border::hashing::{self, Hash};
use crate::arrow_border::source::{BatchSource, FUNCTION};
use crate::catalog::StoredTable;
use crate::config::{DuckDbConfig, invalid};
use crate::error::{During, is_broken};
use crate::known::{KnownTables, Moment};
use crate::location::{DatabaseId, check_file, found};
use crate::sql::names::{SCHEMA, TableName, quoted, text};

/// The open databases of this process.
static OPEN: Handles<DatabaseId, Instance> = Handles::new();

/// Locked from the search for a file until a new one is open: before that it has no device and inode number.
static CREATING: Mutex<()> = Mutex::new(());

/// The number of streams that may keep a connection, with the memory that DuckDB reads ahead.
const MAX_STREAMS: usize = 64;

/// The setting that disables compression: most texts in a store are hashes, which cannot be compressed, and trying
/// takes half the time of a write.
const DISABLED_COMPRESSION: &str = "disabled_compression_methods";
const FOR_TEXTS: &str = "fsst,dict_fsst";

/// An instance of DuckDB.
struct Instance {
    id: DatabaseId,
    opening: Opening,
    /// DuckDB's name of the database.
    name: Arc<str>,
    running: Mutex<Running>,
    /// Writers take turns.
    writer: Arc<tokio::sync::Mutex<()>>,
    /// The permits of streams to keep a connection until they are read.
    streams: Arc<Semaphore>,
    known: KnownTables,
}

struct Running {
    connection: Connection,
    /// The hash functions that were registered so far.
    hashes: HashSet<String>,
}

/// The parameters of opening a database.
#[derive(Clone)]
struct Opening {
    /// The file; `None` for a database in memory.
    file: Option<PathBuf>,
    mode: AccessMode,
    settings: BTreeMap<String, String>,
    storage_version: String,
}

/// A handle of an open database. Dropping the last one closes the file.
pub(crate) struct Database {
    instance: Handle<Instance>,
    /// The mode of this store. Another store of this process may have opened the file for writing.
    pub(crate) mode: AccessMode,
    /// The file, for messages.
    pub(crate) location: String,
}

/// A connection, for one call.
pub(crate) struct Link {
    pub(crate) connection: Connection,
    // Dropped after the connection: the file is closed with its last user.
    pub(crate) database: Arc<Database>,
}

impl Database {
    /// Opens a store's database.
    pub(crate) fn open(config: &DuckDbConfig, mode: AccessMode) -> Result<Self> {
        let location = config.location();
        let creating = lock(&CREATING);
        let file = config.file().map(|file| found(&file, mode, &location)).transpose()?;
        let id = match &file {
            None => Some(DatabaseId::memory()),
            Some(file) => DatabaseId::of(file).ok(),
        };
        // A store in memory has no file that opening could damage.
        let mode_of_instance = if file.is_some() { mode } else { AccessMode::ReadWrite };
        let (settings, storage_version) = (config.settings(), config.storage_version.clone());
        let opening = Opening { file, mode: mode_of_instance, settings, storage_version };
        let instance = match id {
            Some(id) => {
                drop(creating);
                OPEN.open(id, || opening.start(id, &location))?
            }
            None => {
                let (id, instance) = opening.create(&location)?;
                let instance = OPEN.open(id, || Ok(instance))?;
                drop(creating);
                instance
            }
        };
        instance.opening.check_shared(&opening, &location)?;
        Ok(Self { instance, mode, location })
    }

    /// Returns a new connection. After some errors, such as a full disk, DuckDB refuses all calls; then the instance is
    /// restarted.
    pub(crate) fn connect(self: &Arc<Self>) -> Result<Link> {
        self.check_present()?;
        let mut running = lock(&self.instance.running);
        let during = During::new(&self.location, "connect");
        let connect = |running: &Running| {
            let connection = running.connection.try_clone()?;
            connection.execute_batch(&looks_up_own_first(&self.instance.name)).map(|()| connection)
        };
        let connection = match connect(&running) {
            Err(error) if is_broken(&error) => {
                running.connection = self.instance.opening.open(&self.location)?;
                running.hashes.clear();
                drop(self.instance.known.write());
                connect(&running)
            }
            connected => connected,
        };
        Ok(Link { connection: connection.map_err(during.fails())?, database: self.clone() })
    }

    /// Returns an error if the file has been removed or replaced: later writes to it would be lost, and its write-ahead
    /// log could be read as that of another file.
    pub(crate) fn check_present(&self) -> Result<()> {
        match self.instance.is_present() {
            true => Ok(()),
            false => Err(Error::location_not_found(
                &self.location,
                "its file was moved, removed or replaced while it was open; close the store, and open it again",
            )),
        }
    }

    /// Returns a permit to keep a connection for a stream that is not read; `None` if all are taken.
    pub(crate) fn stream(&self) -> Option<OwnedSemaphorePermit> {
        self.instance.streams.clone().try_acquire_owned().ok()
    }

    /// Returns DuckDB's name of it.
    pub(crate) fn name(&self) -> Arc<str> {
        self.instance.name.clone()
    }

    /// Returns the known descriptions of its tables.
    pub(crate) fn known(&self) -> &KnownTables {
        &self.instance.known
    }

    /// Waits for the other writers of this process.
    pub(crate) async fn writer(&self) -> tokio::sync::OwnedMutexGuard<()> {
        self.instance.writer.clone().lock_owned().await
    }
}

impl AsRef<Connection> for Link {
    fn as_ref(&self) -> &Connection {
        &self.connection
    }
}

impl Link {
    /// Returns the name of the SQL function that hashes like `hasher`. Call it outside of transactions.
    pub(crate) fn hash_function(&self, hasher: RowHasher) -> Result<String> {
        let name = hashing::name(hasher);
        let mut running = lock(&self.database.instance.running);
        if !running.hashes.contains(&name) {
            let during = During::new(&self.database.location, "resolve");
            let registered = running.connection.register_scalar_function_with_state::<Hash>(&name, &hasher);
            registered.map_err(during.fails())?;
            running.hashes.insert(name.clone());
        }
        Ok(name)
    }

    /// Returns the description of a table: the known one of a moment, or else that of the link's transaction, which has
    /// begun after it.
    pub(crate) fn table(
        &self,
        sql_name: &TableName,
        moment: Moment,
        during: During<'_>,
    ) -> Result<Option<StoredTable>> {
        if let Some(table) = self.database.known().get(sql_name, moment) {
            return Ok(Some(table));
        }
        let table = StoredTable::find(&self.connection, sql_name, during)?;
        table.iter().for_each(|table| self.database.known().keep(table, moment));
        Ok(table)
    }

    /// Checks the file after a write: the written rows exist only if the file does.
    pub(crate) fn check_present(&self) -> Result<()> {
        self.database.check_present()
    }
}

impl Instance {
    /// Returns whether the file is still where it was opened.
    fn is_present(&self) -> bool {
        let file = self.opening.file.as_deref();
        file.is_none_or(|file| DatabaseId::of(file).is_ok_and(|id| id == self.id))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if !self.is_present() {
            // The write-ahead log of that name may belong to another file by now, and closing would remove it.
            let _ = lock(&self.running).connection.execute_batch("PRAGMA disable_checkpoint_on_shutdown");
        }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("location", &self.location).field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Opening {
    /// Starts an instance on an existing database.
    fn start(&self, id: DatabaseId, location: &str) -> Result<Instance> {
        if let Some(file) = &self.file {
            check_file(file, id, location)?;
        }
        self.instance(id, self.open(location)?, location)
    }

    /// Starts an instance on a file that does not exist yet.
    fn create(&self, location: &str) -> Result<(DatabaseId, Instance)> {
        let connection = self.open(location)?;
        let id = self.file.as_deref().map_or_else(|| Ok(DatabaseId::memory()), DatabaseId::of);
        let id = id.map_err(|error| Error::of_io(location, "open", error))?;
        Ok((id, self.instance(id, connection, location)?))
    }

    fn instance(&self, id: DatabaseId, connection: Connection, location: &str) -> Result<Instance> {
        let name = connection.query_row("SELECT system.main.current_database()", [], |row| row.get::<_, String>(0));
        let name = name.map_err(During::new(location, "open").fails())?.into();
        let running = Mutex::new(Running { connection, hashes: HashSet::new() });
        let streams = Arc::new(Semaphore::new(MAX_STREAMS));
        let (writer, known) = (Arc::default(), KnownTables::default());
        Ok(Instance { id, opening: self.clone(), name, running, writer, streams, known })
    }

    fn open(&self, location: &str) -> Result<Connection> {
        let during = During::new(location, "open");
        let config = self.config(during)?;
        let connection = match &self.file {
            None => Connection::open_in_memory_with_flags(config),
            Some(file) => Connection::open_with_flags(file, config),
        };
        let connection =
            connection.map_err(|error| self.unknown_setting(&error).unwrap_or_else(|| during.error(error)))?;
        connection.register_table_function::<BatchSource>(FUNCTION).map_err(during.fails())?;
        // DuckDB ignores this setting when it starts.
        let disabled = self.settings.get(DISABLED_COMPRESSION).map_or(FOR_TEXTS, String::as_str);
        connection
            .execute_batch(&format!("SET {DISABLED_COMPRESSION} = {}", text(disabled)))
            .map_err(|_| invalid(&format!("config.{DISABLED_COMPRESSION}"), "DuckDB has no such methods".to_owned()))?;
        Ok(connection)
    }

    fn config(&self, during: During<'_>) -> Result<Config> {
        let mut config = Config::default();
        let mut set = |name: &str, value: &str| -> duckdb::Result<()> {
            config = std::mem::take(&mut config).with(name, value)?;
            Ok(())
        };
        // Rows have no order, and preserving one costs time and memory.
        set("preserve_insertion_order", "false").map_err(during.fails())?;
        for (name, value) in &self.settings {
            set(name, value).map_err(|_| invalid(&format!("config.{name}"), no_such_setting(name)))?;
        }
        // The content of the file cannot make DuckDB read other files or run foreign code.
        for name in ["autoinstall_known_extensions", "autoload_known_extensions", "enable_external_access"] {
            set(name, "false").map_err(during.fails())?;
        }
        let Some(file) = &self.file else { return Ok(config) };
        let mode = if self.mode == AccessMode::ReadOnly { "READ_ONLY" } else { "READ_WRITE" };
        set("access_mode", mode).map_err(during.fails())?;
        if self.mode == AccessMode::ReadWrite && !file.exists() {
            set("storage_compatibility_version", &self.storage_version).map_err(|_| {
                let reason = format!("`{}` is not a version of DuckDB, such as `v1.4.0`", self.storage_version);
                invalid("storage_version", reason)
            })?;
        }
        Ok(config)
    }

    /// Returns the error of an unknown setting. DuckDB assumes that it belongs to an extension, and refuses it when it
    /// starts.
    fn unknown_setting(&self, error: &duckdb::Error) -> Option<Error> {
        let message = error.to_string();
        let (_, unknown) = message.split_once("options were not recognized: ")?;
        let name = self.settings.keys().find(|name| unknown.split(", ").any(|other| other.trim() == name.as_str()))?;
        Some(invalid(&format!("config.{name}"), no_such_setting(name)))
    }

    /// Returns whether a store with these settings can use this instance.
    fn check_shared(&self, other: &Self, location: &str) -> Result<()> {
        if self.settings != other.settings {
            let reason = format!("this process has {location} open with other settings of DuckDB; use the same");
            return Err(invalid("config", reason));
        }
        if self.mode == AccessMode::ReadOnly && other.mode == AccessMode::ReadWrite {
            let holder = "this process, which has it open for reading".to_owned();
            return Err(Error::Locked { location: location.to_owned(), holder });
        }
        Ok(())
    }
}

/// Returns the statement after which DuckDB's own functions, and those of this project, are found before those of the
/// file: a macro of the file cannot replace them.
fn looks_up_own_first(database: &str) -> String {
    format!("SET search_path = {}", text(&format!("system.main,{}.{SCHEMA}", quoted(database))))
}

fn no_such_setting(name: &str) -> String {
    format!("DuckDB has no setting `{name}`, or does not accept this value for it")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
