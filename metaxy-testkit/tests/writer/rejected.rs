//! Batches that the store refuses delay no others, and are not lost.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use async_trait::async_trait;
use metaxy_core::backend::{BackendInfo, Scan, ScanRequest};
use metaxy_core::filter::Predicate;
use metaxy_core::{AccessMode, BufferedMetadataWriter, Error, FeatureKey, MetadataStore, Result, StoreBackend};
use metaxy_testkit::memory::MemoryBackend;

use super::spool::{kept, restart};
use super::support::{NEVER, TEXT, VIDEO, graph, ids, texts, videos, with_column};

/// A backend that refuses rows with the ids 7 and 77, in its check or in the append.
struct Picky {
    inner: MemoryBackend,
    at_first_sight: bool,
    is_picky: AtomicBool,
    error: fn() -> Error,
}

fn by_value() -> Error {
    let reason = "no sevens; leave them out".to_owned();
    Error::InvalidValue { table: "raw_video".to_owned(), column: "id".to_owned(), row: 0, reason }
}

fn by_panic() -> Error {
    panic!("no sevens")
}

fn by_backend() -> Error {
    Error::backend("picky", "write", "no sevens")
}

impl Picky {
    fn new(error: fn() -> Error) -> Self {
        Self { inner: MemoryBackend::new(), at_first_sight: false, is_picky: AtomicBool::new(true), error }
    }

    async fn open(self) -> (Arc<Self>, MetadataStore) {
        let backend = Arc::new(self);
        let store = MetadataStore::builder(backend.clone(), graph("1")).open(AccessMode::ReadWrite).await;
        (backend, store.expect("the store opens"))
    }

    fn refuse(&self, batch: &RecordBatch) -> Result<()> {
        let ids = batch.column_by_name("id").expect("ids").as_primitive::<Int64Type>();
        let has_one = ids.values().iter().any(|id| [7, 77].contains(id));
        if has_one && self.is_picky.load(Ordering::SeqCst) { Err((self.error)()) } else { Ok(()) }
    }
}

impl fmt::Debug for Picky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picky").finish_non_exhaustive()
    }
}

#[async_trait]
impl StoreBackend for Picky {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }
    async fn open(&self, mode: AccessMode) -> Result<()> {
        self.inner.open(mode).await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
    async fn schema(&self, table: &FeatureKey) -> Result<Option<SchemaRef>> {
        self.inner.schema(table).await
    }
    async fn append(&self, table: &FeatureKey, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
        batches.iter().try_for_each(|batch| self.refuse(batch))?;
        self.inner.append(table, schema, batches).await
    }
    fn check(&self, _table: &FeatureKey, rows: &RecordBatch) -> Result<()> {
        if self.at_first_sight { self.refuse(rows) } else { Ok(()) }
    }
    async fn scan(&self, table: &FeatureKey, request: &ScanRequest) -> Result<Scan> {
        self.inner.scan(table, request).await
    }
    async fn delete(&self, table: &FeatureKey, predicate: &Predicate) -> Result<u64> {
        self.inner.delete(table, predicate).await
    }
    async fn drop_table(&self, table: &FeatureKey) -> Result<()> {
        self.inner.drop_table(table).await
    }
    async fn tables(&self) -> Result<Vec<String>> {
        self.inner.tables().await
    }
}

async fn spooled(store: &MetadataStore, directory: &Path) -> BufferedMetadataWriter {
    restart(store, directory).await
}

async fn put_one_by_one(writer: &BufferedMetadataWriter, count: i64) {
    for id in 0..count {
        writer.put(VIDEO, videos(id..id + 1)).await.expect("a put");
    }
}

fn good(count: i64) -> Vec<i64> {
    (0..count).filter(|id| ![7, 77].contains(id)).collect()
}

#[tokio::test]
async fn rows_that_the_backend_cannot_store_are_refused_by_put() {
    let (_, store) = Picky { at_first_sight: true, ..Picky::new(by_value) }.open().await;
    let writer = BufferedMetadataWriter::builder(store.clone()).interval(NEVER).start().await.expect("it starts");
    // The first batch, and one like earlier batches.
    writer.put(VIDEO, videos(5..9)).await.expect_err("it holds a seven");
    for ids in [0..2, 2..4, 8..9] {
        writer.put(VIDEO, videos(ids)).await.expect("a put");
    }
    let error = writer.put_multi([(TEXT, texts(0..1)), (VIDEO, videos(77..78))]).await.expect_err("a seven");
    assert!(matches!(error, Error::InvalidValue { .. }), "{error}");
    assert_eq!(writer.close().await.expect("all that was taken can be stored").values().sum::<u64>(), 5);
    let error = store.write_multi([(TEXT, texts(0..1)), (VIDEO, videos(77..78))]).await.expect_err("a seven");
    assert!(matches!(error, Error::InvalidValue { .. }), "{error}");
    assert!(!store.has_feature(TEXT).await.expect("an answer"), "nothing is written where a part is refused");
}

#[tokio::test]
async fn a_refused_batch_delays_no_other_and_can_be_taken_back() {
    for error in [by_value, by_backend, by_panic] {
        let directory = tempfile::tempdir().expect("a directory");
        let rejected = directory.path().join("rejected");
        let (backend, store) = Picky::new(error).open().await;
        let writer = spooled(&store, directory.path()).await;
        put_one_by_one(&writer, 100).await;
        writer.put(TEXT, texts(0..7)).await.expect("a put");
        let refused = writer.flush().await.expect_err("two rows are not in the store");
        assert_eq!((refused.rejected.len(), refused.unwritten.len()), (2, 0), "{refused}");
        assert!(refused.to_string().starts_with("2 row(s) could not be written: "), "{refused}");
        assert!(refused.to_string().contains("retry_rejected"), "{refused}");
        assert_eq!(ids(&store, VIDEO).await, good(100));
        assert_eq!(ids(&store, TEXT).await, (0..7).collect::<Vec<_>>());
        assert_eq!((kept(directory.path()), kept(&rejected)), (0, 2));
        for batch in writer.rejected() {
            let reason = std::fs::read_to_string(batch.file.with_extension("reason.txt")).expect("the reason");
            assert!(reason.contains("raw/video") && reason.contains("no sevens"), "{reason}");
        }
        // The writer continues, and reports a rejected batch only once.
        writer.put(VIDEO, videos(100..110)).await.expect("the writer goes on");
        writer.flush().await.expect("what was put since is in the store");
        assert_eq!(writer.pending_rows(), 0);
        backend.is_picky.store(false, Ordering::SeqCst);
        assert_eq!(writer.retry_rejected().await.expect("they are taken back"), 2);
        writer.close().await.expect("nothing is refused any more");
        assert_eq!(ids(&store, VIDEO).await, (0..110).collect::<Vec<_>>());
        assert_eq!(std::fs::read_dir(&rejected).expect("it stays").count(), 0, "neither rows nor reasons");
    }
}

#[tokio::test]
async fn closing_reports_refused_rows() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_, store) = Picky::new(by_value).open().await;
    let writer = spooled(&store, directory.path()).await;
    put_one_by_one(&writer, 10).await;
    let refused = writer.close().await.expect_err("one row is not in the store");
    assert_eq!(refused.rejected.iter().map(|batch| batch.rows).sum::<usize>(), 1);
    assert!(matches!(*refused.error, Error::InvalidValue { .. }), "{refused}");
    // Rejected batches of another process cause no errors, and can still be taken back.
    let (backend, store) = Picky::new(by_value).open().await;
    backend.is_picky.store(false, Ordering::SeqCst);
    let writer = spooled(&store, directory.path()).await;
    assert_eq!(writer.pending_rows(), 0);
    assert_eq!(writer.blocking().rejected().len(), 0, "in the life of this writer");
    assert_eq!(writer.retry_rejected().await.expect("they are taken back"), 1);
    writer.close().await.expect("a close");
    assert_eq!(ids(&store, VIDEO).await, [7]);
}

/// An earlier process has put the rows into a store that accepted everything.
#[tokio::test]
async fn refused_rows_of_an_earlier_process_delay_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    super::spool::leave_behind(directory.path(), VIDEO, (0..80).map(|id| videos(id..id + 1))).await;
    let (_, store) = Picky::new(by_backend).open().await;
    let writer = spooled(&store, directory.path()).await;
    writer.put(TEXT, texts(0..3)).await.expect("a put");
    let refused = writer.close().await.expect_err("two rows are not in the store");
    assert_eq!(refused.rejected.len(), 2, "{refused}");
    assert_eq!((ids(&store, VIDEO).await, ids(&store, TEXT).await), (good(80), vec![0, 1, 2]));
}

/// A store that refuses everything proves nothing about the rows.
#[tokio::test]
async fn nothing_is_rejected_when_the_store_fails() {
    let directory = tempfile::tempdir().expect("a directory");
    let broken = super::support::Fixture::failing(
        metaxy_testkit::faults::Fault::fail(metaxy_testkit::faults::Operation::Append).forever(),
    );
    let broken = broken.await;
    let writer = spooled(&broken.store, directory.path()).await;
    put_one_by_one(&writer, 200).await;
    let error = writer.close().await.expect_err("the store is broken");
    assert_eq!((error.rejected.len(), error.unwritten.len()), (0, 200));
    assert_eq!(kept(directory.path()), 200);
    assert!(broken.appends() < 60, "{} attempts", broken.appends());
}

/// Without a spool directory, only the refused batch is given back.
#[tokio::test]
async fn without_a_spool_a_refused_batch_is_given_back_and_the_others_are_written() {
    let (_, store) = Picky::new(by_value).open().await;
    let writer = BufferedMetadataWriter::builder(store.clone()).interval(NEVER).start().await.expect("it starts");
    put_one_by_one(&writer, 50).await;
    let score = Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    writer.put(VIDEO, with_column(&videos(77..78), "score", score)).await.expect("a put");
    let error = writer.flush().await.expect_err("two rows are not in the store");
    let mut unwritten: Vec<i64> = error
        .unwritten
        .iter()
        .flat_map(|(_, batch)| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    unwritten.sort_unstable();
    assert_eq!(unwritten, [7, 77]);
    assert_eq!(ids(&store, VIDEO).await, good(50));
    writer.put(VIDEO, videos(100..101)).await.expect("the writer goes on");
    writer.close().await.expect("a close");
}
