//! Files that get their names when they are complete and on disk, and the directories that they may create.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path as FsPath, PathBuf};

use deltalake::logstore::commit_uri_from_version;
use metaxy_core::blocking::sync_directory;
use object_store::{Error, PutPayload, Result};

use super::LOG_DIRECTORY;
use super::local_file::{blocking, failed, parent};

/// The number of times that the directory of a file may be removed while the file is written.
const PUT_ATTEMPTS: usize = 10;

/// Writes a file, and creates the directories that it may create. A drop of the table may remove them again.
pub(super) fn put(path: &FsPath, payload: &PutPayload, create: bool) -> Result<()> {
    let role = Role::of(path);
    for _ in 0..PUT_ATTEMPTS {
        match put_once(path, payload, create) {
            Err(Error::NotFound { .. }) if role != Role::RestOfLog => role.make_directories(path)?,
            result => return result,
        }
    }
    put_once(path, payload, create)
}

/// Writes a file under a temporary name, and renames it when it is complete and on disk.
fn put_once(path: &FsPath, payload: &PutPayload, create: bool) -> Result<()> {
    let staged = Staged::write(path, payload)?;
    if create { staged.create() } else { staged.replace() }
}

/// A file that is complete and on disk, and has only its temporary name.
pub(crate) struct Staged {
    /// In the same directory: if that is moved, the file is moved too.
    staged: PathBuf,
    path: PathBuf,
}

impl Staged {
    fn write(path: &FsPath, payload: &PutPayload) -> Result<Self> {
        // `LocalFileSystem` never lists names with this ending.
        let mut staged = path.as_os_str().to_owned();
        staged.push(format!("#{}", rand::random::<u64>()));
        let staged = Self { staged: staged.into(), path: path.to_owned() };
        let written = File::create_new(&staged.staged).and_then(|mut file| {
            payload.iter().try_for_each(|bytes| file.write_all(bytes))?;
            file.sync_all()
        });
        written.map(|()| staged).map_err(|error| failed(path, error))
    }

    /// Stages a commit in the log of a table. The first commit creates the log.
    pub async fn commit(path: PathBuf, payload: PutPayload) -> Result<Self> {
        blocking(move || {
            Role::of(&path).make_directories(&path)?;
            Self::write(&path, &payload)
        })
        .await
    }

    /// Publishes the file under its name, unless the name exists or the directory has been replaced since.
    pub async fn publish(self) -> Result<()> {
        blocking(move || self.create()).await
    }

    fn create(self) -> Result<()> {
        self.finish(create_from(&self.staged, &self.path, |from, to| fs::hard_link(from, to)))
    }

    fn replace(self) -> Result<()> {
        self.finish(fs::rename(&self.staged, &self.path))
    }

    fn finish(&self, named: io::Result<()>) -> Result<()> {
        named.and_then(|()| sync_directory(parent(&self.path))).map_err(|error| failed(&self.path, error))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // A file that is left is harmless: no reader lists it, and a vacuum removes it.
        let _ = fs::remove_file(&self.staged);
    }
}

/// Links a file to another name, or renames it, unless that name exists.
fn create_from(staged: &FsPath, path: &FsPath, link: impl Fn(&FsPath, &FsPath) -> io::Result<()>) -> io::Result<()> {
    match link(staged, path) {
        // File systems without links return different errors.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied | io::ErrorKind::TooManyLinks
            ) =>
        {
            rename_to_free(staged, path)
                .map_err(|other| if other.kind() == io::ErrorKind::Unsupported { error } else { other })
        }
        result => result,
    }
}

#[cfg(target_os = "linux")]
fn rename_to_free(staged: &FsPath, path: &FsPath) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, staged, CWD, path, RenameFlags::NOREPLACE).map_err(|error| match error {
        rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS => io::ErrorKind::Unsupported.into(),
        error => error.into(),
    })
}

#[cfg(not(target_os = "linux"))]
fn rename_to_free(_staged: &FsPath, _path: &FsPath) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The role of a file in its table.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// It may exist before its table.
    Data,
    /// It creates the table, from existing data files.
    FirstCommit,
    /// It belongs to an existing table: if the directory of the log does not exist, neither does the table.
    RestOfLog,
}

impl Role {
    fn of(path: &FsPath) -> Self {
        let in_log = parent(path).file_name().is_some_and(|name| name == LOG_DIRECTORY);
        let first = commit_uri_from_version(Some(0));
        match in_log {
            false => Self::Data,
            true if path.file_name().and_then(|name| name.to_str()) == first.filename() => Self::FirstCommit,
            true => Self::RestOfLog,
        }
    }

    /// Creates the directories that a file of this role may create.
    fn make_directories(self, path: &FsPath) -> Result<()> {
        match self {
            Self::Data => create_directories(parent(path)),
            Self::FirstCommit => create_directory(parent(path)),
            Self::RestOfLog => Ok(()),
        }
    }
}

fn create_directories(directory: &FsPath) -> Result<()> {
    let missing: Vec<&FsPath> = directory.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    let created = match fs::create_dir_all(directory) {
        // A directory that existed, and has been removed again.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !directory.exists() => return Ok(()),
        created => created,
    };
    let synced = created.and_then(|()| missing.into_iter().try_for_each(|created| sync_directory(parent(created))));
    synced.map_err(|error| failed(directory, error))
}

fn create_directory(directory: &FsPath) -> Result<()> {
    match fs::create_dir(directory).and_then(|()| sync_directory(parent(directory))) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result.map_err(|error| failed(directory, error)),
    }
}

/// Creates the directories of a file that is written by other code, which would create all of them.
pub(super) fn make_room(path: &FsPath) -> Result<()> {
    match Role::of(path) {
        Role::RestOfLog if !parent(path).exists() => Err(failed(path, io::ErrorKind::NotFound.into())),
        role => role.make_directories(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_created_on_a_file_system_without_links() {
        let directory = tempfile::tempdir().expect("a directory");
        let (one, two, target) = (directory.path().join("1#"), directory.path().join("2#"), directory.path().join("t"));
        for kind in [io::ErrorKind::Unsupported, io::ErrorKind::PermissionDenied] {
            fs::write(&one, "one").expect("written");
            fs::write(&two, "two").expect("written");
            let link = |_: &FsPath, _: &FsPath| Err(kind.into());
            create_from(&one, &target, link).expect("moved");
            let again = create_from(&two, &target, link).expect_err("the name is taken");
            assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read_to_string(&target).expect("read"), "one");
            fs::remove_file(&target).expect("removed");
        }
    }

    #[tokio::test]
    async fn a_staged_commit_stays_with_its_directory() {
        let root = tempfile::tempdir().expect("a directory");
        let log = root.path().join("t.delta/_delta_log");
        fs::create_dir_all(&log).expect("made");
        let commit = log.join("00000000000000000003.json");
        let staged = Staged::commit(commit.clone(), "{}".into()).await.expect("staged");
        fs::rename(root.path().join("t.delta"), root.path().join("gone")).expect("dropped");
        fs::create_dir_all(&log).expect("made again");
        let refused = staged.publish().await;
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
        assert!(!commit.exists());
    }

    #[test]
    fn data_files_are_written_while_their_directory_is_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let table = directory.path().join("t.delta");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for drop in 1..PUT_ATTEMPTS {
                    std::thread::sleep(std::time::Duration::from_millis(3));
                    let _ = fs::rename(&table, directory.path().join(format!("gone-{drop}")));
                }
            });
            let puts = (0..200).map(|file| put(&table.join(format!("{file}.parquet")), &"rows".into(), false));
            let failed: Vec<_> = puts.filter_map(Result::err).collect();
            assert!(failed.is_empty(), "{failed:?}");
        });
    }
}
