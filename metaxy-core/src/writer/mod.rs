//! Writes metadata as soon as it exists, in good-sized batches, and loses none of it.
//!
//! A pipeline hands over small batches as samples finish; a background task writes them together.
//!
//! ```no_run
//! # use metaxy_core::{MetadataStore, RecordBatch};
//! # async fn example(store: MetadataStore, batches: Vec<RecordBatch>) -> Result<(), Box<dyn std::error::Error>> {
//! use metaxy_core::BufferedMetadataWriter;
//! let writer = BufferedMetadataWriter::builder(store).flush_rows(10_000).spool("/var/spool/pipeline").start().await?;
//! for batch in batches {
//!     writer.put("processed/transcript", batch).await?;
//! }
//! let written = writer.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//! - Once [`flush`](BufferedMetadataWriter::flush) returns, everything that was put before it is in the store.
//! - A flush that fails is made again, with growing pauses, while the error can pass. When the writer gives up, `flush`
//!   and `close` return the error together with every batch that was not written.
//! - With a spool directory a batch survives the death of the process as soon as `put` has returned.
//! - Memory is bounded: `put` waits while more than the bound is pending.
//! - A dropped future of `put` or `flush` leaves the writer as if the call had not been made, or as if it had succeeded.

mod blocking;
mod buffer;
mod flusher;
mod spool;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use tokio::sync::{Notify, OnceCell};

use crate::error::{Error, Result};
use crate::key::{FeatureKey, IntoFeatureKey};
use crate::store::{BatchCheck, IntoBatches, MetadataStore};

pub use blocking::BlockingWriter;

use buffer::{Buffer, Entry};
use spool::Spool;

/// How often and how patiently a failed flush is made again.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// How many times a flush is tried in all.
    pub attempts: usize,
    /// The pause after the first failure; it doubles with every further one, with a random share taken off.
    pub initial_pause: Duration,
    /// The longest pause.
    pub max_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 8, initial_pause: Duration::from_millis(100), max_pause: Duration::from_secs(10) }
    }
}

/// Collects the settings of a writer.
#[must_use = "a writer does nothing until it is started"]
pub struct WriterBuilder {
    store: MetadataStore,
    settings: Settings,
    spool: Option<PathBuf>,
}

pub(crate) struct Settings {
    flush_rows: usize,
    flush_bytes: usize,
    max_pending_bytes: usize,
    interval: Duration,
    retry: RetryPolicy,
    on_progress: Option<ProgressHook>,
}

type ProgressHook = Box<dyn Fn(&BTreeMap<FeatureKey, WriterProgress>) + Send + Sync>;

/// Rows of one feature on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterProgress {
    /// Rows handed over.
    pub put: u64,
    /// Rows in the store.
    pub written: u64,
    /// Rows that are neither written nor given back.
    pub pending: u64,
}

/// What could not be written, and why.
#[derive(Debug, thiserror::Error)]
#[error("{} row(s) could not be written: {error}", self.rows())]
pub struct WriterError {
    /// The last error.
    #[source]
    pub error: Arc<Error>,
    /// Every batch that was put and is not in the store. They are the caller's again; the writer has forgotten them, but
    /// where there is a spool directory they stay there for the next start.
    pub unwritten: Vec<(FeatureKey, RecordBatch)>,
}

impl WriterError {
    fn rows(&self) -> usize {
        self.unwritten.iter().map(|(_, batch)| batch.num_rows()).sum()
    }
}

/// The rows that a writer has written in its life, by feature.
pub type RowsWritten = BTreeMap<FeatureKey, u64>;

/// A handle of a running writer. Cheap to clone; all clones are the same writer.
///
/// Dropping the last one without [`close`](Self::close) writes what is pending where the runtime lets it, and logs what it
/// could not.
#[derive(Clone)]
pub struct BufferedMetadataWriter {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
}

/// What handles and the background task share.
struct Shared {
    store: MetadataStore,
    settings: Settings,
    spool: Option<Spool>,
    buffer: Mutex<Buffer>,
    /// The checks of each feature, with the schema of its table as it was when it was first put.
    checks: Mutex<BTreeMap<FeatureKey, Arc<OnceCell<Mutex<BatchCheck>>>>>,
    /// Something for the background task to look at.
    work: Notify,
    /// Something for waiting callers to look at.
    change: Notify,
}

impl Shared {
    /// The buffer. A panic in a hook cannot leave it half changed, so a poisoned lock is taken all the same.
    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self) {
        if let Some(hook) = &self.settings.on_progress {
            let progress = self.buffer().progress();
            hook(&progress);
        }
    }

    /// Waits until `ready` gives something.
    async fn wait<T>(&self, mut ready: impl FnMut(&mut Buffer) -> Option<T>) -> T {
        loop {
            let changed = self.change.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(answer) = ready(&mut self.buffer()) {
                return answer;
            }
            changed.await;
        }
    }
}

impl WriterBuilder {
    /// Flushes when this many rows are pending; 50,000 by default.
    pub fn flush_rows(mut self, rows: usize) -> Self {
        self.settings.flush_rows = rows.max(1);
        self
    }

    /// Flushes when this many bytes are pending; 64 MiB by default.
    pub fn flush_bytes(mut self, bytes: usize) -> Self {
        self.settings.flush_bytes = bytes.max(1);
        self
    }

    /// How many bytes may be pending, those that are being written included, before `put` waits; 256 MiB by default. A
    /// batch that is larger is taken when nothing else is pending.
    pub fn max_pending_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_pending_bytes = bytes.max(1);
        self
    }

    /// Flushes this long after the last flush; 2 seconds by default.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.settings.interval = interval;
        self
    }

    /// How a failed flush is made again.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings.retry = policy;
        self
    }

    /// Keeps every batch in this directory until it is in the store. What a killed process has left there is written
    /// first, under the time at which it was put, so that it never hides what was written since.
    pub fn spool(mut self, directory: impl Into<PathBuf>) -> Self {
        self.spool = Some(directory.into());
        self
    }

    /// Calls `hook` after every put and every flush, for a progress bar.
    pub fn on_progress(mut self, hook: impl Fn(&BTreeMap<FeatureKey, WriterProgress>) + Send + Sync + 'static) -> Self {
        self.settings.on_progress = Some(Box::new(hook));
        self
    }

    /// Starts the background task on the current runtime.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], and where there is a spool directory: [`Error::LocationNotFound`], [`Error::Locked`] where
    /// another process uses it, [`Error::Corrupt`].
    pub async fn start(self) -> Result<BufferedMetadataWriter> {
        self.store.check_writable("write")?;
        let mut buffer = Buffer::default();
        let spool = match self.spool {
            None => None,
            Some(directory) => {
                let (spool, left) = tokio::task::spawn_blocking(move || Spool::open(directory)).await??;
                left.into_iter().for_each(|entry| buffer.push(entry));
                Some(spool)
            }
        };
        let shared = Arc::new(Shared {
            store: self.store,
            settings: self.settings,
            spool,
            buffer: Mutex::new(buffer),
            checks: Mutex::default(),
            work: Notify::new(),
            change: Notify::new(),
        });
        tokio::spawn(flusher::run(shared.clone()));
        Ok(BufferedMetadataWriter { handle: Arc::new(Handle { shared }) })
    }
}

impl BufferedMetadataWriter {
    /// Starts the settings of a writer.
    pub fn builder(store: MetadataStore) -> WriterBuilder {
        let settings = Settings {
            flush_rows: 50_000,
            flush_bytes: 64 << 20,
            max_pending_bytes: 256 << 20,
            interval: Duration::from_secs(2),
            retry: RetryPolicy::default(),
            on_progress: None,
        };
        WriterBuilder { store, settings, spool: None }
    }

    /// Hands over rows of a feature. Returns when they are buffered (and, where there is a spool directory, safe there);
    /// waits while too much is pending.
    ///
    /// # Errors
    /// What is wrong with the rows, as [`MetadataStore::write`] would say it; the error on which the writer gave up, until
    /// [`flush`](Self::flush) has given back what it could not write; [`Error::Closed`].
    pub async fn put(&self, feature: impl IntoFeatureKey, data: impl IntoBatches) -> Result<()> {
        self.put_multi([(feature, data)]).await
    }

    /// Hands over rows of several features, which are flushed together.
    ///
    /// # Errors
    /// As [`put`](Self::put); nothing of any feature is taken then.
    pub async fn put_multi<K: IntoFeatureKey, D: IntoBatches>(
        &self,
        features: impl IntoIterator<Item = (K, D)>,
    ) -> Result<()> {
        let features = features
            .into_iter()
            .map(|(key, data)| Ok((key.into_feature_key()?, data.into_batches()?)))
            .collect::<Result<Vec<_>>>()?;
        let mut batches = Vec::new();
        for (key, data) in features {
            for batch in data.into_iter().filter(|batch| batch.num_rows() > 0) {
                self.check(&key, &batch).await?;
                batches.push((key.clone(), batch));
            }
        }
        let bytes = batches.iter().map(|(_, batch)| batch.get_array_memory_size()).sum();
        let reservation = self.reserve(bytes).await?;
        let at = self.shared().store.next_stamp();
        let shared = self.shared().clone();
        let take = move || -> Result<()> {
            let entries = match &shared.spool {
                None => batches.into_iter().map(|(key, batch)| Entry::new(key, batch)).collect(),
                Some(spool) => spool.save(batches, at)?,
            };
            reservation.fill(entries);
            shared.work.notify_one();
            shared.report();
            Ok(())
        };
        match self.shared().spool {
            None => take(),
            Some(_) => tokio::task::spawn_blocking(take).await?,
        }
    }

    /// Waits until everything that was put before is in the store.
    ///
    /// # Errors
    /// [`WriterError`] with every unwritten batch when the writer has given up.
    pub async fn flush(&self) -> Result<(), WriterError> {
        let target = self.shared().buffer().request_flush();
        self.shared().work.notify_one();
        self.shared().wait(|buffer| buffer.flushed(target)).await
    }

    /// Flushes, and ends the background task. Other handles of the writer get [`Error::Closed`] from then on. Returns
    /// the rows written in the writer's life, by feature.
    ///
    /// # Errors
    /// [`WriterError`] with every unwritten batch.
    pub async fn close(self) -> Result<RowsWritten, WriterError> {
        self.shared().buffer().close();
        let result = self.flush().await;
        self.shared().buffer().stop();
        self.shared().work.notify_one();
        self.shared().wait(|buffer| buffer.has_ended().then_some(())).await;
        result.map(|()| self.rows_written())
    }

    /// The rows written so far, by feature.
    pub fn rows_written(&self) -> RowsWritten {
        let progress = self.progress();
        progress.into_iter().map(|(key, progress)| (key, progress.written)).filter(|(_, rows)| *rows > 0).collect()
    }

    /// The error of the last attempt, where it failed; `None` once an attempt has succeeded.
    pub fn last_error(&self) -> Option<Arc<Error>> {
        self.shared().buffer().last_error()
    }

    /// Rows that have been put and are not in the store yet.
    pub fn pending_rows(&self) -> u64 {
        self.progress().values().map(|progress| progress.pending).sum()
    }

    /// Rows put, written and pending, by feature.
    pub fn progress(&self) -> BTreeMap<FeatureKey, WriterProgress> {
        self.shared().buffer().progress()
    }

    /// A handle for code that is not async. Its calls block, so they must not be made on an async thread.
    pub fn blocking(&self) -> BlockingWriter {
        BlockingWriter::new(self.clone(), tokio::runtime::Handle::current())
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Refuses rows that could not be written, before they are taken.
    async fn check(&self, key: &FeatureKey, batch: &RecordBatch) -> Result<()> {
        let cell = {
            let mut checks = self.shared().checks.lock().unwrap_or_else(PoisonError::into_inner);
            checks.entry(key.clone()).or_default().clone()
        };
        let make = || async { self.shared().store.batch_check(key).await.map(Mutex::new) };
        let check = cell.get_or_try_init(make).await?;
        check.lock().unwrap_or_else(PoisonError::into_inner).accept(&self.shared().store, batch)
    }

    /// Waits for room in the buffer, and keeps it.
    async fn reserve(&self, bytes: usize) -> Result<Reservation> {
        let limit = self.shared().settings.max_pending_bytes;
        self.shared()
            .wait(|buffer| match buffer.refusal(self.shared().store.name()) {
                Some(error) => Some(Err(error)),
                None => buffer.reserve(bytes, limit).then_some(Ok(())),
            })
            .await?;
        Ok(Reservation { shared: self.shared().clone(), bytes })
    }
}

/// Room in the buffer, given back where it is not filled.
struct Reservation {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Reservation {
    fn fill(&self, entries: Vec<Entry>) {
        let mut buffer = self.shared.buffer();
        entries.into_iter().for_each(|entry| buffer.push(entry));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.buffer().release(self.bytes);
        self.shared.change.notify_waiters();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let pending = {
            let mut buffer = self.shared.buffer();
            buffer.close();
            buffer.stop();
            buffer.has_pending()
        };
        self.shared.work.notify_one();
        if pending {
            flusher::finish_in_drop(&self.shared);
        }
    }
}

impl fmt::Debug for BufferedMetadataWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferedMetadataWriter")
            .field("store", &self.shared().store)
            .field("progress", &self.progress())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WriterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriterBuilder").field("store", &self.store).field("spool", &self.spool).finish_non_exhaustive()
    }
}
