//! The background task: takes what is due, and writes it, as often as it takes.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Result};
use crate::key::FeatureKey;

use super::parcel::{Entry, summary};
use super::{RetryPolicy, Shared};

/// What stands for "never": clocks cannot count further than some centuries.
const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The task. It is alive from now on, polled or not: a runtime that ends before it begins ends it too.
pub(super) fn task(shared: Arc<Shared>) -> impl Future<Output = ()> + Send {
    let running = Running(shared);
    async move { run(&running.0).await }
}

async fn run(shared: &Shared) {
    let interval = shared.settings.interval.clamp(Duration::from_millis(1), A_YEAR);
    let mut next = Instant::now() + interval;
    while !shared.buffer().is_over() {
        let is_time = Instant::now() >= next;
        if shared.buffer().is_due() || (is_time && shared.buffer().has_waiting()) {
            Flight::start(shared).fly().await;
            next = Instant::now() + interval;
        } else if is_time {
            next = Instant::now() + interval;
        } else {
            // A time-out means that the interval has passed; the loop looks at what is there.
            let _ = timeout_at(next, shared.work.notified()).await;
        }
    }
}

/// The life of the task, which ends when nothing is left to do, or with its runtime.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(spool) = &self.0.spool {
            spool.release();
        }
        let error = Arc::new(Error::Task("the runtime was shut down before all rows were written".to_owned()));
        let lost = self.0.buffer().end(&error);
        self.0.log_loss(&error, &lost);
        self.0.change.notify_waiters();
    }
}

impl Shared {
    /// Says what is not going to be written.
    fn log_loss(&self, error: &Error, rows: &str) {
        if !rows.is_empty() {
            let kept_in_spool = self.spool.is_some();
            tracing::error!(%error, rows, kept_in_spool, "rows could not be written");
        }
    }
}

/// A parcel that is being written. Where the task dies on the way, its rows are given up.
struct Flight<'a> {
    shared: &'a Shared,
    entries: Vec<Entry>,
    /// The time of all its rows, in every attempt.
    stamp: i64,
}

impl<'a> Flight<'a> {
    fn start(shared: &'a Shared) -> Self {
        Self { shared, entries: shared.buffer().take(), stamp: shared.store.next_stamp() }
    }

    async fn fly(mut self) {
        let policy = self.shared.settings.retry;
        let mut attempt = 0;
        while let Err(error) = self.attempt().await {
            attempt += 1;
            if attempt >= policy.attempts || !error.is_transient() {
                self.give_up(error);
                return;
            }
            tracing::warn!(%error, attempt, "a flush failed and will be made again");
            self.shared.buffer().note_error(Arc::new(error));
            tokio::time::sleep(pause(policy, attempt)).await;
        }
        self.shared.buffer().finish();
        self.shared.change.notify_waiters();
        self.shared.report();
    }

    /// Writes what is left. A panic of a storage system is an error that does not pass.
    async fn attempt(&mut self) -> Result<()> {
        let panicked = |_| Err(Error::Task("the storage system panicked in a write".to_owned()));
        AssertUnwindSafe(self.write()).catch_unwind().await.unwrap_or_else(panicked)
    }

    /// Writes feature by feature, dependents first; what is written is settled at once, so that another attempt does not
    /// write it again.
    async fn write(&mut self) -> Result<()> {
        while let Some((feature, is_complete)) = self.next_group() {
            let is_member = |entry: &Entry| entry.feature == feature && entry.is_complete == is_complete;
            let batches =
                self.entries.iter().filter(|entry| is_member(entry)).map(|entry| entry.batch.clone()).collect();
            if is_complete {
                self.shared.store.append_complete(feature.clone(), batches).await?;
            } else {
                self.shared.store.write_at(feature.clone(), batches, self.stamp).await?;
            }
            let (written, rest) = std::mem::take(&mut self.entries).into_iter().partition(is_member);
            self.entries = rest;
            self.settle(written).await;
        }
        Ok(())
    }

    /// What is written next: what an earlier process has left, then the feature that most others feed.
    fn next_group(&self) -> Option<(FeatureKey, bool)> {
        let order = self.shared.store.graph().topological_order();
        let positions: HashMap<&FeatureKey, usize> =
            order.iter().enumerate().map(|(index, key)| (key, index)).collect();
        let rank = |entry: &&Entry| {
            let position = positions.get(&entry.feature).copied().unwrap_or(usize::MAX);
            (!entry.is_complete, std::cmp::Reverse(position))
        };
        self.entries.iter().min_by_key(rank).map(|entry| (entry.feature.clone(), entry.is_complete))
    }

    async fn settle(&self, written: Vec<Entry>) {
        self.shared.buffer().settle_written(&written);
        self.shared.change.notify_waiters();
        let files = written.into_iter().flat_map(|entry| entry.files).collect();
        if let Some(spool) = &self.shared.spool {
            spool.remove_later(files).await;
        }
    }

    fn give_up(&mut self, error: Error) {
        let entries = std::mem::take(&mut self.entries);
        self.shared.log_loss(&error, &summary(&entries));
        self.shared.checks.forget();
        self.shared.buffer().give_up(Arc::new(error), entries);
        self.shared.change.notify_waiters();
        self.shared.report();
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if !self.entries.is_empty() {
            self.give_up(Error::Task("the runtime was shut down while rows were being written".to_owned()));
        }
    }
}

/// Doubles with every attempt, less a random half, so that many writers do not come back at the same time.
fn pause(policy: RetryPolicy, attempt: usize) -> Duration {
    let factor = 1_u32 << (attempt - 1).min(16);
    let full = policy.initial_pause.saturating_mul(factor).min(policy.max_pause);
    full.mul_f64(1.0 - fastrand::f64() / 2.0)
}
