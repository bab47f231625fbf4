//! The location of a store, and the reasons why it cannot be opened.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use metaxy_core::secret::secrets_in;
use metaxy_core::shared::FileId;
use metaxy_core::{AccessMode, Error, Result};

use crate::config::SqliteConfig;

/// The number of file handles that SQLite needs for a connection: the database, its log, and the index of the log.
const HANDLES: usize = 3;

/// The location of a database.
#[derive(Clone)]
pub(crate) struct Location {
    /// Its name for messages: as the settings spell it, with secrets masked.
    pub(crate) name: String,
    /// The secrets in its name, which no message may show.
    pub(crate) secrets: Vec<String>,
    /// The file; `None` for a database in memory.
    pub(crate) path: Option<PathBuf>,
    pub(crate) mode: AccessMode,
    pub(crate) busy_timeout: Duration,
    /// Whether the user promises that no process writes to the file.
    pub(crate) is_immutable: bool,
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Location").field(&self.name).field(&self.mode).finish()
    }
}

impl Location {
    pub(crate) fn new(config: &SqliteConfig, path: Option<PathBuf>, mode: AccessMode) -> Result<Self> {
        config.check()?;
        let (name, secrets) = (config.location(), secrets_in("database", &config.database));
        // Connections may be opened later, when the working directory may be a different one.
        let path = path.map(std::path::absolute).transpose().map_err(|error| {
            Error::unreachable(&name, format!("the working directory is not known: {error}")).with_source(error)
        })?;
        Ok(Self { name, secrets, path, mode, busy_timeout: config.busy_timeout(), is_immutable: config.immutable })
    }

    /// Returns the length of a file beside the database, such as `-wal`; `None` if there is none.
    pub(crate) fn side_file(&self, ending: &str) -> Option<u64> {
        let mut path = self.path.clone()?.into_os_string();
        path.push(OsStr::new(ending));
        std::fs::symlink_metadata(path).ok().map(|file| file.len())
    }

    /// Returns the identity of the file that is at the path now; `None` if there is none.
    pub(crate) fn file_id(&self) -> Option<FileId> {
        FileId::of(self.path.as_deref()?).ok()
    }

    /// Refuses anything except a regular file, and a file that SQLite would not recognize under its other names.
    pub(crate) fn check_file(&self) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let Ok(file) = std::fs::metadata(path) else { return Ok(()) };
        if !file.is_file() {
            let reason = if file.is_dir() { "it is a directory" } else { "it is not a regular file" };
            return Err(Error::NotAStore {
                location: self.name.clone(),
                expected: "SQLite database",
                reason: reason.to_owned(),
            });
        }
        match link_count(&file) {
            0 | 1 => Ok(()),
            links => Err(Error::Unsupported {
                what: format!("{}, a file with {links} hard links,", self.name),
                hint: "SQLite keeps a log for each name of a file, and rows in one are missing in the others; remove \
                       the other names, or copy the file"
                    .to_owned(),
            }),
        }
    }

    /// Returns why SQLite could not open a file, as far as the file system shows it. Never opens the database itself:
    /// closing any handle of a file releases the locks that other connections of this process hold on it.
    pub(crate) fn why_not_opened(&self, operation: &'static str, reason: &str) -> Error {
        let denied = || self.denied(operation, reason);
        let Some(path) = &self.path else { return denied() };
        if let Err(error) = self.check_file() {
            return error;
        }
        if let Err(error) = spare_handles() {
            return Error::of_io(&self.name, operation, error);
        }
        match std::fs::metadata(path) {
            Ok(_) => denied(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.why_missing(path, operation, denied),
            Err(error) => Error::of_io(&self.name, operation, error),
        }
    }

    fn why_missing(&self, path: &Path, operation: &'static str, denied: impl Fn() -> Error) -> Error {
        let missing = |hint: &str| Error::location_not_found(&self.name, hint);
        let Some(directory) = path.parent().filter(|directory| directory.is_dir()) else {
            return missing("its directory does not exist; create it, or correct `database`");
        };
        match self.mode {
            AccessMode::ReadOnly => missing("there is no such file; open it with AccessMode::ReadWrite to create it"),
            AccessMode::ReadWrite => match tempfile::tempfile_in(directory) {
                // The error's text names the directory, which may contain a key.
                Err(error) => Error::of_io(&self.name, operation, error.kind().into()),
                Ok(_) => denied(),
            },
        }
    }

    pub(crate) fn denied(&self, operation: &'static str, reason: &str) -> Error {
        Error::access_denied(&self.name, operation, reason)
    }
}

/// Checks that this process may open as many files as SQLite needs.
fn spare_handles() -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    let handles: io::Result<Vec<File>> = (0..HANDLES).map(|_| File::open("/dev/null")).collect();
    handles.map(drop)
}

#[cfg(unix)]
fn link_count(file: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(file)
}

#[cfg(not(unix))]
fn link_count(_: &Metadata) -> u64 {
    1
}
