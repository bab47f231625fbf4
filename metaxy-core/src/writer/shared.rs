//! The state that the handles of a writer share with its background task.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use tokio::runtime::Handle as Runtime;
use tokio::sync::Notify;

use crate::blocking;
use crate::error::Error;
use crate::store::MetadataStore;

use super::budget::MemoryBudget;
use super::buffer::Buffer;
use super::checks::Checks;
use super::settings::Settings;
use super::spool::Spool;

pub(super) struct Shared {
    pub(super) store: MetadataStore,
    pub(super) settings: Settings,
    pub(super) spool: Option<Arc<Spool>>,
    pub(super) budget: Arc<MemoryBudget>,
    pub(super) buffer: Mutex<Buffer>,
    pub(super) checks: Checks,
    /// The runtime of the background task.
    pub(super) runtime: Runtime,
    /// Wakes the background task.
    pub(super) work: Notify,
    /// Wakes waiting callers.
    pub(super) change: Notify,
}

impl Shared {
    /// Locks the buffer. Nothing panics while it is locked, so a poisoned lock is used all the same.
    pub(super) fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pending_rows(&self) -> u64 {
        self.buffer().progress().values().map(|progress| progress.pending).sum()
    }

    pub(super) fn report(&self) {
        if let Some(hook) = &self.settings.on_progress {
            let progress = self.buffer().progress();
            if catch_unwind(AssertUnwindSafe(|| hook(&progress))).is_err() {
                tracing::error!("the progress hook of a writer panicked");
            }
        }
    }

    /// Merges the small batches of a flush batch while it waits: they take more memory than their rows do, and the task
    /// need not merge them later.
    pub(super) fn merge_small(self: &Arc<Self>, number: u64) {
        let shared = self.clone();
        drop(blocking::spawn(move || {
            let Some(runs) = shared.buffer().runs(number) else { return Ok(()) };
            let merge = |run: &Vec<RecordBatch>| concat_batches(run.first()?.schema_ref(), run).ok();
            // What would not fit into one batch stays in several.
            if let Some(merged) = runs.iter().map(merge).collect::<Option<Vec<_>>>() {
                let small = shared.buffer().replace_runs(number, merged);
                drop(small);
            }
            Ok(())
        }));
    }

    /// Waits until `ready` returns something.
    pub(super) async fn wait<T>(&self, mut ready: impl FnMut(&mut Buffer) -> Option<T>) -> T {
        loop {
            let changed = self.change.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(answer) = ready(&mut self.buffer()) {
                return answer;
            }
            changed.await;
        }
    }

    /// Logs rows that are not going to be written.
    pub(super) fn log_loss(&self, error: &Error, rows: &str) {
        if !rows.is_empty() {
            let kept_in_spool = self.spool.is_some();
            tracing::error!(%error, rows, kept_in_spool, "rows could not be written");
        }
    }
}
