//! The Delta type that stores the values of an Arrow type.
//!
//! If the Python package's writer has a type for the values, a column has that one: timestamps of any unit become
//! microseconds, and unsigned integers the signed ones of their size, as long as the values fit. Types that this writer
//! refuses (times of day, durations, larger unsigned integers) are stored as a larger integer or a decimal, together
//! with the Arrow type.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, RecordBatch};
use arrow::compute::max;
use arrow::datatypes::{
    DataType, Field, FieldRef, Fields, Schema, TimeUnit, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

/// Delta's name for the items of lists.
const ELEMENT: &str = "element";
const ENTRIES: &str = "key_value";

/// The error is a hint for the user.
pub(super) type Result<T> = std::result::Result<T, &'static str>;

/// The type in which values are read, and the stored one.
#[derive(Clone)]
pub(super) struct Forms {
    pub logical: DataType,
    pub stored: DataType,
}

/// Returns both forms of the values of a type in a new column.
pub(super) fn forms(data_type: &DataType) -> Result<Forms> {
    use DataType as T;
    let same = |data_type: DataType| Ok(Forms { logical: data_type.clone(), stored: data_type });
    let kept = |stored: DataType| Ok(Forms { logical: data_type.clone(), stored });
    match data_type {
        T::Boolean | T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64 => same(data_type.clone()),
        T::Utf8 | T::LargeUtf8 | T::Utf8View => same(T::Utf8),
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => same(T::Binary),
        T::Float16 => same(T::Float32),
        T::Date32 => same(T::Date32),
        T::UInt8 => kept(T::Int16),
        T::UInt16 => kept(T::Int32),
        T::UInt32 => kept(T::Int64),
        T::UInt64 => kept(T::Decimal128(20, 0)),
        T::Time32(_) => kept(T::Int32),
        T::Time64(_) | T::Duration(_) => kept(T::Int64),
        T::Decimal32(precision, scale) | T::Decimal64(precision, scale) | T::Decimal128(precision, scale) => {
            decimal(*precision, *scale)
        }
        T::Decimal256(precision, scale) if *precision <= 38 => decimal(*precision, *scale),
        T::Decimal256(_, _) => Err("Delta Lake has decimals of up to 38 digits; cast it to a smaller one or to text"),
        // The Python package's writer stores a Date64 as a time.
        T::Date64 => same(T::Timestamp(TimeUnit::Microsecond, None)),
        T::Timestamp(_, zone) => {
            let utc = zone.as_ref().map(|_| Arc::from("UTC"));
            let logical = match zone {
                Some(zone) if zone.eq_ignore_ascii_case("utc") => utc.clone(),
                zone => zone.clone(),
            };
            Ok(Forms {
                logical: T::Timestamp(TimeUnit::Microsecond, logical),
                stored: T::Timestamp(TimeUnit::Microsecond, utc),
            })
        }
        T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) | T::ListView(item) | T::LargeListView(item) => {
            forms(item.data_type()).map(list_forms)
        }
        T::Map(entries, _) => map_forms(entries.data_type()),
        T::Struct(members) => struct_forms(members),
        T::Dictionary(_, values) => forms(values),
        T::RunEndEncoded(_, values) => forms(values.data_type()),
        T::Null => Err("it has no type yet; cast it to the type that its values will have"),
        T::Interval(_) => Err("store the interval as a number, or as a duration"),
        T::Union(_, _) => Err("split the union into one column for each of its types"),
    }
}

fn decimal(precision: u8, scale: i8) -> Result<Forms> {
    if scale < 0 || scale.unsigned_abs() > precision {
        return Err("Delta Lake has decimals with a scale between 0 and their precision; cast it to one of those");
    }
    let data_type = DataType::Decimal128(precision, scale);
    Ok(Forms { logical: data_type.clone(), stored: data_type })
}

fn map_forms(entries: &DataType) -> Result<Forms> {
    let DataType::Struct(pair) = entries else { return Err("a map needs keys and values") };
    let [key, value] = pair.as_ref() else { return Err("a map needs keys and values") };
    let (key, value) = (forms(key.data_type())?, forms(value.data_type())?);
    let map = |key: DataType, value: DataType| {
        let pair = vec![Field::new("key", key, false), Field::new("value", value, true)];
        DataType::Map(Arc::new(Field::new(ENTRIES, DataType::Struct(pair.into()), false)), false)
    };
    Ok(Forms { logical: map(key.logical, value.logical), stored: map(key.stored, value.stored) })
}

pub(super) fn list_forms(item: Forms) -> Forms {
    let list = |item: DataType| DataType::List(Arc::new(Field::new(ELEMENT, item, true)));
    Forms { logical: list(item.logical), stored: list(item.stored) }
}

fn struct_forms(members: &Fields) -> Result<Forms> {
    if members.is_empty() {
        return Err("a struct without members cannot be stored in a Parquet file; leave the column out");
    }
    struct_of(members.iter().map(member_forms).collect::<Result<_>>()?)
}

fn member_forms(member: &FieldRef) -> Result<(String, Forms)> {
    Ok((member.name().clone(), forms(member.data_type())?))
}

/// Returns the forms of a struct with these members.
pub(super) fn struct_of(members: Vec<(String, Forms)>) -> Result<Forms> {
    let mut names = HashSet::new();
    let (mut logical, mut stored) = (Vec::with_capacity(members.len()), Vec::with_capacity(members.len()));
    for (name, member) in members {
        if !names.insert(name.to_lowercase()) {
            return Err("Delta Lake does not distinguish members of a struct by case; rename one of them");
        }
        logical.push(Field::new(&name, member.logical, true));
        stored.push(Field::new(&name, member.stored, true));
    }
    Ok(Forms { logical: DataType::Struct(logical.into()), stored: DataType::Struct(stored.into()) })
}

/// Returns the schema with signed integers instead of unsigned ones, if all values fit into those of the same size.
pub(crate) fn with_signed_integers(schema: &Schema, batches: &[RecordBatch]) -> Schema {
    let signed = |field: &FieldRef| {
        let values: Vec<ArrayRef> =
            batches.iter().filter_map(|batch| batch.column_by_name(field.name()).cloned()).collect();
        signed_field(field, &values)
    };
    Schema::new(schema.fields().iter().map(signed).collect::<Fields>())
}

fn signed_field(field: &FieldRef, values: &[ArrayRef]) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(signed_type(field.data_type(), values)))
}

fn signed_type(data_type: &DataType, values: &[ArrayRef]) -> DataType {
    use DataType as T;
    let or = |fits: bool, signed: DataType| if fits { signed } else { data_type.clone() };
    let inside = |of: &dyn Fn(&ArrayRef) -> ArrayRef| values.iter().map(of).collect::<Vec<_>>();
    match data_type {
        T::UInt8 => or(all_fit::<UInt8Type>(values, i8::MAX as u8), T::Int8),
        T::UInt16 => or(all_fit::<UInt16Type>(values, i16::MAX as u16), T::Int16),
        T::UInt32 => or(all_fit::<UInt32Type>(values, i32::MAX as u32), T::Int32),
        T::UInt64 => or(all_fit::<UInt64Type>(values, i64::MAX as u64), T::Int64),
        T::List(item) => T::List(signed_field(item, &inside(&|list| list.as_list::<i32>().values().clone()))),
        T::LargeList(item) => T::LargeList(signed_field(item, &inside(&|list| list.as_list::<i64>().values().clone()))),
        T::FixedSizeList(item, size) => {
            T::FixedSizeList(signed_field(item, &inside(&|list| list.as_fixed_size_list().values().clone())), *size)
        }
        T::Map(entries, sorted) => {
            let inner = inside(&|map| Arc::new(map.as_map().entries().clone()));
            T::Map(signed_field(entries, &inner), *sorted)
        }
        T::Struct(members) => {
            let member = |(at, member)| signed_field(member, &inside(&|of| of.as_struct().column(at).clone()));
            T::Struct(members.iter().enumerate().map(member).collect())
        }
        other => other.clone(),
    }
}

fn all_fit<T: ArrowPrimitiveType>(values: &[ArrayRef], greatest: T::Native) -> bool
where
    T::Native: PartialOrd,
{
    values.iter().all(|array| max(array.as_primitive::<T>()).is_none_or(|found| found <= greatest))
}
