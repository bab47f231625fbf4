//! Compares the expected rows with the stored ones.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::compute::concat;
use arrow::datatypes::DataType;

use crate::columns;
use crate::error::Result;
use crate::filter::Predicate;
use crate::plan::CurrentPlan;

use super::by_field;
use super::expected::Expected;
use super::keys::{Cursor, KeyIndex, Keys};
use super::latest::latest_rows;
use super::parallel;
use super::table::Table;

/// The stored rows, ready to be compared.
pub(crate) struct Current {
    /// Their join columns.
    pub(crate) key_columns: Vec<ArrayRef>,
    provenance: StringArray,
    forced: Forced,
}

/// Stored rows that are compared: of children (1:N) only the latest of each parent.
pub(super) struct StoredRows {
    pub(super) table: Table,
    pub(super) forced: Forced,
}

/// For each row whether a staleness predicate is true.
pub(super) struct Forced(Option<BooleanArray>);

impl StoredRows {
    pub(super) fn new(plan: &CurrentPlan, join_columns: &[String], table: Table) -> Result<Self> {
        let table = if plan.collapse { table.take(&latest_rows(&table, join_columns)?)? } else { table };
        let forced = plan.staleness.as_ref().map(|predicate| evaluate(predicate, &table)).transpose()?;
        Ok(Self { table, forced: Forced(forced) })
    }
}

impl Forced {
    pub(super) fn has(&self, row: usize) -> bool {
        self.0.as_ref().is_some_and(|forced| forced.is_valid(row) && forced.value(row))
    }
}

fn evaluate(predicate: &Predicate, table: &Table) -> Result<BooleanArray> {
    let masks = table.batches().iter().map(|batch| predicate.evaluate(batch)).collect::<Result<Vec<_>>>()?;
    let masks: Vec<&dyn Array> = masks.iter().map(|mask| mask as &dyn Array).collect();
    Ok(if masks.is_empty() { BooleanArray::new_null(0) } else { concat(&masks)?.as_boolean().clone() })
}

/// The row numbers of new and stale expected rows, and of orphaned current rows.
pub(crate) struct Comparison {
    pub(crate) new: Vec<u32>,
    pub(crate) stale: Vec<u32>,
    pub(crate) orphaned: Vec<u32>,
}

impl Current {
    pub(crate) fn new(plan: &CurrentPlan, join_columns: &[String], table: Table) -> Result<Self> {
        let StoredRows { table, forced } = StoredRows::new(plan, join_columns, table)?;
        Ok(Self {
            key_columns: join_columns.iter().map(|name| table.column(name)).collect::<Result<_>>()?,
            provenance: by_field::text(&table.column(columns::PROVENANCE)?)?,
            forced,
        })
    }

    fn is_stale(&self, row: usize, expected: &str) -> bool {
        let same = self.provenance.is_valid(row) && self.provenance.value(row) == expected;
        !same || self.forced.has(row)
    }

    /// Returns the keys of all rows, or of some of them.
    pub(crate) fn keys(&self, types: &[DataType]) -> Result<Keys> {
        Keys::new(&self.key_columns.iter().cloned().zip(types.iter().cloned()).collect::<Vec<_>>())
    }
}

/// Finds the new, stale and orphaned rows. A sample is compared with every current row of its key.
pub(crate) fn compare(expected: &Expected<'_>, current: Option<&Current>) -> Result<Comparison> {
    let Some(current) = current else {
        let all = (0..expected.len() as u32).collect();
        return Ok(Comparison { new: all, stale: Vec::new(), orphaned: Vec::new() });
    };
    let keys = current.keys(expected.key_types())?;
    let index = KeyIndex::new(&keys);
    let matched: Vec<AtomicBool> = (0..keys.len()).map(|_| AtomicBool::new(false)).collect();
    let parts = parallel::over_rows(expected.len(), |range| {
        let cursor = index.cursor();
        let mut comparing =
            Comparing { expected, current, cursor, matched: &matched, new: Vec::new(), stale: Vec::new() };
        let end = range.end;
        for start in range.step_by(HASHED_TOGETHER) {
            comparing.compare(start..end.min(start + HASHED_TOGETHER))?;
        }
        Ok((comparing.new, comparing.stale))
    })?;
    let (new, stale): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let orphaned = (0..keys.len() as u32).filter(|row| !matched[*row as usize].load(Ordering::Relaxed)).collect();
    Ok(Comparison { new: new.concat(), stale: stale.concat(), orphaned })
}

/// The number of rows whose provenance is computed together: many, because a hasher takes several texts at once, and so few
/// that they stay in the processor's cache.
const HASHED_TOGETHER: usize = 1024;

/// The comparison of one thread: the row numbers of new and stale expected rows that it has found.
struct Comparing<'a, 'e> {
    expected: &'a Expected<'e>,
    current: &'a Current,
    cursor: Cursor<'a, &'a Keys>,
    /// The current rows whose keys are expected.
    matched: &'a [AtomicBool],
    new: Vec<u32>,
    stale: Vec<u32>,
}

impl Comparing<'_, '_> {
    /// Compares some expected rows.
    fn compare(&mut self, range: Range<usize>) -> Result<()> {
        let (mut rows, mut pairs) = (Vec::new(), Vec::new());
        for row in range {
            let (source, source_row) = self.expected.key(row);
            let before = pairs.len();
            pairs.extend(self.cursor.find_all(source, source_row).map(|other| (rows.len(), other as usize)));
            let found = if pairs.len() == before { &mut self.new } else { &mut rows };
            found.push(row as u32);
        }
        let provenance = self.expected.provenance(&rows)?;
        let mut is_stale = vec![false; rows.len()];
        for (place, other) in pairs {
            self.matched[other].store(true, Ordering::Relaxed);
            is_stale[place] |= self.current.is_stale(other, provenance.value(place));
        }
        self.stale.extend(rows.into_iter().zip(is_stale).filter_map(|(row, is_stale)| is_stale.then_some(row)));
        Ok(())
    }
}
