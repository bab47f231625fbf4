//! The background task: takes what is due, and writes it, as often as it takes.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Result};
use crate::store::ReadyRows;

use super::load::{Load, ready};
use super::parcel::{Entry, summary};
use super::{RetryPolicy, Shared};

/// What stands for "never": clocks cannot count further than some centuries.
const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The task. It is alive from now on, polled or not: a runtime that ends before it begins ends it too.
pub(super) fn task(shared: Arc<Shared>) -> impl Future<Output = ()> + Send {
    let running = Running(shared);
    async move { run(&running.0).await }
}

async fn run(shared: &Arc<Shared>) {
    let interval = shared.settings.interval.clamp(Duration::from_millis(1), A_YEAR);
    let mut next = Instant::now() + interval;
    let mut ready = None;
    while !shared.buffer().is_over() {
        let is_time = Instant::now() >= next;
        if shared.buffer().is_due() || (is_time && shared.buffer().has_waiting()) {
            ready = fly(shared, ready.take()).await;
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

/// Writes a parcel, and makes the next one ready meanwhile.
async fn fly(shared: &Arc<Shared>, ready: Option<Ready>) -> Option<Ready> {
    let mut flight = pin!(Flight::start(shared, ready).fly());
    let mut next = Ready::begin(shared);
    loop {
        tokio::select! {
            () = &mut flight => break,
            () = shared.work.notified(), if next.is_none() => next = Ready::begin(shared),
        }
    }
    let next = next?.await.ok().flatten();
    // After a failure it is not going to be written.
    next.filter(|_| shared.buffer().has_waiting())
}

/// A parcel that was made ready before its turn.
struct Ready {
    parcel: u64,
    stamp: i64,
    loads: VecDeque<Load<ReadyRows>>,
}

impl Ready {
    /// Begins to make the next parcel ready, once nothing more comes into it. An error is left for its flight to meet.
    fn begin(shared: &Arc<Shared>) -> Option<JoinHandle<Option<Self>>> {
        let (parcel, loads) = shared.buffer().next_closed()?;
        let (store, stamp) = (shared.store.clone(), shared.store.next_stamp());
        Some(tokio::spawn(async move { Some(Self { parcel, stamp, loads: ready(&store, loads, stamp).await.ok()? }) }))
    }
}

/// A parcel that is being written. Where the task dies on the way, its rows are given up.
struct Flight<'a> {
    shared: &'a Shared,
    entries: Vec<Entry>,
    /// The time of all its rows, in every attempt.
    stamp: i64,
    /// What is still to be written, once it is ready.
    loads: Option<VecDeque<Load<ReadyRows>>>,
}

impl<'a> Flight<'a> {
    fn start(shared: &'a Shared, ready: Option<Ready>) -> Self {
        let parcel = shared.buffer().take();
        let (stamp, loads) = match ready.filter(|ready| ready.parcel == parcel.number) {
            Some(ready) => (ready.stamp, Some(ready.loads)),
            None => (shared.store.next_stamp(), None),
        };
        Self { shared, entries: parcel.entries, stamp, loads }
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
            // The table may be another one by then.
            self.loads = None;
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

    /// Writes feature by feature; what is written is settled at once, so that another attempt does not write it again.
    async fn write(&mut self) -> Result<()> {
        if self.loads.is_none() {
            self.loads = Some(ready(&self.shared.store, Load::of(&self.entries), self.stamp).await?);
        }
        while let Some(load) = self.loads.as_ref().and_then(VecDeque::front) {
            load.append(&self.shared.store).await?;
            self.settle().await;
        }
        Ok(())
    }

    /// The first of the loads is in the store.
    async fn settle(&mut self) {
        let Some(load) = self.loads.as_mut().and_then(VecDeque::pop_front) else { return };
        let (mut written, rest): (Vec<Entry>, _) =
            std::mem::take(&mut self.entries).into_iter().partition(|entry| load.has(entry));
        self.entries = rest;
        self.shared.buffer().settle_written(&mut written);
        self.shared.change.notify_waiters();
        let files = written.iter_mut().flat_map(|entry| std::mem::take(&mut entry.files)).collect();
        // To let go of many small batches takes a while.
        spawn_blocking(move || drop((load, written)));
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
