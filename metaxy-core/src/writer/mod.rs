//! Writes metadata as soon as it exists, in good-sized batches, and loses none of it.
//!
//! A pipeline hands over small batches as samples finish; a background task writes them together. With a spool directory
//! a pipeline that is killed resumes where it stopped: it asks what is left to do, and what it had handed over counts as
//! done.
//!
//! ```no_run
//! # use metaxy_core::{MetadataStore, RecordBatch, Result};
//! # fn transcribe(sample: &RecordBatch) -> Result<RecordBatch> { Ok(sample.clone()) }
//! # async fn example(store: MetadataStore) -> Result<(), Box<dyn std::error::Error>> {
//! use metaxy_core::BufferedMetadataWriter;
//!
//! let writer = BufferedMetadataWriter::builder(store.clone()).spool("/var/spool/transcripts").start().await?;
//! // What an earlier process had put and not written is in the store after this.
//! writer.flush().await?;
//!
//! let todo = store.resolve_update("processed/transcript").await?.new.to_batch()?;
//! for sample in 0..todo.num_rows() {
//!     writer.put("processed/transcript", transcribe(&todo.slice(sample, 1))?).await?;
//! }
//! writer.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! `cargo run -p metaxy-sqlite --example resume` shows such a pipeline being killed.
//!
//! # What is promised
//! - Once [`flush`](BufferedMetadataWriter::flush) returns, everything that was put before it is in the store.
//! - A flush that fails is made again, with growing pauses, while the error can pass. When the writer gives up, every call
//!   of `flush` and `close` that waits for any of it, or the next one, returns the error together with every batch that
//!   was not written. Nothing more is taken until then.
//! - The rows of a flush share one time, and dependents are written first. Of an id that is put twice the later row counts,
//!   because the two are never in one flush.
//! - What could not be stored, by the columns that are there or in the storage system at all, is refused by `put`, not
//!   later. What the store refuses all the same holds up no other batch: it comes back with the error of `flush` or
//!   `close`; where there is a spool directory, it is moved to `rejected/` in it, with the reason in a file beside it, and
//!   [`retry_rejected`](BufferedMetadataWriter::retry_rejected) takes it back.
//! - With a spool directory a batch survives the death of the process, and of the machine, as soon as `put` has returned.
//!   The next start writes it under the time and the definitions of the put: readers see every id once, and nothing that
//!   was written or deleted since is hidden.
//! - Memory is bounded: `put` waits its turn while more than the bound is pending.
//! - A dropped future of `put` or `flush` leaves the writer as if the call had not been made, or as if it had succeeded.
//! - A writer that is dropped without [`close`](BufferedMetadataWriter::close) writes what it holds, and logs what it could
//!   not. On a runtime with several threads, and outside of async code, the drop waits for that; the only thread of a
//!   runtime cannot wait for its own task, which goes on as long as the runtime does.

mod admission;
mod blocking_writer;
mod buffer;
mod builder;
mod checks;
mod compact;
mod flight;
mod flusher;
mod load;
mod parcel;
mod refusal;
mod room;
mod spool;
mod unclosed;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use tokio::runtime::Handle as Runtime;
use tokio::sync::Notify;

use crate::blocking;
use crate::error::{Error, Result};
use crate::key::{FeatureKey, IntoFeatureKey};
use crate::store::{IntoBatches, MetadataStore};

pub use blocking_writer::BlockingWriter;
pub use builder::{RetryPolicy, WriterBuilder};
pub use refusal::RejectedBatch;

use admission::Admission;
use buffer::{Buffer, Ticket};
use builder::Settings;
use checks::Checks;
use parcel::{Entry, bytes_in_memory};
use room::Room;
use spool::Spool;

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
#[derive(Clone, Debug, thiserror::Error)]
#[error("{} row(s) could not be written: {error}{}", self.rows(), self.place())]
pub struct WriterError {
    /// The last error.
    #[source]
    pub error: Arc<Error>,
    /// Every batch that was put and is not in the store. They are the caller's again; the writer has forgotten them, but
    /// where there is a spool directory they stay there for the next start. Where several callers waited, each gets them:
    /// one of them has to put them again.
    pub unwritten: Vec<(FeatureKey, RecordBatch)>,
    /// What the store has refused and the spool directory keeps aside, since the last call that was told of it.
    pub rejected: Vec<RejectedBatch>,
}

impl WriterError {
    fn rows(&self) -> usize {
        let unwritten: usize = self.unwritten.iter().map(|(_, batch)| batch.num_rows()).sum();
        unwritten + self.rejected_rows()
    }

    fn rejected_rows(&self) -> usize {
        self.rejected.iter().map(|batch| batch.rows).sum()
    }

    /// Where rows are kept that are not given back.
    fn place(&self) -> String {
        match self.rejected.first().and_then(|first| first.file.parent()) {
            None => String::new(),
            Some(directory) => {
                format!("; {} row(s) are kept in {} until `retry_rejected`", self.rejected_rows(), directory.display())
            }
        }
    }
}

/// The rows that a writer has written in its life, by feature.
pub type RowsWritten = BTreeMap<FeatureKey, u64>;

/// A handle of a running writer. Cheap to clone; all clones are the same writer.
///
/// Dropping the last one without [`close`](Self::close) writes what is pending, and logs what it could not.
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
    spool: Option<Arc<Spool>>,
    room: Arc<Room>,
    buffer: Mutex<Buffer>,
    checks: Checks,
    /// Where the background task runs.
    runtime: Runtime,
    /// Something for the background task to look at.
    work: Notify,
    /// Something for waiting callers to look at.
    change: Notify,
}

impl Shared {
    /// The buffer. Nothing panics while it is held, so a poisoned lock is taken all the same.
    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending_rows(&self) -> u64 {
        self.buffer().progress().values().map(|progress| progress.pending).sum()
    }

    fn report(&self) {
        if let Some(hook) = &self.settings.on_progress {
            let progress = self.buffer().progress();
            if catch_unwind(AssertUnwindSafe(|| hook(&progress))).is_err() {
                tracing::error!("the progress hook of a writer panicked");
            }
        }
    }

    /// Checks rows, keeps them on disk where there is a spool directory, and takes them in: all of them or none.
    fn take(&self, batches: Vec<(FeatureKey, RecordBatch)>, admission: Admission) -> Result<()> {
        let batches = self.checks.accept(&self.store, batches)?;
        let batches: Vec<_> = batches.into_iter().filter(|(_, batch)| batch.num_rows() > 0).collect();
        let ids = batches.iter().map(|(key, batch)| self.store.id_hashes(key, batch)).collect::<Result<Vec<_>>>()?;
        let mut files = Vec::new();
        if let Some(spool) = &self.spool {
            let at = self.store.next_stamp();
            let complete =
                |(key, batch): &(FeatureKey, RecordBatch)| Ok((key.clone(), self.store.completed(key, batch, at)?));
            files = spool.save(&batches.iter().map(complete).collect::<Result<Vec<_>>>()?, at)?;
        }
        let mut files = files.into_iter();
        let entry = |((key, batch), ids)| Entry::new(key, batch, ids).kept_in(files.next());
        admission.fill(batches.into_iter().zip(ids).map(entry));
        self.report();
        Ok(())
    }

    /// Joins the small batches of a parcel while it waits: they take more memory than their rows do, and the task finds
    /// less to do when it comes to them.
    fn condense(self: &Arc<Self>, parcel: u64) {
        let shared = self.clone();
        drop(blocking::spawn(move || {
            let Some(runs) = shared.buffer().runs(parcel) else { return Ok(()) };
            let join = |run: &Vec<RecordBatch>| concat_batches(run.first()?.schema_ref(), run).ok();
            // What would not fit into one batch stays in several.
            if let Some(joined) = runs.iter().map(join).collect::<Option<Vec<_>>>() {
                let small = shared.buffer().condense(parcel, joined);
                drop(small);
            }
            Ok(())
        }));
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

impl BufferedMetadataWriter {
    /// Starts the settings of a writer.
    pub fn builder(store: MetadataStore) -> WriterBuilder {
        WriterBuilder::new(store)
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
        let shared = self.shared();
        let mut batches = Vec::new();
        for (key, data) in features {
            let key = key.into_feature_key()?;
            for batch in data.into_batches()? {
                batches.push((key.clone(), compact::compact(batch)?));
            }
        }
        let admission = Admission::wait(shared, batches.iter().map(|(_, batch)| bytes_in_memory(batch)).sum()).await?;
        for (key, _) in &batches {
            shared.checks.prepare(&shared.store, key).await?;
        }
        match &shared.spool {
            None => shared.take(batches, admission)?,
            Some(spool) => {
                let shared = shared.clone();
                spool.threads.spawn(move || shared.take(batches, admission)).await?;
            }
        }
        // Producers that always find room would keep the task waiting at each of its steps.
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Waits until everything that was put before is in the store.
    ///
    /// # Errors
    /// [`WriterError`] with every unwritten batch when the writer has given up.
    pub async fn flush(&self) -> Result<(), WriterError> {
        let flush = Flush::begin(self.shared());
        self.shared().work.notify_one();
        self.shared().wait(|buffer| buffer.flushed(flush.ticket)).await
    }

    /// Flushes, and ends the background task. Other handles of the writer get [`Error::Closed`] from then on. Returns
    /// the rows written in the writer's life, by feature.
    ///
    /// # Errors
    /// [`WriterError`] with every unwritten batch.
    pub async fn close(self) -> Result<RowsWritten, WriterError> {
        let shared = self.shared();
        shared.buffer().close();
        shared.change.notify_waiters();
        // Puts that have room already come in.
        shared.wait(|buffer| (!buffer.has_admitted()).then_some(())).await;
        let result = self.flush().await;
        shared.buffer().stop();
        shared.work.notify_one();
        shared.wait(|buffer| buffer.has_ended().then_some(())).await;
        result.map(|()| self.rows_written())
    }

    /// Takes back what the store has refused and the spool directory keeps in `rejected/`, from before this writer too.
    /// Returns the number of rows; the next flush writes them, under the time of their put.
    ///
    /// # Errors
    /// As [`put`](Self::put), and what keeps the files from being read. What is refused again is rejected again.
    pub async fn retry_rejected(&self) -> Result<u64> {
        let shared = self.shared().clone();
        let Some(spool) = shared.spool.clone() else { return Ok(0) };
        let admission = Admission::wait(&shared, 0).await?;
        let take_back = move || {
            let entries = spool.take_back()?;
            shared.buffer().forget_rejected();
            let rows = entries.iter().map(|entry| entry.rows() as u64).sum();
            entries.into_iter().for_each(|entry| shared.buffer().push_left(entry));
            drop(admission);
            shared.work.notify_one();
            Ok(rows)
        };
        blocking::run(take_back).await
    }

    /// What the store has refused in the writer's life, and the spool directory keeps aside.
    pub fn rejected(&self) -> Vec<RejectedBatch> {
        self.shared().buffer().rejected()
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
        self.shared().pending_rows()
    }

    /// Rows put, written and pending, by feature.
    pub fn progress(&self) -> BTreeMap<FeatureKey, WriterProgress> {
        self.shared().buffer().progress()
    }

    /// A handle for code that is not async, whose calls block.
    pub fn blocking(&self) -> BlockingWriter {
        BlockingWriter::new(self.clone())
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

/// A caller that waits for a flush.
struct Flush<'a> {
    shared: &'a Shared,
    ticket: Ticket,
}

impl<'a> Flush<'a> {
    fn begin(shared: &'a Shared) -> Self {
        Self { shared, ticket: shared.buffer().begin_flush() }
    }
}

impl Drop for Flush<'_> {
    fn drop(&mut self) {
        self.shared.buffer().end_flush(self.ticket);
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
            unclosed::finish(&self.shared);
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
