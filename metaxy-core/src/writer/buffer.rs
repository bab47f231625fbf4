//! The state of a writer: batches in the order in which they were put, and their progress. No I/O, no waiting.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::error::{Error, Result};
use crate::key::FeatureKey;

use super::budget::MemoryBudget;
use super::flush_batch::{Entry, FlushBatch, Size, bytes_in_memory, summary};
use super::pending::PendingRows;
use super::progress::{WriterError, WriterProgress};
use super::refusal::RejectedBatch;

pub(super) struct Buffer {
    size: Size,
    /// The memory for everything that waits or is being written.
    budget: Arc<MemoryBudget>,
    /// The flush batches that wait to be written. All but the last are closed.
    waiting: VecDeque<FlushBatch>,
    next_batch: u64,
    /// Puts that wait for memory.
    queued: usize,
    /// Puts that have been given memory and are not in the buffer yet.
    admitted: usize,
    progress: BTreeMap<FeatureKey, WriterProgress>,
    /// The numbers of batches that were put, that the task has taken, and up to which all are written or given up.
    pushed: u64,
    taken: u64,
    done: u64,
    /// Everything up to this batch is to be flushed.
    flush_until: u64,
    last_error: Option<Arc<Error>>,
    /// The rows that the writer has given up on, until a caller takes them back.
    failed: Option<Failed>,
    /// The rejected batches, and how many of them were reported to a caller.
    rejected: Vec<RejectedBatch>,
    reported: usize,
    /// What callers have taken back, as long as other callers wait that get the same.
    given_back: Vec<GivenBack>,
    /// How often rows were given back; and how many callers wait for a flush, by that number when they began.
    returns: u64,
    flushes: BTreeMap<u64, usize>,
    state: State,
    /// Whether the task has noticed that it should end.
    stop_seen: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// Rows are accepted and written.
    Open,
    /// No more rows are accepted.
    Closed,
    /// The task ends when nothing is left to write.
    Stopped,
    /// The task has ended.
    Ended,
}

struct Failed {
    error: Arc<Error>,
    /// All batches up to this one are in the store.
    after: u64,
    entries: Vec<Entry>,
}

struct GivenBack {
    number: u64,
    after: u64,
    error: WriterError,
}

/// A caller that waits for everything up to a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    target: u64,
    returns: u64,
    reported: usize,
}

impl Buffer {
    pub(super) fn new(size: Size, budget: Arc<MemoryBudget>) -> Self {
        Self {
            size,
            budget,
            waiting: VecDeque::new(),
            next_batch: 0,
            queued: 0,
            admitted: 0,
            progress: BTreeMap::new(),
            pushed: 0,
            taken: 0,
            done: 0,
            flush_until: 0,
            last_error: None,
            failed: None,
            rejected: Vec::new(),
            reported: 0,
            given_back: Vec::new(),
            returns: 0,
            flushes: BTreeMap::new(),
            state: State::Open,
            stop_seen: false,
        }
    }

    /// Adds the entries of one put. Returns the number of a flush batch that this has closed, and that is due now.
    pub(super) fn push(&mut self, put: Vec<Entry>) -> Option<u64> {
        for entry in &put {
            let progress = self.progress.entry(entry.feature.clone()).or_default();
            progress.put += entry.rows() as u64;
            progress.pending += entry.rows() as u64;
            self.pushed += 1;
        }
        let mut closed = None;
        let last = self.waiting.back_mut();
        if !last.as_ref().is_some_and(|batch| batch.accepts(&put, self.size)) {
            closed = last.filter(|batch| !batch.is_full(self.size)).map(FlushBatch::close);
            self.next_batch += 1;
            self.waiting.push_back(FlushBatch::new(self.next_batch));
        }
        let batch = self.waiting.back_mut()?;
        batch.add(put);
        if batch.is_full(self.size) { Some(batch.close()) } else { closed }
    }

    /// Returns the runs of batches that can be merged in a flush batch, if it still waits.
    pub(super) fn runs(&self, number: u64) -> Option<Vec<Vec<RecordBatch>>> {
        self.waiting.iter().find(|waiting| waiting.number == number).map(FlushBatch::runs)
    }

    /// Replaces the runs of a flush batch by merged batches, if it still waits. Returns the batches that are no longer
    /// needed.
    pub(super) fn replace_runs(&mut self, number: u64, merged: Vec<RecordBatch>) -> Vec<RecordBatch> {
        match self.waiting.iter_mut().find(|waiting| waiting.number == number) {
            Some(waiting) => waiting.replace_runs(merged),
            None => merged,
        }
    }

    /// Adds an entry of the spool directory, within the memory that is free.
    pub(super) fn push_from_spool(&mut self, entry: Entry) {
        let permit = self.budget.acquire_available(bytes_in_memory(&entry.batch)).map(Arc::new);
        self.push(vec![entry.with_permit(permit)]);
    }

    /// Returns the number and the rows of the next flush batch, if it is closed.
    pub(super) fn next_closed(&self) -> Option<(u64, Vec<PendingRows<Vec<RecordBatch>>>)> {
        let next = self.waiting.front().filter(|_| self.is_next_closed())?;
        Some((next.number, PendingRows::of(&next.entries)))
    }

    fn is_next_closed(&self) -> bool {
        self.waiting.len() > 1 || self.waiting.front().is_some_and(|next| next.is_full(self.size))
    }
}

/// Memory.
impl Buffer {
    /// Counts a put that waits for memory.
    pub(super) fn queue(&mut self) {
        self.queued += 1;
    }

    /// Counts a put that no longer waits.
    pub(super) fn leave_queue(&mut self) {
        self.queued -= 1;
    }

    /// Admits a put that has memory.
    pub(super) fn admit(&mut self, store: &str) -> Result<()> {
        self.refusal(store).map_or(Ok(()), Err)?;
        self.admitted += 1;
        Ok(())
    }

    /// Counts an admitted put that is in the buffer or has given its memory back. Returns whether a caller may wait for
    /// that.
    pub(super) fn leave(&mut self) -> bool {
        self.admitted -= 1;
        self.admitted == 0 && self.state >= State::Closed
    }

    pub(super) fn has_admitted(&self) -> bool {
        self.admitted > 0
    }

    /// Returns why no more rows are accepted.
    pub(super) fn refusal(&self, store: &str) -> Option<Error> {
        if self.state != State::Open {
            return Some(Error::Closed { store: format!("the writer of {store}") });
        }
        let failed = self.failed.as_ref()?;
        Some(Error::WriterFailed { store: store.to_owned(), source: failed.error.clone() })
    }
}

/// Writing.
impl Buffer {
    /// Returns whether it is time to write: a flush batch is full, or a caller waits for it or for its memory.
    pub(super) fn is_due(&self) -> bool {
        let is_wanted = self.flush_until > self.taken || self.state >= State::Closed;
        let is_blocking = self.queued > 0 && self.budget.is_exhausted();
        self.has_waiting() && (self.is_next_closed() || is_wanted || is_blocking)
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.failed.is_none() && !self.waiting.is_empty()
    }

    /// Takes the next flush batch. It is under way until [`Buffer::finish`] or [`Buffer::give_up`].
    pub(super) fn take(&mut self) -> FlushBatch {
        let batch = self.waiting.pop_front().unwrap_or_default();
        self.taken += batch.entries.iter().map(|entry| entry.batches() as u64).sum::<u64>();
        batch
    }

    /// Records that these entries are in the store.
    pub(super) fn settle_written(&mut self, entries: &mut [Entry]) {
        for entry in &*entries {
            self.progress.entry(entry.feature.clone()).or_default().written += entry.rows() as u64;
        }
        self.settle(entries);
    }

    fn settle(&mut self, entries: &mut [Entry]) {
        for entry in entries {
            entry.release_permits();
            self.progress.entry(entry.feature.clone()).or_default().pending -= entry.rows() as u64;
        }
    }

    /// Records that all of the flush batch is in the store or rejected.
    pub(super) fn finish(&mut self) {
        self.done = self.taken;
        self.last_error = None;
    }

    /// Records that these batches are rejected.
    pub(super) fn reject(&mut self, batches: Vec<RejectedBatch>) {
        for batch in &batches {
            tracing::error!(
                error = %batch.error,
                feature = %batch.feature,
                rows = batch.rows,
                file = %batch.file.display(),
                "the store has refused rows; they were moved to `rejected`"
            );
            self.progress.entry(batch.feature.clone()).or_default().pending -= batch.rows as u64;
        }
        self.rejected.extend(batches);
    }

    pub(super) fn rejected(&self) -> Vec<RejectedBatch> {
        self.rejected.clone()
    }

    /// Records that the rejected batches have been taken back.
    pub(super) fn forget_rejected(&mut self) {
        self.rejected.clear();
        self.reported = 0;
    }

    /// Records that the rest of the flush batch is not going to be written.
    pub(super) fn give_up(&mut self, error: Arc<Error>, mut entries: Vec<Entry>) {
        self.settle(&mut entries);
        self.last_error = Some(error.clone());
        let after = std::mem::replace(&mut self.done, self.taken);
        match &mut self.failed {
            Some(failed) => failed.entries.extend(entries),
            None => self.failed = Some(Failed { error, after, entries }),
        }
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
}

/// Waiting for a flush.
impl Buffer {
    /// Requests that everything that was put is written.
    pub(super) fn begin_flush(&mut self) -> Ticket {
        self.flush_until = self.pushed;
        *self.flushes.entry(self.returns).or_default() += 1;
        Ticket { target: self.pushed, returns: self.returns, reported: self.reported }
    }

    /// Records that the caller no longer waits.
    pub(super) fn end_flush(&mut self, ticket: Ticket) {
        if let Some(count) = self.flushes.get_mut(&ticket.returns) {
            *count -= 1;
            if *count == 0 {
                self.flushes.remove(&ticket.returns);
            }
        }
        let oldest = self.flushes.keys().next().copied().unwrap_or(self.returns);
        self.given_back.retain(|given| given.number > oldest);
    }

    /// Returns the outcome of a flush, once it is known. The first caller after a failure takes back the
    /// unwritten rows; other callers that waited for any of them get the same.
    pub(super) fn flushed(&mut self, ticket: Ticket) -> Option<Result<(), WriterError>> {
        if self.state == State::Ended && !self.waiting.is_empty() {
            // A put that was under way when the task ended.
            self.end(&Arc::new(Error::Task("the writer ended before these rows were put".to_owned())));
        }
        if self.done == self.taken
            && let Some(failed) = self.failed.take()
        {
            self.give_back(failed);
        }
        let concerns = |given: &&GivenBack| given.number > ticket.returns && given.after < ticket.target;
        if let Some(given) = self.given_back.iter().find(concerns) {
            return Some(Err(given.error.clone()));
        }
        (self.done >= ticket.target).then(|| self.report(ticket))
    }

    /// Reports batches that were rejected since the caller began to wait, or earlier without a report.
    fn report(&mut self, ticket: Ticket) -> Result<(), WriterError> {
        let rejected = self.rejected.get(ticket.reported..).unwrap_or_default().to_vec();
        self.reported = self.rejected.len();
        match rejected.first() {
            None => Ok(()),
            Some(first) => Err(WriterError { error: first.error.clone(), unwritten: Vec::new(), rejected }),
        }
    }

    /// Gives back the rows of the failure together with those put since, which may depend on them.
    fn give_back(&mut self, failed: Failed) {
        let Failed { error, after, mut entries } = failed;
        let mut late: Vec<Entry> = self.waiting.drain(..).flat_map(|batch| batch.entries).collect();
        self.settle(&mut late);
        (self.taken, self.done) = (self.pushed, self.pushed);
        entries.extend(late);
        self.returns += 1;
        let unwritten = entries.into_iter().map(|entry| (entry.feature, entry.batch)).collect();
        let rejected = self.rejected.get(self.reported..).unwrap_or_default().to_vec();
        self.reported = self.rejected.len();
        let error = WriterError { error, unwritten, rejected };
        self.given_back.push(GivenBack { number: self.returns, after, error });
    }

    pub(super) fn has_pending(&self) -> bool {
        self.admitted > 0 || self.done < self.pushed
    }
}

/// The end.
impl Buffer {
    /// Accepts no more rows.
    pub(super) fn close(&mut self) {
        self.budget.close();
        self.state = self.state.max(State::Closed);
    }

    /// Ends the task when nothing is waiting.
    pub(super) fn stop(&mut self) {
        self.state = self.state.max(State::Stopped);
    }

    /// Returns whether the task may end.
    pub(super) fn is_over(&mut self) -> bool {
        self.stop_seen = self.state >= State::Stopped;
        self.stop_seen && !self.has_waiting() && self.admitted == 0
    }

    /// Returns whether the task is known to run after a request to stop: it has noticed the request, or is writing.
    pub(super) fn is_answering(&self) -> bool {
        self.stop_seen || self.done < self.taken
    }

    /// Records that the task has ended, and gives up its remaining rows. Returns a summary of them.
    pub(super) fn end(&mut self, error: &Arc<Error>) -> String {
        self.state = State::Ended;
        let left: Vec<Entry> = self.waiting.drain(..).flat_map(|batch| batch.entries).collect();
        self.taken = self.pushed;
        let summary = summary(&left);
        if !left.is_empty() {
            self.give_up(error.clone(), left);
        }
        summary
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state == State::Ended
    }
}
