//! Collects small batches and writes them together in the background, without losing any.
//!
//! A pipeline puts a small batch for each sample that it has processed; a background task writes them together. With a
//! spool directory, a killed pipeline resumes where it stopped: it resolves again, and what it had put counts as done.
//!
//! ```no_run
//! # use metaxy_core::{MetadataStore, RecordBatch, Result};
//! # fn transcribe(sample: &RecordBatch) -> Result<RecordBatch> { Ok(sample.clone()) }
//! # async fn example(store: MetadataStore) -> Result<()> {
//! use metaxy_core::BufferedMetadataWriter;
//!
//! let writer = BufferedMetadataWriter::builder(store.clone()).spool("/var/spool/transcripts").start().await?;
//! // After this, everything that an earlier process had put is in the store.
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
//! # Guarantees
//! - Once [`flush`](BufferedMetadataWriter::flush) returns, everything that was put before it is in the store.
//! - A flush that fails with a transient error is retried, with growing pauses. When the writer gives up, every call of
//!   `flush` and `close` that waits for any of the rows, or else the next call, returns the error together with every
//!   batch that was not written. No more rows are accepted until then.
//! - The rows of a flush share one time, and dependents are written first. If an id is put twice, the later row counts,
//!   because the two are never in one flush.
//! - `put` refuses what could not be stored, by the columns of the table or by the storage system. What the store
//!   refuses in spite of that delays no other batch: it is returned with the error of `flush` or `close`. If there is a
//!   spool directory, it is moved to `rejected/` in it, with the reason in a file beside it, and
//!   [`retry_rejected`](BufferedMetadataWriter::retry_rejected) takes it back.
//! - With a spool directory, a batch survives a crash of the process or the machine as soon as `put` has returned. The
//!   next start writes it under the time and the definitions of the put: readers see every id once, and nothing that
//!   was written or deleted since is hidden.
//! - Memory is bounded: `put` waits while more than the bound is pending.
//! - If the future of `put` or `flush` is dropped, the writer is as if the call had not been made, or had succeeded.
//! - A writer that is dropped without [`close`](BufferedMetadataWriter::close) writes its rows, and logs those that
//!   fail. On a runtime with several threads, and outside of async code, the drop waits for that. The only thread of a
//!   runtime cannot wait for its own task, which goes on as long as the runtime does.

mod admission;
mod blocking_writer;
mod budget;
mod buffer;
mod builder;
mod checks;
mod flush;
mod flush_batch;
mod flusher;
mod pending;
mod progress;
mod refusal;
mod settings;
mod shared;
mod spool;
mod unclosed;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::blocking;
use crate::error::{Error, Result};
use crate::key::{FeatureKey, IntoFeatureKey};
use crate::schema::compact;
use crate::store::{IntoBatches, MetadataStore};

pub use blocking_writer::BlockingWriter;
pub use builder::WriterBuilder;
pub use progress::{RowsWritten, WriterError, WriterProgress};
pub use refusal::RejectedBatch;
pub use settings::RetryPolicy;

use admission::Admission;
use buffer::Ticket;
use flush_batch::bytes_in_memory;
use shared::Shared;

/// A handle of a running writer. It is cheap to clone; all clones are the same writer.
///
/// If the last handle is dropped without [`close`](Self::close), pending rows are written, and failures are logged.
#[derive(Clone)]
pub struct BufferedMetadataWriter {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
}

impl BufferedMetadataWriter {
    /// Returns a builder for a writer into `store`.
    pub fn builder(store: MetadataStore) -> WriterBuilder {
        WriterBuilder::new(store)
    }

    fn new(shared: Arc<Shared>) -> Self {
        Self { handle: Arc::new(Handle { shared }) }
    }

    /// Puts rows of a feature into the buffer, and into the spool directory if there is one. Waits while too much is
    /// pending.
    ///
    /// # Errors
    /// The errors of [`MetadataStore::write`] for rows that cannot be written; [`Error::WriterFailed`] after the writer
    /// has given up, until [`flush`](Self::flush) has returned the unwritten rows; [`Error::Closed`].
    pub async fn put(&self, feature: impl IntoFeatureKey, data: impl IntoBatches) -> Result<()> {
        self.put_multi([(feature, data)]).await
    }

    /// Puts rows of several features into the buffer, which are flushed together: all of them or none.
    ///
    /// # Errors
    /// The errors of [`put`](Self::put).
    pub async fn put_multi<K: IntoFeatureKey, D: IntoBatches>(
        &self,
        features: impl IntoIterator<Item = (K, D)>,
    ) -> Result<()> {
        let shared = self.shared();
        let mut batches = Vec::new();
        for (key, data) in features {
            let key = key.into_feature_key()?;
            for batch in data.into_batches()? {
                batches.push((key.clone(), compact(batch)?));
            }
        }
        let admission = Admission::wait(shared, batches.iter().map(|(_, batch)| bytes_in_memory(batch)).sum()).await?;
        for (key, _) in &batches {
            shared.checks.prepare(&shared.store, key).await?;
        }
        match &shared.spool {
            None => admission.enter(batches)?,
            Some(spool) => spool.threads.spawn(move || admission.enter(batches)).await?,
        }
        // Producers that never wait for memory would keep the task waiting at each of its steps.
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Waits until everything that was put before is in the store.
    ///
    /// # Errors
    /// [`WriterError`] with every unwritten batch, if the writer has given up or the store has refused rows.
    pub async fn flush(&self) -> Result<(), WriterError> {
        let flush = FlushWaiter::begin(self.shared());
        self.shared().work.notify_one();
        self.shared().wait(|buffer| buffer.flushed(flush.ticket)).await
    }

    /// Flushes, ends the background task, and returns the number of rows written in the writer's life, by feature.
    /// Other handles of the writer get [`Error::Closed`] from then on.
    ///
    /// # Errors
    /// The errors of [`flush`](Self::flush).
    pub async fn close(self) -> Result<RowsWritten, WriterError> {
        let shared = self.shared();
        shared.buffer().close();
        shared.change.notify_waiters();
        // Puts that were admitted enter the buffer first.
        shared.wait(|buffer| (!buffer.has_admitted()).then_some(())).await;
        let result = self.flush().await;
        shared.buffer().stop();
        shared.work.notify_one();
        shared.wait(|buffer| buffer.has_ended().then_some(())).await;
        result.map(|()| self.rows_written())
    }

    /// Takes rejected rows back from `rejected/` in the spool directory, those of earlier writers included. Returns
    /// their number. The next flush writes them, under the time of their put; rows that are refused again are rejected
    /// again.
    ///
    /// # Errors
    /// The errors of [`put`](Self::put), and those of reading the files.
    pub async fn retry_rejected(&self) -> Result<u64> {
        let shared = self.shared().clone();
        let Some(spool) = shared.spool.clone() else { return Ok(0) };
        let admission = Admission::wait(&shared, 0).await?;
        let take_back = move || {
            let entries = spool.take_back()?;
            shared.buffer().forget_rejected();
            let rows = entries.iter().map(|entry| entry.rows() as u64).sum();
            entries.into_iter().for_each(|entry| shared.buffer().push_from_spool(entry));
            drop(admission);
            shared.work.notify_one();
            Ok(rows)
        };
        blocking::run(take_back).await
    }

    /// Returns the batches that the store has refused in the writer's life and that the spool directory keeps.
    pub fn rejected(&self) -> Vec<RejectedBatch> {
        self.shared().buffer().rejected()
    }

    /// Returns the number of rows written so far, by feature.
    pub fn rows_written(&self) -> RowsWritten {
        let progress = self.progress();
        progress.into_iter().map(|(key, progress)| (key, progress.written)).filter(|(_, rows)| *rows > 0).collect()
    }

    /// Returns the error of the last attempt; `None` if it succeeded.
    pub fn last_error(&self) -> Option<Arc<Error>> {
        self.shared().buffer().last_error()
    }

    /// Returns the number of rows that were put and are not in the store yet.
    pub fn pending_rows(&self) -> u64 {
        self.shared().pending_rows()
    }

    /// Returns the number of rows put, written and pending, by feature.
    pub fn progress(&self) -> BTreeMap<FeatureKey, WriterProgress> {
        self.shared().buffer().progress()
    }

    /// Returns a handle whose calls block, for code that is not async.
    pub fn blocking(&self) -> BlockingWriter {
        BlockingWriter::new(self.clone())
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

/// A caller that waits for a flush.
struct FlushWaiter<'a> {
    shared: &'a Shared,
    ticket: Ticket,
}

impl<'a> FlushWaiter<'a> {
    fn begin(shared: &'a Shared) -> Self {
        Self { shared, ticket: shared.buffer().begin_flush() }
    }
}

impl Drop for FlushWaiter<'_> {
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
