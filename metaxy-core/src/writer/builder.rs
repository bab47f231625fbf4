//! Configures and starts a writer.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle as Runtime;
use tokio::sync::Notify;

use crate::blocking;
use crate::error::{Error, Result};
use crate::key::FeatureKey;
use crate::store::MetadataStore;

use super::budget::MemoryBudget;
use super::buffer::Buffer;
use super::checks::Checks;
use super::flush_batch::Size;
use super::settings::{RetryPolicy, Settings};
use super::shared::Shared;
use super::spool::Spool;
use super::{BufferedMetadataWriter, WriterProgress, flusher};

/// Configures a [`BufferedMetadataWriter`].
#[must_use = "a writer does nothing until it is started"]
pub struct WriterBuilder {
    store: MetadataStore,
    settings: Settings,
    spool: Option<PathBuf>,
}

impl WriterBuilder {
    pub(super) fn new(store: MetadataStore) -> Self {
        Self { store, settings: Settings::default(), spool: None }
    }

    /// Sets the number of waiting rows at which the writer flushes, and the size of one flush; 50,000 by default.
    pub fn flush_rows(mut self, rows: usize) -> Self {
        self.settings.flush_rows = rows.max(1);
        self
    }

    /// Sets the number of waiting bytes at which the writer flushes; 64 MiB by default.
    pub fn flush_bytes(mut self, bytes: usize) -> Self {
        self.settings.flush_bytes = bytes.max(1);
        self
    }

    /// Sets how many bytes may be pending, those being written included, before `put` waits; 256 MiB by default.
    ///
    /// A batch that is larger is accepted when nothing else is pending. The columns that a write adds are not counted;
    /// they exist for the flush that is written and for the one that is prepared at the same time.
    pub fn max_pending_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_pending_bytes = bytes.max(1);
        self
    }

    /// Sets the time after the last flush at which the writer flushes again; 2 seconds by default.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.settings.interval = interval;
        self
    }

    /// Sets how a failed flush is retried.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings.retry = policy;
        self
    }

    /// Sets the value of `metaxy_materialization_id`, in place of the store's.
    pub fn materialization_id(mut self, id: impl Into<String>) -> Self {
        self.store = self.store.with_materialization_id(id.into());
        self
    }

    /// Stores every batch in this directory until it is in the store.
    ///
    /// What a killed process has left there is written first, under the time and the definitions of its put, so that it
    /// never hides what was written since. A directory serves one writer at a time.
    pub fn spool(mut self, directory: impl Into<PathBuf>) -> Self {
        self.spool = Some(directory.into());
        self
    }

    /// Calls `hook` after every put and every flush, for a progress bar.
    pub fn on_progress(mut self, hook: impl Fn(&BTreeMap<FeatureKey, WriterProgress>) + Send + Sync + 'static) -> Self {
        self.settings.on_progress = Some(Box::new(hook));
        self
    }

    /// Starts the background task on the current runtime.
    ///
    /// # Errors
    /// [`Error::ReadOnly`]; [`Error::Task`] outside of a tokio runtime; and if there is a spool directory,
    /// [`Error::LocationNotFound`], [`Error::AccessDenied`], [`Error::Corrupt`], and [`Error::Locked`] if another
    /// writer uses it.
    pub async fn start(self) -> Result<BufferedMetadataWriter> {
        self.store.check_writable("write")?;
        let runtime = Runtime::try_current().map_err(|error| Error::Task(error.to_string()))?;
        let settings = self.settings;
        // Half of the memory is filled while the other half is written.
        let size = Size { rows: settings.flush_rows, bytes: settings.flush_bytes.min(settings.max_pending_bytes / 2) };
        let budget = Arc::new(MemoryBudget::new(settings.max_pending_bytes));
        let mut buffer = Buffer::new(size, budget.clone());
        let spool = match self.spool {
            None => None,
            Some(directory) => {
                let (spool, left) = blocking::run(move || Spool::open(directory)).await?;
                left.into_iter().for_each(|entry| buffer.push_from_spool(entry));
                Some(Arc::new(spool))
            }
        };
        let shared = Arc::new(Shared {
            store: self.store,
            settings,
            spool,
            budget,
            buffer: Mutex::new(buffer),
            checks: Checks::default(),
            runtime,
            work: Notify::new(),
            change: Notify::new(),
        });
        tokio::spawn(flusher::task(shared.clone()));
        Ok(BufferedMetadataWriter::new(shared))
    }
}

impl fmt::Debug for WriterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriterBuilder").field("store", &self.store).field("spool", &self.spool).finish_non_exhaustive()
    }
}
