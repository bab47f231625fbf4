//! What other programs write into the logs of tables.

use std::fs;
use std::num::NonZeroU64;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use futures::TryStreamExt;
use metaxy_core::{Filter, ScanRequest, StoreBackend};
use metaxy_delta::DeltaBackend;
use serde_json::json;

use crate::foreign::{Foreign, field, metadata, plain_protocol};
use crate::{TABLE, append, key, local, opened, read_ids, rows};

/// How many rows a filter finds.
async fn found(backend: &DeltaBackend, filter: &str) -> usize {
    let schema = backend.schema(&key(TABLE)).await.unwrap().unwrap();
    let predicate = filter.parse::<Filter>().unwrap().bind(&schema).unwrap();
    let request = ScanRequest { row_filter: Some(predicate), ..ScanRequest::default() };
    let scan = backend.scan(&key(TABLE), &request).await.unwrap();
    let batches: Vec<RecordBatch> = scan.stream.try_collect().await.unwrap();
    batches.iter().map(RecordBatch::num_rows).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pointer_to_a_checkpoint_that_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let settings = local(root.path()).checkpoint_interval(NonZeroU64::new(5).unwrap()).auto_compact(false);
    let backend = opened(&settings).await;
    for id in 0..12 {
        append(&backend, rows([id])).await.unwrap();
    }
    let log = root.path().join("raw/video.delta/_delta_log");
    for version in [4, 9] {
        fs::remove_file(log.join(format!("{version:020}.checkpoint.parquet"))).unwrap();
    }
    assert!(log.join("_last_checkpoint").exists());
    let backend = opened(&settings).await;
    assert_eq!(read_ids(&backend).await.unwrap(), (0..12).collect::<Vec<_>>());
    // The next checkpoint puts the pointer right.
    for id in 12..15 {
        append(&backend, rows([id])).await.unwrap();
    }
    assert!(log.join("00000000000000000014.checkpoint.parquet").exists());
    backend.vacuum(&key(TABLE), std::time::Duration::ZERO).await.unwrap();
    assert_eq!(read_ids(&opened(&settings).await).await.unwrap(), (0..15).collect::<Vec<_>>());
}

/// Berlin was 53 minutes and 28 seconds ahead of Greenwich; offsets are written without their seconds, and fractions of
/// milliseconds are cut off towards 1970.
#[tokio::test]
async fn statistics_of_old_timestamps() {
    // 1890-01-01T00:00:00 in Berlin, and a moment in 1969 between two milliseconds.
    let moments = [-2_524_524_808_000_000, -1_500];
    let stated = ["1890-01-01T00:00:00.000+00:53", "1969-12-31T23:59:59.999Z"];
    let searched = ["at = '1889-12-31T23:06:32Z'", "at <= '1969-12-31T23:59:59.998500Z'"];
    for ((moment, stated), filter) in moments.into_iter().zip(stated).zip(searched) {
        let table = Foreign::new(plain_protocol(), metadata(&[field("at", "timestamp")]));
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![moment]).with_timezone("UTC"));
        table.write_parquet("part-0.parquet", &RecordBatch::try_from_iter([("at", times)]).unwrap());
        let mut add = table.add("part-0.parquet");
        let ends = json!({"at": stated});
        let stats = json!({"numRecords": 1, "minValues": ends, "maxValues": ends, "nullCount": {"at": 0}});
        add["add"]["stats"] = stats.to_string().into();
        let table = table.with_commit(&[add]);
        let backend = opened(&table.settings()).await;
        assert_eq!(found(&backend, filter).await, 1, "{filter}");
        assert_eq!(found(&backend, &format!("NOT ({filter})")).await, 0, "{filter}");
    }
}

/// A program that does not tell names apart by case has written `ID` into a table that has `id`.
#[tokio::test]
async fn columns_whose_case_differs_in_a_file() {
    let table = Foreign::new(plain_protocol(), metadata(&[field("id", "long")]));
    let column = |name: &str| RecordBatch::try_from_iter([(name, Arc::new(Int64Array::from(vec![7])) as ArrayRef)]);
    table.write_parquet("part-0.parquet", &column("ID").unwrap());
    let add = table.add("part-0.parquet");
    let table = table.with_commit(&[add]);
    let backend = opened(&table.settings()).await;
    assert_eq!(read_ids(&backend).await.unwrap(), [7]);
    // Where the table has both, each is its own.
    append(&backend, column("ID").unwrap()).await.unwrap();
    append(&backend, column("id").unwrap()).await.unwrap();
    let rows = crate::read(&backend).await.unwrap();
    let nulls = |name: &str| rows.column_by_name(name).unwrap().null_count();
    assert_eq!((rows.num_rows(), nulls("id"), nulls("ID")), (3, 1, 2));
}
