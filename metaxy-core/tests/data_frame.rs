//! Rows as data frames of Polars, and back: every type, values that are null, slices, several chunks.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int8Array,
    Int64Array, IntervalMonthDayNanoArray, ListArray, RecordBatch, StringArray, StringViewArray, StructArray,
    Time64NanosecondArray, TimestampMicrosecondArray, UInt16Array,
};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use metaxy_core::polars_core::df;
use metaxy_core::{AccessMode, Error, FeatureGraph, FeatureSpec, IntoBatches, MetadataStore, columns};
use metaxy_sqlite::SqliteBackend;

fn videos() -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("ü"), None, Some("a text of more than twelve bytes")]));
    let lists = [Some(vec![Some(1), None]), None, Some(vec![])];
    let members: Vec<(&str, ArrayRef)> = vec![("a", texts.clone()), ("b", Arc::new(Int8Array::from(vec![1, 2, 3])))];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("video_id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("boolean", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("small", Arc::new(UInt16Array::from(vec![Some(1), None, Some(u16::MAX)]))),
        ("float", Arc::new(Float64Array::from(vec![Some(f64::NAN), None, Some(-0.0)]))),
        ("text", texts),
        ("view", Arc::new(StringViewArray::from(vec![Some("short"), None, Some("a text of more than twelve bytes")]))),
        ("binary", Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None, Some(&b""[..])]))),
        ("date", Arc::new(Date32Array::from(vec![Some(-1), None, Some(20_000)]))),
        ("time", Arc::new(Time64NanosecondArray::from(vec![Some(1), None, Some(86_399_000_000_000)]))),
        ("local", Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(7)]))),
        ("zoned", Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(7)]).with_timezone("UTC"))),
        (
            "decimal",
            Arc::new(
                Decimal128Array::from(vec![Some(-5), None, Some(12_345)]).with_precision_and_scale(20, 2).unwrap(),
            ),
        ),
        ("category", Arc::new(DictionaryArray::<Int32Type>::from_iter([Some("x"), None, Some("x")]))),
        ("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))),
        ("struct", Arc::new(StructArray::try_from(members).unwrap())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

async fn store() -> MetadataStore {
    let spec = FeatureSpec::builder("raw/video").id_columns(["video_id"]).build().unwrap();
    let graph = FeatureGraph::new([spec]).unwrap();
    MetadataStore::builder(SqliteBackend::in_memory(), graph).open(AccessMode::ReadWrite).await.unwrap()
}

/// Writes rows in two batches, the second of them a slice, and returns what is read.
async fn written() -> metaxy_core::Rows {
    let store = store().await;
    let versions =
        columns::by_field([("default", Arc::new(StringArray::from(vec!["1", "2", "3"])) as ArrayRef)]).unwrap();
    let rows = columns::with_column(&videos(), columns::PROVENANCE_BY_FIELD, versions).unwrap();
    store.write("raw/video", vec![rows.slice(0, 1), rows.slice(1, 2)]).await.unwrap();
    store.read("raw/video").rows().await.unwrap()
}

#[tokio::test]
async fn rows_become_a_data_frame_and_the_same_rows_again() {
    let rows = written().await;
    let frame = rows.to_data_frame().unwrap();
    assert_eq!((frame.height(), frame.width()), (3, rows.schema().fields().len()));
    let back = frame.into_batches().unwrap();
    let schema = back[0].schema();
    let (before, after) = (rows.to_batch().unwrap(), concat_batches(&schema, &back).unwrap());
    for (field, column) in before.schema().fields().iter().zip(before.columns()) {
        let returned = after.column_by_name(field.name()).unwrap();
        assert_eq!(&cast(returned, field.data_type()).unwrap(), column, "{field}");
    }
}

#[test]
fn frames_of_several_chunks_and_slices_become_batches() {
    let mut frame = df!("id" => [1_i64, 2, 3], "text" => [Some("a"), None, Some("c")]).unwrap();
    frame.vstack_mut(&df!("id" => [4_i64], "text" => [Some("d")]).unwrap()).unwrap();
    let batches = frame.slice(1, 3).into_batches().unwrap();
    let rows = concat_batches(&batches[0].schema(), &batches).unwrap();
    let texts = cast(rows.column(1), &DataType::Utf8).unwrap();
    assert_eq!(texts.as_ref(), &StringArray::from(vec![None, Some("c"), Some("d")]) as &dyn arrow::array::Array);
    assert_eq!(frame.slice(0, 0).into_batches().unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
}

#[tokio::test]
async fn no_rows_become_an_empty_data_frame() {
    let rows = written().await;
    let none = store().await;
    none.write("raw/video", rows.batches().to_vec()).await.unwrap();
    let frame = none.read("raw/video").filter("video_id > 9").rows().await.unwrap().to_data_frame().unwrap();
    assert_eq!((frame.height(), frame.width()), (0, rows.schema().fields().len()));
}

#[tokio::test]
async fn a_type_that_polars_does_not_have_is_an_error() {
    let store = store().await;
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let interval: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from_iter_values([Default::default()]));
    let upstream: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    let rows = RecordBatch::try_from_iter([
        ("video_id", ids),
        ("interval", interval),
        (columns::PROVENANCE_BY_FIELD, columns::by_field([("default", upstream)]).unwrap()),
    ]);
    let increment = store.resolve_update("raw/video").samples(rows.unwrap()).await.unwrap();
    let error = increment.to_process_frame().unwrap_err();
    assert!(matches!(&error, Error::DataFrame { column, .. } if column == "interval"), "{error}");
}
