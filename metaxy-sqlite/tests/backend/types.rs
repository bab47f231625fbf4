//! Every Arrow type is read as it was written.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::*;

use super::{append, fresh, read};

async fn round_trip(arrays: Vec<ArrayRef>) {
    let (_dir, _path, store) = fresh().await;
    for (number, array) in arrays.into_iter().enumerate() {
        let schema = Schema::new(vec![Field::new("value", array.data_type().clone(), true)]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![array.clone()]).unwrap();
        let table = format!("t{number}");
        append(&store, &table, batch).await.unwrap();
        let back = read(&store, &table).await.unwrap().column(0).clone();
        assert_eq!(back.data_type(), array.data_type());
        assert_eq!(&back, &array, "{}", array.data_type());
    }
}

fn primitive<T: ArrowPrimitiveType>(values: Vec<Option<T::Native>>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter(values))
}

#[tokio::test]
async fn numbers() {
    let mut arrays: Vec<ArrayRef> = vec![
        primitive::<Int8Type>(vec![Some(i8::MIN), None, Some(i8::MAX)]),
        primitive::<Int16Type>(vec![Some(i16::MIN), None, Some(i16::MAX)]),
        primitive::<Int32Type>(vec![Some(i32::MIN), None, Some(i32::MAX)]),
        primitive::<Int64Type>(vec![Some(i64::MIN), None, Some(i64::MAX)]),
        primitive::<UInt8Type>(vec![Some(0), None, Some(u8::MAX)]),
        primitive::<UInt16Type>(vec![Some(0), None, Some(u16::MAX)]),
        primitive::<UInt32Type>(vec![Some(0), None, Some(u32::MAX)]),
        primitive::<UInt64Type>(vec![Some(0), None, Some(u64::MAX), Some(1 << 63), Some((1 << 63) - 1)]),
        primitive::<Float32Type>(vec![Some(f32::MIN), None, Some(0.1), Some(f32::INFINITY), Some(f32::NAN)]),
        primitive::<Float64Type>(vec![
            Some(f64::MIN_POSITIVE),
            None,
            Some(0.1 + 0.2),
            Some(-0.0),
            Some(f64::NEG_INFINITY),
            Some(f64::NAN),
            Some(5e-324),
            Some(1e300),
            Some(3.0),
        ]),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
    ];
    arrays.push(cast(&primitive::<Float32Type>(vec![Some(1.5), None, Some(f32::NAN)]), &DataType::Float16).unwrap());
    round_trip(arrays).await;
}

#[tokio::test]
async fn decimals() {
    let small = |scale| -> ArrayRef {
        Arc::new(
            Decimal128Array::from(vec![Some(0), Some(-5), None, Some(12_345), Some(-99_999)])
                .with_precision_and_scale(5, scale)
                .unwrap(),
        )
    };
    let huge = i256::from_parts(u128::MAX, 1 << 100);
    let mut arrays = vec![
        small(0),
        small(2),
        small(5),
        small(-3),
        Arc::new(
            Decimal128Array::from(vec![Some(10_i128.pow(38) - 1), Some(1 - 10_i128.pow(38))])
                .with_precision_and_scale(38, 10)
                .unwrap(),
        ) as ArrayRef,
        Arc::new(
            Decimal256Array::from(vec![Some(huge), None, Some(i256::from(-7))])
                .with_precision_and_scale(76, 20)
                .unwrap(),
        ),
    ];
    arrays.push(Arc::new(Decimal32Array::from(vec![Some(-123)]).with_precision_and_scale(9, 2).unwrap()));
    arrays.push(Arc::new(Decimal64Array::from(vec![Some(-123)]).with_precision_and_scale(18, 2).unwrap()));
    round_trip(arrays).await;
}

#[tokio::test]
async fn text_and_binary() {
    let texts =
        vec![Some("plain"), None, Some(""), Some("quote \" back \\ tab\t nul\0 ümläut 🦀"), Some("NaN"), Some("12")];
    let bytes: Vec<Option<&[u8]>> = vec![Some(b"\x00\xff"), None, Some(b""), Some(b"text")];
    let fixed = FixedSizeBinaryArray::try_from_sparse_iter_with_size(
        vec![Some([1_u8, 2]), None, Some([0, 255])].into_iter(),
        2,
    );
    round_trip(vec![
        Arc::new(StringArray::from(texts.clone())),
        Arc::new(LargeStringArray::from(texts.clone())),
        Arc::new(StringViewArray::from(texts)),
        Arc::new(BinaryArray::from(bytes.clone())),
        Arc::new(LargeBinaryArray::from(bytes.clone())),
        Arc::new(BinaryViewArray::from(bytes)),
        Arc::new(fixed.unwrap()),
    ])
    .await;
}

fn times() -> Vec<ArrayRef> {
    let values = vec![Some(0), None, Some(-1), Some(1_700_000_000_123)];
    let small = vec![Some(0), None, Some(86_399)];
    let mut arrays = vec![
        primitive::<Date32Type>(vec![Some(i32::MIN), None, Some(19_000)]),
        primitive::<Date64Type>(vec![Some(86_400_000), None]),
        primitive::<Time32SecondType>(small.clone()),
        primitive::<Time32MillisecondType>(small),
        primitive::<Time64MicrosecondType>(values.clone()),
        primitive::<Time64NanosecondType>(values.clone()),
        primitive::<DurationSecondType>(values.clone()),
        primitive::<DurationMillisecondType>(values.clone()),
        primitive::<DurationMicrosecondType>(values.clone()),
        primitive::<DurationNanosecondType>(values.clone()),
    ];
    for zone in [None, Some("UTC"), Some("Europe/Vilnius"), Some("+02:00")] {
        let zone: Option<Arc<str>> = zone.map(Into::into);
        arrays.push(Arc::new(TimestampSecondArray::from(values.clone()).with_timezone_opt(zone.clone())));
        arrays.push(Arc::new(TimestampMillisecondArray::from(values.clone()).with_timezone_opt(zone.clone())));
        arrays.push(Arc::new(TimestampMicrosecondArray::from(values.clone()).with_timezone_opt(zone.clone())));
        arrays.push(Arc::new(TimestampNanosecondArray::from(values.clone()).with_timezone_opt(zone)));
    }
    arrays
}

#[tokio::test]
async fn dates_and_times() {
    round_trip(times()).await;
}

fn dictionary(keys: DataType, values: &DataType) -> DataType {
    DataType::Dictionary(Box::new(keys), Box::new(values.clone()))
}

#[tokio::test]
async fn dictionaries_are_stored_as_their_values() {
    let (_dir, _path, store) = fresh().await;
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("b"), Some("a")]));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None, Some(7)]));
    let cases = [(DataType::Int8, &texts), (DataType::UInt16, &texts), (DataType::Int32, &numbers)];
    for (number, (keys, values)) in cases.into_iter().enumerate() {
        let array = cast(values, &dictionary(keys, values.data_type())).unwrap();
        let table = format!("t{number}");
        append(&store, &table, super::batch(vec![("value", array)])).await.unwrap();
        assert_eq!(read(&store, &table).await.unwrap().column(0), values);
    }
}

/// Columns that an earlier version has declared as dictionaries, at any depth: their keys have at most 127 values.
#[tokio::test]
async fn dictionaries_of_earlier_versions_are_read_as_their_values() {
    let (_dir, path, store) = fresh().await;
    let small = dictionary(DataType::Int8, &DataType::Utf8);
    let list = |item: &DataType| DataType::List(Arc::new(Field::new("item", item.clone(), true)));
    let rows = |numbers: std::ops::Range<i32>| {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(numbers.map(|number| format!("text {number}"))));
        let offsets = OffsetBuffer::from_lengths(vec![1; texts.len()]);
        let item = Arc::new(Field::new("item", DataType::Utf8, true));
        let lists: ArrayRef = Arc::new(ListArray::new(item, offsets, texts.clone(), None));
        super::batch(vec![("value", texts), ("list", lists)])
    };
    append(&store, "t", rows(0..100)).await.unwrap();
    let legacy = Schema::new(vec![Field::new("value", small.clone(), true), Field::new("list", list(&small), true)]);
    let described = metaxy_core::ipc::encode_schema(&legacy).unwrap();
    let shell = rusqlite::Connection::open(&path).unwrap();
    shell.execute("UPDATE metaxy$tables SET schema = ?1", [described]).unwrap();
    for numbers in [100..200, 200..300] {
        let plain = rows(numbers);
        let value = cast(plain.column(0), &small).unwrap();
        append(&store, "t", super::batch(vec![("value", value), ("list", plain.column(1).clone())])).await.unwrap();
    }
    assert_eq!(read(&store, "t").await.unwrap(), rows(0..300));
    append(&store, "t", super::batch(vec![("more", rows(0..1).column(0).clone())])).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap().slice(0, 300).project(&[0, 1]).unwrap(), rows(0..300));
}

/// Returns a list of every item of an array, an empty list, a null, and a list of all items.
fn lists(items: &ArrayRef) -> Vec<ArrayRef> {
    let field = Arc::new(Field::new("item", items.data_type().clone(), true));
    let length = items.len();
    let nulls = NullBuffer::from(vec![true, true, false, true]);
    let offsets: Vec<usize> = vec![0, 1, 1, 1, length];
    let small = OffsetBuffer::new(ScalarBuffer::from(offsets.iter().map(|o| *o as i32).collect::<Vec<_>>()));
    let large = OffsetBuffer::new(ScalarBuffer::from(offsets.iter().map(|o| *o as i64).collect::<Vec<_>>()));
    vec![
        Arc::new(ListArray::new(field.clone(), small, items.clone(), Some(nulls.clone()))),
        Arc::new(LargeListArray::new(field.clone(), large, items.clone(), Some(nulls))),
        Arc::new(FixedSizeListArray::new(field, 1, items.clone(), None)),
    ]
}

fn leaves() -> Vec<ArrayRef> {
    let texts = vec![Some("x"), None, Some("\"\\\n\u{1}🦀"), Some("")];
    let bytes: Vec<Option<&[u8]>> = vec![Some(b"\x00\xff"), None, Some(b"")];
    let mut leaves = times();
    leaves.extend([
        primitive::<Int8Type>(vec![Some(-1), None]),
        primitive::<Int64Type>(vec![Some(i64::MIN), None, Some(i64::MAX)]),
        primitive::<UInt64Type>(vec![Some(u64::MAX), None]),
        primitive::<Float32Type>(vec![Some(0.1), None, Some(f32::NAN), Some(16_777_217.0)]),
        primitive::<Float64Type>(vec![
            Some(0.1),
            None,
            Some(f64::NAN),
            Some(f64::INFINITY),
            Some(f64::NEG_INFINITY),
            Some(-0.0),
            Some(f64::MAX),
            Some(5e-324),
            Some(1.7976931348623155e308),
            Some(123_456_789_012_345_680.0),
        ]),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        Arc::new(StringArray::from(texts.clone())),
        Arc::new(LargeStringArray::from(texts.clone())),
        Arc::new(StringViewArray::from(texts)),
        Arc::new(BinaryArray::from(bytes.clone())),
        Arc::new(BinaryViewArray::from(bytes)),
        Arc::new(FixedSizeBinaryArray::try_from_iter([[1_u8, 2], [0, 255]].into_iter()).unwrap()),
        Arc::new(Decimal128Array::from(vec![Some(-5), None]).with_precision_and_scale(10, 3).unwrap()),
    ]);
    leaves
}

#[tokio::test]
async fn lists_of_everything() {
    round_trip(leaves().iter().flat_map(lists).collect()).await;
}

#[tokio::test]
async fn lists_of_lists() {
    round_trip(
        leaves().iter().flat_map(lists).map(|list| lists(&list)).flat_map(|lists| lists.into_iter().take(1)).collect(),
    )
    .await;
}

#[tokio::test]
async fn structs_of_everything() {
    let leaves: Vec<ArrayRef> = leaves().into_iter().map(|leaf| leaf.slice(0, 2)).collect();
    let fields: Fields = leaves
        .iter()
        .enumerate()
        .map(|(n, leaf)| Field::new(format!("m \"{n}"), leaf.data_type().clone(), true))
        .collect();
    let whole: ArrayRef = Arc::new(StructArray::new(fields.clone(), leaves.clone(), None));
    let holes: ArrayRef = Arc::new(StructArray::new(fields, leaves, Some(NullBuffer::from(vec![false, true]))));
    let empty: ArrayRef = Arc::new(StructArray::new_empty_fields(3, Some(NullBuffer::from(vec![true, false, true]))));
    let nested =
        StructArray::from(vec![(Arc::new(Field::new("inner", whole.data_type().clone(), true)), whole.clone())]);
    let mut arrays = vec![whole, Arc::new(nested), empty];
    arrays.extend(lists(&arrays[0]));
    round_trip(arrays).await;
    // Arrow allows any members of a null struct; they are read as null.
    let (_dir, _path, store) = fresh().await;
    append(&store, "holes", super::batch(vec![("value", holes.clone())])).await.unwrap();
    let back = read(&store, "holes").await.unwrap().column(0).clone();
    assert_eq!(&back, &holes);
}

#[tokio::test]
async fn structs_of_text() {
    let column = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
    let columns = vec![
        column(vec![Some("a1"), None, Some("say \"hi\""), Some("ü\\"), None, Some("null")]),
        column(vec![Some(""), Some("b"), Some("}"), Some(","), None, Some("\u{1f980}\n")]),
    ];
    let fields: Fields = ["audio", "odd \"name\""].iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
    let nulls = NullBuffer::from(vec![true, true, true, true, false, true]);
    let required: Fields = ["only"].iter().map(|name| Field::new(*name, DataType::Utf8, false)).collect();
    round_trip(vec![
        Arc::new(StructArray::new(fields.clone(), columns.clone(), None)),
        Arc::new(StructArray::new(fields, columns, Some(nulls))),
        Arc::new(StructArray::new(required, vec![column(vec![Some("x"), Some("y")])], None)),
    ])
    .await;
}

#[tokio::test]
async fn maps() {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), Float64Builder::new());
    builder.keys().append_value("a");
    builder.values().append_value(f64::NAN);
    builder.keys().append_value("a");
    builder.values().append_null();
    builder.append(true).unwrap();
    builder.append(false).unwrap();
    builder.append(true).unwrap();
    let mut numbers = MapBuilder::new(None, Int32Builder::new(), BinaryBuilder::new());
    numbers.keys().append_value(-1);
    numbers.values().append_value(b"\xff");
    numbers.append(true).unwrap();
    round_trip(vec![Arc::new(builder.finish()), Arc::new(numbers.finish())]).await;
}
