//! Threads: a store needs no thread of the runtime, and a stream that is not read occupies none.

use std::time::Duration;

use futures::StreamExt;
use metaxy_core::{AccessMode, ScanRequest, StoreBackend};

use super::{append, batch, ints, key, open, read};

/// Returns a runtime whose only thread for blocking work is permanently occupied.
fn starved() -> tokio::runtime::Runtime {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).max_blocking_threads(1).enable_all().build();
    let runtime = runtime.unwrap();
    runtime.spawn_blocking(|| std::thread::sleep(Duration::from_secs(120)));
    runtime
}

#[test]
fn a_store_needs_no_thread_of_the_runtime() {
    let runtime = starved();
    let work = async {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir.path().join("store.duckdb"), AccessMode::ReadWrite).await.unwrap();
        let row = |id: i64| batch(vec![("id", ints([id]))]);
        let writes = futures::future::join_all((0..200).map(|id| append(&store, "t", row(id)))).await;
        assert!(writes.into_iter().all(|written| written.is_ok()));
        assert_eq!(read(&store, "t").await.unwrap().num_rows(), 200);
        store.close().await.unwrap();
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), work).await.unwrap() });
    runtime.shutdown_background();
}

#[test]
fn streams_that_are_not_read_hold_no_thread() {
    let runtime = starved();
    let work = async {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir.path().join("store.duckdb"), AccessMode::ReadWrite).await.unwrap();
        append(&store, "t", batch(vec![("id", ints(0..100_000))])).await.unwrap();
        let mut held = Vec::new();
        for number in 0..200 {
            let mut stream = store.scan(&key("t"), &ScanRequest::default()).await.unwrap().stream;
            if number % 3 == 0 {
                stream.next().await.unwrap().unwrap();
            }
            held.push(stream);
        }
        // The maximum number of threads, and no more.
        #[cfg(target_os = "linux")]
        assert!(std::fs::read_dir("/proc/self/task").unwrap().count() < 150);
        append(&store, "t", batch(vec![("id", ints([1]))])).await.unwrap();
        assert_eq!(read(&store, "t").await.unwrap().num_rows(), 100_001);
        // They read the rows that existed when they began.
        for mut stream in [held.remove(1), held.pop().unwrap()] {
            let mut rows = 0;
            while let Some(batch) = stream.next().await {
                rows += batch.unwrap().num_rows();
            }
            assert_eq!(rows, 100_000);
        }
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), work).await.unwrap() });
    runtime.shutdown_background();
}
