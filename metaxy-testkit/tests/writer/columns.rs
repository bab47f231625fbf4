//! Conversions of accepted batches, and refusals.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, NullArray, StringArray};
use metaxy_core::{AccessMode, Error, MetadataStore};
use metaxy_testkit::faults::{Fault, Operation};
use metaxy_testkit::memory::MemoryBackend;

use super::support::{Fixture, TEXT, VIDEO, graph, ints, texts, videos, with_column};

fn one_int(value: i64) -> ArrayRef {
    Arc::new(Int64Array::from(vec![value]))
}

fn one_text(value: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

#[tokio::test]
async fn rows_that_a_write_would_refuse_are_refused_by_put() {
    let fixture = Fixture::new().await;
    let writer = fixture.writer().await;
    let without_id = videos(0..1).project(&[1]).expect("a projection");
    assert!(matches!(writer.put(VIDEO, without_id).await, Err(Error::MissingColumn { .. })));
    assert!(matches!(writer.put(VIDEO, texts(0..1)).await, Err(Error::InvalidColumn { .. })));
    assert!(matches!(writer.put("raw/vidio", videos(0..1)).await, Err(Error::UnknownFeature { .. })));
    assert!(matches!(writer.put("raw/vidio", videos(0..0)).await, Err(Error::UnknownFeature { .. })));
    let twice = with_column(&videos(0..1), "id", one_int(1));
    assert!(matches!(writer.put(VIDEO, twice).await, Err(Error::InvalidColumn { .. })));
    assert!(writer.progress().is_empty(), "{:?}", writer.progress());
    writer.put(VIDEO, videos(0..0)).await.expect("no rows are fine");
    writer.close().await.expect("a close");
}

#[tokio::test]
async fn columns_are_aligned_by_name() {
    let fixture = Fixture::new().await;
    let writer = fixture.writer().await;
    writer.put(VIDEO, with_column(&videos(0..1), "score", one_int(7))).await.expect("a put");
    writer.put(VIDEO, with_column(&videos(1..2), "title", one_text("b"))).await.expect("a put");
    let both = with_column(&videos(2..3), "title", one_text("c"));
    writer.put(VIDEO, with_column(&both, "score", one_int(9))).await.expect("a put");
    let batch = videos(3..4);
    writer.put(VIDEO, batch.project(&[1, 0]).expect("another order")).await.expect("a put");
    writer.close().await.expect("a close");
    assert_eq!(fixture.ids(VIDEO).await, [0, 1, 2, 3]);
    let mut scores = ints(&fixture.store, VIDEO, "score").await;
    scores.sort_unstable();
    assert_eq!(scores, [7, 9]);
}

#[tokio::test]
async fn incompatible_types_are_refused_by_put() {
    let fixture = Fixture::new().await;
    fixture.store.write(VIDEO, with_column(&videos(0..1), "score", one_int(1))).await.expect("a write");
    let writer = fixture.writer().await;
    // Compared with the table, and then with earlier puts.
    let refused = writer.put(VIDEO, with_column(&videos(1..2), "score", one_text("high"))).await;
    assert!(matches!(refused, Err(Error::TypeMismatch { .. })), "{refused:?}");
    writer.put(VIDEO, with_column(&videos(1..2), "title", one_text("b"))).await.expect("a put");
    let refused = writer.put(VIDEO, with_column(&videos(2..3), "title", one_int(3))).await;
    assert!(matches!(refused, Err(Error::TypeMismatch { .. })), "{refused:?}");
    writer.close().await.expect("a close");
    assert_eq!(fixture.ids(VIDEO).await, [0, 1]);
}

/// The types are compatible, but a value does not fit.
#[tokio::test]
async fn values_that_do_not_fit_are_refused_by_put() {
    let fixture = Fixture::new().await;
    let writer = fixture.writer().await;
    let narrow = Arc::new(Int32Array::from(vec![1]));
    writer.put(VIDEO, with_column(&videos(0..1), "score", narrow)).await.expect("a put");
    writer.put(VIDEO, with_column(&videos(1..2), "score", one_int(2))).await.expect("a value that fits");
    let refused = writer.put(VIDEO, with_column(&videos(2..3), "score", one_int(1 << 40))).await;
    assert!(matches!(refused, Err(Error::InvalidValue { .. })), "{refused:?}");
    writer.close().await.expect("a close");
    assert_eq!(fixture.ids(VIDEO).await, [0, 1]);
}

/// A small batch with only nulls in a column does not determine its type.
#[tokio::test]
async fn a_column_without_a_type_takes_a_later_one() {
    let fixture = Fixture::new().await;
    let writer = fixture.writer().await;
    for start in [0, 2] {
        let untyped = Arc::new(NullArray::new(1));
        writer.put(VIDEO, with_column(&videos(start..start + 1), "title", untyped)).await.expect("a put");
        writer.flush().await.expect("a flush");
        let typed = with_column(&videos(start + 1..start + 2), "title", one_text("b"));
        writer.put(VIDEO, typed).await.expect("a put");
    }
    writer.close().await.expect("a close");
    assert_eq!(fixture.ids(VIDEO).await, [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_refused_put_leaves_no_trace() {
    let fixture = Fixture::new().await;
    let writer = fixture.writer().await;
    let good = with_column(&videos(0..1), "score", one_int(1));
    let refused = writer.put_multi([(VIDEO, good), (TEXT, videos(0..1))]).await;
    assert!(matches!(refused, Err(Error::InvalidColumn { .. })), "{refused:?}");
    assert_eq!(writer.pending_rows(), 0);
    let other_type = with_column(&videos(1..2), "score", one_text("high"));
    writer.put(VIDEO, other_type).await.expect("the first type was never taken");
    writer.close().await.expect("a close");
    assert_eq!(fixture.ids(VIDEO).await, [1]);
}

#[tokio::test]
async fn a_table_that_may_not_be_created_is_reported_by_put() {
    let builder = MetadataStore::builder(MemoryBackend::new(), graph("1")).auto_create_tables(false);
    let store = builder.open(AccessMode::ReadWrite).await.expect("the store opens");
    let writer = metaxy_core::BufferedMetadataWriter::builder(store).start().await.expect("it starts");
    assert!(matches!(writer.put(VIDEO, videos(0..1)).await, Err(Error::TableMissing { .. })));
    writer.close().await.expect("a close");
}

/// Another program may have changed the table: after a failure its schema is read again.
#[tokio::test]
async fn a_changed_table_is_detected_after_a_failure() {
    let fixture = Fixture::failing(Fault::fail(Operation::Append)).await;
    let writer = fixture.writer().await;
    writer.put(VIDEO, videos(0..1)).await.expect("a put");
    writer.flush().await.expect_err("the append fails");
    fixture.store.write(VIDEO, with_column(&videos(1..2), "score", one_int(1))).await.expect("a write");
    let refused = writer.put(VIDEO, with_column(&videos(0..1), "score", one_text("high"))).await;
    assert!(matches!(refused, Err(Error::TypeMismatch { .. })), "{refused:?}");
    writer.close().await.expect("a close");
}
