//! The local file system as a durable object store.
//!
//! [`LocalFileSystem`] does not wait until its files are on disk. After a power failure, a commit could refer to a data
//! file that was never written. Here every file, and its directory entry, is on disk when a write returns.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use super::local_file::{STORE, blocking, check_regular, run, sync};
use super::staged::{make_room, put};

/// The number of files that are deleted concurrently.
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
        blocking(move || make_room(&target)).await?;
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

/// An upload whose file is on disk when it is completed.
#[derive(Debug)]
struct DurableUpload {
    /// `None` after it is completed or aborted.
    upload: Option<Box<dyn MultipartUpload>>,
    path: PathBuf,
}

impl DurableUpload {
    fn take(&mut self) -> Result<Box<dyn MultipartUpload>> {
        self.upload.take().ok_or_else(|| Error::Generic { store: STORE, source: "the upload has ended".into() })
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

fn listed(found: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
    let all = run(async move { found.try_collect::<Vec<_>>().await });
    futures::stream::once(all).map_ok(|found| futures::stream::iter(found.into_iter().map(Ok))).try_flatten().boxed()
}

/// Returns the result with its bytes in memory: reading them later would need threads.
async fn in_memory(found: GetResult) -> Result<GetResult> {
    let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
    let bytes = found.bytes().await?;
    let payload = GetResultPayload::Stream(futures::stream::iter([Ok(bytes)]).boxed());
    Ok(GetResult { payload, meta, range, attributes })
}

#[cfg(test)]
mod tests {
    use std::fs;

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
    async fn a_commit_does_not_recreate_a_dropped_table() {
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
}
