//! A directory that keeps batches until they are in the store.
//!
//! Each batch has a file, which is written under another name and renamed once it is synced to disk, so that a file
//! with the final name is always complete. It holds the rows as they would be stored at that time: with versions by the
//! definitions under which they were made, and with the time of the put. So a later process can append them as they
//! are, whatever its definitions, and they never hide what was written since.
//!
//! What the store refuses is moved to `rejected/`, each file with the reason in another file beside it.

mod entry;
mod files;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;

use crate::blocking::{Pool, sync_directory};
use crate::error::{Error, Result};
use crate::key::FeatureKey;

use super::flush_batch::Entry;
use files::{create_directory, create_inside, is_inside, names, open_lock, read_regular, remove, write_new};

const WHOLE: &str = "arrow";
const PART: &str = "part";
const REASON: &str = "reason.txt";
const REJECTED: &str = "rejected";

/// The number of producers whose batches are written to disk at a time.
const THREADS: usize = 16;

pub(super) struct Spool {
    directory: Arc<PathBuf>,
    /// Locked for the life of the spool: two processes that write each other's files would write everything twice.
    lock: File,
    /// Distinguishes the files of this spool from those of other runs.
    run: u64,
    next: AtomicU64,
    /// Its own threads: disks are slow, and must not delay the store.
    pub(super) threads: Arc<Pool>,
}

impl Spool {
    /// Opens a spool directory, creates it if it is missing, and reads the batches that are left in it, oldest first.
    pub(super) fn open(directory: PathBuf) -> Result<(Self, Vec<Entry>)> {
        let failed = |error| failed(&directory, "open it", error);
        create_directory(&directory).map_err(failed)?;
        let lock = lock(&directory)?;
        for part in names(&directory, PART).map_err(failed)? {
            fs::remove_file(part).map_err(failed)?;
        }
        let left = names(&directory, WHOLE).map_err(failed)?;
        let entries = left.iter().map(|file| load(file)).collect::<Result<Vec<_>>>()?;
        if !entries.is_empty() {
            tracing::info!(
                batches = entries.len(),
                directory = %directory.display(),
                "batches of an earlier process were found"
            );
        }
        let spool = Self {
            directory: Arc::new(directory),
            lock,
            run: fastrand::u64(..),
            next: AtomicU64::new(0),
            threads: Pool::new(THREADS),
        };
        let rejected = spool.rejected().len();
        if rejected > 0 {
            let directory = spool.rejected_directory();
            tracing::warn!(
                batches = rejected,
                directory = %directory.display(),
                "batches that the store has refused are kept until `retry_rejected`"
            );
        }
        Ok((spool, entries))
    }

    /// Writes complete rows to disk, all batches or none. Once it returns they survive a crash of the process or the
    /// machine. Returns the file of each batch.
    pub(super) fn save(&self, batches: &[(FeatureKey, RecordBatch)], put_at: i64) -> Result<Vec<PathBuf>> {
        let mut files = Vec::with_capacity(batches.len());
        let mut save_all = || {
            for (feature, batch) in batches {
                files.push(self.save_one(feature, batch, put_at)?);
            }
            sync_directory(&self.directory).map_err(|error| self.failed("store a batch", error))
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
        let bytes = entry::encode(feature, batch)?;
        match write_new(&part, &bytes).and_then(|()| fs::rename(&part, &path)) {
            Ok(()) => Ok(path),
            Err(error) => {
                remove(&[part]);
                Err(self.failed("store a batch", error))
            }
        }
    }

    /// Removes files, off the async threads.
    pub(super) async fn remove_later(&self, files: Vec<PathBuf>) {
        // A removal that fails does no harm: see `remove`.
        let remove = move || {
            remove(&files);
            Ok(())
        };
        let _ = self.threads.spawn(remove).await;
    }

    /// Moves files to `rejected/`, off the async threads, each with the reason beside it. Returns their new paths.
    pub(super) async fn reject_later(self: &Arc<Self>, files: Vec<(PathBuf, String)>) -> Vec<PathBuf> {
        let stay = files.iter().map(|(file, _)| file.clone()).collect();
        let spool = self.clone();
        let reject = move || Ok(files.iter().map(|(file, reason)| spool.reject(file, reason)).collect());
        self.threads.spawn(reject).await.unwrap_or(stay)
    }

    /// Moves a file to `rejected/`, with the reason beside it. Returns its new path; a file that cannot be moved keeps
    /// its own.
    fn reject(&self, file: &Path, reason: &str) -> PathBuf {
        let Some(name) = file.file_name() else { return file.to_owned() };
        let rejected = self.rejected_directory().join(name);
        let move_file = || {
            create_inside(&self.rejected_directory())?;
            let note = rejected.with_extension(REASON);
            remove(std::slice::from_ref(&note));
            write_new(&note, format!("{reason}\n").as_bytes())?;
            fs::rename(file, &rejected)?;
            sync_directory(&self.rejected_directory())?;
            sync_directory(&self.directory)
        };
        match move_file() {
            Ok(()) => rejected,
            Err(error) => {
                tracing::error!(
                    %error,
                    file = %file.display(),
                    "a rejected batch could not be moved; the next start tries it again"
                );
                file.to_owned()
            }
        }
    }

    /// Takes rejected batches back, oldest first. A file that cannot be taken back stays; if that is all of them, it is
    /// an error.
    pub(super) fn take_back(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut refused = None;
        for rejected in self.rejected() {
            match self.take_back_one(&rejected) {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    tracing::error!(%error, file = %rejected.display(), "a rejected batch could not be taken back");
                    refused = Some(error);
                }
            }
        }
        match refused {
            Some(error) if entries.is_empty() => Err(error),
            _ => Ok(entries),
        }
    }

    fn take_back_one(&self, rejected: &Path) -> Result<Entry> {
        let entry = load(rejected)?;
        let file = self.directory.join(rejected.file_name().unwrap_or_default());
        fs::rename(rejected, &file).map_err(|error| self.failed("take back a batch", error))?;
        remove(&[rejected.with_extension(REASON)]);
        Ok(entry.with_file(Some(file)))
    }

    /// Returns the files of rejected batches, those of earlier writers included.
    fn rejected(&self) -> Vec<PathBuf> {
        let directory = self.rejected_directory();
        if is_inside(&directory) { names(&directory, WHOLE).unwrap_or_default() } else { Vec::new() }
    }

    pub(super) fn rejected_directory(&self) -> PathBuf {
        self.directory.join(REJECTED)
    }

    /// Releases the directory for another writer.
    pub(super) fn release(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(
                %error,
                "the lock of a spool directory could not be released; it is released when the process ends"
            );
        }
    }

    fn failed(&self, operation: &'static str, error: io::Error) -> Error {
        failed(&self.directory, operation, error)
    }
}

fn failed(directory: &Path, operation: &'static str, error: io::Error) -> Error {
    Error::of_io(location(directory), operation, error)
}

fn location(directory: &Path) -> String {
    format!("the spool directory {}", directory.display())
}

fn lock(directory: &Path) -> Result<File> {
    let failed = |error| failed(directory, "lock it", error);
    let lock = open_lock(&directory.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(Error::Locked { location: location(directory), holder: "another writer".to_owned() })
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Reads the batch of a file.
fn load(file: &Path) -> Result<Entry> {
    let name = format!("spool file {}", file.display());
    let bytes = read_regular(file).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Error::corrupt(&name, error.to_string()).with_source(error),
        _ => Error::of_io(&name, "read it", error),
    })?;
    let (feature, batch) = entry::decode(&name, &bytes)?;
    Ok(Entry::from_spool(file.to_owned(), feature, batch))
}
