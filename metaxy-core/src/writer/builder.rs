//! The settings of a writer, and its start.

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

use super::buffer::Buffer;
use super::checks::Checks;
use super::parcel::Size;
use super::room::Room;
use super::spool::Spool;
use super::{BufferedMetadataWriter, Handle, Shared, WriterProgress, flusher};

/// How often and how patiently a failed flush is made again.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// How many times a flush is tried in all.
    pub attempts: usize,
    /// The pause after the first failure; it doubles with every further one, with a random share taken off.
    pub initial_pause: Duration,
    /// The longest pause.
    pub max_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 8, initial_pause: Duration::from_millis(100), max_pause: Duration::from_secs(10) }
    }
}

/// Collects the settings of a writer.
#[must_use = "a writer does nothing until it is started"]
pub struct WriterBuilder {
    store: MetadataStore,
    settings: Settings,
    spool: Option<PathBuf>,
}

pub(super) struct Settings {
    flush_rows: usize,
    flush_bytes: usize,
    max_pending_bytes: usize,
    pub(super) interval: Duration,
    pub(super) retry: RetryPolicy,
    pub(super) on_progress: Option<ProgressHook>,
}

type ProgressHook = Box<dyn Fn(&BTreeMap<FeatureKey, WriterProgress>) + Send + Sync>;

impl WriterBuilder {
    pub(super) fn new(store: MetadataStore) -> Self {
        let settings = Settings {
            flush_rows: 50_000,
            flush_bytes: 64 << 20,
            max_pending_bytes: 256 << 20,
            interval: Duration::from_secs(2),
            retry: RetryPolicy::default(),
            on_progress: None,
        };
        Self { store, settings, spool: None }
    }

    /// Flushes when this many rows are waiting; 50,000 by default. Whatever waits is written in portions of this size.
    pub fn flush_rows(mut self, rows: usize) -> Self {
        self.settings.flush_rows = rows.max(1);
        self
    }

    /// Flushes when this many bytes are waiting; 64 MiB by default.
    pub fn flush_bytes(mut self, bytes: usize) -> Self {
        self.settings.flush_bytes = bytes.max(1);
        self
    }

    /// How many bytes may be pending, those that are being written included, before `put` waits; 256 MiB by default. A
    /// batch that is larger is taken when nothing else is pending. Beside these come the columns that a write adds, of the
    /// flush that is written and of the one that is made ready meanwhile.
    pub fn max_pending_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_pending_bytes = bytes.max(1);
        self
    }

    /// Flushes this long after the last flush; 2 seconds by default.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.settings.interval = interval;
        self
    }

    /// How a failed flush is made again.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings.retry = policy;
        self
    }

    /// What goes into `metaxy_materialization_id`, instead of what the store would put there.
    pub fn materialization_id(mut self, id: impl Into<String>) -> Self {
        self.store = self.store.with_materialization_id(id.into());
        self
    }

    /// Keeps every batch in this directory until it is in the store. What a killed process has left there is written
    /// first, under the time and the definitions of the put, so that it never hides what was written since. A directory
    /// serves one writer at a time.
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
    /// [`Error::ReadOnly`], [`Error::Task`] outside of a tokio runtime, and where there is a spool directory:
    /// [`Error::LocationNotFound`], [`Error::Locked`] where another writer uses it, [`Error::Corrupt`].
    pub async fn start(self) -> Result<BufferedMetadataWriter> {
        self.store.check_writable("write")?;
        let runtime = Runtime::try_current().map_err(|error| Error::Task(error.to_string()))?;
        let settings = self.settings;
        // Half of the room is filled while the other half is written.
        let size = Size { rows: settings.flush_rows, bytes: settings.flush_bytes.min(settings.max_pending_bytes / 2) };
        let room = Arc::new(Room::new(settings.max_pending_bytes));
        let mut buffer = Buffer::new(size, room.clone());
        let spool = match self.spool {
            None => None,
            Some(directory) => {
                let (spool, left) = blocking::run(move || Spool::open(directory)).await?;
                left.into_iter().for_each(|entry| buffer.push_left(entry));
                Some(Arc::new(spool))
            }
        };
        let shared = Arc::new(Shared {
            store: self.store,
            settings,
            spool,
            room,
            buffer: Mutex::new(buffer),
            checks: Checks::default(),
            runtime,
            work: Notify::new(),
            change: Notify::new(),
        });
        tokio::spawn(flusher::task(shared.clone()));
        Ok(BufferedMetadataWriter { handle: Arc::new(Handle { shared }) })
    }
}

impl fmt::Debug for WriterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriterBuilder").field("store", &self.store).field("spool", &self.spool).finish_non_exhaustive()
    }
}
