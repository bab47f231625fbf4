//! The threads: started when work waits for one, ended when they have had none for a while.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::fence;

/// How many threads a process has at most for blocking work. Enough to keep a disk or a server busy; each may have files
/// open, of which a process often has no more than 1,024.
pub const MAX_THREADS: usize = 64;

/// How long a thread waits for more work.
const IDLE: Duration = Duration::from_secs(5);

pub(super) type Job = Box<dyn FnOnce() + Send>;

/// The threads that all of a process shares.
static SHARED: LazyLock<Arc<Pool>> = LazyLock::new(|| Pool::new(MAX_THREADS));

/// Threads, at most so many.
pub(crate) struct Pool {
    limit: usize,
    state: Mutex<State>,
    /// Something in the queue.
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    /// How many of the threads wait for work.
    idle: usize,
}

impl Pool {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::default(), work: Condvar::new() })
    }

    pub(super) fn shared() -> &'static Arc<Self> {
        &SHARED
    }

    /// Puts work into the queue, and sees to it that a thread comes to it.
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
            // One of the others comes to it.
            Err(_) if state.threads > 0 => {}
            Err(error) => {
                let job = state.queue.pop_back();
                drop((state, job));
                return Err(Error::Task(format!("no thread could be started: {error}")));
            }
        }
        Ok(())
    }

    /// The state. No work runs while it is held, so a poisoned lock is taken all the same.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a thread.
    fn serve(&self) {
        while let Some(job) = self.next() {
            if let Err(panic) = fence::catch(job) {
                tracing::error!(%panic, "blocking work panicked");
            }
        }
    }

    /// The next piece of work, or `None` when there has been none for a while.
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
