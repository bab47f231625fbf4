//! The clock by which rows are stamped.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::key::FeatureKey;

use super::MetadataStore;

/// A warning is logged if the clock is further behind the rows of a table than this.
const LARGE_SKEW_MICROS: i64 = 60_000_000;

/// A source of the current time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Returns the microseconds since 1970-01-01 UTC.
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

/// A clock whose times are unique and increasing: of two writes of one program the later one always counts, even if the
/// machine's clock is set back between them.
#[derive(Debug)]
pub(crate) struct Stamps {
    clock: Arc<dyn Clock>,
    last: AtomicI64,
}

impl Stamps {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, last: AtomicI64::new(i64::MIN) })
    }

    /// Returns the stamps of the machine's clock, shared by all stores of the process.
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

/// The last stamp that a store has given to rows of each table.
#[derive(Debug, Default)]
pub(super) struct TableStamps {
    given: Mutex<HashMap<FeatureKey, i64>>,
}

impl TableStamps {
    /// Returns a stamp later than all known stamps of the tables.
    fn after(&self, tables: &[FeatureKey], now: i64, newest: Option<i64>) -> i64 {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tables.iter().filter_map(|table| given.get(table).copied()).max();
        let stamp = now.max(newest.max(known).map_or(now, |newest| newest.saturating_add(1)));
        given.extend(tables.iter().map(|table| (table.clone(), stamp)));
        stamp
    }
}

impl MetadataStore {
    /// Returns a time for new rows of these tables, later than all stored rows, even if the clocks of other writers
    /// were ahead. Otherwise rows written by a machine whose clock is behind would never be the newest.
    pub(crate) async fn stamp_for(&self, tables: &[FeatureKey]) -> Result<i64> {
        let mut newest = None;
        for table in tables {
            newest = newest.max(match self.inner.backend.newest_stamp(table).await {
                // The table was dropped in the time between.
                Err(Error::FeatureNotFound { .. }) => None,
                found => found?,
            });
        }
        let now = self.next_stamp();
        let stamp = self.inner.table_stamps.after(tables, now, newest);
        if stamp.saturating_sub(now) > LARGE_SKEW_MICROS {
            let seconds = stamp.saturating_sub(now) / 1_000_000;
            let tables: Vec<String> = tables.iter().map(FeatureKey::table_name).collect();
            tracing::warn!(
                store = self.name(),
                ?tables,
                seconds,
                "the clock of this machine is behind the newest rows of a table, or another machine's is ahead; new \
                 rows are stamped after them"
            );
        }
        Ok(stamp)
    }
}
