//! Keep-latest: of all rows of a key (a sample, a parent of children), the one that was written or deleted last.

use std::cell::LazyCell;
use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, DynComparator, Int64Array, RecordBatch, make_comparator, new_null_array};
use arrow::compute::{SortOptions, cast, filter_record_batch};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMicrosecondType};

use crate::columns;
use crate::error::Result;
use crate::filter::Predicate;

use super::keys::Keys;
use super::merge::in_key_order;
use super::table::Table;

/// The steps of a scan that need all rows of a key together: keep-latest, and those after it.
#[derive(Debug)]
pub(crate) struct KeepLatest {
    /// The key.
    pub(crate) ids: Vec<String>,
    pub(crate) filter: Option<Predicate>,
    pub(crate) columns: Option<Vec<String>>,
}

impl KeepLatest {
    /// Applies the steps to a table with all rows of its keys.
    pub(crate) fn apply(&self, table: Table) -> Result<Table> {
        let keys = keys_of(&table, &self.ids)?;
        let (table, keys) = match in_key_order(&keys) {
            None => (table, keys),
            Some(runs) => {
                let table = table.in_runs(&runs)?;
                let keys = keys_of(&table, &self.ids)?;
                (table, keys)
            }
        };
        let rows = latest_of(&table, &keys)?;
        let schema = table.schema.clone();
        let mut batches = table.retain(&rows)?;
        if let Some(filter) = &self.filter {
            batches = batches.into_iter().map(|batch| selected(batch, filter)).collect::<Result<_>>()?;
        }
        let table = Table::new(schema, batches)?;
        match &self.columns {
            Some(columns) => table.project(columns),
            None => Ok(table),
        }
    }

    /// Returns the schema of the result for rows of a schema.
    pub(crate) fn schema(&self, rows: &SchemaRef) -> Result<SchemaRef> {
        match &self.columns {
            Some(columns) => Ok(Table::new(rows.clone(), Vec::new())?.project(columns)?.schema),
            None => Ok(rows.clone()),
        }
    }
}

/// Returns the rows for which a predicate is true.
pub(super) fn selected(batch: RecordBatch, predicate: &Predicate) -> Result<RecordBatch> {
    let mask = predicate.evaluate(&batch)?;
    Ok(if mask.true_count() == batch.num_rows() { batch } else { filter_record_batch(&batch, &mask)? })
}

/// Returns the latest row of each key; if several have the same time, the one with the greatest values.
pub(crate) fn latest_rows(table: &Table, key: &[String]) -> Result<Vec<u32>> {
    latest_of(table, &keys_of(table, key)?)
}

fn keys_of(table: &Table, key: &[String]) -> Result<Keys> {
    Keys::within(key.iter().map(|name| table.column(name)).collect::<Result<Vec<_>>>()?)
}

fn latest_of(table: &Table, keys: &Keys) -> Result<Vec<u32>> {
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
        let versions = columns::VERSION_ORDER;
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
