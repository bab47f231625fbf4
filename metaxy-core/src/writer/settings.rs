//! The settings of a writer.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::key::FeatureKey;

use super::progress::WriterProgress;

/// How often, and with which pauses, a failed flush is retried.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// The number of attempts in all.
    pub attempts: usize,
    /// The pause after the first failure. It doubles with every further one, less a random part.
    pub initial_pause: Duration,
    /// The longest pause.
    pub max_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 8, initial_pause: Duration::from_millis(100), max_pause: Duration::from_secs(10) }
    }
}

pub(super) struct Settings {
    pub(super) flush_rows: usize,
    pub(super) flush_bytes: usize,
    pub(super) max_pending_bytes: usize,
    pub(super) interval: Duration,
    pub(super) retry: RetryPolicy,
    pub(super) on_progress: Option<ProgressHook>,
}

pub(super) type ProgressHook = Box<dyn Fn(&BTreeMap<FeatureKey, WriterProgress>) + Send + Sync>;

impl Default for Settings {
    fn default() -> Self {
        Self {
            flush_rows: 50_000,
            flush_bytes: 64 << 20,
            max_pending_bytes: 256 << 20,
            interval: Duration::from_secs(2),
            retry: RetryPolicy::default(),
            on_progress: None,
        }
    }
}
