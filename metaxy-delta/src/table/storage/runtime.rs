//! The runtime of this crate, for `deltalake` and for the local file system.
//!
//! Both take blocking threads of the runtime that they run on, and `deltalake` takes one while it waits for another. On
//! the runtime of a user, whose blocking threads may be few and all in use, that waits for ever. Here there are enough
//! of them for as much as is let in at a time. What they decode may be damaged: their panics are not printed.

use std::io;
use std::sync::LazyLock;

use futures::FutureExt;
use metaxy_core::error::{Error, Result};
use metaxy_core::fence;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// How many operations of `deltalake` run at once. Each takes a few threads.
const OPERATIONS: usize = 32;
/// More than all operations take together, so that there are always some for their files.
const BLOCKING_THREADS: usize = 256;

static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .thread_name("metaxy-delta")
        .worker_threads(std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2)))
        .max_blocking_threads(BLOCKING_THREADS)
        .on_thread_start(fence::enclose_thread)
        .enable_all()
        .build()
});
static PERMITS: Semaphore = Semaphore::const_new(OPERATIONS);

/// How many requests to the local file system run at once. Each may have a file open, of which a process may often have
/// 1,024.
const REQUESTS: usize = 128;
static FILES: Semaphore = Semaphore::const_new(REQUESTS);

/// Runs an operation of `deltalake` that may decode stored data of a table. It begins with the first poll, and runs to
/// its end even if its answer is no longer waited for.
///
/// # Errors
/// What the operation says, and [`Error::Corrupt`] if it panics.
pub(crate) async fn decode<T: Send + 'static>(
    table: &str,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T> {
    let _permit = PERMITS.acquire().await.map_err(|error| Error::Task(error.to_string()))?;
    let outcome = spawn(fence::catch_async(work).boxed())?.await.map_err(Error::from)?;
    outcome.map_err(|panic| panic.damaged(table))
}

/// Runs a request to the local file system, which closes what it opens.
pub(crate) async fn request<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T> {
    let _permit = FILES.acquire().await.map_err(|error| Error::Task(error.to_string()))?;
    spawn(work)?.await.map_err(Error::from)
}

fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<JoinHandle<T>> {
    match RUNTIME.as_ref() {
        Ok(runtime) => Ok(runtime.spawn(work)),
        Err(error) => {
            Err(Error::of_io("this process", "start threads", io::Error::new(error.kind(), error.to_string())))
        }
    }
}

/// Returns how many threads work on one write or read.
pub(crate) fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
