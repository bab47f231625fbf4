//! The runtime of this crate, for `deltalake` and for the local file system.
//!
//! Both use blocking threads of the runtime that they run on, and `deltalake` occupies one while it waits for another.
//! On a user's runtime, whose blocking threads may be few and all occupied, that could wait forever. This runtime has
//! enough of them for the operations that it admits. Decoded data may be damaged: panics are not printed.

use std::io;
use std::sync::LazyLock;

use futures::FutureExt;
use metaxy_core::error::{Error, Result};
use metaxy_core::{blocking, fence};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// The number of concurrent operations of `deltalake`. Each uses a few threads.
const OPERATIONS: usize = 32;
/// More threads than all operations use together, so that some are always left for their files.
const BLOCKING_THREADS: usize = 256;

static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .thread_name("metaxy-delta")
        .worker_threads(blocking::cores().max(2))
        .max_blocking_threads(BLOCKING_THREADS)
        .on_thread_start(fence::enclose_thread)
        .enable_all()
        .build()
});
static PERMITS: Semaphore = Semaphore::const_new(OPERATIONS);

/// The number of concurrent requests to the local file system. Each may have a file open, and the limit of a process is
/// often 1,024.
const REQUESTS: usize = 128;
static FILES: Semaphore = Semaphore::const_new(REQUESTS);

/// Runs an operation of `deltalake` that may decode stored data of a table. It begins with the first poll, and is
/// completed even if its future is dropped.
///
/// # Errors
/// The errors of the operation, and [`Error::Corrupt`] if it panics.
pub(crate) async fn decode<T: Send + 'static>(
    table: &str,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T> {
    let _permit = PERMITS.acquire().await.map_err(|error| Error::Task(error.to_string()))?;
    let outcome = spawn(fence::catch_async(work).boxed())?.await.map_err(Error::from)?;
    outcome.map_err(|panic| panic.damaged(table))
}

/// Runs a request to the local file system that closes the files that it opens.
pub(crate) async fn request<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T> {
    let _permit = FILES.acquire().await.map_err(|error| Error::Task(error.to_string()))?;
    spawn(work)?.await.map_err(Error::from)
}

/// Starts a task on the threads of this crate.
pub(crate) fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<JoinHandle<T>> {
    match RUNTIME.as_ref() {
        Ok(runtime) => Ok(runtime.spawn(work)),
        Err(error) => {
            Err(Error::of_io("this process", "start threads", io::Error::new(error.kind(), error.to_string())))
        }
    }
}
