//! A prefix of a bucket, and objects of rows below it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use metaxy_core::secret::{mask_text, mask_url, secrets_in};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use url::Url;

use crate::failure::{Failure, Result};

use super::FileFormat;
use super::encode::Encoder;

/// The bytes of one part of an upload, and how many parts are on their way at a time.
const PART_BYTES: usize = 8 << 20;
const PARTS: usize = 4;
/// The services whose variables of the environment count.
const SERVICES: [&str; 3] = ["aws_", "azure_", "google_"];

/// A prefix of a bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Its URL for messages, without a slash at its end.
    shown: String,
    secrets: Arc<Vec<String>>,
}

impl Bucket {
    /// Opens the bucket of a URL, without a request. Options count before the environment.
    pub fn open(url: &Url, options: BTreeMap<String, String>) -> Result<Self> {
        let options = with_environment(options);
        let shown = mask_url(url.as_str().trim_end_matches('/'));
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Failure::usage(format!("{shown}: a URL of a bucket has no `?` and no `#`")));
        }
        check_endpoint(&options)?;
        let secrets = options.iter().flat_map(|(name, value)| secrets_in(name, value)).collect();
        let secrets: Arc<Vec<String>> = Arc::new(secrets);
        let failed = |error: object_store::Error| {
            Failure::usage(format!("{shown} cannot be used: {}", mask_text(&error.to_string(), &secrets)))
        };
        let (store, prefix) = object_store::parse_url_opts(url, &options).map_err(failed)?;
        Ok(Self { store: store.into(), prefix, shown, secrets })
    }

    /// Returns the URL of an object.
    pub fn url_of(&self, name: &str) -> String {
        format!("{}/{name}", self.shown)
    }

    /// Begins an object of rows of a schema.
    pub async fn create(&self, name: &str, format: FileFormat, schema: &SchemaRef) -> Result<ObjectWriter> {
        let buffer = Buffer::default();
        let encoder = Encoder::new(buffer.clone(), format, schema);
        let encoder = encoder.map_err(|reason| self.failure(name, reason))?;
        let upload = self.store.put_multipart(&self.path_of(name)).await;
        let upload = upload.map_err(|error| self.failure(name, error))?;
        let upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        Ok(ObjectWriter { bucket: self.clone(), name: name.to_owned(), rows: 0, buffer, encoder, upload })
    }

    /// Removes an object.
    pub async fn remove(&self, name: &str) -> Result<()> {
        self.store.delete(&self.path_of(name)).await.map_err(|error| self.failure(name, error))
    }

    fn path_of(&self, name: &str) -> Path {
        self.prefix.clone().join(name)
    }

    fn failure(&self, name: &str, reason: impl ToString) -> Failure {
        Failure::Upload { object: self.url_of(name), reason: mask_text(&reason.to_string(), &self.secrets) }
    }
}

/// An object that is written batch by batch. It is there when it is complete, and not before.
pub struct ObjectWriter {
    bucket: Bucket,
    name: String,
    rows: usize,
    buffer: Buffer,
    encoder: Encoder<Buffer>,
    upload: WriteMultipart,
}

impl ObjectWriter {
    /// Adds rows.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows();
        self.encoder.write(batch).map_err(|reason| self.bucket.failure(&self.name, reason))?;
        let sent = self.upload.wait_for_capacity(PARTS).await;
        sent.map_err(|error| self.bucket.failure(&self.name, error))?;
        self.upload.write(&self.buffer.take());
        Ok(())
    }

    /// Completes the object, and returns the number of its rows.
    pub async fn finish(mut self) -> Result<usize> {
        let end = self.encoder.finish();
        let end = end.map_err(|reason| self.bucket.failure(&self.name, reason))?;
        self.upload.write(&end.take());
        self.upload.finish().await.map_err(|error| self.bucket.failure(&self.name, error))?;
        Ok(self.rows)
    }

    /// Removes what has been sent of an object that will not be complete.
    pub async fn abandon(self) {
        // What stays is not an object; rules of the bucket for unfinished uploads remove it.
        let _ = self.upload.abort().await;
    }
}

/// Bytes on their way from an encoder to an upload.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Adds the variables of the environment that are not among the options.
fn with_environment(options: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let small = |(name, value): (String, String)| (name.to_ascii_lowercase(), value);
    let of_service = |(name, _): &(String, String)| SERVICES.iter().any(|service| name.starts_with(service));
    std::env::vars().map(small).filter(of_service).chain(options.into_iter().map(small)).collect()
}

/// Refuses an endpoint that is not a URL: `object_store` panics at its first request to it.
fn check_endpoint(options: &BTreeMap<String, String>) -> Result<()> {
    let is_bad = |(name, value): &(&String, &String)| name.contains("endpoint") && Url::parse(value).is_err();
    match options.iter().find(is_bad) {
        Some((name, _)) => Err(Failure::usage(format!("{name} is not a URL such as https://s3.example.org:9000"))),
        None => Ok(()),
    }
}
