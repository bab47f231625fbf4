//! Differences on S3: responses are lost, requests take time, and nothing can be renamed.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray};
use metaxy_core::{
    AccessMode, Basis, Error, FeatureGraph, FeatureSpec, MetadataStore, ScanRequest, StoreBackend, columns,
};
use metaxy_testkit::servers::s3::{self, Fault, Request};

use crate::{TABLE, append, key, on_s3, opened, read_ids, rows};

fn count(requests: &[Request], verb: &str) -> usize {
    requests.iter().filter(|request| request.verb == verb).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_with_a_lost_response_is_made_once() {
    let bucket = s3::bucket().unwrap();
    let backend = opened(&on_s3(&bucket)).await;
    for number in 0..4 {
        bucket.break_puts(".json", [Fault::LostAnswer]);
        append(&backend, rows([number])).await.unwrap();
    }
    assert_eq!(read_ids(&backend).await.unwrap(), [0, 1, 2, 3]);
    assert_eq!(read_ids(&opened(&on_s3(&bucket)).await).await.unwrap(), [0, 1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_key_is_retried() {
    let bucket = s3::bucket().unwrap();
    let backend = opened(&on_s3(&bucket)).await;
    append(&backend, rows([0])).await.unwrap();
    bucket.break_puts(".json", [Fault::Busy, Fault::Busy, Fault::Busy]);
    append(&backend, rows([1])).await.unwrap();
    assert_eq!(read_ids(&backend).await.unwrap(), [0, 1]);
}

/// A check for a feature reads its log, without listing the bucket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_for_a_feature_needs_few_requests() {
    let bucket = s3::bucket().unwrap();
    let backend = opened(&on_s3(&bucket)).await;
    for number in 0..30 {
        append(&backend, rows([number])).await.unwrap();
    }
    bucket.requests();
    assert!(backend.schema(&key("not/there")).await.unwrap().is_none());
    let requests = bucket.requests();
    assert!(requests.len() <= 2, "{requests:?}");
    assert!(requests.iter().all(|request| request.key.starts_with("store/not/there.delta/_delta_log")), "{requests:?}");
    for _ in 0..10 {
        assert!(backend.schema(&key(TABLE)).await.unwrap().is_some());
    }
    let requests = bucket.requests();
    assert!(requests.len() <= 20 && count(&requests, "LIST") == 0, "{requests:?}");
    append(&backend, rows([30])).await.unwrap();
    let requests = bucket.requests();
    assert_eq!(count(&requests, "PUT"), 2, "{requests:?}");
    assert!(requests.len() <= 6, "{requests:?}");
}

/// If nothing has changed, an increment asks two questions of each table: whether its log is still the same one, and
/// whether it has another commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_increment_of_nothing_needs_two_requests_for_each_table() {
    let bucket = s3::bucket().unwrap();
    let root = |key: &str| FeatureSpec::builder(key).id_columns(["id"]).field("a").build().unwrap();
    let leaf = FeatureSpec::builder("leaf").id_columns(["id"]).dep("raw/video").dep("raw/audio").field("x");
    let graph = FeatureGraph::new([root("raw/video"), root("raw/audio"), leaf.build().unwrap()]).unwrap();
    let backend = metaxy_delta::DeltaBackend::new(on_s3(&bucket)).unwrap();
    let store = MetadataStore::builder(backend, graph).open(AccessMode::ReadWrite).await.unwrap();
    for round in 0..30 {
        for feature in ["raw/video", "raw/audio"] {
            store.write(feature, sample(round)).await.unwrap();
        }
        store.write("leaf", store.resolve_update("leaf").await.unwrap().new).await.unwrap();
    }
    assert!(store.resolve_update("leaf").await.unwrap().is_empty());
    bucket.requests();
    let increment = store.resolve_update("leaf").await.unwrap();
    assert_eq!(increment.basis(), &Basis::Unchanged);
    let requests = bucket.requests();
    assert!(requests.len() <= 2 * 3 && count(&requests, "LIST") == 0, "{requests:?}");
}

/// Returns a row of a root with the field `a`.
fn sample(id: i64) -> RecordBatch {
    let version: ArrayRef = Arc::new(StringArray::from(vec![format!("version of {id}")]));
    let provenance = StructArray::from(RecordBatch::try_from_iter([("a", version)]).unwrap());
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![id]));
    RecordBatch::try_from_iter([("id", ids), (columns::PROVENANCE_BY_FIELD, Arc::new(provenance) as _)]).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_table_leaves_no_objects() {
    let bucket = s3::bucket().unwrap();
    let (one, other) = (opened(&on_s3(&bucket)).await, opened(&on_s3(&bucket)).await);
    for number in 0..60 {
        append(&one, rows([number])).await.unwrap();
    }
    assert_eq!(read_ids(&other).await.unwrap().len(), 60);
    one.drop_table(&key(TABLE)).await.unwrap();
    assert!(bucket.snapshot().is_empty(), "{:?}", bucket.snapshot().keys());
    assert!(other.schema(&key(TABLE)).await.unwrap().is_none());
    append(&other, rows([7])).await.unwrap();
    assert_eq!(read_ids(&one).await.unwrap(), [7]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_changes_nothing() {
    let bucket = s3::bucket().unwrap();
    append(&opened(&on_s3(&bucket)).await, rows(0..100)).await.unwrap();
    let before = bucket.snapshot();
    let reader = metaxy_delta::DeltaBackend::new(on_s3(&bucket)).unwrap();
    reader.open(AccessMode::ReadOnly).await.unwrap();
    assert_eq!(read_ids(&reader).await.unwrap().len(), 100);
    assert_eq!(reader.tables().await.unwrap(), ["raw__video"]);
    assert!(reader.scan(&key("not/there"), &ScanRequest::default()).await.is_err());
    reader.close().await.unwrap();
    // The core checks whether a store may be written to.
    let video = FeatureSpec::builder(TABLE).id_columns(["id"]).build().unwrap();
    let graph = FeatureGraph::new([video]).unwrap();
    let store = MetadataStore::builder(Arc::new(reader), graph).open(AccessMode::ReadOnly).await.unwrap();
    for refused in [store.write(TABLE, rows([1])).await.map(drop), store.drop_feature(TABLE).await.map(drop)] {
        assert!(matches!(refused, Err(Error::ReadOnly { .. })), "{refused:?}");
    }
    assert_eq!(bucket.snapshot(), before);
}
