//! Time, as rows are stamped with it.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};

/// Tells the time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Microseconds since 1970-01-01 UTC.
    fn now_micros(&self) -> i64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_micros(&self) -> i64 {
        chrono::Utc::now().timestamp_micros()
    }
}

/// A clock that never tells the same time twice and never goes back: of two writes of one program the later one always
/// counts, even when the machine's clock is set back between them.
#[derive(Debug)]
pub(crate) struct Stamps {
    clock: Arc<dyn Clock>,
    last: AtomicI64,
}

impl Stamps {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, last: AtomicI64::new(i64::MIN) })
    }

    /// The stamps of the machine's clock, shared by all stores of the process.
    pub(crate) fn system() -> Arc<Self> {
        static SYSTEM: LazyLock<Arc<Stamps>> = LazyLock::new(|| Stamps::new(Arc::new(SystemClock)));
        SYSTEM.clone()
    }

    pub(crate) fn next(&self) -> i64 {
        let now = self.clock.now_micros();
        let stamp = |last: i64| Some(now.max(last.saturating_add(1)));
        let last = self.last.fetch_update(Ordering::SeqCst, Ordering::SeqCst, stamp);
        stamp(last.unwrap_or(now)).unwrap_or(now)
    }
}
