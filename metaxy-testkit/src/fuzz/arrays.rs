//! Arrays of every layout: slices of longer arrays, views, dictionaries, run ends, lists in any order.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeListArray, Float64Array, Int8Array, Int32Array, Int64Array,
    ListArray, ListViewArray, MapArray, NullArray, RecordBatch, RecordBatchOptions, RunArray, StringArray, StructArray,
    new_null_array,
};
use arrow::array::{DictionaryArray, make_array};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, TimeUnit};

use super::input::Input;

/// The depth of lists and structs.
const DEPTH: usize = 3;

/// Types to which whole numbers are cast.
const OF_NUMBERS: [DataType; 15] = [
    DataType::Int64,
    DataType::Int8,
    DataType::Int32,
    DataType::UInt16,
    DataType::UInt64,
    DataType::Float16,
    DataType::Float32,
    DataType::Date32,
    DataType::Date64,
    DataType::Time64(TimeUnit::Microsecond),
    DataType::Timestamp(TimeUnit::Nanosecond, None),
    DataType::Timestamp(TimeUnit::Second, None),
    DataType::Duration(TimeUnit::Millisecond),
    DataType::Interval(IntervalUnit::YearMonth),
    DataType::Decimal128(12, 3),
];

/// Types to which texts are cast.
const OF_TEXTS: [DataType; 5] =
    [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, DataType::Binary, DataType::BinaryView];

/// Makes an array of some rows, from lists and structs of this depth.
type Maker = fn(&mut Input<'_>, usize, usize) -> ArrayRef;

const FLAT: [Maker; 8] = [texts, numbers, floats, booleans, bytes, nothing, dictionary, run_ends];
const NESTED: [Maker; 7] = [structs, list, large_list, list_view, fixed_size_list, map, nulls_of_any_type];

/// Returns a batch of columns with these names, in order, each with an array of any type.
pub(super) fn batch<'a>(columns: impl IntoIterator<Item = (&'a str, ArrayRef)>, rows: usize) -> RecordBatch {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) =
        columns.into_iter().map(|(name, array)| (Field::new(name, array.data_type().clone(), true), array)).unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options).expect("columns of one length")
}

/// Returns an array of any type.
pub(super) fn any(input: &mut Input<'_>, rows: usize) -> ArrayRef {
    of_depth(input, rows, DEPTH)
}

/// Returns an array of texts in any layout.
pub(super) fn any_texts(input: &mut Input<'_>, rows: usize) -> ArrayRef {
    let maker = [texts, texts, dictionary, run_ends][input.below(4)];
    sliced(input, rows, DEPTH, maker)
}

/// Returns a struct with these members, whose arrays may be of any type.
pub(super) fn any_struct(input: &mut Input<'_>, members: &[&str], rows: usize) -> ArrayRef {
    let column = |name: &&str| {
        let array = if input.below(8) == 7 { any(input, rows) } else { any_texts(input, rows) };
        (Field::new(*name, array.data_type().clone(), true), array)
    };
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = members.iter().map(column).unzip();
    let nulls = if input.below(8) == 7 { nulls(input, rows) } else { None };
    Arc::new(StructArray::try_new_with_length(fields.into(), arrays, nulls, rows).expect("members of one length"))
}

fn of_depth(input: &mut Input<'_>, rows: usize, depth: usize) -> ArrayRef {
    let flat = depth == 0 || input.below(2) == 0;
    let maker = if flat { FLAT[input.below(FLAT.len())] } else { NESTED[input.below(NESTED.len())] };
    sliced(input, rows, depth, maker)
}

/// Returns a slice of a longer array.
fn sliced(input: &mut Input<'_>, rows: usize, depth: usize, maker: Maker) -> ArrayRef {
    let (before, behind) = (input.below(3), input.below(2));
    maker(input, before + rows + behind, depth.saturating_sub(1)).slice(before, rows)
}

fn nulls(input: &mut Input<'_>, rows: usize) -> Option<NullBuffer> {
    (input.below(2) == 1).then(|| (0..rows).map(|_| input.below(4) > 0).collect())
}

/// Returns the array in another type; an array of nulls if its values do not fit.
fn converted(array: &dyn Array, data_type: &DataType) -> ArrayRef {
    cast(array, data_type).unwrap_or_else(|_| new_null_array(data_type, array.len()))
}

fn texts(input: &mut Input<'_>, rows: usize, _: usize) -> ArrayRef {
    let data_type = &OF_TEXTS[input.below(OF_TEXTS.len())];
    let texts: StringArray = (0..rows).map(|_| (input.below(8) < 7).then(|| input.text())).collect();
    converted(&texts, data_type)
}

fn numbers(input: &mut Input<'_>, rows: usize, _: usize) -> ArrayRef {
    let data_type = &OF_NUMBERS[input.below(OF_NUMBERS.len())];
    let numbers: Int64Array = (0..rows).map(|_| (input.below(8) < 7).then(|| input.number())).collect();
    converted(&numbers, data_type)
}

fn floats(input: &mut Input<'_>, rows: usize, _: usize) -> ArrayRef {
    let float = |input: &mut Input<'_>| match input.byte() {
        0 => f64::NAN,
        1 => -0.0,
        2 => f64::INFINITY,
        _ => input.number() as f64 / 3.0,
    };
    Arc::new(Float64Array::from_iter_values((0..rows).map(|_| float(input))))
}

fn booleans(input: &mut Input<'_>, rows: usize, _: usize) -> ArrayRef {
    Arc::new(BooleanArray::from_iter((0..rows).map(|_| input.one_of(&[Some(true), Some(false), None]))))
}

fn bytes(input: &mut Input<'_>, rows: usize, _: usize) -> ArrayRef {
    Arc::new(BinaryArray::from_iter_values((0..rows).map(|_| input.bytes())))
}

fn nothing(_: &mut Input<'_>, rows: usize, _: usize) -> ArrayRef {
    Arc::new(NullArray::new(rows))
}

/// Returns a dictionary whose values may be null, or occur twice, or be unused.
fn dictionary(input: &mut Input<'_>, rows: usize, _: usize) -> ArrayRef {
    let size = 1 + input.below(4);
    let values = texts(input, size, 0);
    let keys: Int8Array = (0..rows).map(|_| (input.below(8) < 7).then(|| input.below(size) as i8)).collect();
    Arc::new(DictionaryArray::try_new(keys, values).expect("keys of its values"))
}

fn run_ends(input: &mut Input<'_>, rows: usize, _: usize) -> ArrayRef {
    let mut ends = Vec::new();
    while ends.last().copied().unwrap_or(0) < rows as i32 {
        let end = ends.last().copied().unwrap_or(0) + 1 + input.below(4) as i32;
        ends.push(end);
    }
    let values = texts(input, ends.len(), 0);
    let runs = RunArray::try_new(&Int32Array::from(ends), &values).expect("growing ends");
    make_array(runs.slice(0, rows).into_data())
}

fn structs(input: &mut Input<'_>, rows: usize, depth: usize) -> ArrayRef {
    let names = ["x", "y", "", "X"];
    let arrays: Vec<ArrayRef> = (0..input.below(3)).map(|_| of_depth(input, rows, depth)).collect();
    let fields: Fields =
        names.iter().zip(&arrays).map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let nulls = nulls(input, rows);
    Arc::new(StructArray::try_new_with_length(fields, arrays, nulls, rows).expect("members of one length"))
}

/// Returns the lengths of lists, and their sum.
fn lengths(input: &mut Input<'_>, rows: usize) -> (Vec<usize>, usize) {
    let lengths: Vec<usize> = (0..rows).map(|_| input.below(3)).collect();
    let all = lengths.iter().sum();
    (lengths, all)
}

fn items(input: &mut Input<'_>, length: usize, depth: usize) -> (Arc<Field>, ArrayRef) {
    let values = of_depth(input, length, depth);
    (Arc::new(Field::new_list_field(values.data_type().clone(), true)), values)
}

fn list(input: &mut Input<'_>, rows: usize, depth: usize) -> ArrayRef {
    let (lengths, all) = lengths(input, rows);
    let (field, values) = items(input, all, depth);
    let nulls = nulls(input, rows);
    Arc::new(
        ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, nulls).expect("offsets of its values"),
    )
}

fn large_list(input: &mut Input<'_>, rows: usize, depth: usize) -> ArrayRef {
    let list = list(input, rows, depth);
    match list.data_type() {
        DataType::List(item) => converted(&list, &DataType::LargeList(item.clone())),
        _ => list,
    }
}

/// Returns lists that overlap, and are in any order.
fn list_view(input: &mut Input<'_>, rows: usize, depth: usize) -> ArrayRef {
    let all = 1 + input.below(4);
    let (field, values) = items(input, all, depth);
    let ranges: Vec<(i32, i32)> = (0..rows)
        .map(|_| {
            let start = input.below(all);
            (start as i32, input.below(all - start + 1) as i32)
        })
        .collect();
    let (offsets, sizes): (Vec<i32>, Vec<i32>) = ranges.into_iter().unzip();
    let nulls = nulls(input, rows);
    let views = ListViewArray::try_new(field, ScalarBuffer::from(offsets), ScalarBuffer::from(sizes), values, nulls);
    Arc::new(views.expect("ranges of its values"))
}

fn fixed_size_list(input: &mut Input<'_>, rows: usize, depth: usize) -> ArrayRef {
    let size = 1 + input.below(2);
    let (field, values) = items(input, rows * size, depth);
    let nulls = nulls(input, rows);
    Arc::new(FixedSizeListArray::try_new(field, size as i32, values, nulls).expect("values of its size"))
}

/// Returns maps whose keys may occur twice.
fn map(input: &mut Input<'_>, rows: usize, depth: usize) -> ArrayRef {
    let (lengths, all) = lengths(input, rows);
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..all).map(|_| input.text())));
    let values = of_depth(input, all, depth);
    let fields: Fields =
        vec![Field::new("key", DataType::Utf8, false), Field::new("value", values.data_type().clone(), true)].into();
    let entries =
        StructArray::try_new_with_length(fields.clone(), vec![keys, values], None, all).expect("of one length");
    let field = Arc::new(Field::new("entries", DataType::Struct(fields), false));
    let nulls = nulls(input, rows);
    Arc::new(
        MapArray::try_new(field, OffsetBuffer::from_lengths(lengths), entries, nulls, false)
            .expect("offsets of its entries"),
    )
}

fn nulls_of_any_type(input: &mut Input<'_>, rows: usize, depth: usize) -> ArrayRef {
    let data_type = of_depth(input, 0, depth).data_type().clone();
    new_null_array(&data_type, rows)
}
