//! A store on a backend with injected faults, and rows for it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use metaxy_core::writer::{RetryPolicy, WriterBuilder};
use metaxy_core::{AccessMode, BufferedMetadataWriter, FeatureGraph, FeatureSpec, MetadataStore, columns};
use metaxy_testkit::faults::{Fault, FaultyBackend, Operation};
use metaxy_testkit::memory::MemoryBackend;

/// The feature from which `text` is made.
pub const VIDEO: &str = "raw/video";
/// A feature made from [`VIDEO`].
pub const TEXT: &str = "text";

/// An interval that does not pass in a test.
pub const NEVER: Duration = Duration::from_secs(3600);

/// A store and its backend, into which faults can be injected.
pub struct Fixture {
    pub backend: Arc<FaultyBackend>,
    pub store: MetadataStore,
}

impl Fixture {
    pub async fn new() -> Self {
        Self::with_graph(graph("1")).await
    }

    pub async fn with_graph(graph: FeatureGraph) -> Self {
        let backend = Arc::new(FaultyBackend::new(MemoryBackend::new()));
        let builder = MetadataStore::builder(backend.clone(), graph);
        Self { store: builder.open(AccessMode::ReadWrite).await.expect("the store opens"), backend }
    }

    /// Returns a store whose appends fail.
    pub async fn failing(fault: Fault) -> Self {
        let fixture = Self::new().await;
        fixture.backend.inject(fault);
        fixture
    }

    /// Returns a store whose appends take longer.
    pub async fn slow(time: Duration) -> Self {
        Self::failing(Fault::delay(Operation::Append, time).forever()).await
    }

    /// Returns a builder of a writer that flushes only on request, and retries without long pauses.
    pub fn builder(&self) -> WriterBuilder {
        let pause = Duration::from_millis(1);
        BufferedMetadataWriter::builder(self.store.clone())
            .retry(RetryPolicy { attempts: 4, initial_pause: pause, max_pause: pause })
            .interval(NEVER)
    }

    pub async fn writer(&self) -> BufferedMetadataWriter {
        self.builder().start().await.expect("it starts")
    }

    /// Returns the ids that readers see, sorted.
    pub async fn ids(&self, feature: &str) -> Vec<i64> {
        ids(&self.store, feature).await
    }

    /// Returns the number of appends.
    pub fn appends(&self) -> usize {
        self.backend.calls(Operation::Append)
    }
}

/// Returns two features, one of which depends on the other; the first has this code version.
pub fn graph(code_version: &str) -> FeatureGraph {
    let audio = metaxy_core::FieldSpec::new("audio").code_version(code_version);
    FeatureGraph::new([
        FeatureSpec::builder(VIDEO).id_columns(["id"]).field(audio).build().expect("a spec"),
        FeatureSpec::builder(TEXT).id_columns(["id"]).dep(VIDEO).field("words").build().expect("a spec"),
    ])
    .expect("a graph")
}

/// Returns rows of [`VIDEO`].
pub fn videos(ids: Range<i64>) -> RecordBatch {
    rows("audio", ids)
}

/// Returns rows of [`TEXT`].
pub fn texts(ids: Range<i64>) -> RecordBatch {
    rows("words", ids)
}

fn rows(field: &str, ids: Range<i64>) -> RecordBatch {
    let ids: Vec<i64> = ids.collect();
    let versions: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("v{id}"))));
    let provenance = columns::by_field([(field, versions)]).expect("texts");
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(ids)) as ArrayRef),
        (columns::PROVENANCE_BY_FIELD, provenance),
    ])
    .expect("one length")
}

/// Returns the rows with one more column.
pub fn with_column(batch: &RecordBatch, name: &str, array: ArrayRef) -> RecordBatch {
    let schema = batch.schema();
    let columns =
        schema.fields().iter().zip(batch.columns()).map(|(field, array)| (field.name().as_str(), array.clone()));
    RecordBatch::try_from_iter_with_nullable(columns.chain([(name, array)]).map(|(name, array)| (name, array, true)))
        .expect("one length")
}

/// Returns the ids that readers of a store see, sorted.
pub async fn ids(store: &MetadataStore, feature: &str) -> Vec<i64> {
    let mut ids = ints(store, feature, "id").await;
    ids.sort_unstable();
    ids
}

/// Returns a column of numbers; nulls are left out.
pub async fn ints(store: &MetadataStore, feature: &str, column: &str) -> Vec<i64> {
    let rows = store.read(feature).columns([column]).await.expect("it reads").rows().await.expect("it reads");
    let batches = rows.batches().iter();
    batches.flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().iter().flatten().collect::<Vec<_>>()).collect()
}

/// Returns a stored system column in one array.
pub async fn column(store: &MetadataStore, feature: &str, column: &str) -> ArrayRef {
    let rows = store.read(feature).columns([column]).await.expect("it reads").rows().await.expect("it reads");
    rows.to_batch().expect("one batch").column(0).clone()
}

/// Returns the only value of a column.
pub async fn only_value(store: &MetadataStore, feature: &str, name: &str) -> ArrayRef {
    let values = column(store, feature, name).await;
    let first = values.slice(0, 1);
    for row in 1..values.len() {
        assert_eq!(&values.slice(row, 1), &first, "{feature}.{name} has several values");
    }
    first
}

/// Waits until a condition is true, or panics after a time limit.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Returns the result of a call, or panics after a time limit.
pub async fn in_time<T>(what: &str, call: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), call).await {
        Ok(answer) => answer,
        Err(_) => panic!("not in time: {what}"),
    }
}
