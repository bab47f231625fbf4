//! Writers for code that is not async.

use metaxy_core::writer::BlockingWriter;
use metaxy_core::{BufferedMetadataWriter, Error};

use super::support::{Fixture, TEXT, VIDEO, texts, videos};

#[test]
fn writers_can_be_sent_to_threads() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<BufferedMetadataWriter>();
    check::<BlockingWriter>();
}

#[test]
fn a_blocking_program_puts_flushes_and_closes() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (fixture, writer) = runtime.block_on(async {
        let fixture = Fixture::new().await;
        let writer = fixture.writer().await.blocking();
        (fixture, writer)
    });
    std::thread::scope(|scope| {
        for number in 0..8 {
            let writer = writer.clone();
            scope.spawn(move || writer.put(VIDEO, videos(number * 10..(number + 1) * 10)).expect("a put"));
        }
    });
    assert_eq!(writer.pending_rows(), 80);
    writer.flush().expect("a flush");
    assert_eq!(runtime.block_on(fixture.ids(VIDEO)).len(), 80);
    writer.put_multi([(TEXT, texts(0..3))]).expect("a put");
    assert_eq!(writer.close().expect("a close").values().sum::<u64>(), 83);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_thread_may_block() {
    let fixture = Fixture::new().await;
    let writer = fixture.writer().await.blocking();
    tokio::spawn(async move {
        writer.put(VIDEO, videos(0..10)).expect("a put");
        writer.close().expect("a close");
    })
    .await
    .expect("no panic");
    assert_eq!(fixture.ids(VIDEO).await.len(), 10);
}

#[tokio::test]
async fn the_only_thread_may_not_block() {
    let fixture = Fixture::new().await;
    let writer = fixture.writer().await.blocking();
    let refused = writer.put(VIDEO, videos(0..10)).expect_err("the task could never run");
    assert!(matches!(refused, Error::Unsupported { .. }), "{refused}");
    assert!(writer.flush().expect_err("the task could never run").unwritten.is_empty());
    let other = writer.clone();
    tokio::task::spawn_blocking(move || {
        other.put(VIDEO, videos(0..10)).expect("a put beside the runtime");
        other.close().expect("a close");
    })
    .await
    .expect("no panic");
    assert_eq!(fixture.ids(VIDEO).await.len(), 10);
}

/// Its callers may occupy all threads of the runtime for blocking work; the writer does not wait for one of them.
#[test]
fn the_runtime_needs_no_other_thread_for_blocking_work() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).max_blocking_threads(1).enable_all().build().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    runtime.block_on(async {
        let fixture = Fixture::new().await;
        let writer = fixture.builder().spool(directory.path()).start().await.expect("it starts");
        let blocking = writer.blocking();
        let work = tokio::task::spawn_blocking(move || {
            blocking.put(VIDEO, videos(0..10)).expect("a put");
            blocking.flush().expect("a flush");
            blocking.close().expect("a close");
        });
        super::support::in_time("blocking calls", work).await.expect("no panic");
        assert_eq!(fixture.ids(VIDEO).await.len(), 10);
    });
}
