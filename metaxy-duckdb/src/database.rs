//! Open databases. Within a process a file is opened once, however many stores use it: DuckDB's lock on a file keeps
//! other processes out, not a second instance in this one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use duckdb::{Config, Connection};
use metaxy_core::hash::RowHasher;
use metaxy_core::{AccessMode, Error, Result};

use crate::config::{DuckDbConfig, invalid};
use crate::error::{During, is_broken};
use crate::hashing::{self, Hash};
use crate::source::{BatchSource, FUNCTION};
use crate::sql::text;

/// Every file that this process has had open. Entries stay: two of them for one file would be two instances.
static FILES: LazyLock<Mutex<HashMap<PathBuf, Arc<Slot>>>> = LazyLock::new(Mutex::default);

/// Most texts in a store are hashes, which do not get smaller, and to try takes half the time of a write.
const DISABLED_COMPRESSION: &str = "disabled_compression_methods";
const FOR_TEXTS: &str = "fsst,dict_fsst";

/// The one place in this process where a file is open, or not. Opening and closing hold its lock to the end.
#[derive(Default)]
struct Slot {
    running: Mutex<Option<Running>>,
    /// Writers take turns.
    writer: Arc<tokio::sync::Mutex<()>>,
}

/// An instance of DuckDB.
struct Running {
    connection: Connection,
    opening: Opening,
    /// The hash functions that it has got so far.
    hashes: HashSet<String>,
    users: usize,
}

/// How a database is opened.
#[derive(Clone, PartialEq)]
struct Opening {
    file: Option<PathBuf>,
    mode: AccessMode,
    settings: BTreeMap<String, String>,
    storage_version: String,
}

/// A store's share in an open database. The last one to go closes the file.
pub(crate) struct Database {
    slot: Arc<Slot>,
    /// What this store may do; another store of this process may have the file open for more.
    pub(crate) mode: AccessMode,
    /// The file, for messages.
    pub(crate) location: String,
}

/// A connection, for one call.
pub(crate) struct Link {
    pub(crate) connection: Connection,
    // Dropped after the connection: the file is closed when nothing uses it any more.
    database: Arc<Database>,
}

impl Database {
    /// Opens a store's database.
    pub(crate) fn open(config: &DuckDbConfig, mode: AccessMode) -> Result<Self> {
        let location = config.location();
        let file = config.file().map(|file| found(&file, mode, &location)).transpose()?;
        let slot = match &file {
            Some(file) => lock(&FILES).entry(file.clone()).or_default().clone(),
            None => Arc::default(),
        };
        // A store in memory has nothing that could be harmed by opening it.
        let instance_mode = if file.is_some() { mode } else { AccessMode::ReadWrite };
        let opening = Opening {
            file,
            mode: instance_mode,
            settings: config.settings(),
            storage_version: config.storage_version.clone(),
        };
        let mut running = lock(&slot.running);
        match running.as_mut() {
            Some(running) => {
                running.opening.check_shared(&opening, &location)?;
                running.users += 1;
            }
            None => {
                opening.file.as_deref().map_or(Ok(()), |file| check_start(file, &location))?;
                let connection = opening.open(&location)?;
                *running = Some(Running { connection, opening, hashes: HashSet::new(), users: 1 });
            }
        }
        drop(running);
        Ok(Self { slot, mode, location })
    }

    /// A connection of its own. After some errors, a full disk among them, DuckDB refuses to go on: then it is started
    /// anew.
    pub(crate) fn connect(self: &Arc<Self>) -> Result<Link> {
        let mut running = lock(&self.slot.running);
        let Some(running) = running.as_mut() else {
            return Err(Error::Closed { store: self.location.clone() });
        };
        let during = During::new(&self.location, "connect");
        let connection = running.connection.try_clone().map_err(during.fails())?;
        match connection.execute_batch("SELECT 1") {
            Ok(()) => Ok(Link { connection, database: self.clone() }),
            Err(error) if is_broken(&error) => {
                running.connection = running.opening.open(&self.location)?;
                running.hashes.clear();
                let connection = running.connection.try_clone().map_err(during.fails())?;
                Ok(Link { connection, database: self.clone() })
            }
            Err(error) => Err(during.failed(error)),
        }
    }

    /// Waits for this process's other writers.
    pub(crate) async fn writer(&self) -> tokio::sync::OwnedMutexGuard<()> {
        self.slot.writer.clone().lock_owned().await
    }
}

impl Link {
    /// The name of the SQL function that hashes so. Call it outside of transactions.
    pub(crate) fn hash_function(&self, hasher: RowHasher) -> Result<String> {
        let name = hashing::name(hasher);
        let mut running = lock(&self.database.slot.running);
        if let Some(running) = running.as_mut()
            && !running.hashes.contains(&name)
        {
            let during = During::new(&self.database.location, "resolve");
            let registered = running.connection.register_scalar_function_with_state::<Hash>(&name, &hasher);
            registered.map_err(during.fails())?;
            running.hashes.insert(name.clone());
        }
        Ok(name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let mut running = lock(&self.slot.running);
        let Some(open) = running.as_mut() else { return };
        open.users -= 1;
        if open.users == 0 {
            // While the lock is held: whoever opens the file next finds it closed.
            *running = None;
        }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("location", &self.location).field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Opening {
    fn open(&self, location: &str) -> Result<Connection> {
        let during = During::new(location, "open");
        let mut config = Config::default();
        let mut set = |name: &str, value: &str| -> duckdb::Result<()> {
            config = std::mem::take(&mut config).with(name, value)?;
            Ok(())
        };
        // Rows have no order, and keeping one costs time and memory.
        set("preserve_insertion_order", "false").map_err(during.fails())?;
        for (name, value) in &self.settings {
            set(name, value).map_err(|_| invalid(&format!("config.{name}"), no_such_setting(name)))?;
        }
        for name in ["autoinstall_known_extensions", "autoload_known_extensions"] {
            set(name, "false").map_err(during.fails())?;
        }
        let mode = if self.mode == AccessMode::ReadOnly { "READ_ONLY" } else { "READ_WRITE" };
        let connection = match &self.file {
            None => Connection::open_in_memory_with_flags(config),
            Some(file) => {
                set("access_mode", mode).map_err(during.fails())?;
                if self.mode == AccessMode::ReadWrite && !file.exists() {
                    set("storage_compatibility_version", &self.storage_version).map_err(|_| {
                        let reason = format!("`{}` is no version of DuckDB, such as `v1.4.0`", self.storage_version);
                        invalid("storage_version", reason)
                    })?;
                }
                Connection::open_with_flags(file, config)
            }
        };
        let connection =
            connection.map_err(|error| self.unknown_setting(&error).unwrap_or_else(|| during.failed(error)))?;
        connection.register_table_function::<BatchSource>(FUNCTION).map_err(during.fails())?;
        // DuckDB does not hear this one when it starts.
        let disabled = self.settings.get(DISABLED_COMPRESSION).map_or(FOR_TEXTS, String::as_str);
        connection
            .execute_batch(&format!("SET {DISABLED_COMPRESSION} = {}", text(disabled)))
            .map_err(|_| invalid(&format!("config.{DISABLED_COMPRESSION}"), "DuckDB has no such methods".to_owned()))?;
        Ok(connection)
    }

    /// DuckDB takes settings that it does not know for those of extensions, and says so only when it starts.
    fn unknown_setting(&self, error: &duckdb::Error) -> Option<Error> {
        let message = error.to_string();
        let (_, unknown) = message.split_once("options were not recognized: ")?;
        let name = self.settings.keys().find(|name| unknown.split(", ").any(|other| other.trim() == name.as_str()))?;
        Some(invalid(&format!("config.{name}"), no_such_setting(name)))
    }

    /// Whether a store that would be opened so can use this instance.
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

fn no_such_setting(name: &str) -> String {
    format!("DuckDB has no setting `{name}`, or does not take this value for it")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file under the one name that all paths to it lead to.
fn found(file: &Path, mode: AccessMode, location: &str) -> Result<PathBuf> {
    if file.is_dir() {
        let reason = "it is a directory; name a file in it".to_owned();
        return Err(Error::NotAStore { location: location.to_owned(), expected: "DuckDB database", reason });
    }
    let missing = |hint: &str| Error::LocationNotFound { location: location.to_owned(), hint: hint.to_owned() };
    if let Ok(canonical) = file.canonicalize() {
        return Ok(canonical);
    }
    if mode == AccessMode::ReadOnly {
        return Err(missing("open it for writing once, or check the path"));
    }
    let parent = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let parent = parent.canonicalize().map_err(|_| missing("its directory does not exist; create it first"))?;
    let name = file.file_name().ok_or_else(|| missing("the path names no file"))?;
    Ok(parent.join(name))
}

/// Refuses what is no database at all: DuckDB would look for an extension that can read some of it. An empty file becomes
/// a database, and what cannot be read is left to DuckDB to complain about.
///
/// Only for files that this process does not have open: closing one takes away all locks that the process has on it, and
/// others could write then.
fn check_start(file: &Path, location: &str) -> Result<()> {
    let mut start = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(12).read_to_end(&mut start));
    if read.is_err() || start.is_empty() || start.ends_with(b"DUCK") {
        return Ok(());
    }
    let reason = "it does not begin like one".to_owned();
    Err(Error::NotAStore { location: location.to_owned(), expected: "DuckDB database", reason })
}
