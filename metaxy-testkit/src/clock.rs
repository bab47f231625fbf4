//! A clock that a test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use metaxy_core::store::Clock;

const SECOND: i64 = 1_000_000;

/// A clock that stands still until a test moves it, forwards or backwards.
#[derive(Debug)]
pub struct ManualClock {
    micros: AtomicI64,
}

impl ManualClock {
    /// Returns a clock at the start of 2026.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { micros: AtomicI64::new(1_767_225_600 * SECOND) })
    }

    /// Moves the clock by some seconds; backwards if they are negative.
    pub fn advance(&self, seconds: i64) {
        self.advance_micros(seconds * SECOND);
    }

    /// Moves the clock by some microseconds.
    pub fn advance_micros(&self, micros: i64) {
        self.micros.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> i64 {
        self.micros.load(Ordering::SeqCst)
    }
}
