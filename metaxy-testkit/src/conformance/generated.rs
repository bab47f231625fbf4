//! Columns of generated types: every Arrow type inside every other. Each is read back unchanged, by reads and by
//! increments, or is refused before anything is stored. `METAXY_TYPE_ROUNDS` generates more of the deep ones.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Date64Array,
    DictionaryArray, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, Float64Array, Int32Array, Int64Array,
    LargeBinaryArray, LargeListArray, LargeListViewArray, LargeStringArray, ListArray, ListViewArray, MapArray,
    PrimitiveArray, RecordBatch, RunArray, StringArray, StringViewArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{
    DataType, Field, Fields, Int8Type, Int16Type, Int32Type, Int64Type, IntervalUnit, TimeUnit, UInt16Type,
};
use fastrand::Rng;
use metaxy_core::{Error, MetadataStore, Result};

use super::kit::{LEAF, PASSED, ROOT, ids, pair, read, samples, sorted};
use super::{Bench, Outcome};
use crate::fixtures::tables::key;
use crate::long_runs::{TYPE_ROUNDS, number};

const ROWS: usize = 4;
/// The number of columns that are written together.
const TOGETHER: usize = 40;
const DEEP_COLUMNS: usize = 120;

/// A column, and the same values without encodings.
struct Column {
    given: ArrayRef,
    plain: ArrayRef,
}

pub(super) async fn every_type_in_every_other(bench: Bench) -> Result<Outcome> {
    let leaves = leaves(ROWS + 2);
    let alone = leaves.iter().map(|leaf| Column { given: leaf.clone(), plain: unviewed(leaf) });
    let nested = |(wrapper, leaf): (Wrapper, &ArrayRef)| wrapper.around(&|len| of_length(leaf, len), ROWS + 2);
    let nested = Wrapper::ALL.iter().flat_map(|wrapper| leaves.iter().map(|leaf| (*wrapper, leaf))).map(nested);
    keep_or_refuse(&bench, alone.chain(nested).collect()).await
}

pub(super) async fn types_in_depth(bench: Bench) -> Result<Outcome> {
    let mut random = Rng::with_seed(20);
    for _ in 0..number(TYPE_ROUNDS, 1) {
        let columns = (0..DEEP_COLUMNS).map(|_| deep(&mut random, ROWS + 2)).collect();
        keep_or_refuse(&bench, columns).await?;
    }
    PASSED
}

pub(super) async fn values_beyond_the_calendar(bench: Bench) -> Result<Outcome> {
    let times = [i64::MIN, i64::MAX, 0];
    let times: ArrayRef = Arc::new(Int64Array::from(times.to_vec()));
    let days: ArrayRef = Arc::new(Date32Array::from(vec![i32::MIN, i32::MAX, 0]));
    let seconds: ArrayRef = Arc::new(Int32Array::from(vec![-1, 86_400, i32::MAX]));
    let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
    let of_times = units.iter().flat_map(|unit| {
        let zones = [None, Some("UTC".into()), Some("+01:00".into())];
        let stamps = zones.map(|zone| DataType::Timestamp(*unit, zone));
        stamps.into_iter().chain([DataType::Duration(*unit)])
    });
    let of_times = of_times.chain([DataType::Date64, DataType::Time64(TimeUnit::Microsecond)]);
    let arrays = of_times.map(|data_type| (times.clone(), data_type));
    let arrays =
        arrays.chain([TimeUnit::Second, TimeUnit::Millisecond].map(|unit| (seconds.clone(), DataType::Time32(unit))));
    let arrays = arrays.map(|(values, data_type)| cast(&values, &data_type).expect("numbers are times"));
    let arrays: Vec<ArrayRef> = arrays.chain([days]).collect();
    let alone = arrays.iter().map(|array| of_length(array, ROWS + 2));
    let nested = arrays.iter().map(|array| Wrapper::List.around(&|len| of_length(array, len), ROWS + 2));
    for column in alone.chain(nested) {
        // One by one, because a refused value would hide others.
        keep_or_refuse(&bench, vec![column]).await?;
    }
    PASSED
}

/// Writes columns, together if the backend accepts them together.
async fn keep_or_refuse(bench: &Bench, columns: Vec<Column>) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let columns: Vec<(usize, Column)> = columns.into_iter().map(Column::inside).enumerate().collect();
    let is_taken = |(_, column): &&(usize, Column)| {
        let rows = RecordBatch::try_from_iter_with_nullable([("value", column.given.clone(), true)]);
        store.backend().check(&key(ROOT), &rows.expect("one column")).is_ok()
    };
    let mut refused = Vec::new();
    for together in columns.chunks(TOGETHER) {
        let (taken, declined): (Vec<_>, Vec<_>) = together.iter().partition(is_taken);
        let all_kept = try_columns(&store, &taken).await?.is_none();
        let alone = if all_kept { declined } else { together.iter().collect() };
        for column in alone {
            refused.extend(try_columns(&store, &[column]).await?);
        }
    }
    if refused.is_empty() { PASSED } else { Ok(Outcome::Refused(refused.join("\n"))) }
}

/// Writes columns twice and checks what is read. Returns the refusal, if there is one.
async fn try_columns(store: &MetadataStore, columns: &[&(usize, Column)]) -> Result<Option<String>> {
    if columns.is_empty() {
        return Ok(None);
    }
    store.drop_feature(ROOT).await?;
    let rows = |prefix: &str| {
        let rows = samples(ids(prefix, ROWS), "v1");
        let add = |rows: super::kit::Samples, (number, column): &&(usize, Column)| {
            rows.column(&format!("c{number}"), column.given.clone())
        };
        columns.iter().fold(rows, add).batch()
    };
    if let Err(error) = store.write(ROOT, rows("a")).await {
        let is_refusal =
            matches!(error, Error::UnsupportedType { .. } | Error::InvalidValue { .. } | Error::LimitExceeded { .. });
        let types: Vec<_> = columns.iter().map(|(_, column)| column.given.data_type()).collect();
        assert!(is_refusal, "{types:?} are refused with another error: {error:?}");
        assert!(!store.has_feature(ROOT).await?, "a refused write of {types:?} has left rows");
        return Ok(Some(error.to_string()));
    }
    store.write(ROOT, rows("b")).await?;
    let increment = sorted(store.resolve_update(LEAF).await?.new)?;
    for (answer, rows) in [("a read", read(store, ROOT).await?), ("an increment", increment)] {
        assert_eq!(rows.num_rows(), 2 * ROWS, "{answer} lacks rows");
        columns.iter().for_each(|(number, column)| column.check(&rows, *number, answer));
    }
    let none = store.read(ROOT).filter("id = 'there is none'").await?.rows().await?;
    assert_eq!(none.num_rows(), 0);
    Ok(None)
}

impl Column {
    /// Returns the rows in the middle, so that the values of arrays begin at an offset.
    fn inside(self) -> Self {
        Self { given: self.given.slice(1, ROWS), plain: self.plain.slice(1, ROWS) }
    }

    fn check(&self, rows: &RecordBatch, number: usize, answer: &str) {
        let stored = rows.column_by_name(&format!("c{number}")).expect("the column is there");
        let given = self.given.data_type();
        let back = cast(stored, self.plain.data_type())
            .unwrap_or_else(|error| panic!("{given} comes back as {}: {error}", stored.data_type()));
        for offset in [0, ROWS] {
            let found = back.slice(offset, ROWS);
            assert_eq!(found.to_data(), self.plain.to_data(), "{given} comes back changed by {answer}: {found:?}");
        }
    }
}

/// Returns arrays of all types without nested values, some of whose values are null.
fn leaves(len: usize) -> Vec<ArrayRef> {
    let texts = vec![Some("red"), Some(""), None, Some("a text that is longer than a view holds inline, é")];
    let bytes: Vec<Option<&[u8]>> = vec![Some(b"\x00\xff"), Some(b""), None, Some(b"thirteen bytes and more")];
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(1), None, Some(100)]));
    let mut leaves: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(texts.clone())),
        Arc::new(LargeStringArray::from(texts.clone())),
        Arc::new(StringViewArray::from(texts)),
        Arc::new(BinaryArray::from(bytes.clone())),
        Arc::new(LargeBinaryArray::from(bytes.clone())),
        Arc::new(BinaryViewArray::from(bytes)),
        Arc::new(fixed_size_binary()),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        Arc::new(Float32Array::from(vec![Some(1.5), None, Some(f32::MAX)])),
        Arc::new(Float64Array::from(vec![Some(0.1), None, Some(f64::MIN_POSITIVE), Some(f64::INFINITY)])),
        Arc::new(Date64Array::from(vec![Some(86_400_000), None, Some(0)])),
    ];
    let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
    let mut of_numbers = vec![
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float16,
        DataType::Date32,
        DataType::Time32(TimeUnit::Second),
        DataType::Time32(TimeUnit::Millisecond),
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Time64(TimeUnit::Nanosecond),
        DataType::Decimal32(7, 2),
        DataType::Decimal64(15, 3),
        DataType::Decimal128(30, 4),
        DataType::Decimal256(60, 5),
        DataType::Interval(IntervalUnit::YearMonth),
    ];
    for unit in units {
        of_numbers
            .extend([None, Some("UTC".into()), Some("+02:00".into())].map(|zone| DataType::Timestamp(unit, zone)));
        of_numbers.push(DataType::Duration(unit));
    }
    leaves.extend(of_numbers.iter().map(|data_type| number_array(&numbers, data_type)));
    leaves.iter().map(|leaf| of_length(leaf, len).given).collect()
}

fn fixed_size_binary() -> FixedSizeBinaryArray {
    let values = [Some(b"ab"), None, Some(b"\x00\x01")].into_iter();
    FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, 2).expect("two bytes each")
}

/// Casts small numbers to a type, in two steps if necessary.
fn number_array(numbers: &ArrayRef, data_type: &DataType) -> ArrayRef {
    let through = match data_type {
        DataType::Date32 | DataType::Time32(_) | DataType::Interval(_) => DataType::Int32,
        _ => DataType::Int64,
    };
    let numbers = cast(numbers, &through).expect("small numbers");
    match data_type {
        DataType::Interval(_) => {
            let months = numbers.to_data().into_builder().data_type(data_type.clone()).build();
            arrow::array::make_array(months.expect("months are numbers of 32 bits"))
        }
        _ => cast(&numbers, data_type).expect("numbers become any of these"),
    }
}

/// Returns the values of a leaf, repeated.
fn of_length(leaf: &ArrayRef, len: usize) -> Column {
    let positions: Int32Array = (0..len).map(|row| Some((row % leaf.len()) as i32)).collect();
    let given = take(leaf, &positions, None).expect("leaves can be taken from");
    Column { plain: unviewed(&given), given }
}

/// Converts views, because Arrow lacks some casts to views inside other types.
fn unviewed(array: &ArrayRef) -> ArrayRef {
    let plain = match array.data_type() {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        _ => return array.clone(),
    };
    cast(array, &plain).expect("a view has values")
}

/// Returns a column of random wrappers around a random leaf.
fn deep(random: &mut Rng, len: usize) -> Column {
    let leaves = leaves(6);
    let leaf = leaves[random.usize(..leaves.len())].clone();
    let wrappers: Vec<Wrapper> =
        (0..random.usize(2..=4)).map(|_| Wrapper::ALL[random.usize(..Wrapper::ALL.len())]).collect();
    nest(&wrappers, &leaf, len)
}

fn nest(wrappers: &[Wrapper], leaf: &ArrayRef, len: usize) -> Column {
    match wrappers.split_first() {
        None => of_length(leaf, len),
        Some((outer, inner)) => outer.around(&|len| nest(inner, leaf, len), len),
    }
}

/// A type that contains another type.
#[derive(Clone, Copy, Debug)]
enum Wrapper {
    List,
    LargeList,
    ListView,
    LargeListView,
    FixedSizeList,
    Struct,
    Map,
    DictionaryOf8Bits,
    DictionaryOf16Bits,
    DictionaryOf64Bits,
    RunsOf16Bits,
    RunsOf32Bits,
    RunsOf64Bits,
}

impl Wrapper {
    const ALL: [Self; 13] = [
        Self::List,
        Self::LargeList,
        Self::ListView,
        Self::LargeListView,
        Self::FixedSizeList,
        Self::Struct,
        Self::Map,
        Self::DictionaryOf8Bits,
        Self::DictionaryOf16Bits,
        Self::DictionaryOf64Bits,
        Self::RunsOf16Bits,
        Self::RunsOf32Bits,
        Self::RunsOf64Bits,
    ];

    /// Returns a column of this type with values that `inner` creates.
    fn around(self, inner: &dyn Fn(usize) -> Column, len: usize) -> Column {
        match self {
            Self::List | Self::LargeList | Self::ListView | Self::LargeListView | Self::FixedSizeList => {
                self.list(inner, len)
            }
            Self::Struct => structs(&inner(len), len),
            Self::Map => maps(&inner(len), len),
            Self::DictionaryOf8Bits => dictionary::<Int8Type>(&inner(3), len),
            Self::DictionaryOf16Bits => dictionary::<UInt16Type>(&inner(3), len),
            Self::DictionaryOf64Bits => dictionary::<Int64Type>(&inner(3), len),
            Self::RunsOf16Bits => runs::<Int16Type>(&inner(len.div_ceil(2)), len),
            Self::RunsOf32Bits => runs::<Int32Type>(&inner(len.div_ceil(2)), len),
            Self::RunsOf64Bits => runs::<Int64Type>(&inner(len.div_ceil(2)), len),
        }
    }

    /// Lists of two items each, except a null and, if lengths may differ, an empty list.
    fn list(self, inner: &dyn Fn(usize) -> Column, len: usize) -> Column {
        let values = inner(2 * len);
        let is_fixed = matches!(self, Self::FixedSizeList);
        let nulls = NullBuffer::from_iter((0..len).map(|row| row % 3 != 2));
        let lengths = |row: usize| if row % 4 == 1 && !is_fixed { 0 } else { 2 };
        let offsets: Vec<usize> = (0..len)
            .map(lengths)
            .scan(0, |end, length| {
                *end += length;
                Some(*end)
            })
            .collect();
        let starts: Vec<usize> = (0..len).map(|row| if row == 0 { 0 } else { offsets[row - 1] }).collect();
        let sizes: Vec<usize> = (0..len).map(lengths).collect();
        let plain = ListArray::new(
            item(&values.plain),
            OffsetBuffer::from_lengths(sizes.iter().copied()),
            values.plain.clone(),
            Some(nulls.clone()),
        );
        let (field, values, nulls) = (item(&values.given), values.given, Some(nulls));
        let narrow = |numbers: &[usize]| numbers.iter().map(|number| *number as i32).collect::<ScalarBuffer<i32>>();
        let wide = |numbers: &[usize]| numbers.iter().map(|number| *number as i64).collect::<ScalarBuffer<i64>>();
        let given: ArrayRef = match self {
            Self::LargeList => Arc::new(LargeListArray::new(field, OffsetBuffer::from_lengths(sizes), values, nulls)),
            Self::ListView => Arc::new(ListViewArray::new(field, narrow(&starts), narrow(&sizes), values, nulls)),
            Self::LargeListView => Arc::new(LargeListViewArray::new(field, wide(&starts), wide(&sizes), values, nulls)),
            Self::FixedSizeList => Arc::new(FixedSizeListArray::new(field, 2, values, nulls)),
            _ => Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(sizes), values, nulls)),
        };
        Column { given, plain: Arc::new(plain) }
    }
}

fn item(values: &ArrayRef) -> Arc<Field> {
    Arc::new(Field::new_list_field(values.data_type().clone(), true))
}

fn structs(member: &Column, len: usize) -> Column {
    let nulls = NullBuffer::from_iter((0..len).map(|row| row % 4 != 3));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..len as i64));
    let of = |member: &ArrayRef| -> ArrayRef {
        let field = |name: &str, array: &ArrayRef| Field::new(name, array.data_type().clone(), true);
        let fields: Fields = vec![field("inner", member), field("a number", &numbers)].into();
        Arc::new(StructArray::new(fields, vec![member.clone(), numbers.clone()], Some(nulls.clone())))
    };
    Column { given: of(&member.given), plain: of(&member.plain) }
}

/// Maps of one entry each, except a null and an empty map.
fn maps(values: &Column, len: usize) -> Column {
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..len).map(|row| format!("key {row}"))));
    let lengths: Vec<usize> = (0..len).map(|row| usize::from(row % 4 != 1)).collect();
    let nulls = NullBuffer::from_iter((0..len).map(|row| row % 3 != 2));
    let of = |values: &ArrayRef| -> ArrayRef {
        let fields: Fields =
            vec![Field::new("keys", DataType::Utf8, false), Field::new("values", values.data_type().clone(), true)]
                .into();
        let entries = StructArray::new(fields.clone(), vec![keys.clone(), values.clone()], None);
        let field = Arc::new(Field::new("entries", DataType::Struct(fields), false));
        Arc::new(MapArray::new(field, OffsetBuffer::from_lengths(lengths.clone()), entries, Some(nulls.clone()), false))
    };
    Column { given: of(&values.given), plain: of(&values.plain) }
}

/// Repeats the three values, with nulls between them.
fn dictionary<K: arrow::datatypes::ArrowDictionaryKeyType>(values: &Column, len: usize) -> Column {
    let positions: Int32Array = (0..len).map(|row| (row % 4 != 3).then_some((row % 3) as i32)).collect();
    let keys = cast(&positions, &K::DATA_TYPE).expect("small keys");
    let keys: PrimitiveArray<K> = keys.to_data().into();
    let given = DictionaryArray::<K>::new(keys, values.given.clone());
    Column { given: Arc::new(given), plain: take(&values.plain, &positions, None).expect("plain values can be taken") }
}

/// Repeats each value twice.
fn runs<R: arrow::datatypes::RunEndIndexType + ArrowPrimitiveType>(values: &Column, len: usize) -> Column {
    let ends: Int32Array = (1..=len.div_ceil(2)).map(|run| (2 * run).min(len) as i32).map(Some).collect();
    let ends: PrimitiveArray<R> = cast(&ends, &R::DATA_TYPE).expect("small ends").to_data().into();
    let given = RunArray::<R>::try_new(&ends, &values.given).expect("a value for each run");
    let positions: Int32Array = (0..len).map(|row| Some((row / 2) as i32)).collect();
    Column { given: Arc::new(given), plain: take(&values.plain, &positions, None).expect("plain values can be taken") }
}
