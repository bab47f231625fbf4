//! The background task: takes what is due, and writes it, as often as it takes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::{Error, Result};
use crate::key::FeatureKey;

use super::buffer::Entry;
use super::{RetryPolicy, Shared};

/// How long the drop of a writer that was not closed waits for its last flush.
const DROP_PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn run(shared: Arc<Shared>) {
    let mut next = Instant::now() + shared.settings.interval;
    while !shared.buffer().is_over() {
        if shared.is_due() || (Instant::now() >= next && shared.buffer().has_waiting()) {
            let entries = shared.buffer().take();
            Flight { shared: &shared, entries: Some(entries) }.fly().await;
            next = Instant::now() + shared.settings.interval;
            continue;
        }
        if Instant::now() >= next {
            next = Instant::now() + shared.settings.interval;
        }
        // A time-out means that the interval has passed; the loop looks at what is there.
        let _ = timeout_at(next, shared.work.notified()).await;
    }
    if let Some(spool) = &shared.spool {
        spool.release();
    }
    shared.buffer().end();
    shared.change.notify_waiters();
}

impl Shared {
    fn is_due(&self) -> bool {
        let settings = &self.settings;
        self.buffer().is_due(settings.flush_rows, settings.flush_bytes, settings.max_pending_bytes)
    }
}

/// Entries that are being written. Where the task dies on the way (the runtime is shut down), they are counted as lost.
struct Flight<'a> {
    shared: &'a Shared,
    entries: Option<Vec<Entry>>,
}

impl Flight<'_> {
    async fn fly(mut self) {
        let policy = self.shared.settings.retry;
        let mut attempt = 0;
        while let Err(error) = self.write_once().await {
            attempt += 1;
            let error = Arc::new(error);
            if attempt >= policy.attempts || !error.is_transient() {
                let entries = self.entries.take().unwrap_or_default();
                let rows: usize = entries.iter().map(|entry| entry.batch.num_rows()).sum();
                tracing::error!(%error, rows, attempt, "the writer gives up");
                self.shared.buffer().settle_failed(error, entries);
                break;
            }
            tracing::warn!(%error, attempt, "a flush failed and will be made again");
            self.shared.buffer().note_error(error);
            tokio::time::sleep(pause(policy, attempt)).await;
        }
        self.entries = None;
        self.shared.change.notify_waiters();
        self.shared.report();
    }

    /// Writes feature by feature, dependents first, all under one time; what is written is settled at once, so that a
    /// second attempt does not write it again.
    async fn write_once(&mut self) -> Result<()> {
        let stamp = self.shared.store.next_stamp();
        loop {
            let Some(entries) = &mut self.entries else { return Ok(()) };
            let Some((feature, put_at)) = next_group(self.shared, entries) else { return Ok(()) };
            let is_member = |entry: &Entry| entry.feature == feature && entry.put_at == put_at;
            let batches: Vec<RecordBatch> =
                entries.iter().filter(|entry| is_member(entry)).map(|entry| entry.batch.clone()).collect();
            self.shared.store.write_at(feature.clone(), batches, put_at.unwrap_or(stamp)).await?;
            let (written, rest): (Vec<Entry>, Vec<Entry>) = std::mem::take(entries).into_iter().partition(is_member);
            *entries = rest;
            self.shared.buffer().settle_written(&written);
            if let Some(spool) = &self.shared.spool {
                spool.remove(&written);
            }
        }
    }
}

/// What is written next: what an earlier process left, by age; then the feature that most others feed.
fn next_group(shared: &Shared, entries: &[Entry]) -> Option<(FeatureKey, Option<i64>)> {
    let order: BTreeMap<&FeatureKey, usize> =
        shared.store.graph().topological_order().iter().enumerate().map(|(index, key)| (key, index)).collect();
    let rank = |entry: &&Entry| {
        let position = order.get(&entry.feature).copied().unwrap_or(usize::MAX);
        (entry.put_at.is_none(), entry.put_at, std::cmp::Reverse(position))
    };
    entries.iter().min_by_key(rank).map(|entry| (entry.feature.clone(), entry.put_at))
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let Some(entries) = self.entries.take().filter(|entries| !entries.is_empty()) else { return };
        let rows: usize = entries.iter().map(|entry| entry.batch.num_rows()).sum();
        let safe = self.shared.spool.is_some();
        tracing::error!(rows, kept_in_spool = safe, "the runtime was shut down before these rows were written");
        let error = Error::Task("the runtime was shut down while rows were being written".to_owned());
        self.shared.buffer().settle_failed(Arc::new(error), entries);
        self.shared.change.notify_waiters();
    }
}

/// Doubles with every attempt, less a random half, so that many writers do not come back at the same time.
fn pause(policy: RetryPolicy, attempt: usize) -> Duration {
    let factor = 1_u32 << (attempt - 1).min(16);
    let full = policy.initial_pause.saturating_mul(factor).min(policy.max_pause);
    full.mul_f64(1.0 - fastrand::f64() / 2.0)
}

/// Waits for the last flush of a writer that is dropped, where waiting is possible: outside of async threads, or on a
/// runtime with several of them.
pub(super) fn finish_in_drop(shared: &Arc<Shared>) {
    let settled = async {
        let waited = timeout(DROP_PATIENCE, shared.wait(|buffer| (!buffer.has_pending()).then_some(()))).await;
        if waited.is_err() || shared.buffer().last_error().is_some() {
            tracing::error!("a writer was dropped without `close`, and not all of its rows could be written");
        }
    };
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(|| handle.block_on(settled));
        }
        _ => tracing::warn!("a writer was dropped without `close`; its rows are written if the runtime lives on"),
    }
}
