//! What a writer holds: batches in the order in which they came, and how far they have got. No I/O, no waiting.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::error::{Error, Result};
use crate::key::FeatureKey;

use super::load::Load;
use super::parcel::{Entry, Parcel, Size, bytes_in_memory, summary};
use super::refusal::RejectedBatch;
use super::room::Room;
use super::{WriterError, WriterProgress};

pub(super) struct Buffer {
    size: Size,
    /// Where everything that waits or is being written has its place.
    room: Arc<Room>,
    /// What waits to be written. All but the last are closed.
    waiting: VecDeque<Parcel>,
    next_parcel: u64,
    /// Puts that wait for room.
    queued: usize,
    /// Puts that have been given room and are not in the buffer yet.
    admitted: usize,
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
    /// What was set aside, and how much of it callers have been told.
    rejected: Vec<RejectedBatch>,
    told: usize,
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
    told: usize,
}

impl Buffer {
    pub(super) fn new(size: Size, room: Arc<Room>) -> Self {
        Self {
            size,
            room,
            waiting: VecDeque::new(),
            next_parcel: 0,
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
            told: 0,
            given_back: Vec::new(),
            returns: 0,
            flushes: BTreeMap::new(),
            state: State::Open,
            heard: false,
        }
    }

    /// Takes in the entries of one put. The answer is the number of a parcel that this has closed, and that is due now.
    pub(super) fn push(&mut self, put: Vec<Entry>) -> Option<u64> {
        for entry in &put {
            let progress = self.progress.entry(entry.feature.clone()).or_default();
            progress.put += entry.rows() as u64;
            progress.pending += entry.rows() as u64;
            self.pushed += 1;
        }
        let mut closed = None;
        let last = self.waiting.back_mut();
        if !last.as_ref().is_some_and(|parcel| parcel.takes(&put, self.size)) {
            closed = last.filter(|parcel| !parcel.is_full(self.size)).map(Parcel::close);
            self.next_parcel += 1;
            self.waiting.push_back(Parcel::new(self.next_parcel));
        }
        let parcel = self.waiting.back_mut()?;
        parcel.add(put);
        if parcel.is_full(self.size) { Some(parcel.close()) } else { closed }
    }

    /// What could be joined in a parcel that still waits.
    pub(super) fn runs(&self, parcel: u64) -> Option<Vec<Vec<RecordBatch>>> {
        self.waiting.iter().find(|waiting| waiting.number == parcel).map(Parcel::runs)
    }

    /// Puts the joined batches of a parcel in their place, where it still waits; gives back what is not needed any more.
    pub(super) fn condense(&mut self, parcel: u64, joined: Vec<RecordBatch>) -> Vec<RecordBatch> {
        match self.waiting.iter_mut().find(|waiting| waiting.number == parcel) {
            Some(waiting) => waiting.condense(joined),
            None => joined,
        }
    }

    /// Takes in what an earlier process has left, or what was set aside, in as much room as there is.
    pub(super) fn push_left(&mut self, entry: Entry) {
        let place = self.room.take_free(bytes_in_memory(&entry.batch)).map(Arc::new);
        self.push(vec![entry.in_place(place)]);
    }

    /// The next parcel, once nothing more comes into it: its number, and its rows.
    pub(super) fn next_closed(&self) -> Option<(u64, Vec<Load<Vec<RecordBatch>>>)> {
        let next = self.waiting.front().filter(|_| self.is_next_closed())?;
        Some((next.number, Load::of(&next.entries)))
    }

    fn is_next_closed(&self) -> bool {
        self.waiting.len() > 1 || self.waiting.front().is_some_and(|next| next.is_full(self.size))
    }
}

/// Room.
impl Buffer {
    /// A put waits for room.
    pub(super) fn queue(&mut self) {
        self.queued += 1;
    }

    /// A put waits no longer.
    pub(super) fn leave_queue(&mut self) {
        self.queued -= 1;
    }

    /// Lets in a put that has room.
    pub(super) fn admit(&mut self, store: &str) -> Result<()> {
        self.refusal(store).map_or(Ok(()), Err)?;
        self.admitted += 1;
        Ok(())
    }

    /// A put that was let in is in the buffer, or has given up its room; whether somebody may wait for that.
    pub(super) fn leave(&mut self) -> bool {
        self.admitted -= 1;
        self.admitted == 0 && self.state >= State::Closed
    }

    pub(super) fn has_admitted(&self) -> bool {
        self.admitted > 0
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
        let is_wanted = self.flush_until > self.taken || self.state >= State::Closed;
        let is_in_the_way = self.queued > 0 && self.room.is_taken();
        self.has_waiting() && (self.is_next_closed() || is_wanted || is_in_the_way)
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.failed.is_none() && !self.waiting.is_empty()
    }

    /// The next parcel. It is under way until [`Buffer::finish`] or [`Buffer::give_up`].
    pub(super) fn take(&mut self) -> Parcel {
        let parcel = self.waiting.pop_front().unwrap_or_default();
        self.taken += parcel.entries.iter().map(|entry| entry.batches() as u64).sum::<u64>();
        parcel
    }

    /// These entries are in the store.
    pub(super) fn settle_written(&mut self, entries: &mut [Entry]) {
        for entry in &*entries {
            self.progress.entry(entry.feature.clone()).or_default().written += entry.rows() as u64;
        }
        self.settle(entries);
    }

    fn settle(&mut self, entries: &mut [Entry]) {
        for entry in entries {
            entry.leave_place();
            self.progress.entry(entry.feature.clone()).or_default().pending -= entry.rows() as u64;
        }
    }

    /// All of the parcel is in the store, or set aside.
    pub(super) fn finish(&mut self) {
        self.done = self.taken;
        self.last_error = None;
    }

    /// These batches are set aside.
    pub(super) fn reject(&mut self, batches: Vec<RejectedBatch>) {
        for batch in &batches {
            tracing::error!(error = %batch.error, feature = %batch.feature, rows = batch.rows, file = %batch.file.display(), "the store has refused rows, which were set aside");
            self.progress.entry(batch.feature.clone()).or_default().pending -= batch.rows as u64;
        }
        self.rejected.extend(batches);
    }

    pub(super) fn rejected(&self) -> Vec<RejectedBatch> {
        self.rejected.clone()
    }

    /// What was set aside has been taken back.
    pub(super) fn forget_rejected(&mut self) {
        self.rejected.clear();
        self.told = 0;
    }

    /// The rest of the parcel is not going to be in the store.
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

/// Waiting for what was put.
impl Buffer {
    /// Asks for everything that is there to be written.
    pub(super) fn begin_flush(&mut self) -> Ticket {
        self.flush_until = self.pushed;
        *self.flushes.entry(self.returns).or_default() += 1;
        Ticket { target: self.pushed, returns: self.returns, told: self.told }
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
        (self.done >= ticket.target).then(|| self.tell(ticket))
    }

    /// Tells a caller what was set aside since it began to wait, or before it without a caller being told.
    fn tell(&mut self, ticket: Ticket) -> Result<(), WriterError> {
        let rejected = self.rejected.get(ticket.told..).unwrap_or_default().to_vec();
        self.told = self.rejected.len();
        match rejected.first() {
            None => Ok(()),
            Some(first) => Err(WriterError { error: first.error.clone(), unwritten: Vec::new(), rejected }),
        }
    }

    /// What has come since the failure goes back with it, for it may depend on it.
    fn give_back(&mut self, failed: Failed) {
        let Failed { error, after, mut entries } = failed;
        let mut late: Vec<Entry> = self.waiting.drain(..).flat_map(|parcel| parcel.entries).collect();
        self.settle(&mut late);
        (self.taken, self.done) = (self.pushed, self.pushed);
        entries.extend(late);
        self.returns += 1;
        let unwritten = entries.into_iter().map(|entry| (entry.feature, entry.batch)).collect();
        let rejected = self.rejected.get(self.told..).unwrap_or_default().to_vec();
        self.told = self.rejected.len();
        let error = WriterError { error, unwritten, rejected };
        self.given_back.push(GivenBack { number: self.returns, after, error });
    }

    pub(super) fn has_pending(&self) -> bool {
        self.admitted > 0 || self.done < self.pushed
    }
}

/// The end.
impl Buffer {
    /// Takes nothing more.
    pub(super) fn close(&mut self) {
        self.room.close();
        self.state = self.state.max(State::Closed);
    }

    /// Lets the task end when nothing is waiting.
    pub(super) fn stop(&mut self) {
        self.state = self.state.max(State::Stopped);
    }

    /// Whether the task may end.
    pub(super) fn is_over(&mut self) -> bool {
        self.heard = self.state >= State::Stopped;
        self.heard && !self.has_waiting() && self.admitted == 0
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
