//! Entries of other programs in the logs of tables.

use std::fs;
use std::num::NonZeroU64;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use futures::TryStreamExt;
use metaxy_core::{Error, Filter, ScanRequest, StoreBackend};
use metaxy_delta::DeltaBackend;
use serde_json::{Value, json};

use crate::foreign::{Foreign, field, metadata, plain_protocol};
use crate::{TABLE, actions, append, key, local, opened, read_ids, rows};

/// Returns the number of rows that a filter selects.
async fn found(backend: &DeltaBackend, filter: &str) -> usize {
    let schema = backend.schema(&key(TABLE)).await.unwrap().unwrap();
    let predicate = filter.parse::<Filter>().unwrap().bind(&schema).unwrap();
    let request = ScanRequest { row_filter: Some(predicate), ..ScanRequest::default() };
    let scan = backend.scan(&key(TABLE), &request).await.unwrap();
    let batches: Vec<RecordBatch> = scan.stream.try_collect().await.unwrap();
    batches.iter().map(RecordBatch::num_rows).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pointer_to_a_missing_checkpoint() {
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
    // The next checkpoint corrects the pointer.
    for id in 12..15 {
        append(&backend, rows([id])).await.unwrap();
    }
    assert!(log.join("00000000000000000014.checkpoint.parquet").exists());
    backend.vacuum(&key(TABLE), std::time::Duration::ZERO).await.unwrap();
    assert_eq!(read_ids(&opened(&settings).await).await.unwrap(), (0..15).collect::<Vec<_>>());
}

/// Berlin was 53 minutes and 28 seconds ahead of Greenwich; offsets are written without seconds, and fractions of
/// milliseconds are truncated towards 1970.
#[tokio::test]
async fn statistics_of_old_timestamps() {
    // 1890-01-01T00:00:00 in Berlin, and a time in 1969 between two milliseconds.
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

/// A program that does not distinguish names by case has written `ID` into a table that has `id`.
#[tokio::test]
async fn columns_whose_case_differs_in_a_file() {
    let table = Foreign::new(plain_protocol(), metadata(&[field("id", "long")]));
    let column = |name: &str| RecordBatch::try_from_iter([(name, Arc::new(Int64Array::from(vec![7])) as ArrayRef)]);
    table.write_parquet("part-0.parquet", &column("ID").unwrap());
    let add = table.add("part-0.parquet");
    let table = table.with_commit(&[add]);
    let backend = opened(&table.settings()).await;
    assert_eq!(read_ids(&backend).await.unwrap(), [7]);
    // If the table has both, they are separate columns.
    append(&backend, column("ID").unwrap()).await.unwrap();
    append(&backend, column("id").unwrap()).await.unwrap();
    let rows = crate::read(&backend).await.unwrap();
    let nulls = |name: &str| rows.column_by_name(name).unwrap().null_count();
    assert_eq!((rows.num_rows(), nulls("id"), nulls("ID")), (3, 1, 2));
}

fn ids(ids: impl IntoIterator<Item = Option<i64>>) -> RecordBatch {
    let ids: ArrayRef = Arc::new(ids.into_iter().collect::<Int64Array>());
    RecordBatch::try_from_iter_with_nullable([("id", ids, true)]).unwrap()
}

/// Returns a protocol with these features of writers.
fn writers(features: &[&str]) -> Value {
    json!({"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": features})
}

#[tokio::test]
async fn rows_that_satisfy_the_constraints_of_a_table() {
    let invariant = json!({"expression": {"expression": "id < 100"}}).to_string();
    let mut id = field("id", "long");
    id["metadata"] = json!({"delta.invariants": invariant});
    let mut metadata = metadata(&[id, field("text", "string")]);
    metadata["configuration"] = json!({"delta.constraints.positive": "id > 0 AND id IS NOT NULL"});
    let protocols = [
        json!({"minReaderVersion": 1, "minWriterVersion": 3}),
        writers(&["appendOnly", "invariants", "checkConstraints"]),
    ];
    for protocol in protocols {
        let table = Foreign::new(protocol, metadata.clone());
        let backend = opened(&table.settings()).await;
        append(&backend, ids([Some(1), Some(99)])).await.unwrap();
        for (wrong, name) in [(Some(0), "positive"), (Some(100), "id < 100"), (None, "positive")] {
            let error = append(&backend, ids([Some(2), wrong])).await.unwrap_err();
            assert!(matches!(&error, Error::InvalidValue { row: 1, .. }), "{error:?}");
            assert!(error.to_string().contains(name), "{error}");
        }
        assert_eq!(read_ids(&backend).await.unwrap(), [1, 99]);
    }
}

#[tokio::test]
async fn unknown_constraints() {
    let mut metadata = metadata(&[field("id", "long")]);
    metadata["configuration"] = json!({"delta.constraints.odd": "id % 2 = 1"});
    let table = Foreign::new(writers(&["checkConstraints"]), metadata);
    let backend = opened(&table.settings()).await;
    let error = append(&backend, ids([Some(1)])).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }) && error.to_string().contains("odd"), "{error:?}");
}

/// A clustered table whose rows have ids: new files state theirs, and the greatest id is recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clustering_and_row_ids() {
    let protocol = writers(&["clustering", "domainMetadata", "rowTracking"]);
    let table = Foreign::new(protocol, metadata(&[field("id", "long")]));
    table.write_parquet("1.parquet", &ids([Some(1), Some(2)]));
    let mut add = table.add("1.parquet");
    add["add"]["baseRowId"] = 40.into();
    add["add"]["defaultRowCommitVersion"] = 1.into();
    add["add"]["clusteringProvider"] = "liquid".into();
    let domain = |domain: &str, configuration: Value| {
        let configuration = configuration.to_string();
        json!({"domainMetadata": {"domain": domain, "configuration": configuration, "removed": false}})
    };
    let clustering = domain("delta.clustering", json!({"clusteringColumns": [["id"]]}));
    let table = table.with_commit(&[add, clustering, domain("delta.rowTracking", json!({"rowIdHighWaterMark": 41}))]);
    let settings = table.settings().checkpoint_interval(NonZeroU64::new(4).unwrap());
    let backend = opened(&settings).await;
    append(&backend, ids([Some(3), Some(4), Some(5)])).await.unwrap();
    append(&backend, ids([Some(6)])).await.unwrap();
    append(&opened(&settings).await, ids([Some(7)])).await.unwrap();
    assert_eq!(read_ids(&opened(&settings).await).await.unwrap(), (1..8).collect::<Vec<_>>());
    let all = actions(&table.log());
    let first_ids: Vec<i64> = all.iter().filter_map(|action| action.get("add")?["baseRowId"].as_i64()).collect();
    assert_eq!(first_ids, [40, 42, 45, 46]);
    let versions: Vec<i64> =
        all.iter().filter_map(|action| action.get("add")?["defaultRowCommitVersion"].as_i64()).collect();
    assert_eq!(versions, [1, 2, 3, 4]);
    let last = all.iter().rev().find_map(|action| action.get("domainMetadata")).unwrap();
    assert_eq!(
        (&last["domain"], &last["configuration"]),
        (&json!("delta.rowTracking"), &json!("{\"rowIdHighWaterMark\":46}"))
    );
}

/// Files whose rows have stable ids are not rewritten.
#[tokio::test]
async fn files_with_stable_row_ids_are_not_rewritten() {
    let mut metadata = metadata(&[field("id", "long")]);
    metadata["configuration"] = json!({"delta.enableRowTracking": "true"});
    let table = Foreign::new(writers(&["domainMetadata", "rowTracking"]), metadata);
    let backend = opened(&table.settings()).await;
    append(&backend, ids([Some(1)])).await.unwrap();
    append(&backend, ids([Some(2)])).await.unwrap();
    let error = backend.compact(&key(TABLE)).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }) && error.to_string().contains("row tracking"), "{error:?}");
    assert_eq!(read_ids(&backend).await.unwrap(), [1, 2]);
}
