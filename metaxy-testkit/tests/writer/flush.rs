//! The time, the order and the timestamp of writes.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::Int64Array;
use metaxy_core::columns;
use metaxy_testkit::faults::{Fault, Operation};

use super::support::{Fixture, TEXT, VIDEO, eventually, in_time, ints, only_value, texts, videos, with_column};

#[tokio::test]
async fn a_flush_waits_until_everything_is_in_the_store() {
    let fixture = Fixture::slow(Duration::from_millis(20)).await;
    let writer = fixture.writer().await;
    writer.put(VIDEO, videos(0..10)).await.expect("a put");
    writer.put(VIDEO, videos(10..20)).await.expect("a put");
    assert_eq!((writer.pending_rows(), fixture.appends()), (20, 0), "nothing is due yet");
    writer.flush().await.expect("a flush");
    assert_eq!(fixture.ids(VIDEO).await, (0..20).collect::<Vec<_>>());
    assert_eq!((writer.pending_rows(), fixture.appends()), (0, 1), "small batches are written together");
}

/// The later row is of a dependent, so that it is written first.
#[tokio::test]
async fn a_flush_does_not_count_other_rows() {
    let fixture = Fixture::slow(Duration::from_millis(100)).await;
    let writer = fixture.builder().flush_rows(1).start().await.expect("it starts");
    writer.put(VIDEO, videos(0..1)).await.expect("a put");
    eventually("an append is under way", || fixture.appends() == 1).await;
    writer.put_multi([(VIDEO, videos(1..2)), (TEXT, texts(0..1))]).await.expect("a put");
    writer.flush().await.expect("a flush");
    assert_eq!(fixture.ids(VIDEO).await, [0, 1]);

    let writer = fixture.writer().await;
    writer.put(VIDEO, videos(2..3)).await.expect("a put");
    let mut flush = pin!(writer.flush());
    assert!(futures::poll!(&mut flush).is_pending());
    writer.put(TEXT, texts(2..3)).await.expect("a put");
    flush.await.expect("a flush");
    assert_eq!(fixture.ids(VIDEO).await, [0, 1, 2]);
}

#[tokio::test]
async fn closing_returns_the_rows_of_each_feature() {
    let fixture = Fixture::new().await;
    let writer = fixture.writer().await;
    writer.put(VIDEO, videos(0..10)).await.expect("a put");
    writer.flush().await.expect("a flush");
    writer.put_multi([(VIDEO, videos(10..15)), (TEXT, texts(0..3))]).await.expect("a put of two features");
    let written = writer.close().await.expect("a close");
    let key = |name: &str| name.parse().expect("a key");
    assert_eq!(written, BTreeMap::from([(key(VIDEO), 15), (key(TEXT), 3)]));
}

#[tokio::test]
async fn rows_bytes_and_time_start_a_flush() {
    for name in ["rows", "bytes", "time", "nothing"] {
        let fixture = Fixture::new().await;
        let builder = match name {
            "rows" => fixture.builder().flush_rows(5),
            "bytes" => fixture.builder().flush_bytes(10),
            "time" => fixture.builder().interval(Duration::from_millis(20)),
            _ => fixture.builder(),
        };
        let writer = builder.start().await.expect("it starts");
        writer.put(VIDEO, videos(0..5)).await.expect("a put");
        if name == "nothing" {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(writer.pending_rows(), 5, "there was no reason to write");
        } else {
            eventually(name, || writer.pending_rows() == 0).await;
        }
    }
}

#[tokio::test]
async fn the_interval_starts_again_after_a_flush() {
    const INTERVAL: Duration = Duration::from_millis(600);
    let fixture = Fixture::new().await;
    let writer = fixture.builder().interval(INTERVAL).start().await.expect("it starts");
    tokio::time::sleep(INTERVAL / 2).await;
    let before = Instant::now();
    writer.put(VIDEO, videos(0..1)).await.expect("a put");
    writer.flush().await.expect("a flush");
    writer.put(VIDEO, videos(1..2)).await.expect("a put");
    eventually("the second flush", || writer.pending_rows() == 0).await;
    let waited = before.elapsed();
    assert!(waited >= INTERVAL, "it was written {waited:?} after the last flush");
}

/// Longer than any clock can count, and zero.
#[tokio::test]
async fn any_interval_is_valid() {
    for interval in [Duration::MAX, Duration::ZERO] {
        let fixture = Fixture::new().await;
        let writer = fixture.builder().interval(interval).start().await.expect("it starts");
        writer.put(VIDEO, videos(0..1)).await.expect("a put");
        in_time("a close", writer.close()).await.expect("a close");
    }
}

#[tokio::test]
async fn flushes_have_the_configured_size() {
    let fixture = Fixture::slow(Duration::from_millis(5)).await;
    let writer = fixture.builder().flush_rows(20).start().await.expect("it starts");
    for number in 0..20 {
        writer.put(VIDEO, videos(number * 10..(number + 1) * 10)).await.expect("a put");
    }
    writer.close().await.expect("a close");
    assert_eq!(fixture.ids(VIDEO).await.len(), 200);
    assert_eq!(fixture.appends(), 10);
}

#[tokio::test]
async fn dependents_are_written_first() {
    let fixture = Fixture::failing(Fault::fail(Operation::Append).at(2)).await;
    let writer = fixture.writer().await;
    writer.put_multi([(VIDEO, videos(0..3))]).await.expect("a put");
    writer.put_multi([(TEXT, texts(0..3))]).await.expect("a put");
    let error = writer.flush().await.expect_err("the second append fails");
    assert_eq!(error.unwritten.iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>(), [VIDEO]);
    assert_eq!(fixture.ids(TEXT).await, [0, 1, 2], "the first append was the one of the dependent");
}

#[tokio::test]
async fn a_flush_has_one_time() {
    for fault in [None, Some(Fault::fail(Operation::Append).at(2).times(2).transient())] {
        let fixture = Fixture::new().await;
        let retried = fault.is_some();
        fault.into_iter().for_each(|fault| fixture.backend.inject(fault));
        let writer = fixture.writer().await;
        writer.put(VIDEO, videos(0..3)).await.expect("a put");
        writer.put(TEXT, texts(0..3)).await.expect("a put");
        writer.put(VIDEO, videos(3..6)).await.expect("a put");
        writer.close().await.expect("a close");
        let times = [
            only_value(&fixture.store, VIDEO, columns::UPDATED_AT).await,
            only_value(&fixture.store, TEXT, columns::UPDATED_AT).await,
            only_value(&fixture.store, VIDEO, columns::CREATED_AT).await,
        ];
        assert!(times.iter().all(|time| time == &times[0]), "retried: {retried}, {times:?}");
    }
}

/// Readers could not tell which of two rows with the same time is later.
#[tokio::test]
async fn of_an_id_put_twice_the_later_row_counts() {
    let fixture = Fixture::new().await;
    let writer = fixture.writer().await;
    for score in 0..5_i64 {
        let scores = Arc::new(Int64Array::from(vec![score; 20]));
        writer.put(VIDEO, with_column(&videos(0..20), "score", scores)).await.expect("a put");
    }
    writer.flush().await.expect("a flush");
    assert_eq!(ints(&fixture.store, VIDEO, "score").await, [4; 20]);
    let all = fixture.store.read(VIDEO).with_sample_history().await.expect("it reads").rows().await.expect("it reads");
    assert_eq!(all.num_rows(), 100, "the history is there too");
}
