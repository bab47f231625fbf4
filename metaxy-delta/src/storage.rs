//! The local file system as an object store that keeps what it has accepted.
//!
//! [`LocalFileSystem`] leaves it to the system when its files reach the disk. After a power cut a commit could then name
//! a data file that was never written. Here every file, and the directory that names it, is on the disk when a write
//! returns.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use deltalake::logstore::commit_uri_from_version;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use crate::runtime;

/// Where a log lives below its table.
pub(crate) const LOG_DIRECTORY: &str = "_delta_log";

const STORE: &str = "LocalFileSystem";
/// So often the directory of a file that is put may be taken away meanwhile.
const PUT_ATTEMPTS: usize = 10;
/// How many files are deleted at once.
const DELETIONS: usize = 16;

/// The whole local file system, durable.
#[derive(Clone, Debug)]
pub(crate) struct DurableFileSystem {
    inner: Arc<LocalFileSystem>,
}

impl DurableFileSystem {
    pub fn new() -> Self {
        Self { inner: Arc::new(LocalFileSystem::new()) }
    }
}

impl std::fmt::Display for DurableFileSystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Durable{}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for DurableFileSystem {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let path = self.inner.path_to_filesystem(location)?;
        let create = match opts.mode {
            PutMode::Overwrite => false,
            PutMode::Create => true,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "`put_opts` with mode `PutMode::Update`".to_owned(),
                    implementer: self.to_string(),
                });
            }
        };
        blocking(move || put(&path, &payload, create)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let path = self.inner.path_to_filesystem(location)?;
        let target = path.clone();
        blocking(move || match Role::of(&target) {
            // The store below would make the directory.
            Role::RestOfLog if !parent(&target).exists() => Err(failed(&target, io::ErrorKind::NotFound.into())),
            role => role.make_room(&target),
        })
        .await?;
        let (inner, location) = (self.inner.clone(), location.clone());
        let upload = run(async move { inner.put_multipart_opts(&location, opts).await }).await?;
        Ok(Box::new(DurableUpload { upload: Some(upload), path }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        check_regular(&self.inner.path_to_filesystem(location)?)?;
        let (inner, location) = (self.inner.clone(), location.clone());
        run(async move {
            let head = options.head;
            let found = inner.get_opts(&location, options).await?;
            if head { Ok(found) } else { in_memory(found).await }
        })
        .await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        check_regular(&self.inner.path_to_filesystem(location)?)?;
        let (inner, location, ranges) = (self.inner.clone(), location.clone(), ranges.to_vec());
        run(async move { inner.get_ranges(&location, &ranges).await }).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let inner = self.inner.clone();
        let delete = move |location: Result<Path>| {
            let inner = inner.clone();
            async move {
                let location = location?;
                run(async move { inner.delete(&location).await.map(|()| location) }).await
            }
        };
        locations.map(delete).buffered(DELETIONS).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        listed(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        listed(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (inner, prefix) = (self.inner.clone(), prefix.cloned());
        run(async move { inner.list_with_delimiter(prefix.as_ref()).await }).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (inner, source, target) = (self.inner.clone(), from.clone(), to.clone());
        run(async move { inner.copy_opts(&source, &target, options).await }).await?;
        let path = self.inner.path_to_filesystem(to)?;
        blocking(move || sync(&path)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (inner, source, target) = (self.inner.clone(), from.clone(), to.clone());
        run(async move { inner.rename_opts(&source, &target, options).await }).await?;
        let path = self.inner.path_to_filesystem(to)?;
        blocking(move || sync(&path)).await
    }
}

/// An upload whose file is on the disk when it is complete.
#[derive(Debug)]
struct DurableUpload {
    /// There until it is complete, or given up.
    upload: Option<Box<dyn MultipartUpload>>,
    path: PathBuf,
}

impl DurableUpload {
    fn take(&mut self) -> Result<Box<dyn MultipartUpload>> {
        self.upload.take().ok_or_else(|| Error::Generic { store: STORE, source: "the upload is over".into() })
    }
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match &mut self.upload {
            Some(upload) => run(upload.put_part(data)).boxed(),
            None => std::future::ready(self.take().map(drop)).boxed(),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let mut upload = self.take()?;
        let result = run(async move { upload.complete().await }).await?;
        let path = self.path.clone();
        blocking(move || sync(&path)).await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        let mut upload = self.take()?;
        run(async move { upload.abort().await }).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    metaxy_core::blocking::run(move || Ok(work())).await.unwrap_or_else(|error| Err(unfinished(error)))
}

/// Runs a request of the store below, which takes threads of the runtime that it runs on.
async fn run<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    runtime::request(work).await.unwrap_or_else(|error| Err(unfinished(error)))
}

fn unfinished(error: metaxy_core::Error) -> Error {
    Error::Generic { store: STORE, source: error.into() }
}

fn listed(found: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
    let all = run(async move { found.try_collect::<Vec<_>>().await });
    futures::stream::once(all).map_ok(|found| futures::stream::iter(found.into_iter().map(Ok))).try_flatten().boxed()
}

/// What has been found, with its bytes: to read them later would need threads again.
async fn in_memory(found: GetResult) -> Result<GetResult> {
    let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
    let bytes = found.bytes().await?;
    let payload = GetResultPayload::Stream(futures::stream::iter([Ok(bytes)]).boxed());
    Ok(GetResult { payload, meta, range, attributes })
}

/// Writes a file, and makes the directories that it may make. They may be taken away meanwhile, with a table that is dropped.
fn put(path: &FsPath, payload: &PutPayload, create: bool) -> Result<()> {
    let role = Role::of(path);
    for _ in 0..PUT_ATTEMPTS {
        match put_once(path, payload, create) {
            Err(Error::NotFound { .. }) if role != Role::RestOfLog => role.make_room(path)?,
            result => return result,
        }
    }
    put_once(path, payload, create)
}

/// Writes a file under another name, and gives it its own once it is complete and on the disk.
fn put_once(path: &FsPath, payload: &PutPayload, create: bool) -> Result<()> {
    let staged = Staged::write(path, payload)?;
    if create { staged.create() } else { staged.replace() }
}

/// A file that is complete and on the disk, and does not have its name yet.
pub(crate) struct Staged {
    /// In the directory of its name: where that is moved, the file goes with it.
    staged: PathBuf,
    path: PathBuf,
}

impl Staged {
    fn write(path: &FsPath, payload: &PutPayload) -> Result<Self> {
        // `LocalFileSystem` never lists names that end like this.
        let mut staged = path.as_os_str().to_owned();
        staged.push(format!("#{}", rand::random::<u64>()));
        let staged = Self { staged: staged.into(), path: path.to_owned() };
        let written = File::create_new(&staged.staged).and_then(|mut file| {
            payload.iter().try_for_each(|bytes| file.write_all(bytes))?;
            file.sync_all()
        });
        written.map(|()| staged).map_err(|error| failed(path, error))
    }

    /// A commit, staged in the log of a table. The first one makes the log.
    pub async fn commit(path: PathBuf, payload: PutPayload) -> Result<Self> {
        blocking(move || {
            Role::of(&path).make_room(&path)?;
            Self::write(&path, &payload)
        })
        .await
    }

    /// Gives it its name, unless that is taken, or the directory is not the one that it was staged in.
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
        // A left-over does no harm; nothing ever reads it.
        let _ = fs::remove_file(&self.staged);
    }
}

/// Gives a file a second name, or moves it there, unless that name is taken.
fn create_from(staged: &FsPath, path: &FsPath, link: impl Fn(&FsPath, &FsPath) -> io::Result<()>) -> io::Result<()> {
    match link(staged, path) {
        // File systems without links say so in several ways.
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

/// What a file is to its table.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// It may be there before its table.
    Data,
    /// It makes the table, from data files that are there.
    FirstCommit,
    /// It belongs to a table that is there: where the directory of the log is gone, the table is.
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

    /// Makes the directories that a file of this role may make.
    fn make_room(self, path: &FsPath) -> Result<()> {
        match self {
            Self::Data => create_directories(parent(path)),
            Self::FirstCommit => create_directory(parent(path)),
            Self::RestOfLog => Ok(()),
        }
    }
}

fn parent(path: &FsPath) -> &FsPath {
    path.parent().unwrap_or(path)
}

fn create_directories(directory: &FsPath) -> Result<()> {
    let missing: Vec<&FsPath> = directory.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    let created = match fs::create_dir_all(directory) {
        // One that was there, and is gone again.
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

fn sync(path: &FsPath) -> Result<()> {
    let synced = File::open(path).and_then(|file| file.sync_all()).and_then(|()| sync_directory(parent(path)));
    synced.map_err(|error| failed(path, error))
}

/// Only Unix lets a directory be opened to this end, and some file systems have nothing to do there, and say that they
/// cannot.
pub(crate) fn sync_directory(directory: &FsPath) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(directory)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

/// Opens a file for reading, unless it is a device or a pipe: reading those may never end.
pub(crate) fn open_regular(path: &FsPath) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    // A pipe is not waited for until it has a writer.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

/// Refuses to have a device or a pipe opened; what is not there is left to those who look for it.
fn check_regular(path: &FsPath) -> Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => Err(failed(path, not_regular())),
        _ => Ok(()),
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file")
}

/// What the file system says of a file.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
struct FileError {
    path: String,
    source: io::Error,
}

/// What the file system says of a file, as an error of an object store.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_created_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = Path::from_absolute_path(directory.path()).expect("a path");
        let store = DurableFileSystem::new();
        let file = root.clone().join("deep").join("file");
        let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        store.put_opts(&file, "one".into(), create()).await.expect("created");
        let again = store.put_opts(&file, "two".into(), create()).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
        assert_eq!(store.get(&file).await.expect("there").bytes().await.expect("read"), "one");
        store.put(&file, "three".into()).await.expect("replaced");
        assert_eq!(store.get(&file).await.expect("there").bytes().await.expect("read"), "three");
        assert_eq!(fs::read_dir(directory.path().join("deep")).expect("listed").count(), 1);
    }

    #[tokio::test]
    async fn a_commit_does_not_bring_a_dropped_table_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let table = Path::from_absolute_path(directory.path()).expect("a path").join("t.delta");
        let log = table.clone().join("_delta_log");
        let store = DurableFileSystem::new();
        let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        for file in
            ["00000000000000000000.json", "00000000000000000007.json", "00000000000000000007.checkpoint.parquet"]
        {
            let refused = store.put_opts(&log.clone().join(file), "{}".into(), create()).await;
            assert!(matches!(refused, Err(Error::NotFound { .. })), "{file}: {refused:?}");
            let refused = store.put_multipart_opts(&log.clone().join(file), PutMultipartOptions::default()).await;
            assert!(matches!(refused, Err(Error::NotFound { .. })), "{file}");
        }
        store.put(&table.join("part.parquet"), "rows".into()).await.expect("data come first");
        for file in ["00000000000000000000.json", "00000000000000000001.json"] {
            store.put_opts(&log.clone().join(file), "{}".into(), create()).await.expect(file);
        }
    }

    #[test]
    fn a_file_system_without_links_has_another_way() {
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

    /// The system's own directory of processes cannot be synced.
    #[cfg(target_os = "linux")]
    #[test]
    fn directories_that_cannot_be_synced_are_no_failure() {
        let own = FsPath::new("/proc/self");
        assert!(File::open(own).and_then(|directory| directory.sync_all()).is_err());
        sync_directory(own).expect("no failure");
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
    fn data_find_a_place_while_their_directory_comes_and_goes() {
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
