//! Every Arrow type: its values are read back unchanged, or the write is refused with an error that names the column.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Date64Array, Decimal32Array,
    Decimal64Array, Decimal128Array, Decimal256Array, DictionaryArray, DurationMicrosecondArray,
    DurationMillisecondArray, DurationNanosecondArray, DurationSecondArray, FixedSizeBinaryArray, FixedSizeListArray,
    Float16Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, IntervalDayTimeArray,
    IntervalMonthDayNanoArray, IntervalYearMonthArray, LargeBinaryArray, LargeListArray, LargeListViewArray,
    LargeStringArray, ListArray, ListViewArray, MapArray, MapBuilder, NullArray, RecordBatch, RunArray, StringArray,
    StringBuilder, StringViewArray, StructArray, Time32MillisecondArray, Time32SecondArray, Time64MicrosecondArray,
    Time64NanosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array, UnionArray, new_null_array,
};
use arrow::array::{Int32Builder, Int64Builder, ListBuilder};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{
    DataType, Field, Fields, Float64Type, Int8Type, Int32Type, Int64Type, IntervalDayTime, IntervalMonthDayNano,
    IntervalMonthDayNanoType, TimeUnit, UnionFields, i256,
};
use metaxy_core::{BufferedMetadataWriter, Error, FeatureGraph, FeatureSpec, MetadataStore, Result};

use super::kit::{LEAF, PASSED, ROOT, ids, pair, read, read_ids, samples, sorted, texts};
use super::{Bench, Outcome};

pub(super) use super::generated::{every_type_in_every_other, types_in_depth, values_beyond_the_calendar};

/// Writes a column (its last value null), reads it back, and compares value by value.
async fn round_trip(bench: Bench, name: &'static str, array: impl Array + 'static) -> Result<Outcome> {
    let given: ArrayRef = Arc::new(array);
    let given = with_null(&given);
    let store = bench.store(pair()?).await?;
    let batch = samples(ids("s", given.len()), "v1").column("value", given.clone()).batch();
    let refused = !bench.capabilities().await?.stores(given.data_type());
    match store.write(ROOT, batch.clone()).await {
        Err(error) if refused => return check_refusal(&store, error, batch).await,
        Err(error) => return Err(error),
        Ok(_) => assert!(!refused, "`{name}` is refused by the backend's capabilities, but was written"),
    }
    let rows = read(&store, ROOT).await?;
    let stored = rows.column_by_name("value").expect("the column is there");
    assert_same_values(name, &given, stored);
    let nulls = store.read(ROOT).filter("value IS NULL").await?.rows().await?;
    let expected = given.logical_null_count();
    assert_eq!(nulls.num_rows(), expected, "`value IS NULL` finds other rows than the {expected} that hold null");
    append_and_reopen(&bench, store, name, &given).await
}

/// Checks that the values survive a second write (into the table's type) and reopening the store.
async fn append_and_reopen(bench: &Bench, store: MetadataStore, name: &str, given: &ArrayRef) -> Result<Outcome> {
    let more = samples(ids("t", given.len()), "v1").column("value", given.clone()).batch();
    store.write(ROOT, more).await?;
    store.close().await?;
    let store = bench.store(pair()?).await?;
    let rows = read(&store, ROOT).await?;
    let stored = rows.column_by_name("value").expect("the column is there");
    for offset in [0, given.len()] {
        assert_same_values(name, given, &stored.slice(offset, given.len()));
    }
    PASSED
}

fn with_null(array: &ArrayRef) -> ArrayRef {
    // These have nulls of another kind: all values, or those of the values inside.
    if matches!(array.data_type(), DataType::Null | DataType::Union(_, _) | DataType::RunEndEncoded(_, _)) {
        return array.clone();
    }
    let positions: Int32Array = (0..array.len() as i32).map(Some).chain([None]).collect();
    take(array, &positions, None).expect("every type can be taken from")
}

/// Checks values; a storage system may use another type if each value can be cast back unchanged.
fn assert_same_values(name: &str, given: &ArrayRef, stored: &ArrayRef) {
    let expected = plain(given);
    let back = cast(stored, expected.data_type()).unwrap_or_else(|error| {
        panic!("`{name}` comes back as {}, which is not a {}: {error}", stored.data_type(), given.data_type())
    });
    assert_eq!(
        expected.to_data(),
        back.to_data(),
        "`{name}` comes back changed, as {}: {stored:?}, given {given:?}",
        stored.data_type()
    );
}

/// Decodes encodings that have several forms for the same values. (Arrow's cast to lists of a fixed length panics if
/// the first list is null; so these are compared as lists of any length.)
fn plain(array: &ArrayRef) -> ArrayRef {
    let plain = match array.data_type() {
        DataType::ListView(item) | DataType::FixedSizeList(item, _) => DataType::List(item.clone()),
        DataType::LargeListView(item) => DataType::LargeList(item.clone()),
        DataType::RunEndEncoded(_, values) => values.data_type().clone(),
        _ => return array.clone(),
    };
    cast(array, &plain).expect("an encoding can be taken off")
}

async fn check_refusal(store: &MetadataStore, error: Error, batch: RecordBatch) -> Result<Outcome> {
    let text = error.to_string();
    assert!(matches!(error, Error::UnsupportedType { .. }), "refused with another error than UnsupportedType: {text}");
    assert!(text.contains("value"), "the error does not name the column: {text}");
    assert!(!store.has_feature(ROOT).await?, "a refused write has left rows");
    // The writer drops a column without a type.
    if batch.column_by_name("value").is_some_and(|column| *column.data_type() != DataType::Null) {
        check_refusal_by_writer(store, batch).await?;
    }
    // The store still works.
    store.write(ROOT, samples(["s1"], "v1").batch()).await?;
    assert_eq!(read_ids(store, ROOT).await?, ["s1"]);
    Ok(Outcome::Refused(text))
}

/// Checks that the buffered writer refuses the batch at once, or returns it with the same error, and continues.
async fn check_refusal_by_writer(store: &MetadataStore, batch: RecordBatch) -> Result<()> {
    let writer = BufferedMetadataWriter::builder(store.clone()).start().await?;
    if let Err(error) = writer.put(ROOT, batch).await {
        assert!(matches!(error, Error::UnsupportedType { .. }), "a put is refused with another error: {error}");
        writer.close().await.expect("nothing was taken");
    } else {
        let error = writer.flush().await.expect_err("a flush takes what a write refuses");
        assert!(matches!(*error.error, Error::UnsupportedType { .. }), "a flush ends with another error: {error}");
        assert_eq!(error.unwritten.len(), 1, "a refused batch is not given back");
        writer.close().await.expect("the batch has been given back");
    }
    assert!(!store.has_feature(ROOT).await?, "a refused put has left rows");
    Ok(())
}

/// Defines cases that are round trips of one array.
macro_rules! round_trips {
    ($($name:ident => $array:expr;)*) => {
        $(pub(super) async fn $name(bench: Bench) -> Result<Outcome> {
            round_trip(bench, stringify!($name), $array).await
        })*
    };
}

/// 2026-11-24T14:15:00.123456789 UTC, the first and the last day of the years of four digits, and the epoch.
const NANOS: [i64; 3] = [1_795_529_700_123_456_789, 0, -1];
const MICROS: [i64; 4] = [1_795_529_700_123_456, 0, -62_135_596_800_000_000, 253_402_300_799_999_999];
const MILLIS: [i64; 4] = [1_795_529_700_123, 0, -62_135_596_800_000, 253_402_300_799_999];
const SECONDS: [i64; 4] = [1_795_529_700, 0, -62_135_596_800, 253_402_300_799];

const TEXTS: [&str; 10] = [
    "",
    " ",
    "plain",
    "it's \"quoted\" `so` [and] {so}; -- DROP TABLE x; /* */ \\ % _ ? $1 :p",
    "line\nbreak\ttab\r",
    "Straße Ñandú 日本語 עברית",
    "\u{1F3AC}\u{1F469}\u{200D}\u{1F52C}",
    "e\u{301} is not \u{e9}",
    "NULL",
    "null",
];

round_trips! {
    boolean => BooleanArray::from(vec![true, false]);
    int8 => Int8Array::from(vec![0, 1, i8::MIN, i8::MAX]);
    int16 => Int16Array::from(vec![0, 1, i16::MIN, i16::MAX]);
    int32 => Int32Array::from(vec![0, 1, i32::MIN, i32::MAX]);
    int64 => Int64Array::from(vec![0, 1, i64::MIN, i64::MAX, 9_007_199_254_740_993]);
    uint8 => UInt8Array::from(vec![0, 1, u8::MAX]);
    uint16 => UInt16Array::from(vec![0, 1, u16::MAX]);
    uint32 => UInt32Array::from(vec![0, 1, u32::MAX]);
    uint64 => UInt64Array::from(vec![0, 1, u64::MAX]);
    float16 => Float16Array::from(cast_f16());
    float32 => Float32Array::from(vec![0.0, 0.1, -1.5, f32::MIN, f32::MAX, f32::MIN_POSITIVE, f32::EPSILON]);
    float64 => Float64Array::from(vec![0.0, 0.1, -1.5, f64::MIN, f64::MAX, f64::MIN_POSITIVE, 1.0 / 3.0, 5e-324]);
    float64_special => Float64Array::from(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0]);
    float32_special => Float32Array::from(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0]);
    utf8 => StringArray::from(TEXTS.to_vec());
    large_utf8 => LargeStringArray::from(TEXTS.to_vec());
    utf8_view => StringViewArray::from(TEXTS.to_vec());
    binary => BinaryArray::from(vec![b"".as_slice(), b"\0", b"\xff\xfe", b"text", &[7; 1000]]);
    large_binary => LargeBinaryArray::from(vec![b"".as_slice(), b"\0", b"\xff\xfe"]);
    binary_view => BinaryViewArray::from(vec![b"".as_slice(), b"\0", b"longer than the twelve bytes of a view"]);
    fixed_size_binary => FixedSizeBinaryArray::try_from_iter([[0_u8, 1, 2], [255, 0, 255]].into_iter())?;
    date32 => Date32Array::from(vec![0, 1, -1, -719_162, 2_932_896, 20_781]);
    date64 => Date64Array::from(vec![0, 86_400_000, -86_400_000, 20_781 * 86_400_000]);
    time32_second => Time32SecondArray::from(vec![0, 1, 86_399]);
    time32_millisecond => Time32MillisecondArray::from(vec![0, 1, 86_399_999]);
    time64_microsecond => Time64MicrosecondArray::from(vec![0, 1, 86_399_999_999]);
    time64_nanosecond => Time64NanosecondArray::from(vec![0, 1, 86_399_999_999_999]);
    timestamp_second => TimestampSecondArray::from(SECONDS.to_vec());
    timestamp_millisecond => TimestampMillisecondArray::from(MILLIS.to_vec());
    timestamp_microsecond => TimestampMicrosecondArray::from(MICROS.to_vec());
    timestamp_second_utc => TimestampSecondArray::from(SECONDS.to_vec()).with_timezone("UTC");
    timestamp_millisecond_utc => TimestampMillisecondArray::from(MILLIS.to_vec()).with_timezone("UTC");
    timestamp_microsecond_utc => TimestampMicrosecondArray::from(MICROS.to_vec()).with_timezone("UTC");
    timestamp_microsecond_offset => TimestampMicrosecondArray::from(MICROS.to_vec()).with_timezone("+05:30");
    timestamp_microsecond_zone => TimestampMicrosecondArray::from(MICROS.to_vec()).with_timezone("Europe/Berlin");
    duration => DurationMicrosecondArray::from(vec![0, 1, -1, 86_400_000_000]);
    duration_second => DurationSecondArray::from(vec![0, 1, -1, 86_400]);
    duration_millisecond => DurationMillisecondArray::from(vec![0, 1, -1, 86_400_000]);
    duration_nanosecond => DurationNanosecondArray::from(vec![0, 1, -1, 86_400_000_000_000]);
    interval => interval_values();
    interval_year_month => IntervalYearMonthArray::from(vec![0, 14, -14]);
    interval_day_time => IntervalDayTimeArray::from(vec![IntervalDayTime::new(0, 0), IntervalDayTime::new(-3, 1_000)]);
    decimal128 => Decimal128Array::from(vec![0, 1, -1, 12_345_678_901_234_567_890_i128])
        .with_precision_and_scale(38, 10)?;
    decimal128_small => Decimal128Array::from(vec![0, 1, -1, 99_999]).with_precision_and_scale(5, 2)?;
    decimal32 => Decimal32Array::from(vec![0, 1, -1, 999_999_999]).with_precision_and_scale(9, 3)?;
    decimal64 => Decimal64Array::from(vec![0, 1, -1, 999_999_999_999_999_999]).with_precision_and_scale(18, 6)?;
    decimal256 => Decimal256Array::from(vec![i256::from_i128(0), i256::from_i128(i128::MAX)])
        .with_precision_and_scale(76, 10)?;
    list_of_int => ListArray::from_iter_primitive::<Int64Type, _, _>(
        [Some(vec![Some(1), None, Some(i64::MAX)]), Some(vec![]), Some(vec![None])]);
    list_of_float => ListArray::from_iter_primitive::<Float64Type, _, _>([Some(vec![Some(0.1), Some(-1e300)])]);
    list_of_text => list_of_texts();
    list_of_struct => list_of_structs();
    list_of_list => list_of_lists();
    large_list => LargeListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), Some(vec![])]);
    fixed_size_list => FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
        [Some(vec![Some(1), Some(2)]), Some(vec![Some(3), None])], 2);
    list_view => views_of_lists()?;
    large_list_view => large_views_of_lists()?;
    struct_flat => struct_of_values();
    struct_nested => nested_struct();
    map => map_of_texts();
    dictionary => ["red", "green", "red"].into_iter().collect::<DictionaryArray<Int32Type>>();
    dictionary_of_int => numbers_in_a_dictionary()?;
    run_end_encoded => runs()?;
    union => union_of_values()?;
    all_null => new_null_array(&DataType::Int64, 3);
}

pub(super) async fn timestamp_nanosecond(bench: Bench) -> Result<Outcome> {
    nanoseconds(bench, "timestamp_nanosecond", None).await
}

pub(super) async fn timestamp_nanosecond_utc(bench: Bench) -> Result<Outcome> {
    nanoseconds(bench, "timestamp_nanosecond_utc", Some("UTC")).await
}

/// Checks that a backend which stores microseconds refuses fractions of them, with the row, and stores the rest.
async fn nanoseconds(bench: Bench, name: &'static str, zone: Option<&str>) -> Result<Outcome> {
    let array = |nanos: &[i64]| -> TimestampNanosecondArray {
        let values = TimestampNanosecondArray::from(nanos.to_vec());
        zone.map_or(values.clone(), |zone| values.with_timezone(zone))
    };
    let store = bench.store(pair()?).await?;
    let batch = samples(ids("s", NANOS.len()), "v1").column("value", array(&[0, NANOS[0], NANOS[2]])).batch();
    let stored = bench.capabilities().await?.stores(array(&[]).data_type());
    let refused = match store.write(ROOT, batch.clone()).await {
        Err(Error::InvalidValue { column, row: 1, .. }) if column == "value" => true,
        Err(error) if !stored => return check_refusal(&store, error, batch).await,
        Err(error) => return Err(error),
        Ok(_) => false,
    };
    assert_eq!(store.has_feature(ROOT).await?, !refused, "a refused write has left rows, or a good one none");
    store.drop_feature(ROOT).await?;
    store.close().await?;
    let whole = NANOS.map(|nanos| nanos.div_euclid(1000) * 1000);
    round_trip(bench, name, if refused { array(&whole) } else { array(&NANOS) }).await
}

/// Returns values without a type, alone and inside other types, with the type that they get later.
fn untyped() -> Vec<(&'static str, ArrayRef, ArrayRef)> {
    let nulls: ArrayRef = Arc::new(NullArray::new(2));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let list = |values: &ArrayRef| -> ArrayRef {
        let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        Arc::new(ListArray::new(field, OffsetBuffer::from_lengths([1, 1]), values.clone(), None))
    };
    let member = |values: &ArrayRef| -> ArrayRef {
        let field = Field::new("b", values.data_type().clone(), true);
        Arc::new(StructArray::new(vec![field].into(), vec![values.clone()], None))
    };
    vec![
        ("null", nulls.clone(), numbers.clone()),
        ("list", list(&nulls), list(&numbers)),
        ("member", member(&nulls), member(&numbers)),
        ("list_of_members", list(&member(&nulls)), list(&member(&numbers))),
        ("list_of_lists", list(&list(&nulls)), list(&list(&numbers))),
    ]
}

pub(super) async fn columns_without_a_type(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    for (name, nothing, typed) in untyped() {
        store.drop_feature(ROOT).await?;
        let rows = |ids: [&str; 2], value: &ArrayRef| samples(ids, "v1").column(name, value.clone()).batch();
        // The first write leaves them out, the second has a type, and the third has nulls for that type.
        store.write(ROOT, rows(["s1", "s2"], &nothing)).await?;
        store.write(ROOT, rows(["s3", "s4"], &typed)).await?;
        store.write(ROOT, rows(["s5", "s6"], &nothing)).await?;
        let read = read(&store, ROOT).await?;
        let stored = read.column_by_name(name).unwrap_or_else(|| panic!("`{name}` has got no column"));
        assert_eq!((stored.is_null(0), stored.is_null(1)), (true, true), "`{name}` of the first write");
        assert_same_values(name, &typed, &stored.slice(2, 2));
        let last = cast(&stored.slice(4, 2), typed.data_type()).expect("the type is the one that was given");
        assert!(has_no_leaf(&last), "`{name}` of the last write holds a value: {last:?}");
    }
    PASSED
}

/// Returns whether the lists and members contain no value.
fn has_no_leaf(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::List(_) => {
            (0..array.len()).all(|row| array.is_null(row) || has_no_leaf(&array.as_list::<i32>().value(row)))
        }
        DataType::Struct(_) => array.as_struct().columns().iter().all(has_no_leaf),
        _ => array.null_count() == array.len(),
    }
}

pub(super) async fn many_categories(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let texts = |write: usize| (0..100).map(move |row| format!("category {write}-{row}"));
    for write in 0..3 {
        // Each write has as many categories as its 8-bit keys can number, and all writes together have more.
        let values: DictionaryArray<Int8Type> =
            texts(write).map(Some).collect::<Vec<_>>().iter().map(|text| text.as_deref()).collect();
        let rows = samples(ids(&format!("w{write}-"), 100), "v1").column("value", values);
        store.write(ROOT, rows.batch()).await?;
    }
    let rows = read(&store, ROOT).await?;
    let expected: Vec<String> = (0..3).flat_map(texts).collect();
    assert_eq!(super::kit::texts(&rows, "value"), expected);
    let increment = store.resolve_update(LEAF).await?;
    assert_eq!(super::kit::texts(&sorted(increment.new)?, "value"), expected);
    PASSED
}

pub(super) async fn structs_in_lists(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let boxes = |members: &[(&str, i64)]| -> ListArray {
        let fields: Fields = members.iter().map(|(name, _)| Field::new(*name, DataType::Int64, true)).collect();
        let values = members.iter().map(|(_, value)| Arc::new(Int64Array::from(vec![*value])) as ArrayRef).collect();
        let values: ArrayRef = Arc::new(StructArray::new(fields, values, None));
        let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        ListArray::new(field, OffsetBuffer::from_lengths([1]), values, None)
    };
    store.write(ROOT, samples(["s1"], "v1").column("l", boxes(&[("x", 1), ("y", 2)])).batch()).await?;
    let mut expected = vec![("s1", Some(1), Some(2))];
    let later = [
        ("s2", vec![("y", 3), ("x", 4)], (Some(4), Some(3))),
        ("s3", vec![("x", 5)], (Some(5), None)),
        ("s4", vec![("z", 6), ("y", 7)], (None, Some(7))),
    ];
    let mut refused = Vec::new();
    for (id, members, (x, y)) in later {
        match store.write(ROOT, samples([id], "v1").column("l", boxes(&members)).batch()).await {
            Ok(_) => expected.push((id, x, y)),
            Err(error @ (Error::TypeMismatch { .. } | Error::UnsupportedType { .. })) => {
                refused.push(error.to_string())
            }
            Err(error) => return Err(error),
        }
    }
    let rows = read(&store, ROOT).await?;
    let lists = rows.column_by_name("l").expect("the column is there").as_list::<i32>();
    let found: Vec<_> = (0..rows.num_rows())
        .map(|row| {
            let values = lists.value(row);
            let member = |name: &str| {
                let numbers = values.as_struct().column_by_name(name).expect("the member is there").clone();
                numbers.is_valid(0).then(|| numbers.as_primitive::<Int64Type>().value(0))
            };
            (texts(&rows, "id")[row].clone(), member("x"), member("y"))
        })
        .collect();
    let expected: Vec<_> = expected.into_iter().map(|(id, x, y)| (id.to_owned(), x, y)).collect();
    assert_eq!(found, expected, "members are matched by name");
    if refused.is_empty() { PASSED } else { Ok(Outcome::Refused(refused.join("; "))) }
}

fn cast_f16() -> arrow::array::PrimitiveArray<arrow::datatypes::Float16Type> {
    let floats: ArrayRef = Arc::new(Float32Array::from(vec![0.0, 1.5, -2.0, 65504.0]));
    let halves = cast(&floats, &DataType::Float16).expect("floats have halves");
    arrow::array::AsArray::as_primitive(&halves).clone()
}

fn interval_values() -> IntervalMonthDayNanoArray {
    let interval = |months, days, nanoseconds| IntervalMonthDayNano { months, days, nanoseconds };
    arrow::array::PrimitiveArray::<IntervalMonthDayNanoType>::from(vec![interval(0, 0, 0), interval(14, -3, 1_000)])
}

fn views_of_lists() -> Result<ListViewArray> {
    let values = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
    Ok(ListViewArray::try_new(
        field("item", DataType::Int64),
        vec![1, 0, 0].into(),
        vec![2, 0, 3].into(),
        values,
        None,
    )?)
}

fn large_views_of_lists() -> Result<LargeListViewArray> {
    let (offsets, sizes) = (vec![1_i64, 0].into(), vec![2_i64, 0].into());
    let values = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
    Ok(LargeListViewArray::try_new(field("item", DataType::Int64), offsets, sizes, values, None)?)
}

fn numbers_in_a_dictionary() -> Result<DictionaryArray<Int8Type>> {
    let values = Arc::new(Int64Array::from(vec![i64::MIN, 7]));
    Ok(DictionaryArray::try_new(Int8Array::from(vec![Some(1), None, Some(0), Some(1)]), values)?)
}

fn runs() -> Result<RunArray<Int32Type>> {
    let values = StringArray::from(vec![Some("red"), None, Some("")]);
    Ok(RunArray::try_new(&Int32Array::from(vec![2, 3, 4]), &values)?)
}

fn union_of_values() -> Result<UnionArray> {
    let fields =
        UnionFields::try_new([0, 1], [Field::new("n", DataType::Int64, true), Field::new("t", DataType::Utf8, true)])?;
    let children: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![Some(1), None])), Arc::new(StringArray::from(vec!["one"]))];
    Ok(UnionArray::try_new(fields, vec![0, 1, 0].into(), Some(vec![0, 0, 1].into()), children)?)
}

fn list_of_texts() -> ListArray {
    let mut builder = ListBuilder::new(StringBuilder::new());
    builder.append_value(TEXTS.map(Some));
    builder.append_value([None, Some("")]);
    builder.append_value(Vec::<Option<&str>>::new());
    builder.finish()
}

fn list_of_lists() -> ListArray {
    let mut builder = ListBuilder::new(ListBuilder::new(Int32Builder::new()));
    builder.values().append_value([Some(1), None]);
    builder.values().append_value([]);
    builder.append(true);
    builder.append(true);
    builder.finish()
}

fn struct_of_values() -> StructArray {
    StructArray::from(vec![
        (field("n", DataType::Int64), Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])) as ArrayRef),
        (field("text", DataType::Utf8), Arc::new(StringArray::from(vec![Some("a"), Some(""), None]))),
        (field("CamelCase", DataType::Boolean), Arc::new(BooleanArray::from(vec![true, false, true]))),
    ])
}

fn nested_struct() -> StructArray {
    let inner = struct_of_values();
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1)]), None, Some(vec![])]);
    StructArray::from(vec![
        (field("list", list.data_type().clone()), Arc::new(list) as ArrayRef),
        (field("inner", inner.data_type().clone()), Arc::new(inner)),
    ])
}

fn field(name: &str, data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new(name, data_type, true))
}

fn list_of_structs() -> ListArray {
    let values = struct_of_values();
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([2, 0, 1]);
    ListArray::new(field("item", values.data_type().clone()), offsets, Arc::new(values), None)
}

fn map_of_texts() -> MapArray {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    builder.keys().append_value("one");
    builder.values().append_value(1);
    builder.keys().append_value("it's");
    builder.values().append_null();
    builder.append(true).expect("keys and values agree");
    builder.append(true).expect("an empty map");
    builder.finish()
}

/// Checks that a null struct differs from a struct of nulls.
pub(super) async fn struct_null_is_null(bench: Bench) -> Result<Outcome> {
    let fields = Fields::from(vec![Field::new("n", DataType::Int64, true)]);
    let members: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![None, None]))];
    let value = StructArray::new(fields, members, Some(NullBuffer::from(vec![true, false])));
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["empty", "null"], "v1").column("value", value).batch()).await?;
    let rows = store.read(ROOT).filter("value IS NULL").await?.rows().await?;
    assert_eq!(texts(&rows.to_batch()?, "id"), ["null"]);
    PASSED
}

/// Checks id columns of many types.
pub(super) async fn ids_of_many_types(bench: Bench) -> Result<Outcome> {
    let spec = FeatureSpec::builder("ids").id_columns(["number", "day", "flag", "text"]).fields(["a"]).build()?;
    let store = bench.store(FeatureGraph::new([spec])?).await?;
    let batch = |value: i64| -> RecordBatch {
        samples(["unused"; 3], "v1")
            .provenance(&["a"], "v1")
            .column("number", Int64Array::from(vec![1, 1, 2]))
            .column("day", Date32Array::from(vec![5, 5, 5]))
            .column("flag", BooleanArray::from(vec![true, false, true]))
            .column("text", StringArray::from(vec!["x", "x", ""]))
            .column("value", Int64Array::from(vec![value; 3]))
            .batch()
    };
    store.write("ids", batch(1)).await?;
    store.write("ids", batch(2)).await?;
    let rows = store.read("ids").await?.rows().await?.to_batch()?;
    assert_eq!(texts(&rows, "value"), ["2", "2", "2"]);
    PASSED
}

pub(super) async fn text_with_nul(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let batch = samples(["s1"], "v1").column("value", StringArray::from(vec!["a\0b"])).batch();
    match store.write(ROOT, batch).await {
        Ok(_) => {
            assert_eq!(texts(&read(&store, ROOT).await?, "value"), ["a\0b"]);
            PASSED
        }
        Err(error) => {
            assert!(!store.has_feature(ROOT).await?, "a refused write has left rows");
            Ok(Outcome::Refused(error.to_string()))
        }
    }
}

pub(super) async fn times_at_the_ends_of_their_range(bench: Bench) -> Result<Outcome> {
    let ends: Int64Array = [i64::MIN, i64::MAX].into_iter().collect();
    let days: Int32Array = [i32::MIN, i32::MAX].into_iter().collect();
    let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
    let of_unit = |unit: TimeUnit| {
        let zone: Option<Arc<str>> = Some("UTC".into());
        [DataType::Timestamp(unit, None), DataType::Timestamp(unit, zone), DataType::Duration(unit)]
    };
    let mut arrays: Vec<ArrayRef> = vec![cast(&days, &DataType::Date32)?, cast(&ends, &DataType::Date64)?];
    for data_type in units.into_iter().flat_map(of_unit) {
        arrays.push(cast(&ends, &data_type)?);
    }
    let store = bench.store(pair()?).await?;
    let columns = arrays.into_iter().map(|array| (array.data_type().to_string(), array));
    kept_or_refused(&store, columns).await
}

pub(super) async fn strange_member_names(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let names =
        ["with space", "with \"quotes\"", "it's", "back`tick", "a.b", "Größe", "日本語", "select", "$1", "back\\slash"];
    let columns = names.into_iter().enumerate().map(|(number, name)| {
        let members = vec![(field(name, DataType::Int64), Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef)];
        (format!("column {number}"), Arc::new(StructArray::from(members)) as ArrayRef)
    });
    kept_or_refused(&store, columns).await
}

/// Writes each column separately: its two values are read back unchanged, or the write is refused.
async fn kept_or_refused(store: &MetadataStore, columns: impl Iterator<Item = (String, ArrayRef)>) -> Result<Outcome> {
    let mut refused = Vec::new();
    let mut kept = 0;
    for (name, array) in columns {
        let own = [format!("{name} 1"), format!("{name} 2")];
        let batch = samples(&own, "v1").column(&name, array.clone()).batch();
        if let Err(error) = store.write(ROOT, batch).await {
            refused.push(format!("{name}: {error}"));
        } else {
            kept += own.len();
            let filter = format!("id IN ('{}', '{}')", own[0], own[1]);
            let rows = sorted(store.read(ROOT).filter(filter).await?.rows().await?)?;
            let stored = rows.column_by_name(&name).unwrap_or_else(|| panic!("column `{name}` is lost"));
            assert_same_values(&name, &array, stored);
        }
        let rows = if store.has_feature(ROOT).await? { read(store, ROOT).await?.num_rows() } else { 0 };
        assert_eq!(rows, kept, "a refused write has left rows: {refused:?}");
    }
    if refused.is_empty() { PASSED } else { Ok(Outcome::Refused(refused.join("; "))) }
}
