//! The way of a put into the buffer: it waits for its share of the memory budget, then enters or gives the share back.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use arrow::array::RecordBatch;

use crate::error::Result;
use crate::key::FeatureKey;

use super::budget::Permit;
use super::flush_batch::Entry;
use super::shared::Shared;

/// A put that holds its share of the memory budget and has not entered the buffer yet.
pub(super) struct Admission {
    shared: Arc<Shared>,
    permit: Option<Arc<Permit>>,
}

impl Admission {
    /// Waits for memory, behind the puts that came before.
    pub(super) async fn wait(shared: &Arc<Shared>, bytes: usize) -> Result<Self> {
        let name = shared.store.name();
        let mut permit = pin!(shared.budget.acquire(bytes));
        let permit = match futures::poll!(&mut permit) {
            Poll::Ready(permit) => permit,
            Poll::Pending => {
                let _queued = Queued::join(shared);
                tokio::select! {
                    permit = permit => permit,
                    refusal = shared.wait(|buffer| buffer.refusal(name)) => return Err(refusal),
                }
            }
        };
        shared.buffer().admit(name)?;
        Ok(Self { shared: shared.clone(), permit: permit.map(Arc::new) })
    }

    /// Checks rows, stores them in the spool directory if there is one, and puts them into the buffer: all of them or
    /// none.
    pub(super) fn enter(self, batches: Vec<(FeatureKey, RecordBatch)>) -> Result<()> {
        let Shared { store, spool, checks, .. } = &*self.shared;
        let batches = checks.accept(store, batches)?;
        let batches: Vec<_> = batches.into_iter().filter(|(_, batch)| batch.num_rows() > 0).collect();
        let ids = batches.iter().map(|(key, batch)| store.id_hashes(key, batch)).collect::<Result<Vec<_>>>()?;
        let mut files = Vec::new();
        if let Some(spool) = spool {
            let at = store.next_stamp();
            let complete =
                |(key, batch): &(FeatureKey, RecordBatch)| Ok((key.clone(), store.completed(key, batch, at)?));
            files = spool.save(&batches.iter().map(complete).collect::<Result<Vec<_>>>()?, at)?;
        }
        let mut files = files.into_iter();
        let entry =
            |((key, batch), ids)| Entry::new(key, batch, ids).with_file(files.next()).with_permit(self.permit.clone());
        let entries = batches.into_iter().zip(ids).map(entry).collect();
        let closed = self.shared.buffer().push(entries);
        if let Some(number) = closed {
            self.shared.work.notify_one();
            self.shared.merge_small(number);
        }
        self.shared.report();
        Ok(())
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

/// A put that waits for memory.
struct Queued<'a>(&'a Shared);

impl<'a> Queued<'a> {
    /// Wakes the background task, because writing pending rows frees memory.
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
