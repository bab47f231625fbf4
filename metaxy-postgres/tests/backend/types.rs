//! Every type is read back unchanged, or is refused by name.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::*;
use metaxy_core::{Error, StoreBackend};
use metaxy_testkit::fixtures::tables::{append, batch, key, read};

use super::support::{database, open};

fn array(array: impl Array + 'static) -> ArrayRef {
    Arc::new(array)
}

/// Returns three values of each type, the last of them null.
fn scalars() -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("Bool Ä", array(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("i8", array(Int8Array::from(vec![Some(i8::MIN), Some(i8::MAX), None]))),
        ("i16", array(Int16Array::from(vec![Some(i16::MIN), Some(i16::MAX), None]))),
        ("i32", array(Int32Array::from(vec![Some(i32::MIN), Some(i32::MAX), None]))),
        ("i64", array(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None]))),
        ("u8", array(UInt8Array::from(vec![Some(0), Some(u8::MAX), None]))),
        ("u16", array(UInt16Array::from(vec![Some(0), Some(u16::MAX), None]))),
        ("u32", array(UInt32Array::from(vec![Some(0), Some(u32::MAX), None]))),
        ("u64", array(UInt64Array::from(vec![Some(0), Some(u64::MAX), None]))),
        (
            "f16",
            arrow::compute::cast(&Float32Array::from(vec![Some(1.5), Some(-0.25), None]), &DataType::Float16).unwrap(),
        ),
        ("f32", array(Float32Array::from(vec![Some(f32::NAN), Some(-0.0), None]))),
        ("f64", array(Float64Array::from(vec![Some(f64::NEG_INFINITY), Some(0.1 + 0.2), None]))),
        ("utf8 \"quoted\"", array(StringArray::from(vec![Some("ä'\\\"\n𝄞"), Some(""), None]))),
        ("large_utf8", array(LargeStringArray::from(vec![Some("x"), Some(""), None]))),
        ("utf8_view", array(StringViewArray::from(vec![Some("a rather long text for a view"), Some(""), None]))),
        ("binary", array(BinaryArray::from(vec![Some(&b"\0\xff"[..]), Some(b""), None]))),
        ("large_binary", array(LargeBinaryArray::from(vec![Some(&b"\0\xff"[..]), Some(b""), None]))),
        ("binary_view", array(BinaryViewArray::from(vec![Some(&b"\0\xff"[..]), Some(b""), None]))),
        (
            "fixed_binary",
            array(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                    [Some(b"abc"), Some(b"\0\0\0"), None].into_iter(),
                    3,
                )
                .unwrap(),
            ),
        ),
        ("date32", array(Date32Array::from(vec![Some(-800_000), Some(20_000), None]))),
        ("date64", array(Date64Array::from(vec![Some(86_400_000), Some(1), None]))),
        ("time32_s", array(Time32SecondArray::from(vec![Some(0), Some(86_399), None]))),
        ("time32_ms", array(Time32MillisecondArray::from(vec![Some(1), Some(86_399_999), None]))),
        ("time64_us", array(Time64MicrosecondArray::from(vec![Some(1), Some(86_399_999_999), None]))),
        ("time64_ns", array(Time64NanosecondArray::from(vec![Some(1), Some(86_399_999_999_999), None]))),
        ("ts_s", array(TimestampSecondArray::from(vec![Some(-1), Some(1_700_000_000), None]))),
        (
            "ts_ms_berlin",
            array(TimestampMillisecondArray::from(vec![Some(-1), Some(7), None]).with_timezone("Europe/Berlin")),
        ),
        ("ts_us", array(TimestampMicrosecondArray::from(vec![Some(i64::MIN / 100), Some(1), None]))),
        ("ts_us_utc", array(TimestampMicrosecondArray::from(vec![Some(0), Some(1), None]).with_timezone("UTC"))),
        ("ts_ns_utc", array(TimestampNanosecondArray::from(vec![Some(i64::MAX), Some(1), None]).with_timezone("UTC"))),
        ("duration", array(DurationMillisecondArray::from(vec![Some(-5), Some(5), None]))),
        (
            "decimal",
            array(Decimal128Array::from(vec![Some(-12345), Some(1), None]).with_precision_and_scale(12, 3).unwrap()),
        ),
        (
            "decimal_wide",
            array(
                Decimal256Array::from(vec![Some(i256::from_i128(i128::MAX)), Some(i256::MINUS_ONE), None])
                    .with_precision_and_scale(60, 20)
                    .unwrap(),
            ),
        ),
        (
            "decimal_negative",
            array(Decimal128Array::from(vec![Some(-12), Some(1), None]).with_precision_and_scale(5, -2).unwrap()),
        ),
        (
            "decimal32",
            array(Decimal32Array::from(vec![Some(-12), Some(1), None]).with_precision_and_scale(5, 2).unwrap()),
        ),
    ]
}

fn list_of(values: ArrayRef) -> ArrayRef {
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    // All three values, an empty list, and a null list.
    let offsets = OffsetBuffer::new(vec![0, 3, 3, 3].into());
    array(ListArray::new(field, offsets, values, Some(NullBuffer::from(vec![true, true, false]))))
}

async fn survives(columns: Vec<(&str, ArrayRef)>) {
    let database = database();
    let backend = open(database.url()).await;
    let written = batch(columns);
    append(&backend, "types", &written).await.unwrap();
    let schema = backend.schema(&key("types")).await.unwrap().unwrap();
    assert_eq!(schema, written.schema());
    let found = read(&backend, "types").await.unwrap();
    for (field, (left, right)) in schema.fields().iter().zip(found.columns().iter().zip(written.columns())) {
        assert_eq!(left, right, "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scalars_are_read_back() {
    survives(scalars()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_read_back() {
    let lists: Vec<_> = scalars().into_iter().map(|(name, values)| (name, list_of(values))).collect();
    survives(lists).await;
    let items: ArrayRef = array(Float32Array::from(vec![1.0, 2.0, 3.0, 4.0, 0.0, 0.0]));
    let field = Arc::new(Field::new("element", DataType::Float32, true));
    let nulls = NullBuffer::from(vec![true, true, false]);
    let items: ArrayRef = arrow::compute::kernels::zip::zip(
        &BooleanArray::from(vec![true, true, true, true, false, false]),
        &items,
        &Float32Array::new_scalar(0.0),
    )
    .unwrap();
    let embedding = FixedSizeListArray::new(field, 2, items, Some(nulls));
    let large = arrow::compute::cast(
        &list_of(array(Int64Array::from(vec![1, 2, 3]))),
        &DataType::LargeList(Arc::new(Field::new_list_field(DataType::Int64, true))),
    )
    .unwrap();
    let found = {
        let database = database();
        let backend = open(database.url()).await;
        append(&backend, "t", &batch([("embedding", array(embedding.clone())), ("large", large.clone())]))
            .await
            .unwrap();
        read(&backend, "t").await.unwrap()
    };
    assert_eq!(found.column(0).data_type(), embedding.data_type());
    assert_eq!(found.column(0).as_fixed_size_list().value(1).as_ref(), embedding.value(1).as_ref());
    assert!(found.column(0).is_null(2));
    assert_eq!(found.column(1), &large);
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_values_are_read_back() {
    let members: Vec<(&str, ArrayRef)> =
        scalars().into_iter().filter(|(name, _)| *name != "decimal_negative").collect();
    let nested = StructArray::from(batch(members.clone()));
    let outer = StructArray::new(
        vec![Field::new("inner", nested.data_type().clone(), true)].into(),
        vec![array(nested.clone())],
        Some(NullBuffer::from(vec![true, true, false])),
    );
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    map.keys().append_value("zwei");
    map.values().append_value(2);
    map.keys().append_value("a\"b\\");
    map.values().append_null();
    map.append(true).unwrap();
    map.append(true).unwrap();
    map.append(false).unwrap();
    survives(vec![
        ("struct", array(nested.clone())),
        ("structs", list_of(array(nested))),
        ("lists", list_of(list_of(array(Int64Array::from(vec![Some(1), None, Some(3)]))))),
        ("map", array(map.finish())),
    ])
    .await;
    // Members of a null struct are read as null.
    let database = database();
    let backend = open(database.url()).await;
    append(&backend, "t", &batch([("outer", array(outer.clone()))])).await.unwrap();
    let found = read(&backend, "t").await.unwrap();
    assert!(found.column(0).is_null(2));
    assert_eq!(found.column(0).slice(0, 2).as_ref(), outer.slice(0, 2).to_data().into_array().as_ref());
}

trait IntoArray {
    fn into_array(self) -> ArrayRef;
}

impl IntoArray for ArrayData {
    fn into_array(self) -> ArrayRef {
        make_array(self)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dictionaries_are_read_as_their_values() {
    let database = database();
    let backend = open(database.url()).await;
    let values: DictionaryArray<Int8Type> = vec![Some("a"), None, Some("b"), Some("a")].into_iter().collect();
    for _ in 0..2 {
        append(&backend, "t", &batch([("x", array(values.clone()))])).await.unwrap();
    }
    let found = read(&backend, "t").await.unwrap();
    let half = [Some("a"), None, Some("b"), Some("a")];
    assert_eq!(found.column(0).as_string::<i32>(), &StringArray::from([half, half].concat()));
}

#[tokio::test(flavor = "multi_thread")]
async fn unsupported_columns_are_refused_by_name() {
    let database = database();
    let backend = open(database.url()).await;
    let refused: [ArrayRef; 3] = [
        array(NullArray::new(1)),
        array(IntervalYearMonthArray::from(vec![1])),
        list_of(array(IntervalYearMonthArray::from(vec![1, 2, 3]))),
    ];
    for values in refused {
        let error = append(&backend, "t", &batch([("odd", values)])).await.unwrap_err();
        assert!(matches!(&error, Error::UnsupportedType { column, .. } if column == "odd"), "{error}");
    }
    assert_eq!(backend.schema(&key("t")).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_do_not_fit_name_their_column() {
    let database = database();
    let backend = open(database.url()).await;
    let bad: [(&str, ArrayRef); 5] = [
        ("nul", array(StringArray::from(vec!["a\0b"]))),
        ("nested_nul", array(StructArray::from(batch([("x", array(StringArray::from(vec!["\0"])) as ArrayRef)])))),
        ("late", array(TimestampSecondArray::from(vec![i64::MAX]))),
        ("later", array(Date32Array::from(vec![i32::MAX]))),
        ("time", array(Time32SecondArray::from(vec![-1]))),
    ];
    for (name, values) in bad {
        let error = append(&backend, "t", &batch([(name, values)])).await.unwrap_err();
        assert!(matches!(&error, Error::InvalidValue { column, row: 0, .. } if column == name), "{error}");
    }
    // Nothing was stored, not even the table.
    assert_eq!(backend.schema(&key("t")).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_other_programs_are_read_in_fitting_types() {
    let database = database();
    database
        .sql(
            "CREATE TABLE t (a smallint, b text, c numeric(10,2), d numeric, e uuid, f jsonb, g text[], h inet, \
             i timestamptz, j char(3), k int[][], metaxy_provenance_by_field jsonb); \
             INSERT INTO t VALUES (1, 'x', 1.5, 1e30, '6f2a1c1e-0000-4000-8000-000000000001', '{\"a\": [1]}', '{x,NULL}', \
             '10.0.0.1', '2024-01-02 03:04:05.678901+00', 'ab', NULL, '{\"text\": \"1\", \"audio\": \"2\"}')",
        )
        .unwrap();
    let backend = open(database.url()).await;
    let found = read(&backend, "t").await.unwrap();
    let text = |column: usize| found.column(column).as_string::<i32>().value(0).to_owned();
    assert_eq!(found.column(2).data_type(), &DataType::Decimal128(10, 2));
    assert_eq!(text(3), "1000000000000000000000000000000");
    assert_eq!(text(4), "6f2a1c1e-0000-4000-8000-000000000001");
    assert_eq!(text(5), "{\"a\": [1]}");
    assert_eq!(text(7), "10.0.0.1/32");
    assert_eq!(found.column(8).as_primitive::<TimestampMicrosecondType>().value(0), 1_704_164_645_678_901);
    let map = found.column(11).as_map().value(0);
    assert_eq!(map.column(0).as_string::<i32>(), &StringArray::from(vec!["text", "audio"]));
    // They can be written to as well, if possible.
    let more = batch([
        ("e", array(StringArray::from(vec!["6F2A1C1E000040008000000000000002"])) as ArrayRef),
        ("f", array(StringArray::from(vec!["[1, 2]"]))),
        ("g", list_of(array(StringArray::from(vec!["a", "b", "c"]))).slice(0, 1)),
    ]);
    append(&backend, "t", &more).await.unwrap();
    let refused = append(&backend, "t", &batch([("h", array(StringArray::from(vec!["10.0.0.1"])) as ArrayRef)])).await;
    assert!(matches!(refused, Err(Error::TypeMismatch { .. })), "{refused:?}");
}
