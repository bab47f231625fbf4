//! The background task: takes what is due, and writes it, as often as it takes.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::error::Error;

use super::Shared;
use super::flight::Flight;
use super::load::{Ready, ready};

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
    pub(super) fn log_loss(&self, error: &Error, rows: &str) {
        if !rows.is_empty() {
            let kept_in_spool = self.spool.is_some();
            tracing::error!(%error, rows, kept_in_spool, "rows could not be written");
        }
    }
}

/// Writes a parcel, and makes the next one ready meanwhile.
async fn fly(shared: &Arc<Shared>, ready: Option<Ready>) -> Option<Ready> {
    let mut flight = pin!(Flight::start(shared, ready).fly());
    let mut next = begin(shared);
    loop {
        tokio::select! {
            () = &mut flight => break,
            () = shared.work.notified(), if next.is_none() => next = begin(shared),
        }
    }
    let next = next?.await.ok().flatten();
    // After a failure it is not going to be written.
    next.filter(|_| shared.buffer().has_waiting())
}

/// Begins to make the next parcel ready, once nothing more comes into it. An error is left for its flight to meet.
fn begin(shared: &Arc<Shared>) -> Option<JoinHandle<Option<Ready>>> {
    let (parcel, loads) = shared.buffer().next_closed()?;
    let store = shared.store.clone();
    Some(tokio::spawn(async move {
        let tables: Vec<_> = loads.iter().map(|load| load.feature().clone()).collect();
        let stamp = store.stamp_for(&tables).await.ok()?;
        Some(Ready { parcel, stamp, loads: ready(&store, loads, stamp).await.ok()? })
    }))
}
