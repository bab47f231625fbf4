//! The files of a spool: only its own regular files, readable by their owner only, synced to disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::blocking::sync_directory;

/// Returns the files of a directory whose names are those of a spool, oldest first.
pub(super) fn names(directory: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| is_own(name, extension)) {
            names.push(entry.path());
        }
    }
    names.sort();
    Ok(names)
}

/// Returns whether a name consists of a time, a number and the id of a run.
fn is_own(name: &str, extension: &str) -> bool {
    let Some(stem) = name.strip_suffix(extension).and_then(|name| name.strip_suffix('.')) else { return false };
    let parts: Vec<&str> = stem.split('-').collect();
    let is_of =
        |text: &str, length: usize, digit: fn(&u8) -> bool| text.len() == length && text.bytes().all(|c| digit(&c));
    let [time, number, run] = parts[..] else { return false };
    is_of(time, 20, u8::is_ascii_digit)
        && is_of(number, 10, u8::is_ascii_digit)
        && is_of(run, 16, u8::is_ascii_hexdigit)
}

/// Reads a regular file. Anything else of that name is [`io::ErrorKind::InvalidData`], and is closed as soon as
/// that is known.
pub(super) fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let file = open(path, OpenOptions::new().read(true))?;
    let size = file.metadata()?.len();
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    file.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens the lock file of a directory, and creates it if it is missing.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))
}

/// Opens a regular file, without following links or waiting for the other end of a pipe.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let no_file = || io::Error::new(io::ErrorKind::InvalidData, format!("{} is not a regular file", path.display()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    }
    let file = options.open(path).map_err(|error| match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => no_file(),
        _ => error,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_file()) }
}

/// Writes a new file, and syncs it to disk.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = open(path, OpenOptions::new().write(true).create_new(true))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes files. A file that cannot be removed is written again at the next start, which readers do not see.
pub(super) fn remove(files: &[PathBuf]) {
    for path in files {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, file = %path.display(), "a file could not be removed from the spool");
            }
            _ => {}
        }
    }
}

/// Creates a directory and its parents, for their owner only, each synced to disk in its parent.
pub(super) fn create_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = directory.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_directory(above)?;
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => sync_directory(above),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(io::ErrorKind::NotADirectory.into()),
        Err(error) => Err(error),
        Ok(()) => sync_directory(above),
    }
}

/// Creates a directory inside the spool, which must not be a link to another place.
pub(super) fn create_inside(directory: &Path) -> io::Result<()> {
    create_directory(directory)?;
    if is_inside(directory) { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

/// Returns whether this is a directory, and not a link to one.
pub(super) fn is_inside(directory: &Path) -> bool {
    fs::symlink_metadata(directory).is_ok_and(|metadata| metadata.is_dir())
}
