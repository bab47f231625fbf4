//! Futures and writers that are dropped.

use std::pin::pin;
use std::time::Duration;

use metaxy_testkit::faults::{Fault, Operation, abandoned_after};

use super::log::{listen, logged};
use super::support::{Fixture, VIDEO, eventually, in_time, videos};

/// Each call is atomic, wherever the caller drops it.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_calls_leave_the_writer_usable() {
    let spool = tempfile::tempdir().expect("a directory");
    for kept in [false, true] {
        let fixture = Fixture::slow(Duration::from_millis(2)).await;
        let bound = 2 * videos(0..10).get_array_memory_size();
        let mut builder = fixture.builder().max_pending_bytes(bound);
        if kept {
            builder = builder.spool(spool.path());
        }
        let writer = builder.start().await.expect("it starts");
        let mut put = Vec::new();
        for number in 0..60 {
            let polls = 1 + number as usize % 4;
            let call = writer.put(VIDEO, videos(number * 10..(number + 1) * 10));
            put.extend(abandoned_after(polls, call).await.map(|answer| {
                answer.expect("a put");
                number
            }));
            if number % 3 == 0 {
                let _ = abandoned_after(polls, writer.flush()).await.transpose().expect("a flush");
            }
        }
        in_time("a put", writer.put(VIDEO, videos(900..910))).await.expect("a put");
        in_time("a close", writer.close()).await.expect("a close");
        let ids = fixture.ids(VIDEO).await;
        let rows = |number: i64| ids.iter().filter(|id| **id / 10 == number).count();
        assert!(put.iter().chain(&[90]).all(|number| rows(*number) == 10), "a put that had returned is there");
        assert!((0..60).all(|number| [0, 10].contains(&rows(number))), "a put is there in part");
    }
}

/// The batches of a failure are returned to the next caller, not to a dropped call.
#[tokio::test]
async fn a_dropped_flush_loses_no_rows() {
    let fixture = Fixture::failing(Fault::fail(Operation::Append).forever()).await;
    let writer = fixture.writer().await;
    writer.put(VIDEO, videos(0..10)).await.expect("a put");
    {
        let mut flush = pin!(writer.flush());
        assert!(futures::poll!(&mut flush).is_pending());
        eventually("the writer gives up", || writer.last_error().is_some()).await;
    }
    assert_eq!(writer.flush().await.expect_err("a flush that cannot succeed").unwritten.len(), 1);
}

#[tokio::test]
async fn a_dropped_put_leaves_the_queue() {
    let fixture = Fixture::slow(Duration::from_millis(30)).await;
    let writer = fixture.builder().max_pending_bytes(1).start().await.expect("it starts");
    writer.put(VIDEO, videos(0..10)).await.expect("a put");
    assert!(abandoned_after(1, writer.put(VIDEO, videos(10..20))).await.is_none(), "there is no memory");
    in_time("the next one's turn", writer.put(VIDEO, videos(20..30))).await.expect("a put");
    writer.close().await.expect("a close");
    assert_eq!(fixture.ids(VIDEO).await.len(), 20);
}

#[tokio::test]
async fn a_closed_writer_accepts_nothing() {
    let fixture = Fixture::new().await;
    let writer = fixture.writer().await;
    writer.clone().close().await.expect("a close");
    let refused = writer.put(VIDEO, videos(0..1)).await;
    assert!(matches!(refused, Err(metaxy_core::Error::Closed { .. })), "{refused:?}");
    writer.flush().await.expect("nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_writer_writes_its_rows() {
    let fixture = Fixture::slow(Duration::from_millis(50)).await;
    let writer = fixture.writer().await;
    writer.put(VIDEO, videos(0..10)).await.expect("a put");
    let other = writer.clone();
    drop(writer);
    assert_eq!(other.pending_rows(), 10, "another handle is left");
    drop(other);
    assert_eq!(fixture.ids(VIDEO).await.len(), 10);
}

#[test]
fn a_writer_dropped_outside_of_async_code_writes_its_rows() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (fixture, writer) = runtime.block_on(async {
        let fixture = Fixture::slow(Duration::from_millis(50)).await;
        let writer = fixture.writer().await;
        writer.put(VIDEO, videos(0..10)).await.expect("a put");
        (fixture, writer.blocking())
    });
    drop(writer);
    assert_eq!(runtime.block_on(fixture.ids(VIDEO)).len(), 10);
}

/// The only thread cannot wait for its own task.
#[tokio::test]
async fn a_writer_dropped_on_the_only_thread_writes_later() {
    let fixture = Fixture::new().await;
    let writer = fixture.writer().await;
    writer.put(VIDEO, videos(0..10)).await.expect("a put");
    drop(writer);
    eventually("the task goes on", || fixture.appends() == 1).await;
    assert_eq!(fixture.ids(VIDEO).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_writer_logs_unwritten_rows() {
    listen();
    let fixture = Fixture::failing(Fault::fail(Operation::Append).forever()).await;
    let writer = fixture.writer().await;
    writer.put(VIDEO, videos(0..4711)).await.expect("a put");
    drop(writer);
    assert!(logged("4711 of raw/video"), "how many rows of which feature");
}

#[test]
fn a_runtime_that_ends_logs_unwritten_rows() {
    listen();
    for (rows, threads) in [(4712, 1), (4713, 2)] {
        let runtime = match threads {
            1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
            _ => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
        };
        let runtime = runtime.expect("a runtime");
        let started = std::time::Instant::now();
        let fixture = runtime.block_on(Fixture::new());
        runtime.block_on(async {
            let writer = fixture.writer().await;
            writer.put(VIDEO, videos(0..rows)).await.expect("a put");
            // It is dropped with the runtime, which no longer runs tasks by then.
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(writer);
            });
            tokio::task::yield_now().await;
        });
        drop(runtime);
        // The task may already have started.
        let written = fixture.appends() == 1;
        assert!(written || logged(&format!("{rows} of raw/video")), "{threads} thread(s)");
        assert!(started.elapsed() < Duration::from_secs(10), "{threads} thread(s): nothing was left to wait for");
    }
}
