//! The location of a database: the file at a path, and whether DuckDB can open it safely.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use metaxy_core::shared::FileId;
use metaxy_core::{AccessMode, Error, Result};

/// The identity of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DatabaseId {
    File(FileId),
    Memory(u64),
}

impl DatabaseId {
    /// Returns the identity of a new database in memory.
    pub(crate) fn memory() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self::Memory(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the identity of the file at a path.
    pub(crate) fn of(path: &Path) -> std::io::Result<Self> {
        FileId::of(path).map(Self::File)
    }
}

/// Returns the real path of a file, with links resolved. The file may not exist yet.
pub(crate) fn found(file: &Path, mode: AccessMode, location: &str) -> Result<PathBuf> {
    let missing = |hint: &str| Error::location_not_found(location, hint);
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
    Ok(parent.join(file.file_name().ok_or_else(|| missing("the path has no file name"))?))
}

fn check_regular(path: &Path, location: &str) -> Result<()> {
    let kind = std::fs::metadata(path).map_err(|error| Error::of_io(location, "open", error))?.file_type();
    let reason = match (kind.is_dir(), kind.is_file()) {
        (true, _) => "it is a directory; give the path of a file in it",
        (_, true) => return Ok(()),
        _ => "it is not a regular file",
    };
    Err(Error::NotAStore { location: location.to_owned(), expected: "DuckDB database", reason: reason.to_owned() })
}

/// Refuses files that DuckDB would misinterpret, or of which it would read only a part.
///
/// Call it only for files that this process does not have open: closing a file releases all locks of the process on it,
/// and other processes could write then.
pub(crate) fn check_file(file: &Path, id: DatabaseId, location: &str) -> Result<()> {
    check_start(file, location)?;
    match log_of_other_name(file, id) {
        None => Ok(()),
        Some(log) => Err(Error::access_denied(
            location,
            "open",
            format!(
                "it has several names (hard links), and {}, the write-ahead log of another name, has rows; open it \
                 once by that name",
                log.display()
            ),
        )),
    }
}

/// Refuses files that are not databases: DuckDB would search for an extension that can read them. Empty and unreadable
/// files are passed to DuckDB.
fn check_start(file: &Path, location: &str) -> Result<()> {
    let mut start = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(12).read_to_end(&mut start));
    if read.is_err() || start.is_empty() || start.ends_with(b"DUCK") {
        return Ok(());
    }
    let reason = "its header is not that of a DuckDB file".to_owned();
    Err(Error::NotAStore { location: location.to_owned(), expected: "DuckDB database", reason })
}

/// Returns the write-ahead log that a crashed process has left beside another name of a file in the same directory.
/// DuckDB looks for it only beside the given name.
fn log_of_other_name(file: &Path, id: DatabaseId) -> Option<PathBuf> {
    let names_are_many = |found: &std::fs::Metadata| -> bool {
        #[cfg(unix)]
        return std::os::unix::fs::MetadataExt::nlink(found) > 1;
        #[cfg(not(unix))]
        return false;
    };
    std::fs::metadata(file).ok().filter(names_are_many)?;
    let names = std::fs::read_dir(file.parent()?).ok()?.flatten().map(|entry| entry.path());
    let mut others = names.filter(|other| other != file && DatabaseId::of(other).is_ok_and(|found| found == id));
    others.find_map(|other| {
        let mut log = other.into_os_string();
        log.push(".wal");
        let log = PathBuf::from(log);
        std::fs::metadata(&log).is_ok_and(|found| found.len() > 0).then_some(log)
    })
}
