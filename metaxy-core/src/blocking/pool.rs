//! The threads: started when work waits for one, ended when they have had none for a while.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
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

static POOL: Pool =
    Pool { state: Mutex::new(State { queue: VecDeque::new(), threads: 0, idle: 0 }), work: Condvar::new() };

struct Pool {
    state: Mutex<State>,
    /// Something in the queue.
    work: Condvar,
}

struct State {
    queue: VecDeque<Job>,
    threads: usize,
    /// How many of the threads wait for work.
    idle: usize,
}

/// Puts work into the queue, and sees to it that a thread comes to it.
pub(super) fn submit(job: Job) -> Result<()> {
    let mut state = POOL.lock();
    state.queue.push_back(job);
    if state.idle >= state.queue.len() {
        POOL.work.notify_one();
        return Ok(());
    }
    if state.threads == MAX_THREADS {
        return Ok(());
    }
    match thread::Builder::new().name("metaxy-blocking".to_owned()).spawn(|| POOL.serve()) {
        Ok(_) => state.threads += 1,
        // One of the others comes to it.
        Err(_) if state.threads > 0 => POOL.work.notify_one(),
        Err(error) => {
            let job = state.queue.pop_back();
            drop((state, job));
            return Err(Error::Task(format!("no thread could be started: {error}")));
        }
    }
    Ok(())
}

impl Pool {
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
