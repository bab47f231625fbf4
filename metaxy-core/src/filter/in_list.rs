//! The values of an IN list, prepared for fast lookups.

use std::collections::HashSet;

use ahash::RandomState;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, downcast_primitive_array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{cast, or_kleene, take};
use arrow::datatypes::{ArrowNativeType, DataType, UInt64Type};

use crate::error::Result;

use super::eval::compare_scalar;
use super::predicate::value_type;
use super::{CompareOp, Scalar};

/// The number of values up to which they are compared one by one.
const FEW: usize = 3;

/// The values of an IN list, in the type of the column, each once.
pub struct InList {
    values: Vec<Scalar>,
    has_null: bool,
    lookup: Lookup,
}

enum Lookup {
    /// One comparison for each value.
    Compare,
    /// The native values of integers, dates, times and timestamps; unsigned ones with the same bits.
    Integers(HashSet<i64, RandomState>),
    /// Texts and bytes.
    Bytes(HashSet<Vec<u8>, RandomState>),
}

impl InList {
    /// Prepares the values of a column of a type; `has_null` if NULL is one of them.
    pub fn new(values: Vec<Scalar>, has_null: bool, data_type: &DataType) -> Self {
        let integers = || values.iter().map(|value| native(value, data_type)).collect::<Option<HashSet<_, _>>>();
        let bytes = || values.iter().map(text_or_bytes).collect::<Option<HashSet<_, _>>>();
        let lookup = match values.len() {
            ..=FEW => Lookup::Compare,
            _ => integers().map(Lookup::Integers).or_else(|| bytes().map(Lookup::Bytes)).unwrap_or(Lookup::Compare),
        };
        Self { values, has_null, lookup }
    }

    /// Returns the values, without NULL.
    pub fn values(&self) -> &[Scalar] {
        &self.values
    }

    /// Returns whether NULL is in the list: then the result for a row that equals no value is unknown, not false.
    pub fn has_null(&self) -> bool {
        self.has_null
    }

    /// Returns for each row whether it is in the list, or NULL if that is unknown.
    pub(super) fn evaluate(&self, array: &ArrayRef) -> Result<BooleanArray> {
        if let Some(dictionary) = array.as_any_dictionary_opt() {
            // Once for each distinct value, and from there for the rows.
            let distinct = self.evaluate(dictionary.values())?;
            let spread = take(&distinct, dictionary.keys(), None)?;
            return Ok(self.with_null(spread.as_boolean().clone()));
        }
        let array = match array.data_type() {
            DataType::RunEndEncoded(..) => &cast(array, value_type(array.data_type()))?,
            _ => array,
        };
        let found = match &self.lookup {
            Lookup::Integers(set) => found_integer(array, set),
            Lookup::Bytes(set) => found_bytes(array, set),
            Lookup::Compare => None,
        };
        let mask = match found {
            Some(found) => BooleanArray::new(found, array.logical_nulls()),
            None => self.compare_each(array)?,
        };
        Ok(self.with_null(mask))
    }

    fn compare_each(&self, array: &ArrayRef) -> Result<BooleanArray> {
        let mut mask = BooleanArray::new(BooleanBuffer::new_unset(array.len()), array.logical_nulls());
        for value in &self.values {
            mask = or_kleene(&mask, &compare_scalar(array, CompareOp::Eq, value)?)?;
        }
        Ok(mask)
    }

    /// Makes the result of rows that were not found unknown, if NULL is in the list.
    fn with_null(&self, mask: BooleanArray) -> BooleanArray {
        if !self.has_null {
            return mask;
        }
        let found = match mask.nulls() {
            Some(nulls) => mask.values() & nulls.inner(),
            None => mask.values().clone(),
        };
        BooleanArray::new(found.clone(), Some(NullBuffer::new(found)))
    }
}

impl PartialEq for InList {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values && self.has_null == other.has_null
    }
}

impl std::fmt::Debug for InList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InList").field("values", &self.values).field("has_null", &self.has_null).finish()
    }
}

/// Returns the value as the array stores it, if that is an integer.
fn native(value: &Scalar, data_type: &DataType) -> Option<i64> {
    match value {
        Scalar::Int(value) | Scalar::Time { value, .. } | Scalar::Timestamp { value, .. } => Some(*value),
        Scalar::UInt(value) => Some(value.cast_signed()),
        Scalar::Date(days) if *data_type == DataType::Date64 => Some(i64::from(*days) * 86_400_000),
        Scalar::Date(days) => Some(i64::from(*days)),
        _ => None,
    }
}

fn text_or_bytes(value: &Scalar) -> Option<Vec<u8>> {
    match value {
        Scalar::Text(text) => Some(text.as_bytes().to_vec()),
        Scalar::Binary(bytes) => Some(bytes.clone()),
        _ => None,
    }
}

fn found_integer(array: &ArrayRef, set: &HashSet<i64, RandomState>) -> Option<BooleanBuffer> {
    fn search<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, set: &HashSet<i64, RandomState>) -> BooleanBuffer {
        let values = array.values();
        BooleanBuffer::collect_bool(array.len(), |row| values[row].to_i64().is_some_and(|value| set.contains(&value)))
    }
    if let Some(array) = array.as_primitive_opt::<UInt64Type>() {
        let values = array.values();
        return Some(BooleanBuffer::collect_bool(array.len(), |row| set.contains(&values[row].cast_signed())));
    }
    downcast_primitive_array! {
        array => Some(search(array, set)),
        _ => None,
    }
}

fn found_bytes(array: &ArrayRef, set: &HashSet<Vec<u8>, RandomState>) -> Option<BooleanBuffer> {
    macro_rules! search {
        ($array:expr) => {{
            let array = $array;
            BooleanBuffer::collect_bool(array.len(), |row| set.contains::<[u8]>(array.value(row).as_ref()))
        }};
    }
    Some(match array.data_type() {
        DataType::Utf8 => search!(array.as_string::<i32>()),
        DataType::LargeUtf8 => search!(array.as_string::<i64>()),
        DataType::Utf8View => search!(array.as_string_view()),
        DataType::Binary => search!(array.as_binary::<i32>()),
        DataType::LargeBinary => search!(array.as_binary::<i64>()),
        DataType::BinaryView => search!(array.as_binary_view()),
        DataType::FixedSizeBinary(_) => search!(array.as_fixed_size_binary()),
        _ => return None,
    })
}
