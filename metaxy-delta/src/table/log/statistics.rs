//! What is known of the rows of a file without reading them: the statistics in the log.

use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, NaiveDate};
use metaxy_core::filter::Scalar;
use serde_json::Value;

use crate::types::{Column, TableSchema};

/// Longer texts may have been cut when they became a statistic.
pub(crate) const LONGEST_TEXT: usize = 31;
/// The log gives moments in milliseconds; so much may have been cut off.
const CUT_MICROSECONDS: i64 = 999;
/// Offsets from UTC are given in minutes; so much may have been cut off.
const CUT_OFFSET_MICROSECONDS: i64 = 60_000_000;

/// What is known of the values of a column.
#[derive(Debug, Default)]
pub(crate) struct Range {
    /// No value is less.
    pub min: Option<Scalar>,
    /// No value is greater.
    pub max: Option<Scalar>,
    /// Some rows may be null.
    pub some_null: bool,
    /// Some rows may have a value.
    pub some_valid: bool,
}

impl Range {
    pub fn new(min: Option<Scalar>, max: Option<Scalar>, rows: Option<u64>, nulls: Option<u64>) -> Self {
        Self { min, max, some_null: nulls != Some(0), some_valid: nulls.is_none() || nulls != rows }
    }

    /// Returns the range of a column of which nothing is known.
    pub fn unknown() -> Self {
        Self::new(None, None, None, None)
    }
}

/// Statistics of a set of rows.
pub(crate) trait RowStatistics {
    /// Returns how many rows there are.
    fn rows(&self) -> Option<u64>;

    /// Returns what is known of a column.
    fn range(&self, column: &Column) -> Range;
}

/// What the log says about the rows of a file.
#[derive(Debug, Default)]
pub(crate) struct FileStats {
    /// How many there are.
    pub rows: Option<u64>,
    min: Value,
    max: Value,
    nulls: Value,
}

impl FileStats {
    /// Reads statistics as the log has them. What cannot be read counts as missing.
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
        // Some writers count the nulls among the elements of a list.
        if column.logical.data_type().is_nested() || column.is_partition {
            return Range::unknown();
        }
        let name = column.in_file.name();
        let min = self.min.get(name).and_then(|value| stated(value, column, End::Least));
        let max = self.max.get(name).and_then(|value| stated(value, column, End::Greatest));
        Range::new(min, max, self.rows, self.nulls.get(name).and_then(Value::as_u64))
    }
}

/// Which end of a range a value is.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Least,
    Greatest,
}

/// Returns the least or greatest value that the log may mean.
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
        // Decimals have been rounded on their way into the log.
        (_, Value::Number(number)) if column.stored_type.is_integer() => integer(number.as_i64()?, data_type),
        _ => None,
    }
}

/// Returns a moment in microseconds, with what may have been cut off when it was written: fractions of a millisecond,
/// before 1970 in either direction, and the seconds of the offsets that places had before there were time zones.
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

/// Returns the latest of all times in some columns, in microseconds, if that is known.
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

/// Returns an integer as a value of a column that is stored as one.
pub(crate) fn integer(value: i64, data_type: &DataType) -> Option<Scalar> {
    match data_type {
        signed if signed.is_signed_integer() => Some(Scalar::Int(value)),
        unsigned if unsigned.is_unsigned_integer() => u64::try_from(value).ok().map(Scalar::UInt),
        DataType::Date32 => i32::try_from(value).ok().map(Scalar::Date),
        DataType::Timestamp(unit, zone) => Some(Scalar::Timestamp { value, unit: *unit, zoned: zone.is_some() }),
        _ => None,
    }
}
