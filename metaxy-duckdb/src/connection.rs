//! Open databases. Within a process a file is opened once, however many stores use it and by whatever names: DuckDB's lock
//! on a file keeps other processes out, not a second instance in this one.

use std::collections::{BTreeMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duckdb::{Config, Connection};
use metaxy_core::hash::RowHasher;
use metaxy_core::shared::{Handle, Handles};
use metaxy_core::{AccessMode, Error, Result};

use crate::arrow_border::hashing::{self, Hash};
use crate::arrow_border::source::{BatchSource, FUNCTION};
use crate::config::{DuckDbConfig, invalid};
use crate::error::{During, is_broken};
use crate::sql::names::text;

/// Every database that this process has open.
static OPEN: Handles<Place, Instance> = Handles::new();

/// Held while a file is looked for, and until a new one is open: it has no device and number before.
static CREATING: Mutex<()> = Mutex::new(());

/// Most texts in a store are hashes, which do not get smaller, and to try takes half the time of a write.
const DISABLED_COMPRESSION: &str = "disabled_compression_methods";
const FOR_TEXTS: &str = "fsst,dict_fsst";

/// What tells databases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// The device and number of a file, which links and renames do not change.
    File(u64, u64),
    Memory(u64),
}

impl Place {
    /// A new database in memory.
    fn memory() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self::Memory(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// What a path leads to now.
    #[cfg(unix)]
    fn of(path: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).map(|found| Self::File(found.dev(), found.ino()))
    }

    /// What a path leads to now. Files have no number that the standard library could read: their paths stand for it.
    #[cfg(not(unix))]
    fn of(path: &Path) -> std::io::Result<Self> {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        path.canonicalize()?.hash(&mut hasher);
        Ok(Self::File(0, hasher.finish()))
    }
}

/// An instance of DuckDB.
struct Instance {
    place: Place,
    opening: Opening,
    running: Mutex<Running>,
    /// Writers take turns.
    writer: Arc<tokio::sync::Mutex<()>>,
}

struct Running {
    connection: Connection,
    /// The hash functions that it has got so far.
    hashes: HashSet<String>,
}

/// How a database is opened.
#[derive(Clone)]
struct Opening {
    /// The file; `None` for a database in memory.
    file: Option<PathBuf>,
    mode: AccessMode,
    settings: BTreeMap<String, String>,
    storage_version: String,
}

/// A store's share in an open database. The last one to go closes the file.
pub(crate) struct Database {
    instance: Handle<Instance>,
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
        let creating = lock(&CREATING);
        let file = config.file().map(|file| found(&file, mode, &location)).transpose()?;
        let place = match &file {
            None => Some(Place::memory()),
            Some(file) => Place::of(file).ok(),
        };
        // A store in memory has nothing that could be harmed by opening it.
        let mode_of_instance = if file.is_some() { mode } else { AccessMode::ReadWrite };
        let (settings, storage_version) = (config.settings(), config.storage_version.clone());
        let opening = Opening { file, mode: mode_of_instance, settings, storage_version };
        let instance = match place {
            Some(place) => {
                drop(creating);
                OPEN.open(place, || opening.start(place, &location))?
            }
            None => {
                let (place, instance) = opening.create(&location)?;
                let instance = OPEN.open(place, || Ok(instance))?;
                drop(creating);
                instance
            }
        };
        instance.opening.check_shared(&opening, &location)?;
        Ok(Self { instance, mode, location })
    }

    /// A connection of its own. After some errors, a full disk among them, DuckDB refuses to go on: then it is started
    /// again.
    pub(crate) fn connect(self: &Arc<Self>) -> Result<Link> {
        self.check_present()?;
        let mut running = lock(&self.instance.running);
        let during = During::new(&self.location, "connect");
        let mut connection = running.connection.try_clone().map_err(during.fails())?;
        match connection.execute_batch("SELECT 1") {
            Ok(()) => {}
            Err(error) if is_broken(&error) => {
                running.connection = self.instance.opening.open(&self.location)?;
                running.hashes.clear();
                connection = running.connection.try_clone().map_err(during.fails())?;
            }
            Err(error) => return Err(during.failed(error)),
        }
        Ok(Link { connection, database: self.clone() })
    }

    /// Refuses to go on where the file has been removed or replaced: what is written to it then is lost, and its
    /// write-ahead log would be taken for that of another file.
    fn check_present(&self) -> Result<()> {
        match self.instance.is_present() {
            true => Ok(()),
            false => Err(Error::LocationNotFound {
                location: self.location.clone(),
                hint: "its file was moved, removed or replaced while it was open; close the store, and open it again"
                    .to_owned(),
            }),
        }
    }

    /// Waits for this process's other writers.
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
    /// The name of the SQL function that hashes so. Call it outside of transactions.
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

    /// As for a new call: what was written is only there if the file still is.
    pub(crate) fn check_present(&self) -> Result<()> {
        self.database.check_present()
    }
}

impl Instance {
    /// Whether the file is still where it was opened.
    fn is_present(&self) -> bool {
        let file = self.opening.file.as_deref();
        file.is_none_or(|file| Place::of(file).is_ok_and(|place| place == self.place))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if !self.is_present() {
            // The write-ahead log of that name may be that of another file by now, and closing would remove it.
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
    /// Starts an instance on what is at a place.
    fn start(&self, place: Place, location: &str) -> Result<Instance> {
        if let Some(file) = &self.file {
            check_file(file, place, location)?;
        }
        Ok(self.instance(place, self.open(location)?))
    }

    /// Starts an instance on a file that does not exist yet.
    fn create(&self, location: &str) -> Result<(Place, Instance)> {
        let connection = self.open(location)?;
        let place = self.file.as_deref().map_or_else(|| Ok(Place::memory()), Place::of);
        let place = place.map_err(|error| Error::of_io(location, "open", error))?;
        Ok((place, self.instance(place, connection)))
    }

    fn instance(&self, place: Place, connection: Connection) -> Instance {
        let running = Mutex::new(Running { connection, hashes: HashSet::new() });
        Instance { place, opening: self.clone(), running, writer: Arc::default() }
    }

    fn open(&self, location: &str) -> Result<Connection> {
        let during = During::new(location, "open");
        let config = self.config(during)?;
        let connection = match &self.file {
            None => Connection::open_in_memory_with_flags(config),
            Some(file) => Connection::open_with_flags(file, config),
        };
        let connection =
            connection.map_err(|error| self.unknown_setting(&error).unwrap_or_else(|| during.failed(error)))?;
        check_functions(&connection, during)?;
        connection.register_table_function::<BatchSource>(FUNCTION).map_err(during.fails())?;
        // DuckDB does not hear this one when it starts.
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
        // Rows have no order, and keeping one costs time and memory.
        set("preserve_insertion_order", "false").map_err(during.fails())?;
        for (name, value) in &self.settings {
            set(name, value).map_err(|_| invalid(&format!("config.{name}"), no_such_setting(name)))?;
        }
        // What is in the file cannot make DuckDB read another one, or run code of others.
        for name in ["autoinstall_known_extensions", "autoload_known_extensions", "enable_external_access"] {
            set(name, "false").map_err(during.fails())?;
        }
        let Some(file) = &self.file else { return Ok(config) };
        let mode = if self.mode == AccessMode::ReadOnly { "READ_ONLY" } else { "READ_WRITE" };
        set("access_mode", mode).map_err(during.fails())?;
        if self.mode == AccessMode::ReadWrite && !file.exists() {
            set("storage_compatibility_version", &self.storage_version).map_err(|_| {
                let reason = format!("`{}` is no version of DuckDB, such as `v1.4.0`", self.storage_version);
                invalid("storage_version", reason)
            })?;
        }
        Ok(config)
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

/// Refuses a file whose own functions would take the place of DuckDB's, or of this project's, in any statement.
fn check_functions(connection: &Connection, during: During<'_>) -> Result<()> {
    let names = |condition: &str| -> duckdb::Result<Vec<String>> {
        // By its full name: this function could be replaced too.
        let sql = format!("SELECT function_name FROM system.main.duckdb_functions() WHERE {condition}");
        let mut statement = connection.prepare(&sql)?;
        statement.query_map([], |row| row.get::<_, String>(0)).and_then(Iterator::collect)
    };
    let own = names("database_name NOT IN ('system', 'temp')").map_err(during.fails())?;
    if own.is_empty() {
        return Ok(());
    }
    let mut taken: HashSet<String> = HashSet::new();
    taken.extend(names("database_name IN ('system', 'temp')").map_err(during.fails())?);
    let replaces = |name: &&String| {
        let name = name.to_lowercase();
        name.starts_with("metaxy_") || taken.contains(&name)
    };
    match own.iter().find(replaces) {
        None => Ok(()),
        Some(name) => Err(Error::NotAStore {
            location: during.location.to_owned(),
            expected: "DuckDB database",
            reason: format!("its macro `{name}` would replace a function of that name; drop the macro"),
        }),
    }
}

/// The file under the one name that all symbolic links to it lead to. It may not exist yet.
fn found(file: &Path, mode: AccessMode, location: &str) -> Result<PathBuf> {
    let missing = |hint: &str| Error::LocationNotFound { location: location.to_owned(), hint: hint.to_owned() };
    if let Ok(path) = file.canonicalize() {
        return check_regular(&path, location).map(|()| path);
    }
    if mode == AccessMode::ReadOnly {
        return Err(missing("open it for writing once, or check the path"));
    }
    if file.is_symlink() {
        return Err(missing("it is a link to a file that does not exist; create that file, or remove the link"));
    }
    let parent = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let parent = parent.canonicalize().map_err(|_| missing("its directory does not exist; create it first"))?;
    Ok(parent.join(file.file_name().ok_or_else(|| missing("the path names no file"))?))
}

fn check_regular(path: &Path, location: &str) -> Result<()> {
    let kind = std::fs::metadata(path).map_err(|error| Error::of_io(location, "open", error))?.file_type();
    let reason = match (kind.is_dir(), kind.is_file()) {
        (true, _) => "it is a directory; name a file in it",
        (_, true) => return Ok(()),
        _ => "it is no regular file",
    };
    Err(Error::NotAStore { location: location.to_owned(), expected: "DuckDB database", reason: reason.to_owned() })
}

/// Refuses files that DuckDB would take for something else, or of which it would see only a part.
///
/// Only for files that this process does not have open: closing one takes away all locks that the process has on it, and
/// others could write then.
fn check_file(file: &Path, place: Place, location: &str) -> Result<()> {
    check_start(file, location)?;
    match log_of_other_name(file, place) {
        None => Ok(()),
        Some(log) => Err(Error::AccessDenied {
            location: location.to_owned(),
            operation: "open".to_owned(),
            reason: format!(
                "it has several names (hard links), and rows wait in {}, the write-ahead log of another of them; open it \
                 once by that name",
                log.display()
            ),
        }),
    }
}

/// Refuses what is no database at all: DuckDB would look for an extension that can read some of it. What is empty or cannot
/// be read is left to DuckDB to complain about.
fn check_start(file: &Path, location: &str) -> Result<()> {
    let mut start = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(12).read_to_end(&mut start));
    if read.is_err() || start.is_empty() || start.ends_with(b"DUCK") {
        return Ok(());
    }
    let reason = "it does not begin like one".to_owned();
    Err(Error::NotAStore { location: location.to_owned(), expected: "DuckDB database", reason })
}

/// The write-ahead log that a process which ended early has left for another name of a file in the same directory. DuckDB
/// looks for it by the name that it is given.
fn log_of_other_name(file: &Path, place: Place) -> Option<PathBuf> {
    let names_are_many = |found: &std::fs::Metadata| -> bool {
        #[cfg(unix)]
        return std::os::unix::fs::MetadataExt::nlink(found) > 1;
        #[cfg(not(unix))]
        return false;
    };
    std::fs::metadata(file).ok().filter(names_are_many)?;
    let names = std::fs::read_dir(file.parent()?).ok()?.flatten().map(|entry| entry.path());
    let mut others = names.filter(|other| other != file && Place::of(other).is_ok_and(|found| found == place));
    others.find_map(|other| {
        let mut log = other.into_os_string();
        log.push(".wal");
        let log = PathBuf::from(log);
        std::fs::metadata(&log).is_ok_and(|found| found.len() > 0).then_some(log)
    })
}
