//! The end of a writer that nobody has closed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use super::Shared;

/// How long the drop of a writer waits for its last flush.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it waits for a sign that the task lives: a runtime that is being shut down no longer runs it.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Waits for the last flush, where the task runs while this thread waits; else the task is left to itself.
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
            tracing::error!(%error, rows, "a writer was dropped without `close`, and not all of its rows could be written")
        }
        None if !is_over => tracing::warn!(
            rows,
            "a writer was dropped without `close`; what is pending is written if its runtime lives on"
        ),
        None => tracing::debug!("a writer was dropped without `close`; all of its rows were written"),
    }
}

/// Blocks until nothing is pending; whether that was so in time.
fn wait(shared: &Shared) -> bool {
    let started = Instant::now();
    loop {
        let (is_done, is_answering) = {
            let buffer = shared.buffer();
            (buffer.has_ended() || !buffer.has_pending(), buffer.is_answering())
        };
        let waited = started.elapsed();
        if is_done || waited > PATIENCE || (!is_answering && waited > SIGN_OF_LIFE) {
            return is_done;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}
