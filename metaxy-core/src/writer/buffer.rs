//! What a writer holds: batches in the order in which they came, and how far they have got. No I/O, no waiting.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::error::Error;
use crate::key::FeatureKey;

use super::parcel::{Entry, Parcel, Size};
use super::{WriterError, WriterProgress};

pub(super) struct Buffer {
    size: Size,
    max_bytes: usize,
    /// What waits to be written. All but the last are closed.
    waiting: VecDeque<Parcel>,
    next_parcel: u64,
    /// Bytes that wait or are being written.
    pending_bytes: usize,
    /// Puts that wait for room, by their turn, and the bytes that they bring.
    queue: BTreeMap<u64, usize>,
    next_turn: u64,
    /// Puts that have been given room and are not in the buffer yet, and their bytes.
    granted: usize,
    granted_bytes: usize,
    progress: BTreeMap<FeatureKey, WriterProgress>,
    /// How many entries have come, how many the task has taken, and up to which one all are written or given up.
    pushed: u64,
    taken: u64,
    done: u64,
    /// Flush everything up to this entry.
    flush_until: u64,
    last_error: Option<Arc<Error>>,
    /// What the writer has given up on, until a caller takes it back.
    failed: Option<Failed>,
    /// What callers have taken back, as long as others wait that have to know of it.
    given_back: Vec<GivenBack>,
    /// How often something was given back, and who waits for a flush since when, counted by that number.
    returns: u64,
    flushes: BTreeMap<u64, usize>,
    state: State,
    /// The task has seen that it is to end.
    heard: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// Rows come and go.
    Open,
    /// Nothing more is taken.
    Closed,
    /// The task ends when nothing is left to write.
    Stopped,
    /// The task has ended.
    Ended,
}

struct Failed {
    error: Arc<Error>,
    /// All entries up to this one are in the store.
    after: u64,
    entries: Vec<Entry>,
}

struct GivenBack {
    number: u64,
    after: u64,
    error: WriterError,
}

/// A caller that waits for everything up to an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    target: u64,
    returns: u64,
}

impl Buffer {
    pub(super) fn new(size: Size, max_bytes: usize) -> Self {
        Self {
            size,
            max_bytes,
            waiting: VecDeque::new(),
            next_parcel: 0,
            pending_bytes: 0,
            queue: BTreeMap::new(),
            next_turn: 0,
            granted: 0,
            granted_bytes: 0,
            progress: BTreeMap::new(),
            pushed: 0,
            taken: 0,
            done: 0,
            flush_until: 0,
            last_error: None,
            failed: None,
            given_back: Vec::new(),
            returns: 0,
            flushes: BTreeMap::new(),
            state: State::Open,
            heard: false,
        }
    }

    /// Takes in the entries of one put. The answer is the number of the parcel, where it is full now.
    pub(super) fn push(&mut self, put: Vec<Entry>) -> Option<u64> {
        for entry in &put {
            let progress = self.progress.entry(entry.feature.clone()).or_default();
            progress.put += entry.rows() as u64;
            progress.pending += entry.rows() as u64;
            self.pending_bytes += entry.bytes();
            self.pushed += 1;
        }
        if !self.waiting.back().is_some_and(|parcel| parcel.takes(&put, self.size)) {
            self.next_parcel += 1;
            self.waiting.push_back(Parcel::new(self.next_parcel));
        }
        let parcel = self.waiting.back_mut()?;
        parcel.add(put);
        parcel.is_full(self.size).then_some(parcel.number)
    }

    /// The entries of a parcel that still waits.
    pub(super) fn waiting_entries(&self, parcel: u64) -> Option<&[Entry]> {
        Some(&self.waiting.iter().find(|waiting| waiting.number == parcel)?.entries)
    }

    /// Puts the same rows in the place of a parcel's entries, where it still waits; the answer is what is not needed.
    pub(super) fn replace(&mut self, parcel: u64, entries: Vec<Entry>) -> Vec<Entry> {
        match self.waiting.iter_mut().find(|waiting| waiting.number == parcel) {
            Some(waiting) => std::mem::replace(&mut waiting.entries, entries),
            None => entries,
        }
    }
}

/// Room.
impl Buffer {
    /// Queues up a put; the answer is its turn.
    pub(super) fn enqueue(&mut self, bytes: usize) -> u64 {
        self.next_turn += 1;
        self.queue.insert(self.next_turn, bytes);
        self.next_turn
    }

    /// Leaves the queue, for the next one to have its turn; whether there is a next one.
    pub(super) fn leave_queue(&mut self, turn: u64) -> bool {
        self.queue.remove(&turn);
        !self.queue.is_empty()
    }

    /// Gives room to the put whose turn it is, where there is enough.
    pub(super) fn grant(&mut self, turn: u64) -> bool {
        match self.queue.first_key_value() {
            Some((first, bytes)) if *first == turn && self.fits(*bytes) => {
                self.granted += 1;
                self.granted_bytes += bytes;
                self.queue.remove(&turn);
                true
            }
            _ => false,
        }
    }

    /// Takes room back that was granted.
    pub(super) fn release(&mut self, bytes: usize) {
        self.granted -= 1;
        self.granted_bytes -= bytes;
    }

    pub(super) fn has_granted(&self) -> bool {
        self.granted > 0
    }

    /// A put that is larger than the bound gets room when nothing else has any.
    fn fits(&self, bytes: usize) -> bool {
        let held = self.pending_bytes + self.granted_bytes;
        held == 0 || held.saturating_add(bytes) <= self.max_bytes
    }

    /// Why nothing more is taken.
    pub(super) fn refusal(&self, store: &str) -> Option<Error> {
        if self.state != State::Open {
            return Some(Error::Closed { store: format!("the writer of {store}") });
        }
        self.failed.as_ref().map(|failed| Error::Unsupported {
            what: format!("putting more rows after the writer has given up ({})", failed.error),
            hint: "call `flush` to get back what was not written, and the writer goes on".to_owned(),
        })
    }
}

/// Writing.
impl Buffer {
    /// Whether it is time to write: a parcel is large enough, or somebody waits for it or for its room.
    pub(super) fn is_due(&self) -> bool {
        let Some(first) = self.waiting.front().filter(|_| self.failed.is_none()) else { return false };
        let is_ready = first.is_full(self.size) || self.waiting.len() > 1;
        let is_wanted = self.flush_until > self.taken || self.state >= State::Closed;
        is_ready || is_wanted || self.queue.values().next().is_some_and(|bytes| !self.fits(*bytes))
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.failed.is_none() && !self.waiting.is_empty()
    }

    /// The next parcel. It is under way until [`Buffer::finish`] or [`Buffer::give_up`].
    pub(super) fn take(&mut self) -> Vec<Entry> {
        let entries = self.waiting.pop_front().unwrap_or_default().entries;
        self.taken += entries.iter().map(|entry| entry.batches).sum::<u64>();
        entries
    }

    /// These entries are in the store.
    pub(super) fn settle_written(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.progress.entry(entry.feature.clone()).or_default().written += entry.rows() as u64;
        }
        self.settle(entries);
    }

    fn settle(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.pending_bytes -= entry.bytes();
            self.progress.entry(entry.feature.clone()).or_default().pending -= entry.rows() as u64;
        }
    }

    /// All of the parcel is in the store.
    pub(super) fn finish(&mut self) {
        self.done = self.taken;
        self.last_error = None;
    }

    /// The rest of the parcel is not going to be in the store.
    pub(super) fn give_up(&mut self, error: Arc<Error>, entries: Vec<Entry>) {
        self.settle(&entries);
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

/// Waiting for what was put.
impl Buffer {
    /// Asks for everything that is there to be written.
    pub(super) fn begin_flush(&mut self) -> Ticket {
        self.flush_until = self.pushed;
        *self.flushes.entry(self.returns).or_default() += 1;
        Ticket { target: self.pushed, returns: self.returns }
    }

    /// The caller waits no longer.
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

    /// The outcome of a flush, once it is known. The first caller after a failure takes back what was not written, and
    /// others that had waited for any of it get the same.
    pub(super) fn flushed(&mut self, ticket: Ticket) -> Option<Result<(), WriterError>> {
        if self.state == State::Ended && !self.waiting.is_empty() {
            // A put that was under way when the task ended.
            self.end(&Arc::new(Error::Task("the writer had ended before these rows came".to_owned())));
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
        (self.done >= ticket.target).then_some(Ok(()))
    }

    /// What has come since the failure goes back with it, for it may depend on it.
    fn give_back(&mut self, failed: Failed) {
        let Failed { error, after, mut entries } = failed;
        let late: Vec<Entry> = self.waiting.drain(..).flat_map(|parcel| parcel.entries).collect();
        self.settle(&late);
        (self.taken, self.done) = (self.pushed, self.pushed);
        entries.extend(late);
        self.returns += 1;
        let unwritten = entries.into_iter().map(|entry| (entry.feature, entry.batch)).collect();
        self.given_back.push(GivenBack { number: self.returns, after, error: WriterError { error, unwritten } });
    }

    pub(super) fn has_pending(&self) -> bool {
        self.pending_bytes + self.granted_bytes > 0
    }
}

/// The end.
impl Buffer {
    /// Takes nothing more.
    pub(super) fn close(&mut self) {
        self.state = self.state.max(State::Closed);
    }

    /// Lets the task end when nothing is waiting.
    pub(super) fn stop(&mut self) {
        self.state = self.state.max(State::Stopped);
    }

    /// Whether the task may end.
    pub(super) fn is_over(&mut self) -> bool {
        self.heard = self.state >= State::Stopped;
        self.heard && !self.has_waiting() && self.granted == 0
    }

    /// Whether the task is known to live since it was told to stop: it has heard of it, or is writing.
    pub(super) fn is_answering(&self) -> bool {
        self.heard || self.done < self.taken
    }

    /// The task has ended. What it leaves behind is given up; the answer is how much that is.
    pub(super) fn end(&mut self, error: &Arc<Error>) -> String {
        self.state = State::Ended;
        let left: Vec<Entry> = self.waiting.drain(..).flat_map(|parcel| parcel.entries).collect();
        self.taken = self.pushed;
        let summary = super::parcel::summary(&left);
        if !left.is_empty() {
            self.give_up(error.clone(), left);
        }
        summary
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state == State::Ended
    }
}
