//! Where several files of rows are written together: a directory, or a prefix of a bucket.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use url::Url;

use crate::failure::{Failure, Result};

use super::objects::{Bucket, ObjectWriter};
use super::{FileFormat, FileWriter};

/// A directory, or a prefix of a bucket.
#[derive(Clone, Debug)]
pub enum Target {
    /// The directory, which may not exist.
    Directory(PathBuf),
    /// The prefix.
    Bucket(Bucket),
}

impl Target {
    /// Parses a path or a URL; `options` are those of the bucket, which count before the environment.
    pub fn parse(text: &str, options: impl FnOnce() -> Result<BTreeMap<String, String>>) -> Result<Self> {
        if !text.contains("://") {
            return Ok(Self::Directory(PathBuf::from(text)));
        }
        let url = Url::parse(text).map_err(|error| Failure::usage(format!("`--out` is not a URL: {error}")))?;
        match url.to_file_path() {
            Ok(directory) if url.scheme() == "file" => Ok(Self::Directory(directory)),
            _ => Ok(Self::Bucket(Bucket::open(&url, options()?)?)),
        }
    }

    /// Begins files of these names and schemas.
    pub async fn create(self, format: FileFormat, files: &[(&str, &SchemaRef)]) -> Result<Writers> {
        if let Self::Directory(directory) = &self {
            std::fs::create_dir_all(directory)
                .map_err(|error| Failure::io(format!("create the directory {}", directory.display()), error))?;
        }
        let mut writers = Writers { target: self, names: Vec::new(), writers: Vec::new() };
        for (name, schema) in files {
            let name = format!("{name}.{}", format.extension());
            match writers.target.begin(&name, format, schema).await {
                Ok(writer) => writers.writers.push(writer),
                Err(failure) => return Err(writers.abandon(failure).await),
            }
            writers.names.push(name);
        }
        Ok(writers)
    }

    async fn begin(&self, name: &str, format: FileFormat, schema: &SchemaRef) -> Result<Writer> {
        Ok(match self {
            Self::Directory(directory) => Writer::File(FileWriter::create(&directory.join(name), format, schema)?),
            Self::Bucket(bucket) => Writer::Object(Box::new(bucket.create(name, format, schema).await?)),
        })
    }

    fn shown(&self, name: &str) -> String {
        match self {
            Self::Directory(directory) => directory.join(name).display().to_string(),
            Self::Bucket(bucket) => bucket.url_of(name),
        }
    }
}

/// Files that are written together. They are there when all are complete.
pub struct Writers {
    target: Target,
    names: Vec<String>,
    writers: Vec<Writer>,
}

enum Writer {
    File(FileWriter),
    Object(Box<ObjectWriter>),
}

impl Writers {
    /// Returns the paths or URLs of the files.
    pub fn files(&self) -> Vec<String> {
        self.names.iter().map(|name| self.target.shown(name)).collect()
    }

    /// Adds rows to one of the files.
    pub async fn write(&mut self, file: usize, batch: &RecordBatch) -> Result<()> {
        match &mut self.writers[file] {
            Writer::File(writer) => writer.write(batch),
            Writer::Object(writer) => writer.write(batch).await,
        }
    }

    /// Completes all files, and returns the numbers of their rows. If one fails, no object of this call is left.
    pub async fn finish(mut self) -> Result<Vec<usize>> {
        let mut counts = Vec::new();
        let mut left = std::mem::take(&mut self.writers).into_iter();
        while let Some(writer) = left.next() {
            let count = match writer {
                Writer::File(writer) => writer.finish(),
                Writer::Object(writer) => writer.finish().await,
            };
            match count {
                Ok(count) => counts.push(count),
                Err(failure) => {
                    self.writers = left.collect();
                    self.remove(counts.len()).await;
                    return Err(self.abandon(failure).await);
                }
            }
        }
        Ok(counts)
    }

    /// Removes what cannot be complete, and returns the failure that is the reason.
    pub async fn abandon(self, failure: Failure) -> Failure {
        for writer in self.writers {
            match writer {
                Writer::File(writer) => writer.abandon(),
                Writer::Object(writer) => writer.abandon().await,
            }
        }
        failure
    }

    /// Removes the first objects, which are complete.
    async fn remove(&self, count: usize) {
        let Target::Bucket(bucket) = &self.target else { return };
        for name in &self.names[..count] {
            // The failure that is shown is the first one.
            let _ = bucket.remove(name).await;
        }
    }
}
