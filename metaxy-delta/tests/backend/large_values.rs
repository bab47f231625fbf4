//! Rows whose values together exceed the 2 GiB of 32-bit offsets.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, Int64Array, ListArray, MapArray, RecordBatch, StringArray, StructArray, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field};
use futures::TryStreamExt;
use metaxy_core::{ScanRequest, StoreBackend};
use metaxy_delta::{DeltaBackend, DeltaConfig};
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;

use crate::{TABLE, append, key, local, opened};

/// Returns some rows with ids from `first` on and the same value.
fn rows(first: i64, count: i64, value: &ArrayRef) -> RecordBatch {
    let ids: Int64Array = (first..first + count).collect();
    let values = take(value, &UInt32Array::from(vec![0; count as usize]), None).unwrap();
    RecordBatch::try_from_iter_with_nullable([("id", Arc::new(ids) as ArrayRef, true), ("value", values, true)])
        .unwrap()
}

/// Returns the number of rows of the table, after checking each value.
async fn count(backend: &DeltaBackend, value: &ArrayRef) -> usize {
    let scan = backend.scan(&key(TABLE), &ScanRequest::default()).await.unwrap();
    let mut stream = scan.stream;
    let mut count = 0;
    while let Some(batch) = stream.try_next().await.unwrap() {
        let values = batch.column_by_name("value").unwrap();
        assert_eq!(values.null_count(), 0);
        for row in [0, batch.num_rows() - 1] {
            assert_eq!(&values.slice(row, 1), value);
        }
        count += batch.num_rows();
    }
    count
}

fn text(bytes: usize) -> ArrayRef {
    Arc::new(StringArray::from(vec!["x".repeat(bytes)]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_files_of_large_texts_are_merged() {
    let root = tempfile::tempdir().unwrap();
    let settings: DeltaConfig = local(root.path());
    let backend = opened(&settings).await;
    let value = text(40_000);
    for write in 0..60 {
        append(&backend, rows(write * 1_400, 1_400, &value)).await.unwrap();
    }
    assert_eq!(count(&backend, &value).await, 84_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_write_of_large_binaries() {
    let root = tempfile::tempdir().unwrap();
    let backend = opened(&local(root.path())).await;
    let value: ArrayRef = Arc::new(BinaryArray::from(vec![vec![7; 70_000].as_slice()]));
    let batch = rows(0, 1000, &value);
    backend.append(&key(TABLE), batch.schema(), vec![batch; 31]).await.unwrap();
    assert_eq!(count(&backend, &value).await, 31_000);
}

/// A file is written and read in parts of bounded size: a process holds several of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_rows_are_written_and_read_in_small_parts() {
    const ROWS: u64 = 1_000;
    let root = tempfile::tempdir().unwrap();
    let backend = opened(&local(root.path())).await;
    let mut random = 7_u64;
    let mut drawn = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        random.to_be_bytes()
    };
    let mut batch = || {
        // Values that cannot be compressed.
        let values: Vec<Vec<u8>> = (0..ROWS / 5).map(|_| (0..12_500).flat_map(|_| drawn()).collect()).collect();
        let values: ArrayRef = Arc::new(BinaryArray::from_iter_values(values));
        RecordBatch::try_from_iter_with_nullable([("value", values, true)]).unwrap()
    };
    let batches: Vec<RecordBatch> = (0..5).map(|_| batch()).collect();
    backend.append(&key(TABLE), batches[0].schema(), batches).await.unwrap();
    let table = root.path().join(format!("{TABLE}.delta"));
    let files = std::fs::read_dir(table).unwrap().map(|entry| entry.unwrap().path());
    for file in files.filter(|file| file.extension().is_some_and(|ending| ending == "parquet")) {
        let reader = SerializedFileReader::try_from(file.as_path()).unwrap();
        let largest = reader.metadata().row_groups().iter().map(|group| group.compressed_size()).max();
        assert!(largest < Some(64 << 20), "{largest:?} bytes in one row group");
    }
    let mut stream = backend.scan(&key(TABLE), &ScanRequest::default()).await.unwrap().stream;
    let mut rows = 0;
    while let Some(batch) = stream.try_next().await.unwrap() {
        assert!(batch.get_array_memory_size() < 24 << 20, "a batch of {} rows", batch.num_rows());
        rows += batch.num_rows() as u64;
    }
    assert_eq!(rows, ROWS);
}

/// Returns a list of a struct of a map of texts.
fn nested(text: ArrayRef) -> ArrayRef {
    let pair = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    let entries = StructArray::new(pair.into(), vec![Arc::new(StringArray::from(vec!["k"])), text], None);
    let field = Arc::new(Field::new("key_value", entries.data_type().clone(), false));
    let map = MapArray::new(field, OffsetBuffer::from_lengths([1]), entries, None, false);
    let member = Field::new("texts", map.data_type().clone(), true);
    let values = StructArray::new(vec![member].into(), vec![Arc::new(map)], None);
    let item = Arc::new(Field::new("element", values.data_type().clone(), true));
    Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([1]), Arc::new(values), None))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_texts_in_nested_types() {
    let root = tempfile::tempdir().unwrap();
    let backend = opened(&local(root.path())).await;
    let value = nested(text(40_000));
    let batch = rows(0, 1000, &value);
    backend.append(&key(TABLE), batch.schema(), vec![batch; 54]).await.unwrap();
    assert_eq!(count(&backend, &value).await, 54_000);
}
