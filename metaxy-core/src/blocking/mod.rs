//! Runs blocking work on its own threads: files, databases, long computations.
//!
//! Blocking work must not run on the threads of the async runtime, and a store cannot rely on the runtime's own
//! blocking threads: their number is limited, a program may have set the limit to one, and work that occupies one while
//! it waits for another never ends once all are occupied. So stores have their own: at most [`MAX_THREADS`] in a
//! process, started when they are needed and ended when they are idle.
//!
//! - [`run`] is for a closure that blocks: a statement of a database, an fsync.
//! - [`drive`] is for a future whose polls take long: encoding rows into a file of an object store. It occupies a
//!   thread while it is polled and none while it waits, so that any number of futures may wait for each other.
//!
//! ```
//! # async fn example() -> metaxy_core::Result<()> {
//! use metaxy_core::{Error, blocking};
//!
//! let read = || std::fs::read_to_string("table").map_err(|error| Error::backend("files", "read", error));
//! println!("{}", blocking::run(read).await?);
//! # Ok(())
//! # }
//! ```
//!
//! # Rules for backends
//! - A closure of [`run`] does not wait for other work of this module, except that it may block on a future that calls
//!   [`run`] or [`drive`]: that work is then done on the thread that waits for it.
//! - A stream of rows does not occupy a thread while no one reads it: each batch is a call of [`run`].
//! - All work is [fenced](crate::fence): a panic becomes [`Error::Task`], and nothing is printed. Code that decodes
//!   stored data is in its own [`fence::decode`], which names the table.
//! - Work that has started continues when its future is dropped, as a transaction should.
//! - The work runs in the context of its caller's Tokio runtime, and in the caller's `tracing` span.

mod pool;
mod task;

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use futures::FutureExt;
use futures::channel::oneshot;
use tokio::runtime::Handle;
use tracing::{Instrument, Span};

use crate::error::{Error, Result};
use crate::fence;

pub(crate) use pool::Pool;

pub use pool::MAX_THREADS;

use task::Task;

thread_local! {
    /// Set if a closure of [`run`] runs on this thread.
    static IN_CLOSURE: Cell<bool> = const { Cell::new(false) };
}

/// Returns the number of threads that run at the same time. It is asked once: the system reads files for the answer.
pub fn cores() -> usize {
    static CORES: LazyLock<usize> = LazyLock::new(|| std::thread::available_parallelism().map_or(1, NonZero::get));
    *CORES
}

/// Runs a closure that blocks, and returns its result. It starts with the first poll.
///
/// # Errors
/// The errors of the work, and [`Error::Task`] if it panics or no thread can be started.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    if IN_CLOSURE.get() {
        return fenced(work);
    }
    spawn(work).await
}

/// Starts a closure that blocks, at once. The future returns its result, and may be dropped.
///
/// # Errors
/// The errors of [`run`].
pub fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> impl Future<Output = Result<T>> + Send + 'static {
    Pool::shared().spawn(work)
}

impl Pool {
    /// Starts a closure as [`spawn`] does, on the threads of this pool.
    pub(crate) fn spawn<T, F>(self: &Arc<Self>, work: F) -> impl Future<Output = Result<T>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let (runtime, span) = (Handle::try_current().ok(), Span::current());
        let started = self.submit(Box::new(move || {
            let _context = runtime.as_ref().map(Handle::enter);
            let _inside = Closure::enter();
            let outcome = span.in_scope(|| fenced(work));
            // The span must be able to end once the caller has the result, for which it may no longer wait.
            drop(span);
            let _ = sender.send(outcome);
        }));
        answer(started, receiver)
    }
}

/// Polls a future on the threads of this module, and returns its result. It starts at once, and continues if the
/// returned future is dropped.
///
/// # Errors
/// The errors of the work, and [`Error::Task`] if it panics or no thread can be started.
pub fn drive<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> impl Future<Output = Result<T>> + Send + 'static {
    let work = fence::catch_async(work).map(|outcome| outcome?);
    if IN_CLOSURE.get() {
        return work.boxed();
    }
    let (sender, receiver) = oneshot::channel();
    let work = work.in_current_span().map(|outcome| drop(sender.send(outcome)));
    answer(Task::start(work.boxed()), receiver).boxed()
}

async fn answer<T>(started: Result<()>, receiver: oneshot::Receiver<Result<T>>) -> Result<T> {
    started?;
    receiver.await.unwrap_or_else(|_| Err(Error::Task("its thread ended before its work".to_owned())))
}

fn fenced<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    fence::catch(work)?
}

/// Waits until the names in a directory are on the disk, as a file system needs it after a file was created, renamed or
/// removed. Only Unix has such a call; file systems that need none report that it is invalid, which is not an error.
///
/// # Errors
/// The errors of the file system.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(directory)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

/// Marks a closure that runs on this thread.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The system's own directory of processes cannot be synced.
    #[cfg(target_os = "linux")]
    #[test]
    fn directories_that_cannot_be_synced_are_no_failure() {
        let own = Path::new("/proc/self");
        assert!(File::open(own).and_then(|directory| directory.sync_all()).is_err());
        sync_directory(own).expect("no failure");
    }
}
