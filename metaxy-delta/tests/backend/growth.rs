//! The rows that a table accepts, and how it grows.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, MapArray, NullArray, RecordBatch, StringArray, StructArray,
    Time32SecondArray, UInt64Array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Time64NanosecondType, TimeUnit, UInt64Type};
use metaxy_core::{Error, StoreBackend};

use crate::{TABLE, append, key, local, opened, read};

fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, values)| (name, values, true))).unwrap()
}

fn column(values: impl Array + 'static) -> RecordBatch {
    batch([("x", Arc::new(values) as ArrayRef)])
}

/// Two writers may create a table at once; rows of the slower one fit the table of the faster one, or are refused.
#[tokio::test]
async fn negative_integers_are_refused_by_unsigned_columns() {
    let root = tempfile::tempdir().unwrap();
    let backend = opened(&local(root.path())).await;
    append(&backend, column(UInt64Array::from(vec![u64::MAX]))).await.unwrap();
    let error = append(&backend, column(Int64Array::from(vec![1, -1]))).await.unwrap_err();
    assert!(matches!(error, Error::InvalidValue { row: 1, .. }), "{error:?}");
    append(&backend, column(Int64Array::from(vec![7]))).await.unwrap();
    let mut found = read(&backend).await.unwrap().column(0).as_primitive::<UInt64Type>().values().to_vec();
    found.sort_unstable();
    assert_eq!(found, [7, u64::MAX]);
}

/// Times are stored as numbers in the unit of the column.
#[tokio::test]
async fn times_of_another_unit_are_converted() {
    let root = tempfile::tempdir().unwrap();
    let backend = opened(&local(root.path())).await;
    append(&backend, column(new_null_array(&DataType::Time64(TimeUnit::Nanosecond), 1))).await.unwrap();
    append(&backend, column(Time32SecondArray::from(vec![3]))).await.unwrap();
    let rows = read(&backend).await.unwrap();
    let times = rows.column(0).as_primitive::<Time64NanosecondType>();
    assert_eq!(times.iter().flatten().collect::<Vec<_>>(), [3_000_000_000]);
}

/// Members of structs are stored as nullable; the same rows fit the table that they have created.
#[tokio::test]
async fn structs_in_maps_can_be_appended() {
    let root = tempfile::tempdir().unwrap();
    let backend = opened(&local(root.path())).await;
    let member = Field::new("a", DataType::Int64, false);
    let structs = StructArray::new(vec![member].into(), vec![Arc::new(Int64Array::from(vec![7]))], None);
    let pair = vec![Field::new("key", DataType::Utf8, false), Field::new("value", structs.data_type().clone(), true)];
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["k"]));
    let entries = StructArray::new(pair.into(), vec![keys, Arc::new(structs)], None);
    let field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    let rows = column(MapArray::new(field, OffsetBuffer::from_lengths([1]), entries, None, false));
    for count in [1, 2] {
        append(&backend, rows.clone()).await.unwrap();
        assert_eq!(read(&backend).await.unwrap().num_rows(), count);
    }
}

/// A column with only nulls has no type yet: a new table is created without it, and an existing column accepts it.
#[tokio::test]
async fn columns_without_a_type() {
    let root = tempfile::tempdir().unwrap();
    let backend = opened(&local(root.path())).await;
    let untyped = || Arc::new(NullArray::new(1)) as ArrayRef;
    let id = |id| Arc::new(Int64Array::from(vec![id])) as ArrayRef;
    let member = vec![Field::new("none", DataType::Null, true), Field::new("some", DataType::Int32, true)];
    let structs = StructArray::new(member.into(), vec![untyped(), Arc::new(Int32Array::from(vec![5]))], None);
    append(&backend, batch([("id", id(1)), ("later", untyped()), ("s", Arc::new(structs))])).await.unwrap();
    let schema = backend.schema(&key(TABLE)).await.unwrap().unwrap();
    let some = DataType::Struct(vec![Field::new("some", DataType::Int32, true)].into());
    assert_eq!((schema.fields().len(), schema.field_with_name("s").unwrap().data_type()), (2, &some));
    append(&backend, batch([("id", id(2)), ("later", Arc::new(StringArray::from(vec!["x"])))])).await.unwrap();
    append(&backend, batch([("id", id(3)), ("later", untyped()), ("s", untyped())])).await.unwrap();
    let rows = read(&backend).await.unwrap();
    assert_eq!((rows.num_rows(), rows.column_by_name("later").unwrap().null_count()), (3, 2));
}
