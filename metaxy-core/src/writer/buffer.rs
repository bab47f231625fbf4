//! What a writer holds: batches in the order in which they came, and how far they have got. No I/O, no waiting.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::error::Error;
use crate::key::FeatureKey;

use super::{WriterError, WriterProgress};

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) feature: FeatureKey,
    pub(super) batch: RecordBatch,
    /// The file that keeps it, where there is a spool directory.
    pub(super) file: Option<PathBuf>,
    /// When it was put, where an earlier process did so.
    pub(super) put_at: Option<i64>,
    bytes: usize,
}

impl Entry {
    pub(super) fn new(feature: FeatureKey, batch: RecordBatch) -> Self {
        let bytes = batch.get_array_memory_size();
        Self { feature, batch, file: None, put_at: None, bytes }
    }

    pub(super) fn kept_in(mut self, file: PathBuf) -> Self {
        self.file = Some(file);
        self
    }

    pub(super) fn put_at(mut self, micros: i64) -> Self {
        self.put_at = Some(micros);
        self
    }

    fn rows(&self) -> u64 {
        self.batch.num_rows() as u64
    }
}

#[derive(Default)]
pub(super) struct Buffer {
    waiting: Vec<Entry>,
    /// Rows and bytes that wait or are being written.
    pending_rows: usize,
    pending_bytes: usize,
    /// Bytes that a `put` has been promised room for.
    reserved_bytes: usize,
    progress: BTreeMap<FeatureKey, WriterProgress>,
    /// How many entries have been pushed, taken by the task, and settled (written, or given up).
    pushed: u64,
    taken: u64,
    settled: u64,
    /// Flush everything up to this entry.
    flush_until: u64,
    last_error: Option<Arc<Error>>,
    /// What the writer has given up on, until a caller takes it back.
    failed: Option<(Arc<Error>, Vec<Entry>)>,
    closed: bool,
    stopped: bool,
    ended: bool,
}

impl Buffer {
    pub(super) fn push(&mut self, entry: Entry) {
        let progress = self.progress.entry(entry.feature.clone()).or_default();
        progress.put += entry.rows();
        progress.pending += entry.rows();
        self.pending_rows += entry.batch.num_rows();
        self.pending_bytes += entry.bytes;
        self.pushed += 1;
        self.waiting.push(entry);
    }

    /// Keeps room, where there is any.
    pub(super) fn reserve(&mut self, bytes: usize, limit: usize) -> bool {
        let held = self.pending_bytes + self.reserved_bytes;
        let fits = held == 0 || held.saturating_add(bytes) <= limit;
        if fits {
            self.reserved_bytes += bytes;
        }
        fits
    }

    pub(super) fn release(&mut self, bytes: usize) {
        self.reserved_bytes = self.reserved_bytes.saturating_sub(bytes);
    }

    /// Why nothing more is taken.
    pub(super) fn refusal(&self, store: &str) -> Option<Error> {
        if self.closed {
            return Some(Error::Closed { store: format!("the writer of {store}") });
        }
        self.failed.as_ref().map(|(error, _)| Error::Unsupported {
            what: format!("putting more rows after the writer has given up ({error})"),
            hint: "call `flush` to get back what was not written, and the writer goes on".to_owned(),
        })
    }

    /// Whether it is time to write: enough is there, or somebody waits for it.
    pub(super) fn is_due(&self, rows: usize, bytes: usize, max_bytes: usize) -> bool {
        let full = self.pending_rows >= rows || self.pending_bytes >= bytes;
        let crowded = self.pending_bytes + self.reserved_bytes >= max_bytes / 2 && self.pending_bytes > 0;
        self.failed.is_none()
            && !self.waiting.is_empty()
            && (full || crowded || self.flush_until > self.taken || self.closed)
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.failed.is_none() && !self.waiting.is_empty()
    }

    pub(super) fn has_pending(&self) -> bool {
        self.pending_rows > 0
    }

    pub(super) fn take(&mut self) -> Vec<Entry> {
        self.taken = self.pushed;
        std::mem::take(&mut self.waiting)
    }

    pub(super) fn settle_written(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.progress.entry(entry.feature.clone()).or_default().written += entry.rows();
        }
        self.settle(entries);
        self.last_error = None;
    }

    pub(super) fn settle_failed(&mut self, error: Arc<Error>, entries: Vec<Entry>) {
        self.settle(&entries);
        self.last_error = Some(error.clone());
        match &mut self.failed {
            Some((_, earlier)) => earlier.extend(entries),
            None => self.failed = Some((error, entries)),
        }
    }

    fn settle(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.pending_rows -= entry.batch.num_rows();
            self.pending_bytes -= entry.bytes;
            let progress = self.progress.entry(entry.feature.clone()).or_default();
            progress.pending = progress.pending.saturating_sub(entry.rows());
        }
        self.settled += entries.len() as u64;
    }

    pub(super) fn note_error(&mut self, error: Arc<Error>) {
        self.last_error = Some(error);
    }

    pub(super) fn last_error(&self) -> Option<Arc<Error>> {
        self.last_error.clone()
    }

    pub(super) fn progress(&self) -> BTreeMap<FeatureKey, WriterProgress> {
        self.progress.clone()
    }

    /// Asks for everything that is there to be written; the answer is what to wait for.
    pub(super) fn request_flush(&mut self) -> u64 {
        self.flush_until = self.flush_until.max(self.pushed);
        self.pushed
    }

    /// The outcome of a flush, once it is known. The first caller after a failure takes back what was not written; what
    /// has come since goes with it, for it may depend on it.
    pub(super) fn flushed(&mut self, target: u64) -> Option<Result<(), WriterError>> {
        if self.failed.is_some() && self.taken == self.settled {
            let late = self.take();
            self.settle(&late);
            let (error, mut entries) = self.failed.take()?;
            entries.extend(late);
            let unwritten = entries.into_iter().map(|entry| (entry.feature, entry.batch)).collect();
            return Some(Err(WriterError { error, unwritten }));
        }
        (self.settled >= target).then_some(Ok(()))
    }

    /// Takes nothing more.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Lets the task end when nothing is waiting.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// The task has ended.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn is_over(&self) -> bool {
        self.stopped && !self.has_waiting()
    }
}
