//! Compares the expected rows with the stored ones.

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
use super::keys::{KeyIndex, Keys};
use super::latest::latest_rows;
use super::parallel;
use super::provenance::Scratch;
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
        let (mut new, mut stale) = (Vec::new(), Vec::new());
        let mut scratch = Scratch::default();
        let mut cursor = index.cursor();
        for row in range {
            let (source, source_row) = expected.key(row);
            let mut found = cursor.find_all(source, source_row).peekable();
            if found.peek().is_none() {
                new.push(row as u32);
                continue;
            }
            let provenance = expected.provenance(row, &mut scratch);
            let mut is_stale = false;
            for other in found {
                matched[other as usize].store(true, Ordering::Relaxed);
                is_stale |= current.is_stale(other as usize, provenance);
            }
            if is_stale {
                stale.push(row as u32);
            }
        }
        Ok((new, stale))
    })?;
    let (new, stale): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let orphaned = (0..keys.len() as u32).filter(|row| !matched[*row as usize].load(Ordering::Relaxed)).collect();
    Ok(Comparison { new: new.concat(), stale: stale.concat(), orphaned })
}
