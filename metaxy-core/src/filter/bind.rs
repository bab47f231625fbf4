//! Binds a filter to a schema: finds its columns, and converts its values into their types.
//!
//! The values of a column are the points of a grid (integers, cents, microseconds); a literal may be between two points
//! or beyond the ends. Such a comparison is rewritten to one with a point, or decided at once, so that it is exact in
//! every storage system. Only floats are rounded: a literal becomes the nearest float of the column's width.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Fields, Float64Type, Schema, TimeUnit, i256};
use chrono::{DateTime, NaiveTime, Timelike, Utc};

use crate::error::{Error, Result, nearest};

use super::literal::{GridPoint, Number, parse_time, parse_timestamp, power_of_ten};
use super::predicate::{per_second, value_type};
use super::{BoundColumn, Column, CompareOp, Filter, InList, Literal, Node, Operand, Predicate, Scalar, too_deep};

const NANOS_PER_DAY: i128 = 86_400_000_000_000;

impl Filter {
    /// Checks the filter against a schema, and converts its values into the types of the columns.
    ///
    /// # Errors
    /// [`Error::FilterColumn`] if a column does not exist, [`Error::FilterType`] if it is compared with a value or
    /// column of an incompatible type.
    pub fn bind(&self, schema: &Schema) -> Result<Predicate> {
        Binder { schema, whole: self }.filter(self)
    }
}

/// The position of a literal among the values of a column.
enum Position {
    Null,
    At(Scalar),
    /// Between this value and the next.
    After(Scalar),
    /// Greater than every value.
    Above,
    /// Less than every value.
    Below,
}

struct Binder<'a> {
    schema: &'a Schema,
    whole: &'a Filter,
}

impl Binder<'_> {
    fn filter(&self, filter: &Filter) -> Result<Predicate> {
        let all = |parts: &[Filter]| parts.iter().map(|part| self.filter(part)).collect::<Result<Vec<_>>>();
        Ok(match &filter.node {
            Node::TooDeep => return Err(too_deep()),
            Node::Constant(value) => Predicate::Constant(*value),
            Node::Column(column) => self.condition(self.column(column)?)?,
            Node::Compare { column, op, operand: Operand::Literal(literal) } => {
                self.compare(self.column(column)?, *op, literal)?
            }
            Node::Compare { column, op, operand: Operand::Column(other) } => {
                self.compare_columns(self.column(column)?, *op, self.column(other)?)?
            }
            Node::In { column, values } => self.in_list(self.column(column)?, values)?,
            Node::IsNull(column) => Predicate::IsNull(self.column(column)?),
            Node::And(parts) => Predicate::And(all(parts)?),
            Node::Or(parts) => Predicate::Or(all(parts)?),
            Node::Not(inner) => Predicate::Not(Box::new(self.filter(inner)?)),
        })
    }

    fn condition(&self, column: BoundColumn) -> Result<Predicate> {
        match column.value_type() {
            DataType::Boolean => Ok(Predicate::Column(column)),
            DataType::Null => Ok(Predicate::Constant(None)),
            other => Err(self.wrong_type(format!(
                "`{column}` is {other}, not a condition of its own; compare it with {}, or use IS NULL",
                fitting(other).unwrap_or("something")
            ))),
        }
    }

    fn compare(&self, column: BoundColumn, op: CompareOp, literal: &Literal) -> Result<Predicate> {
        let decided = |column, result| Predicate::Decided { column, result };
        let compare = |column, op, value| Predicate::Compare { column, op, value };
        Ok(match (self.position(&column, literal)?, op) {
            (Position::Null, _) => Predicate::Constant(None),
            (Position::At(value), op) => compare(column, op, value),
            (_, CompareOp::Eq) => decided(column, false),
            (_, CompareOp::NotEq) => decided(column, true),
            (Position::After(value), CompareOp::Lt | CompareOp::LtEq) => compare(column, CompareOp::LtEq, value),
            (Position::After(value), CompareOp::Gt | CompareOp::GtEq) => compare(column, CompareOp::Gt, value),
            (Position::Above, op) => decided(column, matches!(op, CompareOp::Lt | CompareOp::LtEq)),
            (Position::Below, op) => decided(column, matches!(op, CompareOp::Gt | CompareOp::GtEq)),
        })
    }

    fn compare_columns(&self, left: BoundColumn, op: CompareOp, right: BoundColumn) -> Result<Predicate> {
        use DataType::{Boolean, Date32, Date64, Null, Time32, Time64, Timestamp};
        let (a, b) = (left.value_type(), right.value_type());
        let fits = match (a, b) {
            (Null, _) | (_, Null) => return Ok(Predicate::Constant(None)),
            (Boolean, Boolean)
            | (Date32 | Date64, Date32 | Date64)
            | (Time32(_) | Time64(_), Time32(_) | Time64(_)) => true,
            (Timestamp(_, zone), Timestamp(_, other)) => zone.is_some() == other.is_some(),
            _ => (a.is_numeric() && b.is_numeric()) || (is_text(a) && is_text(b)) || (is_binary(a) && is_binary(b)),
        };
        if fits {
            return Ok(Predicate::CompareColumns { left, op, right });
        }
        Err(self.wrong_type(format!("`{left}` is {a} and `{right}` is {b}; only columns of one kind can be compared")))
    }

    fn in_list(&self, column: BoundColumn, literals: &[Literal]) -> Result<Predicate> {
        let (mut values, mut seen, mut has_null) = (Vec::new(), HashSet::new(), false);
        for literal in literals {
            match self.position(&column, literal)? {
                Position::Null => has_null = true,
                Position::At(value) if seen.insert(value.clone()) => values.push(value),
                // A value that the column cannot have is equal to none of its rows.
                _ => {}
            }
        }
        Ok(match (values.is_empty(), has_null) {
            (true, true) => Predicate::Constant(None),
            (true, false) if literals.is_empty() => Predicate::Constant(Some(false)),
            (true, false) => Predicate::Decided { column, result: false },
            _ => {
                let list = Arc::new(InList::new(values, has_null, column.value_type()));
                Predicate::In { column, list }
            }
        })
    }

    // ---- columns ----

    fn column(&self, column: &Column) -> Result<BoundColumn> {
        let mut path = Vec::new();
        if let Some(data_type) = find(self.schema.fields(), &column.path, &mut path) {
            return Ok(BoundColumn { path, data_type: data_type.clone() });
        }
        let name = column.dotted();
        let available = candidates(self.schema.fields(), &column.path);
        Err(Error::FilterColumn {
            filter: self.whole.to_string(),
            nearest: nearest(&name, available.iter().map(String::as_str)),
            column: name,
            available,
        })
    }

    // ---- values ----

    fn position(&self, column: &BoundColumn, literal: &Literal) -> Result<Position> {
        let data_type = column.value_type();
        Ok(match (data_type, literal) {
            (_, Literal::Null) | (DataType::Null, _) => Position::Null,
            (DataType::Boolean, Literal::Boolean(value)) => Position::At(Scalar::Boolean(*value)),
            (data_type, Literal::Number(number)) if data_type.is_numeric() => {
                self.number_position(data_type, *number)?
            }
            (data_type, Literal::NaN) if data_type.is_floating() => Position::At(Scalar::Float(f64::NAN)),
            (data_type, Literal::Infinity) if data_type.is_floating() => Position::At(Scalar::Float(f64::INFINITY)),
            (data_type, Literal::NegInfinity) if data_type.is_floating() => {
                Position::At(Scalar::Float(f64::NEG_INFINITY))
            }
            (data_type, Literal::NaN | Literal::Infinity) if data_type.is_numeric() => Position::Above,
            (data_type, Literal::NegInfinity) if data_type.is_numeric() => Position::Below,
            (data_type, Literal::Text(text)) if is_text(data_type) => Position::At(Scalar::Text(text.clone())),
            (data_type, Literal::Binary(bytes)) if is_binary(data_type) => Position::At(Scalar::Binary(bytes.clone())),
            (DataType::Time32(unit) | DataType::Time64(unit), literal) => {
                time_position(*unit, time_of(literal).ok_or_else(|| self.misfit(column, literal))?)
            }
            (DataType::Date32 | DataType::Date64 | DataType::Timestamp(..), literal) => {
                moment_position(data_type, moment_of(literal).ok_or_else(|| self.misfit(column, literal))?)
            }
            _ => return Err(self.misfit(column, literal)),
        })
    }

    fn number_position(&self, data_type: &DataType, number: Number) -> Result<Position> {
        if data_type.is_floating() {
            return Ok(Position::At(Scalar::Float(round(number.to_f64(), data_type)?)));
        }
        if let Some((precision, scale)) = decimal(data_type) {
            let max = power_of_ten(i64::from(precision)).map_or(i256::MAX, |power| power.wrapping_sub(i256::ONE));
            let point = number.on_grid(scale).within(max.wrapping_neg(), max);
            return Ok(on(point, |value| Some(Scalar::Decimal { value, scale })));
        }
        let (min, max) = integer_range(data_type);
        let point = number.on_grid(0).within(i256::from_i128(min), i256::from_i128(max));
        let unsigned = data_type.is_unsigned_integer();
        Ok(on(point, |value| match unsigned {
            true => value.to_i128().and_then(|value| u64::try_from(value).ok()).map(Scalar::UInt),
            false => value.to_i128().and_then(|value| i64::try_from(value).ok()).map(Scalar::Int),
        }))
    }

    // ---- errors ----

    fn misfit(&self, column: &BoundColumn, literal: &Literal) -> Error {
        let data_type = column.value_type();
        self.wrong_type(match fitting(data_type) {
            Some(example) => {
                format!("`{column}` is {data_type} and cannot be compared with {literal}; compare it with {example}")
            }
            None => format!("`{column}` is {data_type}, which only IS NULL and IS NOT NULL can test"),
        })
    }

    fn wrong_type(&self, reason: String) -> Error {
        Error::FilterType { filter: self.whole.to_string(), reason }
    }
}

/// Follows a path through struct columns. The longest name wins, because the name of a column may contain dots.
fn find<'a>(fields: &'a Fields, path: &[String], found: &mut Vec<String>) -> Option<&'a DataType> {
    for length in (1..=path.len()).rev() {
        let (name, rest) = (path[..length].join("."), &path[length..]);
        let Some(field) = fields.iter().find(|field| *field.name() == name) else { continue };
        found.push(name);
        match field.data_type() {
            data_type if rest.is_empty() => return Some(data_type),
            DataType::Struct(members) => {
                if let Some(data_type) = find(members, rest, found) {
                    return Some(data_type);
                }
            }
            _ => {}
        }
        found.pop();
    }
    None
}

/// Returns the names that an unknown path may have meant: the members of the last struct in it, or else the columns.
fn candidates(fields: &Fields, path: &[String]) -> Vec<String> {
    let (mut fields, mut prefix) = (fields, String::new());
    for name in path {
        match fields.iter().find(|field| field.name() == name).map(|field| field.data_type()) {
            Some(DataType::Struct(members)) => {
                fields = members;
                prefix.push_str(name);
                prefix.push('.');
            }
            _ => break,
        }
    }
    fields.iter().map(|field| format!("{prefix}{}", field.name())).collect()
}

/// Converts a grid point into the type of the column; a point out of its range is beyond the ends.
fn on(point: GridPoint, scalar: impl Fn(i256) -> Option<Scalar>) -> Position {
    let beyond = |value: i256| if value < i256::ZERO { Position::Below } else { Position::Above };
    match point {
        GridPoint::On(value) => scalar(value).map_or_else(|| beyond(value), Position::At),
        GridPoint::After(value) => scalar(value).map_or_else(|| beyond(value), Position::After),
        GridPoint::Above => Position::Above,
        GridPoint::Below => Position::Below,
    }
}

fn time_position(unit: TimeUnit, time: NaiveTime) -> Position {
    let nanos = i128::from(time.num_seconds_from_midnight()) * 1_000_000_000 + i128::from(time.nanosecond());
    let step = 1_000_000_000 / i128::from(per_second(unit));
    on(GridPoint::divide(i256::from_i128(nanos), i256::from_i128(step)), |value| {
        Some(Scalar::Time { value: i64::try_from(value.to_i128()?).ok()?, unit })
    })
}

fn moment_position(data_type: &DataType, moment: DateTime<Utc>) -> Position {
    let nanos = i128::from(moment.timestamp()) * 1_000_000_000 + i128::from(moment.timestamp_subsec_nanos());
    let grid = |step| GridPoint::divide(i256::from_i128(nanos), i256::from_i128(step));
    match data_type {
        DataType::Timestamp(unit, zone) => on(grid(1_000_000_000 / i128::from(per_second(*unit))), |value| {
            let value = i64::try_from(value.to_i128()?).ok()?;
            Some(Scalar::Timestamp { value, unit: *unit, zoned: zone.is_some() })
        }),
        _ => on(grid(NANOS_PER_DAY), |value| Some(Scalar::Date(i32::try_from(value.to_i128()?).ok()?))),
    }
}

fn time_of(literal: &Literal) -> Option<NaiveTime> {
    match literal {
        Literal::Time(time) => Some(*time),
        Literal::Text(text) => parse_time(text),
        _ => None,
    }
}

fn moment_of(literal: &Literal) -> Option<DateTime<Utc>> {
    match literal {
        Literal::Date(date) => Some(date.and_time(NaiveTime::MIN).and_utc()),
        Literal::Timestamp(moment) => Some(*moment),
        Literal::Text(text) => parse_timestamp(text),
        _ => None,
    }
}

/// Returns the nearest number of a float column.
fn round(value: f64, data_type: &DataType) -> Result<f64> {
    let one: ArrayRef = Arc::new(Float64Array::from(vec![value]));
    let rounded = cast(&cast(&one, data_type)?, &DataType::Float64)?;
    Ok(rounded.as_primitive::<Float64Type>().iter().next().flatten().unwrap_or(value))
}

fn decimal(data_type: &DataType) -> Option<(u8, i8)> {
    match data_type {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => Some((*precision, *scale)),
        _ => None,
    }
}

fn integer_range(data_type: &DataType) -> (i128, i128) {
    match data_type {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::UInt8 => (0, u8::MAX.into()),
        DataType::UInt16 => (0, u16::MAX.into()),
        DataType::UInt32 => (0, u32::MAX.into()),
        DataType::UInt64 => (0, u64::MAX.into()),
        _ => (i64::MIN.into(), i64::MAX.into()),
    }
}

pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(value_type(data_type), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

pub(super) fn is_binary(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
    matches!(value_type(data_type), Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
}

/// Describes the values with which a column of this type can be compared.
fn fitting(data_type: &DataType) -> Option<&'static str> {
    match data_type {
        DataType::Boolean => Some("TRUE or FALSE"),
        DataType::Date32 | DataType::Date64 => Some("a date such as '2026-01-31'"),
        DataType::Time32(_) | DataType::Time64(_) => Some("a time such as '12:30:00'"),
        DataType::Timestamp(..) => Some("a moment such as '2026-01-31' or '2026-01-31 12:30:00'"),
        numeric if numeric.is_numeric() => Some("a number such as 3 or 2.5"),
        text if is_text(text) => Some("a text such as 'abc'"),
        binary if is_binary(binary) => Some("bytes such as x'00ff'"),
        _ => None,
    }
}
