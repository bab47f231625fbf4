//! The way of a put into the buffer: it waits for room, and then it comes in or gives up its room.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use crate::error::Result;

use super::Shared;
use super::parcel::Entry;
use super::room::Place;

/// A put that has room, until it has come in, or is not going to.
pub(super) struct Admission {
    shared: Arc<Shared>,
    place: Option<Arc<Place>>,
}

impl Admission {
    /// Waits for room, behind those that have come before.
    pub(super) async fn wait(shared: &Arc<Shared>, bytes: usize) -> Result<Self> {
        let name = shared.store.name();
        let mut place = pin!(shared.room.take(bytes));
        let place = match futures::poll!(&mut place) {
            Poll::Ready(place) => place,
            Poll::Pending => {
                let _queued = Queued::join(shared);
                tokio::select! {
                    place = place => place,
                    refusal = shared.wait(|buffer| buffer.refusal(name)) => return Err(refusal),
                }
            }
        };
        shared.buffer().admit(name)?;
        Ok(Self { shared: shared.clone(), place: place.map(Arc::new) })
    }

    /// Comes in.
    pub(super) fn fill(self, entries: impl Iterator<Item = Entry>) {
        let entries = entries.map(|entry| entry.in_place(self.place.clone())).collect();
        let closed = self.shared.buffer().push(entries);
        if let Some(parcel) = closed {
            self.shared.work.notify_one();
            self.shared.condense(parcel);
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.shared.buffer().leave() {
            self.shared.change.notify_waiters();
            self.shared.work.notify_one();
        }
    }
}

/// A put that waits for room.
struct Queued<'a>(&'a Shared);

impl<'a> Queued<'a> {
    /// What waits to be written may have to be, to make room.
    fn join(shared: &'a Shared) -> Self {
        shared.buffer().queue();
        shared.work.notify_one();
        Self(shared)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.buffer().leave_queue();
    }
}
