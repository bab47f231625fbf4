//! Keep-latest: of all rows of a key (a sample, a parent of children), the one that was written or deleted last.

use std::cell::LazyCell;
use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, DynComparator, Int64Array, make_comparator, new_null_array};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};

use crate::columns;
use crate::error::Result;

use super::keys::Keys;
use super::table::Table;

/// Returns the table with its batches in the order of their first keys. Backends read the files of a table concurrently,
/// so batches arrive in any order; if the rows were written in the order of their ids, this restores it, and increasing
/// keys need no hash table.
pub(crate) fn in_key_order(table: Table, key: &[String]) -> Result<Table> {
    if table.batches().len() < 2 {
        return Ok(table);
    }
    let firsts = table.batches().iter().map(|batch| batch.slice(0, 1)).collect();
    let firsts = Table::new(table.schema.clone(), firsts)?;
    let keys = Keys::within(key.iter().map(|name| firsts.column(name)).collect::<Result<Vec<_>>>()?)?;
    match keys.order() {
        None => Ok(table),
        Some(order) => {
            let batches = order.into_iter().map(|batch| table.batches()[batch as usize].clone()).collect();
            Table::new(table.schema.clone(), batches)
        }
    }
}

/// Returns the latest row of each key; if several have the same time, the one with the greatest values.
pub(crate) fn latest_rows(table: &Table, key: &[String]) -> Result<Vec<u32>> {
    let keys = Keys::within(key.iter().map(|name| table.column(name)).collect::<Result<Vec<_>>>()?)?;
    let times = last_touched(table)?;
    let groups = keys.groups();
    let mut best: Vec<u32> = groups.firsts.clone();
    let values = LazyCell::new(|| Values::of(table));
    for (row, group) in groups.of_row.iter().enumerate() {
        let kept = &mut best[*group as usize];
        let by_time = times.value(row).cmp(&times.value(*kept as usize));
        if row != *kept as usize && by_time.then_with(|| values.compare(row, *kept as usize)).is_ge() {
            *kept = row as u32;
        }
    }
    Ok(best)
}

/// An order of rows by their values: rows arrive in a different order each time, and the result must not depend on it.
struct Values(Vec<DynComparator>);

impl Values {
    /// Creates an order in which versions come first, so that all reads that include them give the same result.
    fn of(table: &Table) -> Self {
        let versions = [columns::PROVENANCE, columns::DATA_VERSION_BY_FIELD, columns::PROVENANCE_BY_FIELD];
        let others = table.schema.fields().iter().map(|field| field.name().as_str());
        let names = versions.into_iter().chain(others.filter(|name| !versions.contains(name)));
        let comparator = |name: &str| {
            let values = table.column(name).ok()?;
            make_comparator(&values, &values, SortOptions::default()).ok()
        };
        Self(names.filter_map(comparator).collect())
    }

    fn compare(&self, left: usize, right: usize) -> Ordering {
        self.0.iter().map(|compare| compare(left, right)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

/// Returns the time when each row was written or deleted, in microseconds; rows without a time are the oldest. A table
/// that was read without `metaxy_deleted_at` has no deleted rows.
pub(crate) fn last_touched(table: &Table) -> Result<Int64Array> {
    let micros = |name: &str| -> Result<ArrayRef> {
        let array = match table.schema.column_with_name(name) {
            Some(_) => table.column(name)?,
            None => new_null_array(&DataType::Null, table.num_rows()),
        };
        Ok(cast(&array, &DataType::Timestamp(TimeUnit::Microsecond, None))?)
    };
    let deleted = micros(columns::DELETED_AT)?;
    let updated = micros(columns::UPDATED_AT)?;
    let deleted = deleted.as_primitive::<TimestampMicrosecondType>();
    let updated = updated.as_primitive::<TimestampMicrosecondType>();
    let time = |row: usize| {
        let of = |array: &arrow::array::PrimitiveArray<TimestampMicrosecondType>| {
            array.is_valid(row).then(|| array.value(row))
        };
        of(deleted).or_else(|| of(updated)).unwrap_or(i64::MIN)
    };
    Ok((0..table.num_rows()).map(time).collect())
}
