//! The files of a spool: its own and regular ones only, for its owner only, safe on disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The files of a directory that have names as a spool gives them, oldest first.
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

/// Whether a name is a time, a number and the mark of a run.
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

/// The bytes of a regular file. What else has its name is [`io::ErrorKind::InvalidData`], and is not opened for longer
/// than it takes to see that.
pub(super) fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let file = open(path, OpenOptions::new().read(true))?;
    let size = file.metadata()?.len();
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    file.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The lock of a directory, as it is or new.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))
}

/// Opens a regular file: follows no link, and waits for no other end of a pipe.
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

/// Writes a file that is not there yet, and puts it safely on disk.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = open(path, OpenOptions::new().write(true).create_new(true))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A file that cannot be removed is written once more at the next start, which readers do not see.
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

/// Creates a directory and those above it, for their owner only, each safe on disk in the one above.
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

/// Creates a directory inside of the spool, which must not lead elsewhere.
pub(super) fn create_inside(directory: &Path) -> io::Result<()> {
    create_directory(directory)?;
    if is_inside(directory) { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

/// Whether this is a directory, and not a link to one.
pub(super) fn is_inside(directory: &Path) -> bool {
    fs::symlink_metadata(directory).is_ok_and(|metadata| metadata.is_dir())
}

/// Makes the names in a directory safe on disk. Windows cannot, and does so by itself; so do some network file systems.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(directory)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}
