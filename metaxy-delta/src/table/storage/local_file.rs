//! Local files: how they are opened and synced, and errors of the file system.

use std::fs::{self, File};
use std::io;
use std::path::Path as FsPath;

use metaxy_core::blocking::sync_directory;
use object_store::{Error, Result};

use super::runtime;

/// The name of the store in errors.
pub(super) const STORE: &str = "LocalFileSystem";

/// Runs blocking work on files.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    metaxy_core::blocking::run(move || Ok(work())).await.unwrap_or_else(|error| Err(unfinished(error)))
}

/// Runs a request of `object_store`'s local file system, which uses threads of the runtime that it runs on.
pub(super) async fn run<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    runtime::request(work).await.unwrap_or_else(|error| Err(unfinished(error)))
}

fn unfinished(error: metaxy_core::Error) -> Error {
    Error::Generic { store: STORE, source: error.into() }
}

/// Opens a file for reading, unless it is a device or a pipe: reading those may never end.
pub(crate) fn open_regular(path: &FsPath) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    // Opening a pipe would wait for its writer.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

/// Refuses to open a device or a pipe. If the file does not exist, the call that opens it fails.
pub(super) fn check_regular(path: &FsPath) -> Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => Err(failed(path, not_regular())),
        _ => Ok(()),
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file")
}

/// An error of the file system.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
struct FileError {
    path: String,
    source: io::Error,
}

/// Converts an error of the file system into one of an object store.
pub(crate) fn failed(path: &FsPath, error: io::Error) -> Error {
    let (name, kind) = (path.display().to_string(), error.kind());
    let source = FileError { path: name.clone(), source: error }.into();
    match kind {
        io::ErrorKind::NotFound => Error::NotFound { path: name, source },
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path: name, source },
        io::ErrorKind::PermissionDenied => Error::PermissionDenied { path: name, source },
        _ => Error::Generic { store: STORE, source },
    }
}

/// Syncs a file and its directory entry to disk.
pub(super) fn sync(path: &FsPath) -> Result<()> {
    let synced = File::open(path).and_then(|file| file.sync_all()).and_then(|()| sync_directory(parent(path)));
    synced.map_err(|error| failed(path, error))
}

/// Returns the directory of a file.
pub(super) fn parent(path: &FsPath) -> &FsPath {
    path.parent().unwrap_or(path)
}
