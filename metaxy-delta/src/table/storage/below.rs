//! A store without the objects outside of one directory.
//!
//! A log is input, and names files: the kernel resolves the path of a sidecar against that of the log, so that `../..`
//! or another URL would lead to the files of other tables, and of other users.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// The objects below a directory. Others do not exist.
#[derive(Clone, Debug)]
pub(crate) struct Below {
    inner: Arc<dyn ObjectStore>,
    directory: Path,
}

impl Below {
    pub fn new(inner: Arc<dyn ObjectStore>, directory: Path) -> Self {
        Self { inner, directory }
    }

    fn check(&self, path: &Path) -> Result<()> {
        if path.prefix_matches(&self.directory) {
            return Ok(());
        }
        Err(Error::NotFound { path: path.to_string(), source: "it is outside of the table".into() })
    }

    /// Returns the prefix of a listing, which is the directory if none is given.
    fn prefix<'a>(&'a self, prefix: Option<&'a Path>) -> Result<&'a Path> {
        let prefix = prefix.unwrap_or(&self.directory);
        self.check(prefix).map(|()| prefix)
    }
}

impl fmt::Display for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Below {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.check(location)?;
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.check(location)?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.check(location)?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.check(location)?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let below = self.clone();
        let checked = locations.and_then(move |path| std::future::ready(below.check(&path).map(|()| path)));
        self.inner.delete_stream(checked.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.prefix(prefix) {
            Ok(prefix) => self.inner.list(Some(prefix)),
            Err(_) => futures::stream::empty().boxed(),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.prefix(prefix) {
            Ok(prefix) => self.inner.list_with_offset(Some(prefix), offset),
            Err(_) => futures::stream::empty().boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(Some(self.prefix(prefix)?)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check(from)?;
        self.check(to)?;
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.check(from)?;
        self.check(to)?;
        self.inner.rename_opts(from, to, options).await
    }
}
