//! The promises of the buffered writer, over a backend that fails on demand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{Int64Type, SchemaRef};
use async_trait::async_trait;
use metaxy_core::filter::Predicate;
use metaxy_core::writer::{RetryPolicy, WriterBuilder};
use metaxy_core::{
    AccessMode, BackendInfo, BufferedMetadataWriter, Error, FeatureGraph, FeatureKey, FeatureSpec, MetadataStore,
    Result, Scan, ScanRequest, SharedBackend, StoreBackend, columns,
};
use metaxy_testkit::memory::MemoryBackend;

/// When a failing append fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    Before,
    After,
}

/// The in-memory backend, with appends that fail as often as they are told to.
#[derive(Debug)]
struct Failing {
    inner: SharedBackend,
    failures: AtomicUsize,
    when: When,
    transient: bool,
    delay: Duration,
    /// The features of all appends that went through, in order.
    appended: Mutex<Vec<(String, usize)>>,
}

impl Failing {
    fn new(failures: usize, when: When, transient: bool) -> Self {
        Self {
            inner: Arc::new(MemoryBackend::new()),
            failures: AtomicUsize::new(failures),
            when,
            transient,
            delay: Duration::ZERO,
            appended: Mutex::default(),
        }
    }

    fn fails(&self) -> Option<Error> {
        let left = self.failures.load(Ordering::SeqCst);
        let fails = left > 0;
        if fails && left != usize::MAX {
            self.failures.store(left - 1, Ordering::SeqCst);
        }
        fails.then(|| Error::backend("failing", "append", "as it was told").with_transient(self.transient))
    }
}

#[async_trait]
impl StoreBackend for Failing {
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
        tokio::time::sleep(self.delay).await;
        let failure = self.fails();
        if let (When::Before, Some(error)) = (self.when, failure.as_ref()) {
            return Err(Error::backend("failing", "append", error.to_string()).with_transient(self.transient));
        }
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        self.inner.append(table, schema, batches).await?;
        self.appended.lock().expect("no test panics here").push((table.to_string(), rows));
        failure.map_or(Ok(()), Err)
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

async fn store_over(backend: Arc<Failing>) -> MetadataStore {
    let graph = FeatureGraph::new([
        FeatureSpec::builder("raw/video").id_columns(["id"]).field("audio").build().expect("a spec"),
        FeatureSpec::builder("text").id_columns(["id"]).dep("raw/video").field("words").build().expect("a spec"),
    ]);
    let builder = MetadataStore::builder(backend, graph.expect("a graph"));
    builder.open(AccessMode::ReadWrite).await.expect("the store opens")
}

/// Retries that do not keep a test waiting.
fn quick(builder: WriterBuilder) -> WriterBuilder {
    let pause = Duration::from_millis(1);
    builder
        .retry(RetryPolicy { attempts: 4, initial_pause: pause, max_pause: pause })
        .interval(Duration::from_secs(3600))
}

fn rows(field: &str, ids: std::ops::Range<i64>) -> RecordBatch {
    let ids: Vec<i64> = ids.collect();
    let versions: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("v{id}"))));
    let provenance = StructArray::new(columns::by_field_fields([field]), vec![versions], None);
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(ids)) as ArrayRef),
        (columns::PROVENANCE_BY_FIELD, Arc::new(provenance)),
    ])
    .expect("one length")
}

async fn stored(store: &MetadataStore, feature: &str) -> Vec<i64> {
    let batches = store.read(feature).columns(["id"]).await.expect("it reads").collect().await.expect("it reads");
    let mut ids: Vec<i64> =
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_flush_waits_until_everything_is_in_the_store() {
    let backend = Arc::new(Failing::new(0, When::Before, true));
    let store = store_over(backend.clone()).await;
    let writer = quick(BufferedMetadataWriter::builder(store.clone())).start().await.expect("it starts");
    writer.put("raw/video", rows("audio", 0..10)).await.expect("a put");
    writer.put("raw/video", rows("audio", 10..20)).await.expect("a put");
    assert_eq!(writer.pending_rows(), 20);
    writer.flush().await.expect("a flush");
    assert_eq!(stored(&store, "raw/video").await, (0..20).collect::<Vec<_>>());
    assert_eq!(backend.appended.lock().expect("unpoisoned").len(), 1, "small batches are written together");
    assert_eq!(writer.close().await.expect("a close"), BTreeMap::from([("raw/video".parse().expect("a key"), 20)]));
}

#[tokio::test]
async fn rows_bytes_and_time_start_a_flush() {
    let store = store_over(Arc::new(Failing::new(0, When::Before, true))).await;
    for (name, builder) in [
        ("rows", quick(BufferedMetadataWriter::builder(store.clone())).flush_rows(5)),
        ("bytes", quick(BufferedMetadataWriter::builder(store.clone())).flush_bytes(10)),
        ("time", quick(BufferedMetadataWriter::builder(store.clone())).interval(Duration::from_millis(20))),
    ] {
        let writer = builder.start().await.expect("it starts");
        writer.put("raw/video", rows("audio", 0..5)).await.expect("a put");
        let written = async {
            while writer.pending_rows() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), written)
            .await
            .unwrap_or_else(|_| panic!("{name} start no flush"));
    }
}

#[tokio::test]
async fn dependents_go_first_under_one_time() {
    let backend = Arc::new(Failing::new(0, When::Before, true));
    let store = store_over(backend.clone()).await;
    let writer = quick(BufferedMetadataWriter::builder(store.clone())).start().await.expect("it starts");
    writer
        .put_multi([("raw/video", rows("audio", 0..3)), ("text", rows("words", 0..3))])
        .await
        .expect("a put of two features");
    writer.close().await.expect("a close");
    let order: Vec<String> =
        backend.appended.lock().expect("unpoisoned").iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(order, ["text", "raw/video"]);
    let mut times = Vec::new();
    for feature in ["text", "raw/video"] {
        let batches = store.read(feature).columns([columns::UPDATED_AT]).await.expect("it reads");
        let batches = batches.collect().await.expect("it reads");
        times.extend(batches.iter().map(|batch| batch.column(0).slice(0, 1)));
    }
    assert_eq!(&times[0], &times[1]);
}

#[tokio::test]
async fn a_passing_error_is_outlived() {
    for when in [When::Before, When::After] {
        let store = store_over(Arc::new(Failing::new(3, when, true))).await;
        let writer = quick(BufferedMetadataWriter::builder(store.clone())).start().await.expect("it starts");
        writer.put("raw/video", rows("audio", 0..10)).await.expect("a put");
        writer.flush().await.unwrap_or_else(|error| panic!("{when:?}: {error}"));
        assert_eq!(stored(&store, "raw/video").await, (0..10).collect::<Vec<_>>(), "{when:?}: each id once");
        assert!(writer.last_error().is_none(), "{when:?}");
        writer.close().await.expect("a close");
    }
}

#[tokio::test]
async fn a_lasting_error_gives_every_row_back() {
    for transient in [true, false] {
        let backend = Arc::new(Failing::new(usize::MAX, When::Before, transient));
        let store = store_over(backend.clone()).await;
        let writer = quick(BufferedMetadataWriter::builder(store.clone())).start().await.expect("it starts");
        writer.put("raw/video", rows("audio", 0..10)).await.expect("a put");
        writer.put("text", rows("words", 0..4)).await.expect("a put");
        let error = writer.flush().await.expect_err("a flush that cannot succeed");
        let given_back: usize = error.unwritten.iter().map(|(_, batch)| batch.num_rows()).sum();
        assert_eq!(given_back, 14);
        assert!(error.to_string().starts_with("14 row(s) could not be written: failing: append failed"), "{error}");
        assert_eq!(writer.pending_rows(), 0, "what is given back is the caller's");
        assert!(writer.last_error().is_some());
        backend.failures.store(0, Ordering::SeqCst);
        for (feature, batch) in error.unwritten {
            writer.put(feature, batch).await.expect("the writer goes on");
        }
        writer.close().await.expect("a close");
        assert_eq!(stored(&store, "raw/video").await.len() + stored(&store, "text").await.len(), 14);
    }
}

#[tokio::test]
async fn after_giving_up_nothing_is_taken_until_it_is_known() {
    let store = store_over(Arc::new(Failing::new(usize::MAX, When::Before, false))).await;
    let writer = quick(BufferedMetadataWriter::builder(store)).flush_rows(1).start().await.expect("it starts");
    writer.put("raw/video", rows("audio", 0..10)).await.expect("a put");
    while writer.last_error().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let refused = writer.put("raw/video", rows("audio", 10..11)).await.expect_err("a put after giving up");
    assert!(refused.to_string().contains("call `flush` to get back what was not written"), "{refused}");
    let error = writer.close().await.expect_err("a close that cannot succeed");
    assert_eq!(error.unwritten.len(), 1);
}

#[tokio::test]
async fn what_could_not_be_written_is_refused_at_put() {
    let store = store_over(Arc::new(Failing::new(0, When::Before, true))).await;
    let writer = quick(BufferedMetadataWriter::builder(store.clone())).start().await.expect("it starts");
    let without_id = rows("audio", 0..1).project(&[1]).expect("a projection");
    assert!(matches!(writer.put("raw/video", without_id).await, Err(Error::MissingColumn { .. })));
    assert!(matches!(writer.put("raw/video", rows("sound", 0..1)).await, Err(Error::InvalidColumn { .. })));
    assert!(matches!(writer.put("raw/vidio", rows("audio", 0..1)).await, Err(Error::UnknownFeature { .. })));
    let with = |array: ArrayRef| {
        let mut columns: Vec<(&str, ArrayRef)> = vec![("score", array)];
        let batch = rows("audio", 0..1);
        columns.extend([("id", batch.column(0).clone()), (columns::PROVENANCE_BY_FIELD, batch.column(1).clone())]);
        RecordBatch::try_from_iter(columns).expect("one length")
    };
    writer.put("raw/video", with(Arc::new(Int64Array::from(vec![1])))).await.expect("a put");
    let other_type = with(Arc::new(StringArray::from(vec!["high"])));
    assert!(matches!(writer.put("raw/video", other_type).await, Err(Error::TypeMismatch { .. })));
    writer.put("raw/video", rows("audio", 5..6)).await.expect("a batch with fewer columns");
    writer.close().await.expect("a close");
    assert_eq!(stored(&store, "raw/video").await, [0, 5]);
}

#[tokio::test]
async fn put_waits_while_too_much_is_pending() {
    let mut backend = Failing::new(0, When::Before, true);
    backend.delay = Duration::from_millis(5);
    let store = store_over(Arc::new(backend)).await;
    let batch = rows("audio", 0..100);
    let bound = 4 * batch.get_array_memory_size();
    let builder = quick(BufferedMetadataWriter::builder(store)).max_pending_bytes(bound).flush_rows(150);
    let writer = builder.start().await.expect("it starts");
    let put = |writer: BufferedMetadataWriter, number: i64| async move {
        writer.put("raw/video", rows("audio", number * 100..(number + 1) * 100)).await
    };
    let puts = (0..40).map(|number| tokio::spawn(put(writer.clone(), number))).collect::<Vec<_>>();
    for handle in puts {
        handle.await.expect("no panic").expect("a put");
        assert!(writer.pending_rows() <= 400, "{} rows are pending", writer.pending_rows());
    }
    assert_eq!(writer.close().await.expect("a close").values().sum::<u64>(), 4000);
}

#[tokio::test]
async fn dropped_futures_leave_the_writer_sound() {
    let mut backend = Failing::new(0, When::Before, true);
    backend.delay = Duration::from_millis(2);
    let store = store_over(Arc::new(backend)).await;
    let batch_bytes = rows("audio", 0..10).get_array_memory_size();
    let builder = quick(BufferedMetadataWriter::builder(store.clone())).max_pending_bytes(2 * batch_bytes);
    let writer = builder.start().await.expect("it starts");
    for number in 0..50 {
        let put = writer.put("raw/video", rows("audio", number * 10..(number + 1) * 10));
        let _ = tokio::time::timeout(Duration::from_micros(200 * (number as u64 % 9)), put).await;
        let _ = tokio::time::timeout(Duration::from_micros(150 * (number as u64 % 7)), writer.flush()).await;
    }
    writer.put("raw/video", rows("audio", 900..910)).await.expect("a put");
    writer.close().await.expect("a close");
    let ids = stored(&store, "raw/video").await;
    assert!(ids.contains(&905));
    for number in 0..50 {
        let there = ids.iter().filter(|id| **id / 10 == number).count();
        assert!(there == 0 || there == 10, "put {number} is there in part");
    }
}

#[tokio::test]
async fn a_closed_writer_takes_nothing() {
    let store = store_over(Arc::new(Failing::new(0, When::Before, true))).await;
    let writer = BufferedMetadataWriter::builder(store).start().await.expect("it starts");
    let other = writer.clone();
    writer.close().await.expect("a close");
    assert!(matches!(other.put("raw/video", rows("audio", 0..1)).await, Err(Error::Closed { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_writer_writes_what_it_holds() {
    let store = store_over(Arc::new(Failing::new(0, When::Before, true))).await;
    let writer = quick(BufferedMetadataWriter::builder(store.clone())).start().await.expect("it starts");
    writer.put("raw/video", rows("audio", 0..10)).await.expect("a put");
    drop(writer);
    assert_eq!(stored(&store, "raw/video").await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_that_are_not_async_put_too() {
    let store = store_over(Arc::new(Failing::new(0, When::Before, true))).await;
    let writer = quick(BufferedMetadataWriter::builder(store.clone())).start().await.expect("it starts");
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let writer = writer.blocking();
            std::thread::spawn(move || writer.put("raw/video", rows("audio", number * 10..(number + 1) * 10)))
        })
        .collect();
    tokio::task::spawn_blocking(move || {
        threads.into_iter().for_each(|thread| thread.join().expect("no panic").expect("a put"))
    })
    .await
    .expect("no panic");
    assert_eq!(writer.close().await.expect("a close").values().sum::<u64>(), 80);
}

/// The task of a writer that was dropped or closed lets go of its spool a moment later.
async fn started_when_free<F: Future<Output = Result<BufferedMetadataWriter>>>(
    start: impl Fn() -> F,
) -> BufferedMetadataWriter {
    loop {
        match start().await {
            Ok(writer) => return writer,
            Err(Error::Locked { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => panic!("the writer does not start: {error}"),
        }
    }
}

#[tokio::test]
async fn a_spool_keeps_what_was_put() {
    let directory = tempfile::tempdir().expect("a directory");
    let broken = store_over(Arc::new(Failing::new(usize::MAX, When::Before, false))).await;
    let start =
        |store: &MetadataStore| quick(BufferedMetadataWriter::builder(store.clone())).spool(directory.path()).start();
    let writer = start(&broken).await.expect("it starts");
    writer.put("raw/video", rows("audio", 0..10)).await.expect("a put");
    let locked = start(&broken).await.expect_err("a second writer on the same spool");
    assert!(matches!(locked, Error::Locked { .. }), "{locked}");
    writer.close().await.expect_err("the store is broken");
    drop(started_when_free(|| start(&broken)).await);

    let sound = store_over(Arc::new(Failing::new(0, When::Before, true))).await;
    sound.write("raw/video", rows("audio", 0..2)).await.expect("a later write");
    let later = sound.read("raw/video").columns([columns::UPDATED_AT]).filter("id = 0").await.expect("it reads");
    let later = later.collect().await.expect("it reads");
    let writer = started_when_free(|| start(&sound)).await;
    writer.close().await.expect("what was spooled is written");
    assert_eq!(stored(&sound, "raw/video").await, (0..10).collect::<Vec<_>>());
    let after = sound.read("raw/video").columns([columns::UPDATED_AT]).filter("id = 0").await.expect("it reads");
    assert_eq!(after.collect().await.expect("it reads"), later, "a row from the spool does not hide a newer one");
    let left = std::fs::read_dir(directory.path()).expect("a directory").count();
    assert_eq!(left, 1, "only the lock is left");
}

#[tokio::test]
async fn progress_is_reported() {
    let store = store_over(Arc::new(Failing::new(0, When::Before, true))).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook = seen.clone();
    let builder = quick(BufferedMetadataWriter::builder(store)).on_progress(move |progress| {
        hook.lock().expect("unpoisoned").extend(progress.values().map(|one| (one.put, one.written, one.pending)));
    });
    let writer = builder.start().await.expect("it starts");
    writer.put("raw/video", rows("audio", 0..10)).await.expect("a put");
    writer.close().await.expect("a close");
    assert_eq!(*seen.lock().expect("unpoisoned"), [(10, 0, 10), (10, 10, 0)]);
}
