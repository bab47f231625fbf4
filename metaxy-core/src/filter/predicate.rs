//! A filter that is bound to a schema: every column exists, every value has the type of its column.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit, i256};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use super::display::write_path;
use super::{CompareOp, InList, StandardSql, to_sql};

/// A condition on the rows of a known schema. [`Filter::bind`](super::Filter::bind) returns it.
///
/// All evaluations have the same semantics: unknown (NULL) follows SQL's three-valued logic; texts and bytes compare
/// byte by byte; NaN equals itself and is greater than every other number; `-0.0` equals `0.0`.
#[derive(Clone, Debug, PartialEq)]
pub enum Predicate {
    /// The same result for every row; `None` is unknown.
    Constant(Option<bool>),
    /// The same result for every row in which the column is not null, unknown for the others. It replaces a comparison
    /// with a value that the column cannot have, such as `score = 3.5` on integers.
    Decided {
        /// The column.
        column: BoundColumn,
        /// The result for rows in which the column is not null.
        result: bool,
    },
    /// A boolean column.
    Column(BoundColumn),
    /// A column compared with a value of its type.
    Compare {
        /// The column.
        column: BoundColumn,
        /// The operator.
        op: CompareOp,
        /// The value.
        value: Scalar,
    },
    /// A column compared with another one of the same kind. Numbers compare exactly, unless one side is a float: then
    /// both compare as 64-bit floats.
    CompareColumns {
        /// The left side.
        left: BoundColumn,
        /// The operator.
        op: CompareOp,
        /// The right side.
        right: BoundColumn,
    },
    /// A column that equals one of several values.
    In {
        /// The column.
        column: BoundColumn,
        /// The values, shared because they may be many.
        list: Arc<InList>,
    },
    /// A column, of any type, without a value.
    IsNull(BoundColumn),
    /// All are true.
    And(Vec<Predicate>),
    /// At least one is true.
    Or(Vec<Predicate>),
    /// The opposite; unknown stays unknown.
    Not(Box<Predicate>),
}

/// A column of the schema, or a member of a struct column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BoundColumn {
    /// The name of the column, then the names of the struct members that lead to the value.
    pub path: Vec<String>,
    /// The type of the value.
    pub data_type: DataType,
}

/// A value of a column's type.
///
/// `Display` writes plain text without quotes: numbers in digits, `2026-01-31`, `12:30:00.500`,
/// `2026-01-31 12:30:00.500` (UTC), bytes in hex.
#[derive(Clone, Debug)]
pub enum Scalar {
    /// For a boolean column.
    Boolean(bool),
    /// For a signed integer column.
    Int(i64),
    /// For an unsigned integer column.
    UInt(u64),
    /// For a float column, rounded to its width.
    Float(f64),
    /// For a decimal column: `value * 10^-scale`.
    Decimal {
        /// The digits.
        value: i256,
        /// The scale of the column.
        scale: i8,
    },
    /// For a string column.
    Text(String),
    /// For a binary column.
    Binary(Vec<u8>),
    /// For a date column: days since 1970-01-01.
    Date(i32),
    /// For a column of times of day: since midnight.
    Time {
        /// The number of units.
        value: i64,
        /// The unit of the column.
        unit: TimeUnit,
    },
    /// For a timestamp column: since 1970-01-01 UTC.
    Timestamp {
        /// The number of units.
        value: i64,
        /// The unit of the column.
        unit: TimeUnit,
        /// Whether the column has a zone. Without a zone the value is the local time that the column shows.
        zoned: bool,
    },
}

impl Predicate {
    /// Returns the columns of the schema that it uses (for a member of a struct: the struct), each once, sorted.
    pub fn columns(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        self.visit(&mut |column| names.extend(column.path.first().cloned()));
        names
    }

    /// Returns a predicate that is true if both are true.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Constant(Some(true)), one) | (one, Self::Constant(Some(true))) => one,
            (Self::And(mut parts), Self::And(more)) => {
                parts.extend(more);
                Self::And(parts)
            }
            (Self::And(mut parts), one) => {
                parts.push(one);
                Self::And(parts)
            }
            (one, Self::And(mut parts)) => {
                parts.insert(0, one);
                Self::And(parts)
            }
            (left, right) => Self::And(vec![left, right]),
        }
    }

    /// Splits it into the part that a storage system can evaluate, and the rest: a row satisfies it if it satisfies
    /// both. `takes` is called for each of the conditions that are joined by AND. [`Predicate::evaluate`] evaluates the
    /// rest, if there is one.
    pub fn split(self, mut takes: impl FnMut(&Self) -> bool) -> (Option<Self>, Option<Self>) {
        let mut parts = Vec::new();
        self.flatten(&mut parts);
        let (taken, rest): (Vec<Self>, Vec<Self>) = parts.into_iter().partition(|part| takes(part));
        let all = |parts: Vec<Self>| parts.into_iter().reduce(Self::and);
        (all(taken), all(rest))
    }

    fn flatten(self, parts: &mut Vec<Self>) {
        match self {
            Self::And(several) => several.into_iter().for_each(|part| part.flatten(parts)),
            one => parts.push(one),
        }
    }

    fn visit(&self, seen: &mut dyn FnMut(&BoundColumn)) {
        match self {
            Self::Constant(_) => {}
            Self::Column(column)
            | Self::IsNull(column)
            | Self::Decided { column, .. }
            | Self::Compare { column, .. }
            | Self::In { column, .. } => seen(column),
            Self::CompareColumns { left, right, .. } => {
                seen(left);
                seen(right);
            }
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.visit(seen)),
            Self::Not(inner) => inner.visit(seen),
        }
    }
}

/// Writes SQL text for messages. [`to_sql`] writes it in the dialect of a database.
impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_sql(self, &mut StandardSql).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Display for BoundColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_path(f, &self.path)
    }
}

impl BoundColumn {
    /// Returns the type of the values without an encoding (a dictionary, runs).
    pub fn value_type(&self) -> &DataType {
        value_type(&self.data_type)
    }
}

/// Returns the type of the values of a dictionary or runs.
pub(super) fn value_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => value_type(values),
        DataType::RunEndEncoded(_, values) => value_type(values.data_type()),
        plain => plain,
    }
}

/// Returns the bits of a float, with one pattern for all NaN and one for both zeros.
fn float_key(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() }
}

/// Returns the number of units in a second.
pub(super) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

impl Scalar {
    /// Returns the moment of a timestamp; `None` for other values.
    pub fn to_datetime(&self) -> Option<DateTime<Utc>> {
        let Self::Timestamp { value, unit, .. } = self else { return None };
        let (seconds, nanoseconds) = split(*value, *unit);
        DateTime::from_timestamp(seconds, nanoseconds)
    }

    /// Returns the day of a date; `None` for other values.
    pub fn to_date(&self) -> Option<NaiveDate> {
        let Self::Date(days) = self else { return None };
        DateTime::from_timestamp(i64::from(*days) * 86_400, 0).map(|moment| moment.date_naive())
    }

    /// Returns the time of day of a time; `None` for other values.
    pub fn to_time(&self) -> Option<NaiveTime> {
        let Self::Time { value, unit } = self else { return None };
        let (seconds, nanoseconds) = split(*value, *unit);
        NaiveTime::from_num_seconds_from_midnight_opt(u32::try_from(seconds).ok()?, nanoseconds)
    }

    /// Returns the identity of the value in a form that compares and hashes: kind, unit or scale, value.
    fn key(&self) -> (u8, i8, i256, &[u8]) {
        let number = |kind, detail, value| (kind, detail, i256::from_i128(value), [].as_slice());
        match self {
            Self::Boolean(value) => number(0, 0, i128::from(*value)),
            Self::Int(value) => number(1, 0, i128::from(*value)),
            Self::UInt(value) => number(2, 0, i128::from(*value)),
            Self::Float(value) => number(3, 0, i128::from(float_key(*value))),
            Self::Decimal { value, scale } => (4, *scale, *value, &[]),
            Self::Text(text) => (5, 0, i256::ZERO, text.as_bytes()),
            Self::Binary(bytes) => (6, 0, i256::ZERO, bytes),
            Self::Date(days) => number(7, 0, i128::from(*days)),
            Self::Time { value, unit } => number(8, *unit as i8, i128::from(*value)),
            Self::Timestamp { value, unit, zoned: false } => number(9, *unit as i8, i128::from(*value)),
            Self::Timestamp { value, unit, zoned: true } => number(10, *unit as i8, i128::from(*value)),
        }
    }
}

fn split(value: i64, unit: TimeUnit) -> (i64, u32) {
    let per_second = per_second(unit);
    let nanoseconds = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
    (value.div_euclid(per_second), u32::try_from(nanoseconds).unwrap_or_default())
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Scalar {}

impl Hash for Scalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::UInt(value) => value.fmt(f),
            // `{:?}` keeps the exponent of very large and very small numbers.
            Self::Float(value) => fmt::Debug::fmt(value, f),
            Self::Decimal { value, scale } => f.write_str(&decimal_text(*value, *scale)),
            Self::Text(text) => f.write_str(text),
            Self::Binary(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Self::Date(days) => match self.to_date() {
                Some(date) => date.fmt(f),
                None => days.fmt(f),
            },
            Self::Time { value, .. } => match self.to_time() {
                Some(time) => time.fmt(f),
                None => value.fmt(f),
            },
            Self::Timestamp { value, .. } => match self.to_datetime() {
                Some(moment) => moment.naive_utc().format("%Y-%m-%d %H:%M:%S%.f").fmt(f),
                None => value.fmt(f),
            },
        }
    }
}

fn decimal_text(value: i256, scale: i8) -> String {
    let text = value.to_string();
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    let places = usize::from(scale.unsigned_abs());
    if scale <= 0 {
        return format!("{sign}{digits}{}", "0".repeat(places));
    }
    let padded = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = padded.split_at(padded.len() - places);
    format!("{sign}{whole}.{fraction}")
}
