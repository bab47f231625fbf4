//! The progress and settings of a writer.

use std::sync::{Arc, Mutex};

use metaxy_core::writer::WriterProgress;

use super::support::{Fixture, TEXT, VIDEO, texts, videos};

#[tokio::test]
async fn rows_are_counted_by_feature() {
    let fixture = Fixture::new().await;
    let writer = fixture.writer().await;
    writer.put(VIDEO, videos(0..10)).await.expect("a put");
    writer.flush().await.expect("a flush");
    writer.put_multi([(VIDEO, videos(10..12)), (TEXT, texts(0..3))]).await.expect("a put");
    let of = |name: &str| writer.progress()[&name.parse().expect("a key")];
    assert_eq!(of(VIDEO), WriterProgress { put: 12, written: 10, pending: 2 });
    assert_eq!(of(TEXT), WriterProgress { put: 3, written: 0, pending: 3 });
    assert_eq!(writer.pending_rows(), 5);
    assert_eq!(writer.rows_written().values().sum::<u64>(), 10);
}

#[tokio::test]
async fn a_hook_is_called_after_every_put_and_flush() {
    let fixture = Fixture::new().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook = seen.clone();
    let builder = fixture.builder().on_progress(move |progress| {
        hook.lock().expect("unpoisoned").extend(progress.values().map(|one| (one.put, one.written, one.pending)));
    });
    let writer = builder.start().await.expect("it starts");
    writer.put(VIDEO, videos(0..10)).await.expect("a put");
    writer.close().await.expect("a close");
    assert_eq!(*seen.lock().expect("unpoisoned"), [(10, 0, 10), (10, 10, 0)]);
}

#[tokio::test]
async fn a_hook_that_panics_does_no_harm() {
    let fixture = Fixture::new().await;
    let builder = fixture.builder().on_progress(|_| panic!("the progress bar is broken"));
    let writer = builder.start().await.expect("it starts");
    writer.put(VIDEO, videos(0..10)).await.expect("a put");
    writer.close().await.expect("a close");
    assert_eq!(fixture.ids(VIDEO).await.len(), 10);
}

#[tokio::test]
async fn a_writer_has_its_own_materialization_id() {
    use arrow::array::AsArray;
    use metaxy_core::columns::MATERIALIZATION_ID;

    let fixture = Fixture::new().await;
    for (spooled, id) in [(false, "run-7"), (true, "run-8")] {
        let directory = tempfile::tempdir().expect("a directory");
        let builder = fixture.builder().materialization_id(id);
        let builder = if spooled { builder.spool(directory.path()) } else { builder };
        let writer = builder.start().await.expect("it starts");
        writer.put(VIDEO, videos(0..10)).await.expect("a put");
        writer.close().await.expect("a close");
        let stored = super::support::only_value(&fixture.store, VIDEO, MATERIALIZATION_ID).await;
        assert_eq!(stored.as_string::<i32>().value(0), id);
    }
}
