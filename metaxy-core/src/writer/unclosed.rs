//! The end of a writer that was dropped without `close`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use super::shared::Shared;

/// How long the drop of a writer waits for its last flush.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How long it waits for a sign of the task: a runtime that is being shut down no longer runs it.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Waits for the last flush, if the task can run while this thread waits.
pub(super) fn finish(shared: &Shared) {
    let is_driven = shared.runtime.runtime_flavor() == RuntimeFlavor::MultiThread;
    let here = Handle::try_current().map(|handle| handle.runtime_flavor());
    let is_over = match here {
        _ if !is_driven => false,
        Ok(RuntimeFlavor::MultiThread) => {
            catch_unwind(AssertUnwindSafe(|| block_in_place(|| wait(shared)))).unwrap_or(false)
        }
        _ => wait(shared),
    };
    let (rows, error) = (shared.pending_rows(), shared.buffer().last_error());
    match error {
        Some(error) => {
            tracing::error!(
                %error,
                rows,
                "a writer was dropped without `close`, and not all of its rows could be written"
            )
        }
        None if !is_over => tracing::warn!(
            rows,
            "a writer was dropped without `close`; pending rows are written if its runtime keeps running"
        ),
        None => tracing::debug!("a writer was dropped without `close`; all of its rows were written"),
    }
}

/// Blocks until nothing is pending. Returns whether that happened in time.
fn wait(shared: &Shared) -> bool {
    let started = Instant::now();
    loop {
        let (is_done, is_answering) = {
            let buffer = shared.buffer();
            (buffer.has_ended() || !buffer.has_pending(), buffer.is_answering())
        };
        let waited = started.elapsed();
        if is_done || waited > MAX_WAIT || (!is_answering && waited > ANSWER_WAIT) {
            return is_done;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
