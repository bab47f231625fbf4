//! The values that the files and the log of a table can store.

use std::ops::RangeInclusive;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Date32Type, TimeUnit, TimestampMicrosecondType};
use chrono::NaiveDate;
use delta_kernel::expressions::Scalar;
use deltalake::kernel::scalars::ScalarExt;
use metaxy_core::FeatureKey;
use metaxy_core::error::{Error, Result};
use metaxy_core::schema;

use super::Column;

/// The day 1970-01-01, counted from the first day of the year 1.
const UNIX_EPOCH_DAYS_FROM_CE: i32 = 719_163;
/// The first day of the year 0, and the last day of 9999: the log has years of four digits.
const YEARS: RangeInclusive<i64> = -719_528..=2_932_896;
const MICROS_PER_DAY: i64 = 86_400_000_000;
/// The maximum length of a directory's name, in bytes.
const LONGEST_NAME: usize = 255;

impl Column {
    /// Converts values into those of the files, or of the log if the table is partitioned by them, or returns an error
    /// if a value would change.
    pub(super) fn stored(&self, table: &FeatureKey, array: &ArrayRef) -> Result<ArrayRef> {
        let name = self.logical.name();
        // First into the table's own type: stored numbers may have another unit.
        let values = schema::convert(table, name, array, self.logical.data_type())?;
        let stored = schema::convert(table, name, &values, &self.stored_type)?;
        if !in_calendar(&stored) {
            return Err(schema::misfit(&table.table_name(), name, &stored, &self.stored_type, in_calendar));
        }
        if self.is_partition && !fits_log(name, &stored) {
            let row = (0..stored.len()).find(|row| !fits_log(name, &stored.slice(*row, 1))).unwrap_or_default();
            let reason = "the table is partitioned by this column: it can have years from 0 to 9999, and texts that \
                          fit into the name of a directory; shorten or correct the value, or partition new tables by \
                          another column";
            let (table, column) = (table.table_name(), name.clone());
            return Err(Error::InvalidValue { table, column, row, reason: reason.to_owned() });
        }
        Ok(stored)
    }
}

/// Returns whether values of another unit may have to be converted to microseconds.
pub(super) fn holds_times(stored: &DataType) -> bool {
    match stored {
        DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Date32 => true,
        DataType::List(item) | DataType::Map(item, _) => holds_times(item.data_type()),
        DataType::Struct(members) => members.iter().any(|member| holds_times(member.data_type())),
        _ => false,
    }
}

/// Returns whether all dates, at any depth, are of years for which statistics can be computed.
fn in_calendar(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Date32 => array.as_primitive::<Date32Type>().iter().flatten().all(|days| {
            let days = days.checked_add(UNIX_EPOCH_DAYS_FROM_CE);
            days.is_some_and(|days| NaiveDate::from_num_days_from_ce_opt(days).is_some())
        }),
        DataType::Struct(_) => array.as_struct().columns().iter().all(in_calendar),
        DataType::List(_) => in_calendar(array.as_list::<i32>().values()),
        DataType::Map(_, _) => array.as_map().entries().columns().iter().all(in_calendar),
        _ => true,
    }
}

/// Returns whether all values fit into the log, and into the names of directories, which begin with the column's name.
fn fits_log(column: &str, values: &ArrayRef) -> bool {
    let fits_name = |row: usize| {
        let value = Scalar::from_array(values, row).map(|value| value.serialize_encoded());
        value.is_none_or(|value| column.len() + 1 + value.len() <= LONGEST_NAME)
    };
    match values.data_type() {
        DataType::Date32 => {
            values.as_primitive::<Date32Type>().iter().flatten().all(|day| YEARS.contains(&i64::from(day)))
        }
        DataType::Timestamp(_, _) => {
            let moments = values.as_primitive::<TimestampMicrosecondType>();
            moments.iter().flatten().all(|micros| YEARS.contains(&micros.div_euclid(MICROS_PER_DAY)))
        }
        DataType::Float32 | DataType::Float64 => (0..values.len()).all(fits_name),
        DataType::Utf8 => {
            // A byte takes at most three in a name.
            let short = LONGEST_NAME.saturating_sub(column.len() + 1) / 3;
            let texts = values.as_string::<i32>();
            (0..texts.len()).all(|row| texts.value(row).len() <= short || fits_name(row))
        }
        _ => true,
    }
}
