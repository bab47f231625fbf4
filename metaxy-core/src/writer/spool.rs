//! A directory that keeps batches until they are in the store.
//!
//! One Arrow IPC file for each batch, written under another name and moved into place once it is safe on disk, so that a
//! file with the right name is always whole.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;

use crate::error::{Error, Result};
use crate::key::FeatureKey;

use super::buffer::Entry;

const EXTENSION: &str = "arrow";
const FEATURE: &str = "metaxy.feature";
const PUT_AT: &str = "metaxy.put_at";

pub(super) struct Spool {
    directory: PathBuf,
    /// Held for the life of the spool: two processes that write each other's files would write everything twice.
    lock: File,
    next: AtomicU64,
}

impl Spool {
    /// Opens a spool directory, creating it where it does not exist, and reads what is left in it, oldest first.
    pub(super) fn open(directory: PathBuf) -> Result<(Self, Vec<Entry>)> {
        let failed = |error: io::Error| Error::LocationNotFound {
            location: format!("the spool directory {}", directory.display()),
            hint: error.to_string(),
        };
        fs::create_dir_all(&directory).map_err(failed)?;
        let lock = File::create(directory.join("lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => Error::Locked {
                location: format!("the spool directory {}", directory.display()),
                holder: "another writer".to_owned(),
            },
            fs::TryLockError::Error(error) => failed(error),
        })?;
        let mut left = Vec::new();
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(EXTENSION) => left.push(path),
                Some("part") => fs::remove_file(&path).map_err(failed)?,
                _ => {}
            }
        }
        left.sort();
        let mut entries = Vec::with_capacity(left.len());
        for path in left {
            entries.extend(load(&path)?);
        }
        if !entries.is_empty() {
            tracing::info!(batches = entries.len(), directory = %directory.display(), "batches of an earlier process were found");
        }
        Ok((Self { directory, lock, next: AtomicU64::new(0) }, entries))
    }

    /// Puts batches on disk; when it returns they survive the end of the process and of the machine. All or none.
    pub(super) fn save(&self, batches: Vec<(FeatureKey, RecordBatch)>, put_at: i64) -> Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::with_capacity(batches.len());
        for (feature, batch) in batches {
            match self.save_one(&feature, &batch, put_at) {
                Ok(path) => entries.push(Entry::new(feature, batch).kept_in(path)),
                Err(error) => {
                    self.remove(&entries);
                    return Err(error);
                }
            }
        }
        self.sync_directory()?;
        Ok(entries)
    }

    fn save_one(&self, feature: &FeatureKey, batch: &RecordBatch, put_at: i64) -> Result<PathBuf> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{put_at:020}-{:010}-{number:010}.{EXTENSION}", std::process::id()));
        let part = path.with_extension("part");
        let mut metadata: HashMap<String, String> = batch.schema_ref().metadata().clone();
        metadata.insert(FEATURE.to_owned(), feature.to_string());
        metadata.insert(PUT_AT.to_owned(), put_at.to_string());
        let schema = Arc::new(Schema::new_with_metadata(batch.schema_ref().fields().clone(), metadata));
        let file = File::create(&part).map_err(|error| self.failed(error))?;
        let mut writer = FileWriter::try_new(file, &schema)?;
        writer.write(&batch.clone().with_schema(schema)?)?;
        writer.finish()?;
        let file = writer.into_inner()?;
        file.sync_all().map_err(|error| self.failed(error))?;
        fs::rename(&part, &path).map_err(|error| self.failed(error))?;
        Ok(path)
    }

    /// Forgets batches. A file that cannot be removed is written once more at the next start, which readers do not see.
    pub(super) fn remove(&self, entries: &[Entry]) {
        for path in entries.iter().filter_map(|entry| entry.file.as_ref()) {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!(%error, file = %path.display(), "a written batch could not be removed from the spool");
            }
        }
    }

    /// Lets another writer use the directory.
    pub(super) fn release(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the lock of a spool directory could not be released; it goes with the process");
        }
    }

    fn sync_directory(&self) -> Result<()> {
        File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::AccessDenied {
            location: format!("the spool directory {}", self.directory.display()),
            operation: "keep a batch".to_owned(),
            reason: error.to_string(),
        }
    }
}

fn load(path: &Path) -> Result<Vec<Entry>> {
    let damaged = |reason: String| Error::Corrupt { table: format!("spool file {}", path.display()), reason };
    let file = File::open(path).map_err(|error| damaged(error.to_string()))?;
    let reader = FileReader::try_new(file, None).map_err(|error| damaged(error.to_string()))?;
    let mut metadata = reader.schema().metadata().clone();
    let feature = metadata.remove(FEATURE).ok_or_else(|| damaged("it names no feature".to_owned()))?;
    let feature: FeatureKey = feature.parse()?;
    let put_at = metadata.remove(PUT_AT).and_then(|text| text.parse::<i64>().ok());
    let put_at = put_at.ok_or_else(|| damaged("it has no time".to_owned()))?;
    let schema = Arc::new(Schema::new_with_metadata(reader.schema().fields().clone(), metadata));
    reader
        .map(|batch| {
            let batch = batch.and_then(|batch| RecordBatch::try_new(schema.clone(), batch.columns().to_vec()));
            let batch = batch.map_err(|error| damaged(error.to_string()))?;
            Ok(Entry::new(feature.clone(), batch).kept_in(path.to_owned()).put_at(put_at))
        })
        .collect()
}
