//! Memory is bounded: `put` waits while too much is pending.

use std::time::Duration;

use metaxy_core::BufferedMetadataWriter;

use super::support::{Fixture, VIDEO, in_time, videos};

/// Returns the bytes of a batch in memory, including those of the writer.
fn bytes(rows: i64) -> usize {
    videos(0..rows).get_array_memory_size() + 8 * rows as usize
}

async fn put(writer: BufferedMetadataWriter, ids: std::ops::Range<i64>) {
    writer.put(VIDEO, videos(ids)).await.expect("a put");
}

#[tokio::test(flavor = "multi_thread")]
async fn put_waits_while_too_much_is_pending() {
    let fixture = Fixture::slow(Duration::from_millis(5)).await;
    let builder = fixture.builder().max_pending_bytes(4 * bytes(100)).flush_rows(150);
    let writer = builder.start().await.expect("it starts");
    let puts: Vec<_> =
        (0..40).map(|number| tokio::spawn(put(writer.clone(), number * 100..(number + 1) * 100))).collect();
    let mut most = 0;
    for handle in puts {
        handle.await.expect("no panic");
        most = most.max(writer.pending_rows());
        assert!(most <= 400, "{most} rows are pending");
    }
    assert!(most > 100, "there is memory for more than one batch");
    assert_eq!(writer.close().await.expect("a close").values().sum::<u64>(), 4000);
}

/// There is no other reason for a flush.
#[tokio::test]
async fn a_put_without_memory_starts_a_flush() {
    let fixture = Fixture::new().await;
    let writer = fixture.builder().max_pending_bytes(bytes(1000)).start().await.expect("it starts");
    in_time("a small put", put(writer.clone(), 0..400)).await;
    assert_eq!(fixture.appends(), 0);
    in_time("a put that has to wait", put(writer.clone(), 400..1400)).await;
    assert_eq!(fixture.ids(VIDEO).await[..400], *(0..400).collect::<Vec<_>>(), "what came before was written");
    in_time("a put that is larger than the whole budget", put(writer.clone(), 1400..5000)).await;
    writer.close().await.expect("a close");
    assert_eq!(fixture.ids(VIDEO).await.len(), 5000);
}

/// However many small puts there are.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_put_is_not_starved() {
    let fixture = Fixture::slow(Duration::from_millis(1)).await;
    let writer = fixture.builder().max_pending_bytes(bytes(1000)).start().await.expect("it starts");
    let small: Vec<_> = (0..8)
        .map(|producer| {
            let writer = writer.clone();
            tokio::spawn(async move {
                for number in 0.. {
                    let first = (producer * 1_000_000 + number) * 100;
                    put(writer.clone(), first..first + 100).await;
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    in_time("a large put", put(writer.clone(), 1_000_000_000..1_000_002_000)).await;
    small.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A slice of a large batch neither counts as the whole batch nor keeps it in memory.
#[tokio::test]
async fn slices_take_the_memory_of_their_rows() {
    let fixture = Fixture::new().await;
    let all = videos(0..100_000);
    let builder = fixture.builder().max_pending_bytes(all.get_array_memory_size());
    let writer = builder.start().await.expect("it starts");
    for row in 0..500 {
        in_time("a put", writer.put(VIDEO, all.slice(row * 10, 1))).await.expect("a put");
    }
    assert_eq!((writer.pending_rows(), fixture.appends()), (500, 0));
    writer.close().await.expect("a close");
    assert_eq!(fixture.ids(VIDEO).await, (0..5000).step_by(10).collect::<Vec<_>>());
}

#[tokio::test]
async fn closing_refuses_waiting_puts() {
    let fixture = Fixture::slow(Duration::from_millis(50)).await;
    let writer = fixture.builder().max_pending_bytes(1).start().await.expect("it starts");
    put(writer.clone(), 0..10).await;
    let waiting = writer.put(VIDEO, videos(10..20));
    let (refused, closed) = tokio::join!(waiting, writer.clone().close());
    assert!(matches!(refused, Err(metaxy_core::Error::Closed { .. })), "{refused:?}");
    closed.expect("a close");
    assert_eq!(fixture.ids(VIDEO).await.len(), 10);
}
