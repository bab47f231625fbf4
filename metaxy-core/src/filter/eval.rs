//! Evaluates a predicate on a record batch.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Datum, Decimal128Array, Int64Array, PrimitiveArray,
    RecordBatch, Scalar as ArrowScalar, StringArray, StructArray, UInt64Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::kernels::cmp;
use arrow::compute::{
    CastOptions, and_kleene, cast, cast_with_options, filter_record_batch, is_null, not, nullif, or_kleene,
    prep_null_mask_filter,
};
use arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int64Type,
    TimeUnit, i256,
};
use arrow::error::ArrowError;

use crate::error::{Error, Result, nearest};

use super::bind::{is_binary, is_text};
use super::predicate::value_type;
use super::{BoundColumn, CompareOp, Predicate, Scalar};

impl Predicate {
    /// Returns for each row whether it satisfies the predicate, or NULL if that is unknown. The batch needs the columns
    /// of the predicate, in any order.
    ///
    /// # Errors
    /// [`Error::FilterColumn`] if the batch lacks a column, [`Error::Arrow`] if a column has an unrelated type.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let rows = batch.num_rows();
        let fetch = |column: &BoundColumn| adapt(self.fetch(batch, column)?, &column.data_type);
        match self {
            Self::Constant(value) => Ok(constant(*value, rows)),
            Self::Decided { column, result } => Ok(decided(&self.fetch(batch, column)?, *result)),
            Self::Column(column) => Ok(cast(&fetch(column)?, &DataType::Boolean)?.as_boolean().clone()),
            Self::Compare { column, op, value } => compare_scalar(&fetch(column)?, *op, value),
            Self::CompareColumns { left, op, right } => compare_arrays(&fetch(left)?, *op, &fetch(right)?),
            Self::In { column, list } => list.evaluate(&fetch(column)?),
            Self::IsNull(column) => Ok(is_null(&self.fetch(batch, column)?)?),
            Self::And(parts) => junction(parts, batch, true),
            Self::Or(parts) => junction(parts, batch, false),
            Self::Not(inner) => Ok(not(&inner.evaluate(batch)?)?),
        }
    }

    /// Returns the rows that stay when those for which it is true are deleted. Where it is NULL they stay.
    ///
    /// # Errors
    /// Those of [`Predicate::evaluate`].
    pub fn remove_from(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let removed = self.evaluate(batch)?;
        let removed = if removed.null_count() > 0 { prep_null_mask_filter(&removed) } else { removed };
        Ok(filter_record_batch(batch, &not(&removed)?)?)
    }

    fn fetch(&self, batch: &RecordBatch, column: &BoundColumn) -> Result<ArrayRef> {
        let (root, members) = column.path.split_first().ok_or_else(|| self.missing(batch, column))?;
        let mut array = batch.column_by_name(root).cloned().ok_or_else(|| self.missing(batch, column))?;
        for name in members {
            let parent = array.as_struct_opt().ok_or_else(|| self.missing(batch, column))?;
            array = member(parent, name)?.ok_or_else(|| self.missing(batch, column))?;
        }
        Ok(array)
    }

    fn missing(&self, batch: &RecordBatch, column: &BoundColumn) -> Error {
        let name = column.path.join(".");
        let available: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        Error::FilterColumn {
            filter: self.to_string(),
            nearest: nearest(&name, available.iter().map(String::as_str)),
            column: name,
            available,
        }
    }
}

/// Joins the parts by AND (`all`) or OR, and stops when the outcome is known for every row.
fn junction(parts: &[Predicate], batch: &RecordBatch, all: bool) -> Result<BooleanArray> {
    let mut mask: Option<BooleanArray> = None;
    for part in parts {
        let next = part.evaluate(batch)?;
        let joined = match mask {
            None => next,
            Some(mask) if all => and_kleene(&mask, &next)?,
            Some(mask) => or_kleene(&mask, &next)?,
        };
        let settled = if all { joined.false_count() } else { joined.true_count() };
        if settled == joined.len() {
            return Ok(joined);
        }
        mask = Some(joined);
    }
    Ok(mask.unwrap_or_else(|| constant(Some(all), batch.num_rows())))
}

fn constant(value: Option<bool>, rows: usize) -> BooleanArray {
    match value {
        Some(true) => BooleanBuffer::new_set(rows).into(),
        Some(false) => BooleanBuffer::new_unset(rows).into(),
        None => BooleanArray::new_null(rows),
    }
}

fn decided(array: &ArrayRef, result: bool) -> BooleanArray {
    let values = if result { BooleanBuffer::new_set(array.len()) } else { BooleanBuffer::new_unset(array.len()) };
    BooleanArray::new(values, array.logical_nulls())
}

/// Returns a member of a struct column; null for rows in which the struct is null.
fn member(parent: &StructArray, name: &str) -> Result<Option<ArrayRef>> {
    let Some(child) = parent.column_by_name(name) else { return Ok(None) };
    if parent.null_count() == 0 || *child.data_type() == DataType::Null {
        return Ok(Some(child.clone()));
    }
    Ok(Some(nullif(child, &is_null(parent)?)?))
}

/// Casts a column to the type that was bound. Storage systems return related types (views, other zones); those that
/// compare in the same way stay.
fn adapt(array: ArrayRef, bound: &DataType) -> Result<ArrayRef> {
    let actual = value_type(array.data_type());
    let alike = match (actual, value_type(bound)) {
        (DataType::Timestamp(unit, _), DataType::Timestamp(other, _)) => unit == other,
        (actual, bound) => {
            actual == bound || (is_text(actual) && is_text(bound)) || (is_binary(actual) && is_binary(bound))
        }
    };
    if alike { Ok(array) } else { Ok(strict_cast(&array, bound)?) }
}

/// Casts an array, and fails instead of turning values into nulls.
fn strict_cast(array: &dyn Array, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, data_type, &CastOptions { safe: false, ..CastOptions::default() })
}

/// Compares an array with a value of its type.
pub(super) fn compare_scalar(array: &ArrayRef, op: CompareOp, value: &Scalar) -> Result<BooleanArray> {
    let data_type = value_type(array.data_type());
    if let Scalar::Float(value) = value {
        return compare_float(array, op, *value);
    }
    if let DataType::FixedSizeBinary(_) = data_type {
        // The value may have another length than the column.
        return compare_scalar(&cast(array, &DataType::Binary)?, op, value);
    }
    Ok(kernel(op, array, &ArrowScalar::new(one(value, data_type)?))?)
}

fn kernel(op: CompareOp, left: &dyn Datum, right: &dyn Datum) -> Result<BooleanArray, ArrowError> {
    match op {
        CompareOp::Eq => cmp::eq(left, right),
        CompareOp::NotEq => cmp::neq(left, right),
        CompareOp::Lt => cmp::lt(left, right),
        CompareOp::LtEq => cmp::lt_eq(left, right),
        CompareOp::Gt => cmp::gt(left, right),
        CompareOp::GtEq => cmp::gt_eq(left, right),
    }
}

/// Returns the value as an array of one row.
fn one(value: &Scalar, data_type: &DataType) -> Result<ArrayRef> {
    let integer = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![value])) };
    let array: ArrayRef = match value {
        Scalar::Boolean(value) => Arc::new(BooleanArray::from(vec![*value])),
        Scalar::Int(value) => integer(*value),
        Scalar::UInt(value) => Arc::new(UInt64Array::from(vec![*value])),
        Scalar::Float(value) => Arc::new(PrimitiveArray::<Float64Type>::from(vec![*value])),
        Scalar::Decimal { value, .. } => return one_decimal(*value, data_type),
        Scalar::Text(text) => Arc::new(StringArray::from(vec![text.as_str()])),
        Scalar::Binary(bytes) => Arc::new(BinaryArray::from(vec![bytes.as_slice()])),
        Scalar::Date(days) => strict_cast(&cast(&integer((*days).into()), &DataType::Int32)?, &DataType::Date32)?,
        Scalar::Time { value, unit: TimeUnit::Second | TimeUnit::Millisecond } => {
            strict_cast(&integer(*value), &DataType::Int32)?
        }
        Scalar::Time { value, .. } | Scalar::Timestamp { value, .. } => integer(*value),
    };
    Ok(strict_cast(&array, data_type)?)
}

fn one_decimal(value: i256, data_type: &DataType) -> Result<ArrayRef> {
    let too_long = || ArrowError::InvalidArgumentError(format!("{value} does not fit {data_type}"));
    let narrow = value.to_i128();
    Ok(match data_type {
        DataType::Decimal32(..) => {
            let value = narrow.and_then(|value| i32::try_from(value).ok()).ok_or_else(too_long)?;
            Arc::new(PrimitiveArray::<Decimal32Type>::from(vec![value]).with_data_type(data_type.clone()))
        }
        DataType::Decimal64(..) => {
            let value = narrow.and_then(|value| i64::try_from(value).ok()).ok_or_else(too_long)?;
            Arc::new(PrimitiveArray::<Decimal64Type>::from(vec![value]).with_data_type(data_type.clone()))
        }
        DataType::Decimal128(..) => {
            let value = narrow.ok_or_else(too_long)?;
            Arc::new(PrimitiveArray::<Decimal128Type>::from(vec![value]).with_data_type(data_type.clone()))
        }
        DataType::Decimal256(..) => {
            Arc::new(PrimitiveArray::<Decimal256Type>::from(vec![value]).with_data_type(data_type.clone()))
        }
        _ => return Err(too_long().into()),
    })
}

// ---- floats: NaN equals itself and is the greatest, both zeros are equal ----

fn compare_float(array: &ArrayRef, op: CompareOp, value: f64) -> Result<BooleanArray> {
    match array.data_type() {
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().values();
            Ok(float_mask(array, |row| values[row], op, value))
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>().values();
            Ok(float_mask(array, |row| f64::from(values[row]), op, value))
        }
        _ => compare_float(&strict_cast(array, &DataType::Float64)?, op, value),
    }
}

fn float_mask(array: &ArrayRef, get: impl Fn(usize) -> f64, op: CompareOp, value: f64) -> BooleanArray {
    let rows = array.len();
    let mask = match op {
        CompareOp::Eq => BooleanBuffer::collect_bool(rows, |row| float_eq(get(row), value)),
        CompareOp::NotEq => BooleanBuffer::collect_bool(rows, |row| !float_eq(get(row), value)),
        CompareOp::Lt => BooleanBuffer::collect_bool(rows, |row| float_lt(get(row), value)),
        CompareOp::LtEq => BooleanBuffer::collect_bool(rows, |row| !float_lt(value, get(row))),
        CompareOp::Gt => BooleanBuffer::collect_bool(rows, |row| float_lt(value, get(row))),
        CompareOp::GtEq => BooleanBuffer::collect_bool(rows, |row| !float_lt(get(row), value)),
    };
    BooleanArray::new(mask, array.logical_nulls())
}

fn float_eq(left: f64, right: f64) -> bool {
    left == right || (left.is_nan() && right.is_nan())
}

fn float_lt(left: f64, right: f64) -> bool {
    left < right || (right.is_nan() && !left.is_nan())
}

// ---- two columns ----

fn compare_arrays(left: &ArrayRef, op: CompareOp, right: &ArrayRef) -> Result<BooleanArray> {
    let (a, b) = (value_type(left.data_type()), value_type(right.data_type()));
    if a.is_floating() || b.is_floating() {
        return compare_floats(&strict_cast(left, &DataType::Float64)?, op, &strict_cast(right, &DataType::Float64)?);
    }
    if a == b {
        return Ok(kernel(op, left, right)?);
    }
    let common = match (a, b) {
        _ if is_text(a) => DataType::LargeUtf8,
        _ if is_binary(a) => DataType::LargeBinary,
        (DataType::Timestamp(..), _) => {
            let common = DataType::Decimal128(38, 9);
            return Ok(kernel(op, &strict_cast(&seconds(left)?, &common)?, &strict_cast(&seconds(right)?, &common)?)?);
        }
        (DataType::Time32(_) | DataType::Time64(_), _) => DataType::Time64(TimeUnit::Nanosecond),
        (DataType::Date32 | DataType::Date64, _) => DataType::Date32,
        _ => DataType::Decimal256(76, scale(a).max(scale(b))),
    };
    Ok(kernel(op, &strict_cast(left, &common)?, &strict_cast(right, &common)?)?)
}

fn compare_floats(left: &ArrayRef, op: CompareOp, right: &ArrayRef) -> Result<BooleanArray> {
    let (a, b) = (left.as_primitive::<Float64Type>().values(), right.as_primitive::<Float64Type>().values());
    let mask = BooleanBuffer::collect_bool(left.len().min(right.len()), |row| match op {
        CompareOp::Eq => float_eq(a[row], b[row]),
        CompareOp::NotEq => !float_eq(a[row], b[row]),
        CompareOp::Lt => float_lt(a[row], b[row]),
        CompareOp::LtEq => !float_lt(b[row], a[row]),
        CompareOp::Gt => float_lt(b[row], a[row]),
        CompareOp::GtEq => !float_lt(a[row], b[row]),
    });
    Ok(BooleanArray::new(mask, NullBuffer::union(left.nulls(), right.nulls())))
}

/// Converts timestamps into exact decimal seconds, which represent every unit without overflow.
fn seconds(array: &ArrayRef) -> Result<Decimal128Array> {
    let array = strict_cast(array, value_type(array.data_type()))?;
    let places = match array.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => 3,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 6,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 9,
        _ => 0,
    };
    let units = cast(&array, &DataType::Int64)?;
    let wide: Decimal128Array = units.as_primitive::<Int64Type>().unary(i128::from);
    Ok(wide.with_precision_and_scale(38, places)?)
}

fn scale(data_type: &DataType) -> i8 {
    match data_type {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => *scale,
        _ => 0,
    }
}
