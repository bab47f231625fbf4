//! A directory that keeps batches until they are in the store.
//!
//! One Arrow IPC file for each batch, written under another name and moved into place once it is safe on disk, so that a
//! file with the right name is always whole. It holds the rows as they would be stored at that time: with versions by the
//! definitions under which they were made, and with the time of the put. So a later process can append them as they are,
//! whatever its definitions, and they never hide what was written since.

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

use super::parcel::Entry;

const WHOLE: &str = "arrow";
const PART: &str = "part";
const FEATURE: &str = "metaxy.feature";

pub(super) struct Spool {
    directory: Arc<PathBuf>,
    /// Held for the life of the spool: two processes that write each other's files would write everything twice.
    lock: File,
    /// Tells the files of this spool from those that others have left.
    run: u64,
    next: AtomicU64,
}

impl Spool {
    /// Opens a spool directory, creating it where it does not exist, and reads what is left in it, oldest first.
    pub(super) fn open(directory: PathBuf) -> Result<(Self, Vec<Entry>)> {
        let failed = |error: io::Error| Error::LocationNotFound {
            location: format!("the spool directory {}", directory.display()),
            hint: error.to_string(),
        };
        create_directory(&directory).map_err(failed)?;
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
                Some(WHOLE) => left.push(path),
                Some(PART) => fs::remove_file(&path).map_err(failed)?,
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
        let spool = Self { directory: Arc::new(directory), lock, run: fastrand::u64(..), next: AtomicU64::new(0) };
        Ok((spool, entries))
    }

    /// Puts complete rows on disk, all batches or none; when it returns they survive the end of the process and of the
    /// machine. The answer is the file of each.
    pub(super) fn save(&self, batches: &[(FeatureKey, RecordBatch)], put_at: i64) -> Result<Vec<PathBuf>> {
        let mut files = Vec::with_capacity(batches.len());
        let mut save_all = || {
            for (feature, batch) in batches {
                files.push(self.save_one(feature, batch, put_at)?);
            }
            sync_directory(&self.directory).map_err(|error| self.failed(error))
        };
        match save_all() {
            Ok(()) => Ok(files),
            Err(error) => {
                remove(&files);
                Err(error)
            }
        }
    }

    fn save_one(&self, feature: &FeatureKey, batch: &RecordBatch, put_at: i64) -> Result<PathBuf> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{put_at:020}-{number:010}-{:016x}.{WHOLE}", self.run));
        let part = path.with_extension(PART);
        match write_file(&part, feature, batch).and_then(|()| fs::rename(&part, &path)) {
            Ok(()) => Ok(path),
            Err(error) => {
                remove(&[part]);
                Err(self.failed(error))
            }
        }
    }

    /// Forgets batches, off the async threads.
    pub(super) async fn remove_later(&self, files: Vec<PathBuf>) {
        // A task that does not run is no harm either: see `remove`.
        let _ = tokio::task::spawn_blocking(move || remove(&files)).await;
    }

    /// Lets another writer use the directory.
    pub(super) fn release(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the lock of a spool directory could not be released; it goes with the process");
        }
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::AccessDenied {
            location: format!("the spool directory {}", self.directory.display()),
            operation: "keep a batch".to_owned(),
            reason: error.to_string(),
        }
    }
}

fn write_file(path: &Path, feature: &FeatureKey, batch: &RecordBatch) -> io::Result<()> {
    let write = |file: File| {
        let mut metadata: HashMap<String, String> = batch.schema_ref().metadata().clone();
        metadata.insert(FEATURE.to_owned(), feature.to_string());
        let schema = Arc::new(Schema::new_with_metadata(batch.schema_ref().fields().clone(), metadata));
        let mut writer = FileWriter::try_new_buffered(file, &schema)?;
        writer.write(&batch.clone().with_schema(schema)?)?;
        writer.into_inner()
    };
    let file = write(File::create(path)?).map_err(io::Error::other)?;
    file.into_inner()?.sync_all()
}

/// A file that cannot be removed is written once more at the next start, which readers do not see.
fn remove(files: &[PathBuf]) {
    for path in files {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, file = %path.display(), "a file could not be removed from the spool");
            }
            _ => {}
        }
    }
}

/// Creates a directory and those above it, each safe on disk in the one above.
fn create_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = directory.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_directory(above)?;
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !directory.is_dir() => Err(error),
        _ => sync_directory(above),
    }
}

/// Makes the names in a directory safe on disk. Windows cannot, and does so by itself.
fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

fn load(path: &Path) -> Result<Vec<Entry>> {
    let damaged = |reason: String| Error::Corrupt { table: format!("spool file {}", path.display()), reason };
    let file = File::open(path).map_err(|error| damaged(error.to_string()))?;
    let reader = FileReader::try_new_buffered(file, None).map_err(|error| damaged(error.to_string()))?;
    let mut metadata = reader.schema().metadata().clone();
    let feature = metadata.remove(FEATURE).ok_or_else(|| damaged("it names no feature".to_owned()))?;
    let feature: FeatureKey = feature.parse()?;
    let schema = Arc::new(Schema::new_with_metadata(reader.schema().fields().clone(), metadata));
    reader
        .map(|batch| {
            let batch = batch.and_then(|batch| RecordBatch::try_new(schema.clone(), batch.columns().to_vec()));
            let batch = batch.map_err(|error| damaged(error.to_string()))?;
            Ok(Entry::left_in(path.to_owned(), feature.clone(), batch))
        })
        .collect()
}
