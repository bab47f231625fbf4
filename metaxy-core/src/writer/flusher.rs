//! The background task: waits until a flush is due, and runs it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::error::Error;

use super::flush::Flush;
use super::pending::{Prepared, prepare};
use super::shared::Shared;

/// Means "never": clocks cannot count further than some centuries.
const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Returns the task. It counts as running from now on, polled or not: if its runtime ends first, it ends too.
pub(super) fn task(shared: Arc<Shared>) -> impl Future<Output = ()> + Send {
    let running = Running(shared);
    async move { run(&running.0).await }
}

async fn run(shared: &Arc<Shared>) {
    let interval = shared.settings.interval.clamp(Duration::from_millis(1), A_YEAR);
    let mut next = Instant::now() + interval;
    let mut prepared = None;
    while !shared.buffer().is_over() {
        let is_time = Instant::now() >= next;
        if shared.buffer().is_due() || (is_time && shared.buffer().has_waiting()) {
            prepared = flush(shared, prepared.take()).await;
            next = Instant::now() + interval;
        } else if is_time {
            next = Instant::now() + interval;
        } else {
            // A time-out means that the interval has passed; the loop checks the buffer.
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

/// Writes a flush batch, and prepares the next one at the same time.
async fn flush(shared: &Arc<Shared>, prepared: Option<Prepared>) -> Option<Prepared> {
    let mut flush = pin!(Flush::start(shared, prepared).run());
    let mut next = prepare_next(shared);
    loop {
        tokio::select! {
            () = &mut flush => break,
            () = shared.work.notified(), if next.is_none() => next = prepare_next(shared),
        }
    }
    let next = next?.await.ok().flatten();
    // After a failure it is not going to be written.
    next.filter(|_| shared.buffer().has_waiting())
}

/// Starts to prepare the next flush batch, if it is closed. If that fails, the flush itself meets the error again.
fn prepare_next(shared: &Arc<Shared>) -> Option<JoinHandle<Option<Prepared>>> {
    let (number, pending) = shared.buffer().next_closed()?;
    let store = shared.store.clone();
    Some(tokio::spawn(async move {
        let tables: Vec<_> = pending.iter().map(|rows| rows.feature().clone()).collect();
        let stamp = store.stamp_for(&tables).await.ok()?;
        Some(Prepared { number, stamp, rows: prepare(&store, pending, stamp).await.ok()? })
    }))
}
