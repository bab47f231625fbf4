//! The connections to a database: one that writes, and several that read.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metaxy_core::backend::{Position, unrepeated};
use metaxy_core::shared::FileId;
use metaxy_core::{AccessMode, Error, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags};
use tokio::sync::{OwnedMutexGuard, Semaphore, SemaphorePermit};

use crate::error::During;
use crate::immutable::Unchanged;
use crate::location::Location;

/// The number of idle connections that are kept for later reads.
const IDLE_READERS: usize = 4;

/// The number of connections that the streams of a process may hold between their batches. Each has two files open, and
/// the limit of a process is often 1,024.
const HELD_READERS: usize = 32;

static HELD: Semaphore = Semaphore::const_new(HELD_READERS);

/// Larger pages than SQLite's default: whole tables are read, and rows have a few hundred bytes.
const PAGE_SIZE: u32 = 16 * 1024;

/// The permit of a stream to hold a connection between its batches.
pub(crate) type Held = SemaphorePermit<'static>;

/// Returns a permit to hold a connection, if one is left.
pub(crate) fn try_hold() -> Option<Held> {
    HELD.try_acquire().ok()
}

/// An open database.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) location: Location,
    idle: Mutex<Vec<Opened>>,
    /// The connection that writes, opened when it is first needed. A database in memory has only this one.
    writer: Arc<tokio::sync::Mutex<Option<Opened>>>,
    /// The connection that watches for changes, opened when it is first needed, with a text that it has alone.
    watcher: Mutex<Option<(String, Opened)>>,
    /// Whether it was opened for reading without side files, so that it must not leave any.
    leaves_no_trace: bool,
}

/// A connection, and the file that it has open.
pub(crate) struct Opened {
    connection: Connection,
    file: Option<FileId>,
    /// The state of a file that must not change while it is read.
    unchanged: Option<Unchanged>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Opened").field(&self.file).finish()
    }
}

/// The connection that writes, locked for one call at a time.
pub(crate) type WriterGuard = OwnedMutexGuard<Option<Opened>>;

impl Database {
    pub(crate) fn open(location: Location) -> Result<Self> {
        if location.is_immutable && location.mode == AccessMode::ReadWrite {
            return Err(location.denied("open for writing", "its setting `immutable` does not allow writes"));
        }
        let leaves_no_trace = location.mode == AccessMode::ReadOnly
            && !location.is_immutable
            && location.side_file("-wal").unwrap_or_default() == 0;
        let opened = Opened::connect(&location)?;
        let (idle, writer) = match location.path {
            Some(_) if location.is_immutable => (Vec::new(), None),
            Some(_) => (vec![opened], None),
            None => (Vec::new(), Some(opened)),
        };
        let writer = Arc::new(tokio::sync::Mutex::new(writer));
        Ok(Self { location, idle: Mutex::new(idle), writer, watcher: Mutex::default(), leaves_no_trace })
    }

    pub(crate) fn is_memory(&self) -> bool {
        self.location.path.is_none()
    }

    fn reader(&self) -> Result<Opened> {
        while let Some(opened) = self.idle().pop() {
            if opened.is_current(&self.location) {
                return Ok(opened);
            }
        }
        Opened::connect(&self.location)
    }

    fn put_back(&self, opened: Opened) {
        let mut idle = self.idle();
        if idle.len() < IDLE_READERS {
            idle.push(opened);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Opened>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the connection that writes; in memory it is the only one.
    pub(crate) async fn lock(&self) -> WriterGuard {
        self.writer.clone().lock_owned().await
    }

    /// Returns the connection that writes; opens it if necessary.
    pub(crate) fn writer<'g>(&self, guard: &'g mut WriterGuard) -> Result<&'g mut Connection> {
        let known = guard.take().filter(|opened| opened.is_current(&self.location));
        let opened = match known {
            Some(opened) => opened,
            None => {
                let opened = Opened::connect(&self.location)?;
                prepare_for_writing(&opened.connection, self.location.busy_timeout)
                    .map_err(|error| During::new(&self.location, "write").error(error))?;
                opened
            }
        };
        Ok(&mut guard.insert(opened).connection)
    }

    /// Returns the position of all tables, for those whose changes are not counted: SQLite tells a connection whether others have committed changes. `None` for a
    /// database in memory, which has no others, and for a file that is read as if it could not change.
    pub(crate) fn position(&self) -> Result<Option<Position>> {
        if self.is_memory() || self.location.is_immutable {
            return Ok(None);
        }
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, opened) = match watcher.take().filter(|(_, opened)| opened.is_current(&self.location)) {
            Some(known) => known,
            None => (unrepeated(), Opened::connect(&self.location)?),
        };
        let version = opened.connection.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0));
        let version = version.map_err(|error| During::new(&self.location, "read").error(error))?;
        let position = Position::new(format!("{name} {version}"));
        *watcher = Some((name, opened));
        Ok(Some(position))
    }

    fn stop_watching(&self) {
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Closes all idle connections; the others close when their calls are done.
    pub(crate) fn close(&self, mut guard: WriterGuard) {
        self.stop_watching();
        self.idle().clear();
        *guard = None;
    }

    /// Removes the empty side files that SQLite's readers create and, unlike its writers, do not remove. SQLite removes
    /// them itself when the last connection to close could have written.
    fn remove_side_files(&self) {
        let Some(path) = self.location.path.as_deref().filter(|_| self.location.side_file("-wal") == Some(0)) else {
            return;
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if let Ok(connection) = Connection::open_with_flags(path, flags) {
            // If they cannot be removed, they do no harm.
            let _ = first_look(&connection);
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.leaves_no_trace {
            self.stop_watching();
            self.idle().clear();
            self.remove_side_files();
        }
    }
}

impl Opened {
    /// Opens the file, and reads its header.
    fn connect(location: &Location) -> Result<Self> {
        location.check_file()?;
        let before = location.file_id();
        let (connection, unchanged) = match &location.path {
            Some(path) if location.is_immutable => {
                let (connection, unchanged) = Unchanged::connect(location, path)?;
                (Ok(connection), Some(unchanged))
            }
            Some(path) => (Connection::open_with_flags(path, flags(location.mode)), None),
            None => (Connection::open_in_memory(), None),
        };
        let connection = connection.map_err(|error| During::new(location, "open").error(error))?;
        let answer = set_up(&connection, location);
        match &unchanged {
            Some(unchanged) => unchanged.prove(location, answer)?,
            None => answer?,
        }
        let after = location.file_id();
        // If the file was replaced in between, the next use of the connection detects it.
        let file = if before.is_none() || before == after { after } else { None };
        Ok(Self { connection, file, unchanged })
    }

    /// Returns whether the open file is still the one at its path.
    fn is_current(&self, location: &Location) -> bool {
        location.path.is_none() || (self.file.is_some() && self.file == location.file_id())
    }
}

fn flags(mode: AccessMode) -> OpenFlags {
    OpenFlags::SQLITE_OPEN_NO_MUTEX
        | match mode {
            AccessMode::ReadWrite => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
            AccessMode::ReadOnly => OpenFlags::SQLITE_OPEN_READ_ONLY,
        }
}

/// Applies the settings of every connection, and reads something: SQLite opens a file only at its first use.
fn set_up(connection: &Connection, location: &Location) -> Result<()> {
    let during = During::new(location, "open");
    let set = || {
        connection.busy_timeout(location.busy_timeout)?;
        // The schema of a file is untrusted: it may not call functions with side effects or be written directly.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        first_look(connection)
    };
    set().map_err(|error| match location.mode {
        AccessMode::ReadOnly if cannot_make_side_files(&error) => why_not_read(during, error),
        _ => during.error(error),
    })?;
    check_encoding(location, connection)
}

fn first_look(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))
}

fn cannot_make_side_files(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied))
}

/// Returns the error for an existing file that SQLite cannot read without creating a file beside it.
fn why_not_read(during: During<'_>, error: rusqlite::Error) -> Error {
    match during.error(error) {
        Error::AccessDenied { location, operation, reason, source } => {
            let reason = format!(
                "{reason}. If the file is readable, SQLite could not create the files beside it that it needs when \
                 another process may write: make the directory writable, or set `immutable = true` if no process \
                 writes to the file"
            );
            Error::AccessDenied { location, operation, reason, source }
        }
        other => other,
    }
}

/// Refuses a database with another text encoding, which would compare texts differently than the core expects.
fn check_encoding(location: &Location, connection: &Connection) -> Result<()> {
    let encoding = connection.query_row("PRAGMA encoding", [], |row| row.get::<_, String>(0));
    let encoding = encoding.map_err(|error| During::new(location, "open").error(error))?;
    if encoding == "UTF-8" {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: format!("{}, whose text is {encoding},", location.name),
        hint: "use another file, whose text is UTF-8".to_owned(),
    })
}

/// Applies the settings of the connection that writes: commits are durable, and reads run at the same time.
fn prepare_for_writing(connection: &Connection, patience: Duration) -> rusqlite::Result<()> {
    // This has an effect only on an empty file.
    connection.pragma_update(None, "page_size", PAGE_SIZE)?;
    use_write_ahead_log(connection, patience)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // A large write leaves no large log behind.
    connection.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
    connection.pragma_update(None, "cache_size", -16_000)
}

/// Enables the write-ahead log. Several processes may open a new file at the same time, and SQLite does not always wait
/// when it changes the journal mode.
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

/// A connection that reads one snapshot of a file until this is dropped.
pub(crate) struct Snapshot {
    pub(crate) database: Arc<Database>,
    /// `None` once a read has failed, because the state of the connection is unknown then.
    opened: Option<Opened>,
}

impl Snapshot {
    pub(crate) fn take(database: Arc<Database>) -> Result<Self> {
        let opened = database.reader()?;
        let begun = opened.connection.execute_batch("BEGIN");
        begun.map_err(|error| During::new(&database.location, "read").error(error))?;
        Ok(Self { database, opened: Some(opened) })
    }

    /// Reads from the snapshot. After an error nothing more can be read.
    pub(crate) fn read<T>(&mut self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let Some(opened) = self.opened.take() else {
            return Err(Error::Task("a read was continued after it had failed".to_owned()));
        };
        let mut answer = work(&opened.connection);
        if let Some(unchanged) = &opened.unchanged {
            answer = unchanged.prove(&self.database.location, answer);
        }
        if answer.is_ok() {
            self.opened = Some(opened);
        }
        answer
    }

    /// Returns a handle that interrupts a read from another thread.
    pub(crate) fn interrupt_handle(&self) -> Option<InterruptHandle> {
        self.opened.as_ref().map(|opened| opened.connection.get_interrupt_handle())
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let Some(opened) = self.opened.take().filter(|opened| opened.unchanged.is_none()) else { return };
        if opened.connection.execute_batch("ROLLBACK").is_ok() {
            self.database.put_back(opened);
        }
    }
}
