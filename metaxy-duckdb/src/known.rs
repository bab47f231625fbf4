//! The descriptions of tables that an open database has given, so that resolves do not ask for them again.
//!
//! Only writes of this process change them: DuckDB's lock on the file excludes other processes. A write forgets all
//! descriptions, and what is read while a write runs is not kept. A read notes the [`Moment`] before it begins. If a
//! write has begun since, when its statement runs, the descriptions may not be those of its snapshot, and it reads them
//! again in its own transaction.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use metaxy_core::backend::{Position, unrepeated};

use crate::catalog::StoredTable;
use crate::sql::names::TableName;

/// The known descriptions.
#[derive(Default)]
pub(crate) struct KnownTables(Mutex<State>);

struct State {
    /// A text that the open database has alone.
    name: String,
    tables: HashMap<TableName, StoredTable>,
    /// The numbers of writes that have begun, and that run now.
    begun: u64,
    running: usize,
    /// The number of writes that may have removed rows of a table.
    removals: HashMap<TableName, u64>,
    /// The positions of tables at the present moment.
    positions: HashMap<TableName, Position>,
}

/// A moment between writes: the number of those before. `None` while a write runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(Option<u64>);

impl Moment {
    /// A moment at which nothing is known.
    pub(crate) const UNKNOWN: Self = Self(None);
}

/// A running write.
pub(crate) struct RunningWrite<'a>(&'a KnownTables);

impl KnownTables {
    /// Returns the present moment.
    pub(crate) fn now(&self) -> Moment {
        self.state().now()
    }

    /// Returns whether a write has begun since, so that what was known at a moment may have changed.
    pub(crate) fn may_have_changed(&self, moment: Moment) -> bool {
        moment != Moment::UNKNOWN && !self.state().is_now(moment)
    }

    /// Returns the description of a table, if it is known and no write has begun since.
    pub(crate) fn get(&self, sql_name: &TableName, moment: Moment) -> Option<StoredTable> {
        let state = self.state();
        state.is_now(moment).then(|| state.tables.get(sql_name).cloned()).flatten()
    }

    /// Keeps the description of a table, if no write has begun since.
    pub(crate) fn keep(&self, table: &StoredTable, moment: Moment) {
        let mut state = self.state();
        if state.is_now(moment) {
            state.tables.insert(table.sql_name.clone(), table.clone());
        }
    }

    /// Forgets all descriptions until the write has ended.
    pub(crate) fn write(&self) -> RunningWrite<'_> {
        let mut state = self.state();
        state.tables.clear();
        state.positions.clear();
        state.begun += 1;
        state.running += 1;
        RunningWrite(self)
    }

    /// Notes that the running write may remove rows of a table.
    pub(crate) fn removes(&self, sql_name: &TableName) {
        *self.state().removals.entry(sql_name.clone()).or_default() += 1;
    }

    /// Returns the text that the open database has alone, and the number of writes that may have removed rows of a table.
    pub(crate) fn removals(&self, sql_name: &TableName) -> (String, u64) {
        let state = self.state();
        (state.name.clone(), state.removals.get(sql_name).copied().unwrap_or_default())
    }

    /// Returns the position of a table, if it is known and no write has begun since.
    pub(crate) fn position(&self, sql_name: &TableName, moment: Moment) -> Option<Position> {
        let state = self.state();
        state.is_now(moment).then(|| state.positions.get(sql_name).cloned()).flatten()
    }

    /// Keeps the position of a table, if no write has begun since. Returns whether it still is the position.
    pub(crate) fn keep_position(&self, sql_name: &TableName, position: &Position, moment: Moment) -> bool {
        let mut state = self.state();
        let is_now = state.is_now(moment);
        if is_now {
            state.positions.insert(sql_name.clone(), position.clone());
        }
        is_now
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            name: unrepeated(),
            tables: HashMap::new(),
            begun: 0,
            running: 0,
            removals: HashMap::new(),
            positions: HashMap::new(),
        }
    }
}

impl State {
    fn now(&self) -> Moment {
        Moment((self.running == 0).then_some(self.begun))
    }

    fn is_now(&self, moment: Moment) -> bool {
        moment != Moment::UNKNOWN && moment == self.now()
    }
}

impl Drop for RunningWrite<'_> {
    fn drop(&mut self) {
        self.0.state().running -= 1;
    }
}
