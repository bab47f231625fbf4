//! Streams that are dropped.

use futures::StreamExt;
use metaxy_core::{ScanRequest, StoreBackend};

use super::{append, batch, fresh, ints, key, read};

/// More rows than fit into a batch.
const ROWS: usize = 66_000;

/// A dropped stream stops its statement, returns its connection, and does not disturb other reads.
#[tokio::test]
async fn dropped_streams_stop_their_reads() {
    let (_dir, _path, store) = fresh().await;
    append(&store, "t", batch(vec![("id", ints(0..ROWS as i64))])).await.unwrap();
    for round in 0..60 {
        let mut stream = store.scan(&key("t"), &ScanRequest::default()).await.unwrap().stream;
        if round % 2 == 0 {
            stream.next().await.unwrap().unwrap();
        }
        drop(stream);
        assert!(store.has_held_rows(&key("t")).await.unwrap());
    }
    for delay in [0, 1, 3, 10] {
        let scan = read(&store, "t");
        let _ = tokio::time::timeout(std::time::Duration::from_millis(delay), scan).await;
    }
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), ROWS);
}
