//! Differences on S3: responses are lost, requests take time, and nothing can be renamed.

use std::sync::Arc;

use metaxy_core::{AccessMode, Error, FeatureGraph, FeatureSpec, MetadataStore, ScanRequest, StoreBackend};
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
