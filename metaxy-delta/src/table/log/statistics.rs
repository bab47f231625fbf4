//! Statistics of the rows of a file, from the log.

use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, NaiveDate};
use metaxy_core::filter::Scalar;
use serde_json::Value;

use crate::types::{Column, TableSchema};

/// Longer texts in statistics may have been truncated.
pub(crate) const LONGEST_TEXT: usize = 31;
/// The log has timestamps in milliseconds; this is the greatest part that may have been truncated.
const CUT_MICROSECONDS: i64 = 999;
/// Offsets from UTC are in minutes; this is the greatest part that may have been truncated.
const CUT_OFFSET_MICROSECONDS: i64 = 60_000_000;

/// The range of the values of a column.
#[derive(Debug, Default)]
pub(crate) struct Range {
    /// A lower bound of the values.
    pub min: Option<Scalar>,
    /// An upper bound of the values.
    pub max: Option<Scalar>,
    /// Whether some rows may be null.
    pub some_null: bool,
    /// Whether some rows may have a value.
    pub some_valid: bool,
}

impl Range {
    pub fn new(min: Option<Scalar>, max: Option<Scalar>, rows: Option<u64>, nulls: Option<u64>) -> Self {
        Self { min, max, some_null: nulls != Some(0), some_valid: nulls.is_none() || nulls != rows }
    }

    /// Returns the range of a column without statistics.
    pub fn unknown() -> Self {
        Self::new(None, None, None, None)
    }
}

/// Statistics of a set of rows.
pub(crate) trait RowStatistics {
    /// Returns the number of rows.
    fn rows(&self) -> Option<u64>;

    /// Returns the range of a column.
    fn range(&self, column: &Column) -> Range;
}

/// The statistics of the rows of a file in the log.
#[derive(Debug, Default)]
pub(crate) struct FileStats {
    /// The number of rows.
    pub rows: Option<u64>,
    min: Value,
    max: Value,
    nulls: Value,
}

impl FileStats {
    /// Parses the statistics in a log. Unreadable parts count as missing.
    pub fn parse(text: Option<&str>) -> Self {
        let Some(Ok(mut stats)) = text.map(serde_json::from_str::<Value>) else { return Self::default() };
        Self {
            rows: stats.get("numRecords").and_then(Value::as_u64),
            min: stats.get_mut("minValues").map(Value::take).unwrap_or_default(),
            max: stats.get_mut("maxValues").map(Value::take).unwrap_or_default(),
            nulls: stats.get_mut("nullCount").map(Value::take).unwrap_or_default(),
        }
    }
}

impl RowStatistics for FileStats {
    fn rows(&self) -> Option<u64> {
        self.rows
    }

    fn range(&self, column: &Column) -> Range {
        // Some writers include the nulls among the elements of a list.
        if column.logical.data_type().is_nested() || column.is_partition {
            return Range::unknown();
        }
        let name = column.in_file.name();
        let min = self.min.get(name).and_then(|value| stated(value, column, End::Least));
        let max = self.max.get(name).and_then(|value| stated(value, column, End::Greatest));
        Range::new(min, max, self.rows, self.nulls.get(name).and_then(Value::as_u64))
    }
}

/// An end of a range.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Least,
    Greatest,
}

/// Returns the lowest or the highest value that the log may mean.
fn stated(value: &Value, column: &Column, end: End) -> Option<Scalar> {
    let data_type = column.logical.data_type();
    match (data_type, value) {
        (DataType::Utf8, Value::String(text)) if end == End::Greatest && text.len() > LONGEST_TEXT => None,
        (DataType::Utf8, Value::String(text)) => Some(Scalar::Text(text.clone())),
        (DataType::Boolean, Value::Bool(value)) => Some(Scalar::Boolean(*value)),
        (DataType::Date32, Value::String(text)) => {
            let days = text.parse::<NaiveDate>().ok()?.signed_duration_since(NaiveDate::default()).num_days();
            integer(days, data_type)
        }
        (DataType::Timestamp(TimeUnit::Microsecond, _), Value::String(text)) => integer(moment(text, end)?, data_type),
        // Decimals may have been rounded in the log.
        (_, Value::Number(number)) if column.stored_type.is_integer() => integer(number.as_i64()?, data_type),
        _ => None,
    }
}

/// Parses a timestamp into microseconds, and adds what may have been truncated: fractions of a millisecond, before 1970
/// in either direction, and the seconds of the local offsets that were used before time zones.
fn moment(text: &str, end: End) -> Option<i64> {
    let stated = DateTime::parse_from_rfc3339(text).ok()?;
    let micros = stated.timestamp_micros();
    let offset = if stated.offset().local_minus_utc() == 0 { 0 } else { CUT_OFFSET_MICROSECONDS };
    match end {
        End::Greatest => micros.checked_add(CUT_MICROSECONDS + offset),
        End::Least if micros < 0 => micros.checked_sub(CUT_MICROSECONDS + offset),
        End::Least => micros.checked_sub(offset),
    }
}

/// Returns the latest time in some columns, in microseconds, if it is known.
pub(crate) fn newest_time(statistics: &FileStats, schema: &TableSchema, columns: [&str; 2]) -> Option<i64> {
    let mut newest = None;
    for column in columns.iter().filter_map(|name| schema.column(name)) {
        let range = statistics.range(column);
        newest = newest.max(match range.max {
            Some(Scalar::Timestamp { value, unit: TimeUnit::Microsecond, .. }) => Some(value),
            None if !range.some_valid => None,
            _ => return None,
        });
    }
    newest
}

/// Returns an integer as a value of a column that is stored as an integer.
pub(crate) fn integer(value: i64, data_type: &DataType) -> Option<Scalar> {
    match data_type {
        signed if signed.is_signed_integer() => Some(Scalar::Int(value)),
        unsigned if unsigned.is_unsigned_integer() => u64::try_from(value).ok().map(Scalar::UInt),
        DataType::Date32 => i32::try_from(value).ok().map(Scalar::Date),
        DataType::Timestamp(unit, zone) => Some(Scalar::Timestamp { value, unit: *unit, zoned: zone.is_some() }),
        _ => None,
    }
}
