//! What is not there, dies, or does not match.

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use metaxy_core::{Error, MetadataStore, VersioningEngine};

use crate::processes::Cluster;
use crate::proxy;
use crate::tables::{counted, expected, fill, store};

/// Returns a full store, and the directory that it is in.
async fn filled(rows: i64) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fill(&store(directory.path(), None).await, rows).await;
    directory
}

async fn failure(store: &MetadataStore) -> Error {
    let resolve = store.resolve_update("both").versioning_engine(VersioningEngine::Native);
    tokio::time::timeout(Duration::from_secs(30), async { resolve.await })
        .await
        .expect("an answer in time")
        .unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_is_not_there_is_told_in_time() {
    let directory = filled(40).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Somebody takes the connection, and never answers.
    let error = failure(&store(directory.path(), Some(&format!("df://{address}"))).await).await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    drop(listener);
    let start = Instant::now();
    let error = failure(&store(directory.path(), Some(&format!("df://{address}"))).await).await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&address.to_string()) && text.contains("metaxy scheduler"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_without_executors_is_told_in_time() {
    let directory = filled(40).await;
    let cluster = Cluster::start(0, "-v");
    let error = failure(&store(directory.path(), Some(&cluster.url())).await).await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("metaxy executor"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_of_the_query_is_refused_by_name() {
    let directory = filled(40).await;
    let cluster = Cluster::shared();
    let ours = concat!("metaxy ", env!("CARGO_PKG_VERSION"));
    let other = ours.replace(|character: char| character.is_ascii_digit(), "9").leak();
    let (address, _) = proxy::start(&cluster.address, ours, other);
    let error = failure(&store(directory.path(), Some(&format!("df://{address}"))).await).await;
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(env!("CARGO_PKG_VERSION")) && text.contains(&other["metaxy ".len()..]), "{text}");
}

/// The job goes on with the other executor, or fails; it never ends with other rows.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_dies_takes_no_rows_with_it() {
    const ROWS: i64 = 120_000;
    let directory = filled(ROWS).await;
    for delay in [200, 700, 1_500] {
        let mut cluster = Cluster::start(2, "-v");
        let store = store(directory.path(), Some(&cluster.url())).await;
        let resolve = tokio::spawn(async move { counted(&store).await });
        tokio::time::sleep(Duration::from_millis(delay)).await;
        cluster.executors[0].kill();
        let found = tokio::time::timeout(Duration::from_secs(120), resolve).await.expect("an end").unwrap();
        match found {
            Ok(found) => {
                println!("killed after {delay} ms: the other executor did the work");
                assert_eq!(found, expected(ROWS), "killed after {delay} ms");
            }
            Err(error) => {
                println!("killed after {delay} ms: {error}");
                assert!(matches!(error, Error::Backend { .. } | Error::Unreachable { .. }), "{error:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_increment_stops_its_job() {
    let directory = filled(120_000).await;
    let cluster = Cluster::start(1, "-v");
    let store = store(directory.path(), Some(&cluster.url())).await;
    let lazy = store.resolve_update("both").lazy().await.unwrap();
    let mut rows = lazy.stream();
    // What is dropped before the scheduler has the job needs no cancellation.
    while !cluster.scheduler.log().contains("Job queued") {
        let polled = tokio::time::timeout(Duration::from_millis(50), rows.try_next()).await;
        assert!(polled.is_err(), "the job was too fast to be stopped");
    }
    drop(rows);
    tokio::task::block_in_place(|| cluster.scheduler.wait_for("Received cancellation request for job"));
    // The cluster takes the next query.
    assert_eq!(counted(&store).await.unwrap(), expected(120_000));
}
