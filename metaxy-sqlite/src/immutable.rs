//! Reads a file to which no process writes, and beside which SQLite cannot create files.
//!
//! SQLite then takes no locks and reads no journal: while another process writes, it reads incomplete writes without an
//! error. So this is done only if a setting requires it, a connection is used for one read only, and each read verifies
//! that the file has not changed since the read began.

use std::fs::Metadata;
use std::path::Path;
use std::time::{Duration, SystemTime};

use metaxy_core::{Error, Result};
use rusqlite::{Connection, OpenFlags};

use crate::error::During;
use crate::location::Location;

/// The coarsest clock of a file system: of two changes within this time, the second may not be visible.
const CLOCK_STEP: Duration = Duration::from_millis(50);

/// The number of times that a file that has just changed is checked again.
const ATTEMPTS: usize = 20;

/// The files in which a writer keeps rows that are not in the database yet, or rows that a rollback restores.
const JOURNALS: [&str; 2] = ["-journal", "-wal"];

/// The state of a file when a read began, to verify that the file has not changed since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unchanged {
    length: u64,
    modified: Option<SystemTime>,
    inode: Inode,
}

impl Unchanged {
    /// Opens a file for one read.
    pub(crate) fn connect(location: &Location, path: &Path) -> Result<(Connection, Self)> {
        let before = Self::settled(location, path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(uri(path), flags);
        let connection = connection.map_err(|error| During::new(location, "open").error(error))?;
        Ok((connection, before))
    }

    /// Returns the result of a read if the file has not changed since the read began.
    pub(crate) fn prove<T>(&self, location: &Location, answer: Result<T>) -> Result<T> {
        let Some(path) = &location.path else { return answer };
        // If the file has changed, an error says nothing about it.
        if Self::look(location, path)? == *self { answer } else { Err(held(location, "changes it")) }
    }

    /// Checks a file as soon as a change would be visible.
    fn settled(location: &Location, path: &Path) -> Result<Self> {
        for _ in 0..ATTEMPTS {
            let found = Self::look(location, path)?;
            match found.modified.and_then(settles_in) {
                None => return Ok(found),
                Some(wait) => std::thread::sleep(wait),
            }
        }
        Err(held(location, "changes it"))
    }

    fn look(location: &Location, path: &Path) -> Result<Self> {
        if let Some(ending) =
            JOURNALS.into_iter().find(|ending| location.side_file(ending).is_some_and(|length| length > 0))
        {
            return Err(held(location, &format!("has left its `{ending}` file beside it")));
        }
        let file = std::fs::metadata(path);
        file.map(|file| Self::of(&file)).map_err(|_| location.why_not_opened("open", "its metadata cannot be read"))
    }

    fn of(file: &Metadata) -> Self {
        Self { length: file.len(), modified: file.modified().ok(), inode: inode(file) }
    }
}

/// Returns the time after which a further change would give the file another modification time.
fn settles_in(modified: SystemTime) -> Option<Duration> {
    let age = SystemTime::now().duration_since(modified).ok()?;
    CLOCK_STEP.checked_sub(age).filter(|wait| !wait.is_zero())
}

/// The device and number of a file, and the time of its last change of any kind.
type Inode = (u64, u64, i64, i64);

#[cfg(unix)]
fn inode(file: &Metadata) -> Inode {
    use std::os::unix::fs::MetadataExt;
    (file.dev(), file.ino(), file.ctime(), file.ctime_nsec())
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> Inode {
    Inode::default()
}

fn held(location: &Location, what: &str) -> Error {
    Error::Locked {
        location: location.name.clone(),
        holder: format!(
            "another program, which {what} (with `immutable = true` only files that no process writes to can be read; \
             if the writer has crashed, open the store once without this setting in a writable directory)"
        ),
    }
}

fn uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'_' | b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(*byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    uri
}
