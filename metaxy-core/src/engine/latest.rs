//! Keep-latest: of all rows of a sample the one that was written or deleted last.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};

use crate::columns;
use crate::error::Result;

use super::keys::Keys;
use super::table::Table;

/// The rows that keep-latest keeps; of several with the same time the last in the table.
pub(crate) fn latest_rows(table: &Table, ids: &[String]) -> Result<Vec<u32>> {
    let keys = Keys::within(ids.iter().map(|id| table.column(id)).collect::<Result<Vec<_>>>()?)?;
    let times = last_touched(table)?;
    let groups = keys.groups();
    let mut best: Vec<u32> = groups.firsts.clone();
    for (row, group) in groups.of_row.iter().enumerate() {
        let kept = &mut best[*group as usize];
        if times.value(row) >= times.value(*kept as usize) {
            *kept = row as u32;
        }
    }
    Ok(best)
}

/// When each row was written or deleted, in microseconds; rows without a time are older than all others. A table that
/// was read without `metaxy_deleted_at` holds living rows only.
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
