//! The object store through which data files are written.
//!
//! The writer of `deltalake` aborts a failed upload, and then its buffer panics in a separate task. So failures are
//! hidden from it: the first error is kept here, with its type, for the code that writes the file.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, TryFutureExt};
use metaxy_core::secret::mask_url;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use crate::error::chain;

/// A store that accepts all uploads, and records failures.
#[derive(Clone, Debug)]
pub(crate) struct UploadStore {
    inner: Arc<dyn ObjectStore>,
    failure: Failure,
}

/// The first error of some uploads.
#[derive(Clone, Debug, Default)]
struct Failure(Arc<Mutex<Option<Error>>>);

impl Failure {
    fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn is_set(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn keep(&self, error: Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

impl UploadStore {
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, failure: Failure::default() }
    }

    /// Returns the first error of an upload since the last call.
    pub fn failure(&self) -> Option<Error> {
        self.failure.take()
    }
}

fn accepted() -> PutResult {
    PutResult { e_tag: None, version: None }
}

impl fmt::Display for UploadStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for UploadStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let put = self.inner.put_opts(location, payload, opts).await;
        Ok(put.unwrap_or_else(|error| {
            self.failure.keep(error);
            accepted()
        }))
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = match self.inner.put_multipart_opts(location, opts).await {
            Ok(upload) => Some(upload),
            Err(error) => {
                self.failure.keep(error);
                None
            }
        };
        Ok(Box::new(PartUpload { upload, failure: self.failure.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// An upload in parts; `None` if it could not begin.
#[derive(Debug)]
struct PartUpload {
    upload: Option<Box<dyn MultipartUpload>>,
    failure: Failure,
}

#[async_trait]
impl MultipartUpload for PartUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let failure = self.failure.clone();
        match &mut self.upload {
            Some(upload) if !failure.is_set() => {
                let put = upload.put_part(data);
                put.or_else(|error| async move {
                    failure.keep(error);
                    Ok(())
                })
                .boxed()
            }
            _ => std::future::ready(Ok(())).boxed(),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let Some(upload) = &mut self.upload else { return Ok(accepted()) };
        if self.failure.is_set() {
            self.abort().await?;
            return Ok(accepted());
        }
        Ok(upload.complete().await.unwrap_or_else(|error| {
            self.failure.keep(error);
            accepted()
        }))
    }

    async fn abort(&mut self) -> Result<()> {
        if let Some(upload) = &mut self.upload
            && let Err(error) = upload.abort().await
        {
            let error = mask_url(&chain(&error));
            tracing::debug!(error, "parts of an abandoned upload could not be removed from the store");
        }
        Ok(())
    }
}
