//! The threads, which are started when work waits, and end when they are idle for a while.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::fence;

/// The maximum number of threads of a process for blocking work. It is enough to keep a disk or a server busy; each
/// thread may have files open, of which a process may often have no more than 1,024.
pub const MAX_THREADS: usize = 64;

/// The time that a thread waits for more work.
const IDLE: Duration = Duration::from_secs(5);

pub(super) type Job = Box<dyn FnOnce() + Send>;

/// The threads of the process.
static SHARED: LazyLock<Arc<Pool>> = LazyLock::new(|| Pool::new(MAX_THREADS));

/// A pool with a maximum number of threads.
pub(crate) struct Pool {
    limit: usize,
    state: Mutex<State>,
    /// Signals work in the queue.
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    /// The number of threads that wait for work.
    idle: usize,
}

impl Pool {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::default(), work: Condvar::new() })
    }

    pub(super) fn shared() -> &'static Arc<Self> {
        &SHARED
    }

    /// Puts work into the queue, and starts a thread for it if none is idle.
    pub(super) fn submit(self: &Arc<Self>, job: Job) -> Result<()> {
        let mut state = self.lock();
        state.queue.push_back(job);
        if state.idle >= state.queue.len() {
            self.work.notify_one();
            return Ok(());
        }
        if state.threads == self.limit {
            return Ok(());
        }
        let pool = self.clone();
        match thread::Builder::new().name("metaxy-blocking".to_owned()).spawn(move || pool.serve()) {
            Ok(_) => state.threads += 1,
            // One of the other threads does the work.
            Err(_) if state.threads > 0 => {}
            Err(error) => {
                let job = state.queue.pop_back();
                drop((state, job));
                return Err(Error::Task(format!("no thread could be started: {error}")));
            }
        }
        Ok(())
    }

    /// Locks the state. No work runs while it is locked, so a poisoned lock is used all the same.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does work until none is left.
    fn serve(&self) {
        while let Some(job) = self.next() {
            if let Err(panic) = fence::catch(job) {
                tracing::error!(%panic, "blocking work panicked");
            }
        }
    }

    /// Returns the next piece of work, or `None` if there is none for a while.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            let (woken, waited) = self.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}
