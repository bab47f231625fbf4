//! The types in which ids are compared: equal ids are equal keys, whatever type each table stores them in.
//!
//! Texts, bytes, integers, decimals, floats, dates, times, lists and structs are each compared in one type, which holds
//! the values of all their physical types without loss. Common types form a semilattice, so the order in which tables
//! are compared does not matter.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, ListArray, StructArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, Int64Type, TimeUnit};

use crate::error::{Error, Result};
use crate::schema::{item_of, plain_array};

/// The number of digits that a 64-bit integer may have.
const SIGNED_DIGITS: u8 = 19;
const UNSIGNED_DIGITS: u8 = 20;

/// Returns the type in which values of two types are compared as keys, if there is one.
pub fn common_type(left: &DataType, right: &DataType) -> Option<DataType> {
    joined(&canonical_type(left)?, &canonical_type(right)?)
}

/// Returns the type in which values of a type are compared among themselves.
pub(crate) fn key_type(data_type: &DataType) -> Result<DataType> {
    canonical_type(data_type).ok_or_else(|| Error::Unsupported {
        what: format!("an id column of type {data_type}"),
        hint: "use a column of texts, numbers, dates or bytes, or several of them".to_owned(),
    })
}

fn canonical_type(data_type: &DataType) -> Option<DataType> {
    use DataType::{
        Binary, BinaryView, Date32, Date64, Decimal32, Decimal64, Decimal128, Decimal256, Dictionary, FixedSizeBinary,
        FixedSizeList, Float16, Float32, Float64, LargeBinary, LargeList, LargeListView, LargeUtf8, List, ListView,
        Map, RunEndEncoded, Struct, Timestamp, UInt64, Union, Utf8, Utf8View,
    };
    Some(match data_type {
        Utf8 | LargeUtf8 | Utf8View => Utf8,
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => Binary,
        Date32 | Date64 => Date64,
        Float16 | Float32 | Float64 => Float64,
        Dictionary(_, values) => canonical_type(values)?,
        RunEndEncoded(_, values) => canonical_type(values.data_type())?,
        UInt64 => UInt64,
        integer if integer.is_integer() => DataType::Int64,
        Decimal32(digits, scale) | Decimal64(digits, scale) | Decimal128(digits, scale) | Decimal256(digits, scale) => {
            decimal(whole_digits(*digits, *scale), fraction_digits(*scale))?
        }
        Timestamp(unit, zone) => Timestamp(*unit, zone.as_ref().map(|_| "UTC".into())),
        List(item) | LargeList(item) | ListView(item) | LargeListView(item) | FixedSizeList(item, _) => {
            list_of(canonical_type(item.data_type())?)
        }
        Struct(members) => {
            let mut members = members
                .iter()
                .map(|member| Some(Field::new(member.name(), canonical_type(member.data_type())?, true)))
                .collect::<Option<Vec<_>>>()?;
            members.sort_by(|a, b| a.name().cmp(b.name()));
            Struct(members.into())
        }
        Map(_, _) | Union(_, _) => return None,
        other => other.clone(),
    })
}

/// Returns the common type of two canonical ones.
fn joined(left: &DataType, right: &DataType) -> Option<DataType> {
    use DataType::{Duration, List, Null, Struct, Time32, Time64, Timestamp};
    Some(match (left, right) {
        (left, right) if left == right => left.clone(),
        (Null, other) | (other, Null) => other.clone(),
        (Timestamp(a, zone), Timestamp(b, other)) => Timestamp(joined_unit(a, b), zone.clone().or(other.clone())),
        (Duration(a), Duration(b)) => Duration(joined_unit(a, b)),
        (Time32(_) | Time64(_), Time32(_) | Time64(_)) => Time64(TimeUnit::Nanosecond),
        (List(left), List(right)) => list_of(joined(left.data_type(), right.data_type())?),
        (Struct(left), Struct(right)) if left.len() == right.len() => {
            let member = |(left, right): (&FieldRef, &FieldRef)| {
                (left.name() == right.name()).then_some(())?;
                Some(Field::new(left.name(), joined(left.data_type(), right.data_type())?, true))
            };
            Struct(left.iter().zip(right).map(member).collect::<Option<Fields>>()?)
        }
        (left, right) => {
            let ((a, scale), (b, other)) = (digits(left)?, digits(right)?);
            decimal(a.max(b), scale.max(other))?
        }
    })
}

/// Returns the unit in which ticks of two units are compared: nanoseconds if the units differ.
fn joined_unit(left: &TimeUnit, right: &TimeUnit) -> TimeUnit {
    if left == right { *left } else { TimeUnit::Nanosecond }
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

/// Returns how many digits an exact number may have before and after the decimal point.
fn digits(data_type: &DataType) -> Option<(u8, u8)> {
    match data_type {
        DataType::Int64 => Some((SIGNED_DIGITS, 0)),
        DataType::UInt64 => Some((UNSIGNED_DIGITS, 0)),
        DataType::Decimal128(digits, scale) | DataType::Decimal256(digits, scale) => {
            Some((whole_digits(*digits, *scale), fraction_digits(*scale)))
        }
        _ => None,
    }
}

fn whole_digits(digits: u8, scale: i8) -> u8 {
    digits.saturating_add_signed(scale.saturating_neg())
}

fn fraction_digits(scale: i8) -> u8 {
    u8::try_from(scale).unwrap_or_default()
}

fn decimal(whole: u8, fraction: u8) -> Option<DataType> {
    let (digits, scale) = (whole.checked_add(fraction)?.max(1), i8::try_from(fraction).ok()?);
    match digits {
        ..=38 => Some(DataType::Decimal128(digits, scale)),
        39..=76 => Some(DataType::Decimal256(digits, scale)),
        _ => None,
    }
}

/// Converts values to the form in which a key type ([`common_type`]) compares them: equal values have the same bits.
///
/// # Errors
/// [`Error::Arrow`](crate::Error::Arrow) if a value has no such form.
pub fn comparable(array: &ArrayRef, key_type: &DataType) -> Result<ArrayRef> {
    let array = plain_array(array)?;
    match key_type {
        _ if *array.data_type() == DataType::Null => Ok(new_null_array(&compared_type(key_type), array.len())),
        DataType::Float64 => {
            let floats = exactly(&array, key_type)?;
            Ok(Arc::new(floats.as_primitive::<Float64Type>().unary::<_, Int64Type>(float_bits)))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) | DataType::Duration(TimeUnit::Nanosecond) => nanoseconds(&array),
        DataType::Timestamp(_, _) | DataType::Duration(_) => exactly(&array, &DataType::Int64),
        DataType::Date64 | DataType::Time64(_) => exactly(&exactly(&array, key_type)?, &DataType::Int64),
        DataType::Time32(_) => exactly(&exactly(&array, &DataType::Int32)?, &DataType::Int64),
        DataType::List(item) => {
            let Some(own) = item_of(array.data_type()) else { return exactly(&array, key_type) };
            let list = exactly(&array, &DataType::List(own.clone()))?;
            let list = list.as_list::<i32>();
            let values = comparable(list.values(), item.data_type())?;
            let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
            Ok(Arc::new(ListArray::try_new(field, list.offsets().clone(), values, list.nulls().cloned())?))
        }
        DataType::Struct(members) => {
            let rows = array.as_struct();
            let member = |member: &FieldRef| match rows.column_by_name(member.name()) {
                Some(values) => comparable(values, member.data_type()),
                None => Ok(new_null_array(&compared_type(member.data_type()), rows.len())),
            };
            let values = members.iter().map(member).collect::<Result<Vec<_>>>()?;
            let typed = members.iter().zip(&values);
            let fields = typed.map(|(member, values)| Field::new(member.name(), values.data_type().clone(), true));
            let fields: Fields = fields.collect();
            Ok(Arc::new(StructArray::try_new_with_length(fields, values, rows.nulls().cloned(), rows.len())?))
        }
        _ => exactly(&array, key_type),
    }
}

/// Returns the type of the values that [`comparable`] returns.
pub fn compared_type(key_type: &DataType) -> DataType {
    match key_type {
        DataType::Timestamp(TimeUnit::Nanosecond, _) | DataType::Duration(TimeUnit::Nanosecond) => {
            DataType::Decimal128(38, 0)
        }
        DataType::Float64
        | DataType::Timestamp(_, _)
        | DataType::Duration(_)
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_) => DataType::Int64,
        DataType::List(item) => list_of(compared_type(item.data_type())),
        DataType::Struct(members) => {
            let member = |member: &FieldRef| Field::new(member.name(), compared_type(member.data_type()), true);
            DataType::Struct(members.iter().map(member).collect())
        }
        other => other.clone(),
    }
}

/// Casts an array, and fails if a value cannot be cast: a null would equal other nulls.
fn exactly(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type {
        return Ok(array.clone());
    }
    Ok(cast_with_options(array, data_type, &CastOptions { safe: false, ..CastOptions::default() })?)
}

/// Returns the bits of a float such that, as in SQL, -0.0 equals 0.0 and all NaNs are equal.
fn float_bits(value: f64) -> i64 {
    let value = if value == 0.0 { 0.0 } else { value };
    let value = if value.is_nan() { f64::NAN } else { value };
    value.to_bits() as i64
}

/// Converts ticks of any unit to nanoseconds, for which 64 bits are too few.
fn nanoseconds(array: &ArrayRef) -> Result<ArrayRef> {
    let (DataType::Timestamp(unit, _) | DataType::Duration(unit)) = array.data_type() else {
        return exactly(array, &DataType::Decimal128(38, 0));
    };
    let factor = match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    };
    let ticks = exactly(array, &DataType::Int64)?;
    let nanos: Decimal128Array = ticks.as_primitive::<Int64Type>().unary(|tick| i128::from(tick) * factor);
    Ok(Arc::new(nanos.with_precision_and_scale(38, 0)?))
}

/// Returns the first row whose id is a NaN or a negative zero, at any depth: databases disagree on what these equal.
pub(crate) fn ambiguous_float(array: &ArrayRef) -> Result<Option<usize>> {
    let array = plain_array(array)?;
    let data_type = array.data_type();
    if data_type.is_floating() {
        let floats = exactly(&array, &DataType::Float64)?;
        let is_ambiguous = |value: f64| value.is_nan() || (value == 0.0 && value.is_sign_negative());
        return Ok(floats.as_primitive::<Float64Type>().iter().position(|value| value.is_some_and(is_ambiguous)));
    }
    if !has_floats(data_type) {
        return Ok(None);
    }
    for row in (0..array.len()).filter(|row| array.is_valid(*row)) {
        for values in values_of(&array, row)? {
            if ambiguous_float(&values)?.is_some() {
                return Ok(Some(row));
            }
        }
    }
    Ok(None)
}

fn has_floats(data_type: &DataType) -> bool {
    match (data_type, item_of(data_type)) {
        (_, Some(item)) => has_floats(item.data_type()),
        (DataType::Struct(members), _) => members.iter().any(|member| has_floats(member.data_type())),
        (other, _) => other.is_floating(),
    }
}

/// Returns the values of a list or a struct in a row.
fn values_of(array: &ArrayRef, row: usize) -> Result<Vec<ArrayRef>> {
    let Some(item) = item_of(array.data_type()) else {
        return Ok(array.as_struct().columns().iter().map(|column| column.slice(row, 1)).collect());
    };
    let list = exactly(&array.slice(row, 1), &DataType::List(item.clone()))?;
    Ok(vec![list.as_list::<i32>().value(0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    use arrow::datatypes::IntervalUnit;
    use proptest::prelude::*;

    fn leaf() -> impl Strategy<Value = DataType> {
        use DataType::*;
        let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
        let timestamps =
            units.into_iter().flat_map(|unit| [Timestamp(unit, None), Timestamp(unit, Some("+02:00".into()))]);
        let plain = [
            Null,
            Boolean,
            Int8,
            Int16,
            Int32,
            Int64,
            UInt8,
            UInt16,
            UInt32,
            UInt64,
            Float16,
            Float32,
            Float64,
            Utf8,
            LargeUtf8,
            Utf8View,
            Binary,
            LargeBinary,
            BinaryView,
            FixedSizeBinary(4),
            Date32,
            Date64,
            Time32(TimeUnit::Second),
            Time32(TimeUnit::Millisecond),
            Time64(TimeUnit::Microsecond),
            Time64(TimeUnit::Nanosecond),
            Decimal32(9, 2),
            Decimal64(18, 0),
            Decimal128(5, -2),
            Decimal128(20, 0),
            Decimal128(38, 10),
            Decimal256(76, 0),
            Decimal256(40, 38),
            Interval(IntervalUnit::DayTime),
        ];
        let all: Vec<DataType> = plain.into_iter().chain(timestamps).chain(units.map(Duration)).collect();
        proptest::sample::select(all)
    }

    fn any_type() -> impl Strategy<Value = DataType> {
        leaf().prop_recursive(2, 6, 2, |inner| {
            let name = proptest::sample::select(vec!["a", "b"]);
            let member = (name, inner.clone()).prop_map(|(name, data_type)| Field::new(name, data_type, true));
            prop_oneof![
                inner.clone().prop_map(list_of),
                inner.clone().prop_map(|item| DataType::LargeList(Arc::new(Field::new("x", item, true)))),
                inner.prop_map(|values| DataType::Dictionary(Box::new(DataType::Int8), Box::new(values))),
                proptest::collection::vec(member, 1..3).prop_map(|members| {
                    let mut members = members;
                    members.dedup_by(|a, b| a.name() == b.name());
                    DataType::Struct(members.into())
                }),
            ]
        })
    }

    fn join(left: &Option<DataType>, right: &DataType) -> Option<DataType> {
        left.as_ref().and_then(|left| common_type(left, right))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn common_types_are_a_semilattice(a in any_type(), b in any_type(), c in any_type()) {
            prop_assert_eq!(common_type(&a, &b), common_type(&b, &a));
            prop_assert_eq!(join(&common_type(&a, &b), &c), join(&common_type(&b, &c), &a));
            let same = common_type(&a, &a);
            prop_assert_eq!(join(&same, &a), same);
        }
    }

    #[test]
    fn ids_of_different_types_compare_by_value() {
        use arrow::array::{
            Float64Array, Int64Array, TimestampMillisecondArray, TimestampNanosecondArray, UInt64Array,
        };
        let same = |left: ArrayRef, right: ArrayRef| {
            let shared = common_type(left.data_type(), right.data_type()).unwrap();
            let (left, right) = (comparable(&left, &shared).unwrap(), comparable(&right, &shared).unwrap());
            assert_eq!(left.to_data(), right.to_data(), "{shared}");
        };
        same(Arc::new(Int64Array::from(vec![7])), Arc::new(UInt64Array::from(vec![7])));
        let decimal = Decimal128Array::from(vec![700]).with_precision_and_scale(5, 2).unwrap();
        same(Arc::new(decimal), Arc::new(UInt64Array::from(vec![7])));
        let (millis, nanos) = (vec![1_700_000_000_123], vec![1_700_000_000_123_000_000]);
        same(Arc::new(TimestampMillisecondArray::from(millis)), Arc::new(TimestampNanosecondArray::from(nanos)));
        // A time that does not fit into 64 bits of nanoseconds can still be compared.
        let far: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![i64::MAX]));
        comparable(&far, &DataType::Timestamp(TimeUnit::Nanosecond, None)).unwrap();
        same(Arc::new(Float64Array::from(vec![0.0, f64::NAN])), Arc::new(Float64Array::from(vec![-0.0, -f64::NAN])));
    }

    #[test]
    fn an_ambiguous_id_is_reported_with_its_row() {
        use arrow::datatypes::Float32Type;
        let rows = [vec![1.0], vec![2.0, f32::NAN], vec![-0.0]];
        let lists =
            ListArray::from_iter_primitive::<Float32Type, _, _>(rows.map(|row| Some(row.into_iter().map(Some))));
        let lists: ArrayRef = Arc::new(lists);
        let member = Field::new("m", lists.data_type().clone(), true);
        let structs: ArrayRef = Arc::new(StructArray::new(vec![member].into(), vec![lists.clone()], None));
        for ids in [lists, structs] {
            assert_eq!(ambiguous_float(&ids).unwrap(), Some(1));
            assert_eq!(ambiguous_float(&ids.slice(2, 1)).unwrap(), Some(0));
            assert_eq!(ambiguous_float(&ids.slice(0, 1)).unwrap(), None, "values outside a slice do not count");
        }
    }
}
