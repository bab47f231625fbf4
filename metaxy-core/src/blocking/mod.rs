//! Threads for work that blocks: files, databases, long computations.
//!
//! Blocking work must not run on the threads of the async runtime, and a store cannot rely on the runtime's own blocking
//! threads: they are limited, a program may have set that limit to one, and work that holds one while it waits for another
//! hangs for ever once they are used up. So stores bring their own: at most [`MAX_THREADS`] in a process, started when they
//! are needed and ended when they are idle.
//!
//! - [`run`] is for a closure that blocks: a statement of a database, an fsync.
//! - [`drive`] is for a future whose polls take long: encoding rows into a file of an object store. It holds a thread while
//!   it is polled and none while it waits, so that any number of them may wait for each other.
//!
//! ```
//! # async fn example() -> metaxy_core::Result<()> {
//! use metaxy_core::{Error, blocking};
//!
//! let text = blocking::run(|| std::fs::read_to_string("table").map_err(|error| Error::backend("files", "read", error)));
//! println!("{}", text.await?);
//! # Ok(())
//! # }
//! ```
//!
//! # Rules for backends
//! - A closure of [`run`] does not wait for other work of this module, except that it may block on a future that calls
//!   [`run`] or [`drive`]: that work is then done on the thread that waits for it.
//! - A stream of rows does not hold a thread while no one reads it: each batch is a call of [`run`].
//! - All work is [fenced](crate::fence): a panic is [`Error::Task`], and nothing is printed. What decodes stored data
//!   stands in a [`fence::decode`] of its own, which names the table.
//! - Work that has begun goes on when its future is dropped, as a transaction should.
//! - The work sees the Tokio runtime of its caller.

mod pool;
mod task;

use std::cell::Cell;
use std::sync::Arc;

use futures::FutureExt;
use futures::channel::oneshot;
use tokio::runtime::Handle;

use crate::error::{Error, Result};
use crate::fence;

pub(crate) use pool::Pool;

pub use pool::MAX_THREADS;

use task::Task;

thread_local! {
    /// Whether a closure of [`run`] runs on this thread.
    static IN_CLOSURE: Cell<bool> = const { Cell::new(false) };
}

/// Runs a closure that blocks, and gives its answer. It begins with the first poll.
///
/// # Errors
/// What the work says, and [`Error::Task`] where it panics or no thread can be started.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    if IN_CLOSURE.get() {
        return fenced(work);
    }
    spawn(work).await
}

/// Starts a closure that blocks, at once. The future gives its answer, and may be dropped.
///
/// # Errors
/// As [`run`].
pub fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> impl Future<Output = Result<T>> + Send + 'static {
    Pool::shared().spawn(work)
}

impl Pool {
    /// As [`spawn`], on threads of its own.
    pub(crate) fn spawn<T, F>(self: &Arc<Self>, work: F) -> impl Future<Output = Result<T>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let runtime = Handle::try_current().ok();
        let started = self.submit(Box::new(move || {
            let _context = runtime.as_ref().map(Handle::enter);
            let _inside = Closure::enter();
            // Whether its answer is waited for does not matter to the work.
            let _ = sender.send(fenced(work));
        }));
        answer(started, receiver)
    }
}

/// Polls a future on the threads of this module, and gives its answer. It begins at once, and goes on where the answer is
/// not waited for.
///
/// # Errors
/// What the work says, and [`Error::Task`] where it panics or no thread can be started.
pub fn drive<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> impl Future<Output = Result<T>> + Send + 'static {
    let work = fence::catch_async(work).map(|outcome| outcome?);
    if IN_CLOSURE.get() {
        return work.boxed();
    }
    let (sender, receiver) = oneshot::channel();
    let work = work.map(|outcome| drop(sender.send(outcome)));
    answer(Task::start(work.boxed()), receiver).boxed()
}

async fn answer<T>(started: Result<()>, receiver: oneshot::Receiver<Result<T>>) -> Result<T> {
    started?;
    receiver.await.unwrap_or_else(|_| Err(Error::Task("its thread ended before it".to_owned())))
}

fn fenced<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    fence::catch(work)?
}

/// A closure that runs on this thread.
struct Closure;

impl Closure {
    fn enter() -> Self {
        IN_CLOSURE.set(true);
        Self
    }
}

impl Drop for Closure {
    fn drop(&mut self) {
        IN_CLOSURE.set(false);
    }
}
