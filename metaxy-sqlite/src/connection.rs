//! Connections: how the file is opened, one for writing, and a pool of them for reading.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metaxy_core::{AccessMode, Error, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::OwnedMutexGuard;

use crate::SqliteConfig;
use crate::error::During;

/// Idle connections that are kept for the next reader.
const IDLE_READERS: usize = 4;

/// Larger pages than SQLite's default: whole tables are read, and rows are a few hundred bytes.
const PAGE_SIZE: u32 = 16 * 1024;

/// Where the database is, for opening it and for messages.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// As the settings spell it.
    pub(crate) location: String,
    /// The file; `None` for a database in memory.
    path: Option<PathBuf>,
    pub(crate) busy_timeout: Duration,
}

impl Place {
    pub(crate) fn new(config: &SqliteConfig, path: Option<PathBuf>) -> Result<Self> {
        config.check()?;
        let location = config.location();
        // Connections are opened at any time, wherever the process has gone meanwhile.
        let path = path.map(std::path::absolute).transpose().map_err(|error| Error::Unreachable {
            location: location.clone(),
            reason: format!("the working directory is not known: {error}"),
        })?;
        Ok(Self { location, path, busy_timeout: config.busy_timeout() })
    }

    /// Why the file could not be opened, as far as the file system tells.
    pub(crate) fn why_not_opened(&self, operation: &str, reason: &str) -> Error {
        let location = self.location.clone();
        let denied = |reason: String| Error::AccessDenied {
            location: location.clone(),
            operation: operation.to_owned(),
            reason,
        };
        let Some(path) = &self.path else { return denied(reason.to_owned()) };
        if path.is_dir() {
            let reason = "it is a directory".to_owned();
            return Error::NotAStore { location, expected: "SQLite database", reason };
        }
        match path.parent().map(Path::try_exists) {
            Some(Ok(false)) => Error::LocationNotFound {
                location,
                hint: "its directory does not exist; create it, or correct `database`".to_owned(),
            },
            _ if matches!(path.try_exists(), Ok(false)) && operation == "open" => Error::LocationNotFound {
                location,
                hint: "there is no such file; open it with AccessMode::ReadWrite to create it".to_owned(),
            },
            _ => denied(reason.to_owned()),
        }
    }

    /// Opens the file, and looks into it.
    fn connect(&self, mode: AccessMode) -> Result<Connection> {
        let during = During::new(self, "open");
        if self.path.as_ref().is_some_and(|path| path.is_dir()) {
            return Err(self.why_not_opened(during.operation, ""));
        }
        let connection = match (&self.path, mode) {
            (None, _) => Connection::open_in_memory(),
            (Some(path), AccessMode::ReadWrite) => Connection::open_with_flags(
                path,
                OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            ),
            (Some(path), AccessMode::ReadOnly) => {
                Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            }
        };
        let connection = connection.map_err(|error| during.error(error))?;
        match self.look(&connection) {
            Ok(()) => Ok(connection),
            Err(error) => match &self.path {
                Some(path) if mode == AccessMode::ReadOnly && needs_side_files(&error, path) => {
                    self.connect_immutable(path)
                }
                _ => Err(during.error(error)),
            },
        }
    }

    /// Whether no rows wait beside the file in a write-ahead log.
    fn is_at_rest(&self) -> bool {
        self.path.as_deref().is_some_and(|path| log_length(path).unwrap_or_default() == 0)
    }

    /// Removes the empty side files that SQLite's readers make and, other than its writers, leave behind. SQLite does it
    /// itself, when a connection that could have written is the last to close.
    fn remove_side_files(&self) {
        let Some(path) = self.path.as_deref().filter(|path| log_length(path) == Some(0)) else { return };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if let Ok(connection) = Connection::open_with_flags(path, flags) {
            // They do no harm where they have to stay.
            let _ = connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()));
        }
    }

    /// Reads something, for SQLite only opens a file when it is first used.
    fn look(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.busy_timeout(self.busy_timeout)?;
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))
    }

    /// Reads a file that nobody can write, in a directory where SQLite can make none of its side files.
    fn connect_immutable(&self, path: &Path) -> Result<Connection> {
        let during = During::new(self, "open");
        if log_length(path).unwrap_or_default() > 0 {
            return Err(Error::AccessDenied {
                location: self.location.clone(),
                operation: "open".to_owned(),
                reason:
                    "its write-ahead log holds rows, and SQLite cannot read them without making a file beside it; open \
                         it once where that may be done, or copy both files to such a place"
                        .to_owned(),
            });
        }
        let mut uri = String::from("file:");
        for byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'/' | b'.' | b'_' | b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(*byte)),
                other => uri.push_str(&format!("%{other:02X}")),
            }
        }
        uri.push_str("?immutable=1");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(uri, flags).map_err(|error| during.error(error))?;
        self.look(&connection).map_err(|error| during.error(error))?;
        Ok(connection)
    }
}

/// Whether a read failed because the side files of a write-ahead log cannot be made.
fn needs_side_files(error: &rusqlite::Error, path: &Path) -> bool {
    let refused = matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied)
    );
    refused && path.is_file()
}

/// The length of the write-ahead log beside a file; `None` where there is none.
fn log_length(path: &Path) -> Option<u64> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).ok().map(|log| log.len())
}

/// An open database.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) place: Place,
    pub(crate) mode: AccessMode,
    idle: Mutex<Vec<Connection>>,
    /// The connection that writes; made when it is first needed. A database in memory has only this one.
    writer: Arc<tokio::sync::Mutex<Option<Connection>>>,
    /// Whether it was opened for reading and had no side files then: it must have none afterwards.
    leaves_no_trace: bool,
}

/// The right to write, which one call at a time has.
pub(crate) type WriterGuard = OwnedMutexGuard<Option<Connection>>;

impl Database {
    pub(crate) fn open(place: Place, mode: AccessMode) -> Result<Self> {
        let leaves_no_trace = mode == AccessMode::ReadOnly && place.is_at_rest();
        let connection = place.connect(mode)?;
        check_encoding(&place, &connection)?;
        let (idle, writer) = match place.path {
            Some(_) => (vec![connection], None),
            None => (Vec::new(), Some(connection)),
        };
        let writer = Arc::new(tokio::sync::Mutex::new(writer));
        Ok(Self { place, mode, idle: Mutex::new(idle), writer, leaves_no_trace })
    }

    pub(crate) fn is_memory(&self) -> bool {
        self.place.path.is_none()
    }

    /// A connection for reading; give it back with [`Database::put_back`] when it is in order.
    pub(crate) fn reader(&self) -> Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| self.place.connect(self.mode), Ok)
    }

    pub(crate) fn put_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_READERS {
            idle.push(connection);
        }
    }

    /// Waits for the right to write, or, in memory, to use the only connection.
    pub(crate) async fn lock(&self) -> WriterGuard {
        self.writer.clone().lock_owned().await
    }

    /// The connection that writes, ready to.
    pub(crate) fn writer<'g>(&self, guard: &'g mut WriterGuard) -> Result<&'g mut Connection> {
        let made = match guard.take() {
            Some(connection) => connection,
            None => {
                let connection = self.place.connect(self.mode)?;
                prepare_for_writing(&connection, self.place.busy_timeout)
                    .map_err(|error| During::new(&self.place, "write").error(error))?;
                connection
            }
        };
        Ok(guard.insert(made))
    }

    /// Closes all connections that are not in use; the others close when they are done.
    pub(crate) fn close(&self, mut guard: WriterGuard) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *guard = None;
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.leaves_no_trace {
            self.idle.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
            self.place.remove_side_files();
        }
    }
}

/// Makes a commit durable, and lets readers go on beside it.
fn prepare_for_writing(connection: &Connection, patience: Duration) -> rusqlite::Result<()> {
    // Only has an effect on a file that is still empty.
    connection.pragma_update(None, "page_size", PAGE_SIZE)?;
    use_write_ahead_log(connection, patience)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // A large write leaves no large log behind.
    connection.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
    connection.pragma_update(None, "cache_size", -16_000)
}

/// Several processes may find a new file at the same time. SQLite does not always wait when it changes the kind of log.
fn use_write_ahead_log(connection: &Connection, patience: Duration) -> rusqlite::Result<()> {
    let give_up = Instant::now() + patience;
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())) {
            Err(error) if is_busy(&error) && Instant::now() < give_up => std::thread::sleep(Duration::from_millis(5)),
            done => return done,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Text of another encoding would compare otherwise than the core expects.
fn check_encoding(place: &Place, connection: &Connection) -> Result<()> {
    let during = During::new(place, "open");
    let encoding: String =
        connection.query_row("PRAGMA encoding", [], |row| row.get(0)).map_err(|error| during.error(error))?;
    if encoding == "UTF-8" {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: format!("{}, whose text is {encoding},", place.location),
        hint: "use a file of its own, whose text is UTF-8".to_owned(),
    })
}
