//! Stores that fall back on others, opened from a configuration, and copies from store to store.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use metaxy_core::config::{MetaxyConfig, StoreConfig};
use metaxy_core::{AccessMode, Error, FeatureGraph, FeatureSpec, FieldSpec, HashAlgorithm, MetadataStore};

fn graph() -> FeatureGraph {
    let spec = |key: &str| FeatureSpec::builder(key).id_columns(["id"]);
    FeatureGraph::new([
        spec("raw/video").fields(["audio", "frames"]).build().unwrap(),
        spec("made/clip").dep("raw/video").build().unwrap(),
        spec("made/text").dep("made/clip").field(FieldSpec::new("text")).build().unwrap(),
    ])
    .unwrap()
}

/// The same definitions but for the code of one field: every feature gets another version.
fn next_graph() -> FeatureGraph {
    let spec = |key: &str| FeatureSpec::builder(key).id_columns(["id"]);
    let frames = FieldSpec::new("frames").code_version("2");
    FeatureGraph::new([
        spec("raw/video").fields([FieldSpec::new("audio"), frames]).build().unwrap(),
        spec("made/clip").dep("raw/video").build().unwrap(),
        spec("made/text").dep("made/clip").field(FieldSpec::new("text")).build().unwrap(),
    ])
    .unwrap()
}

/// Samples of `raw/video` with these ids.
fn videos(ids: &[i64], mark: &str) -> RecordBatch {
    let text =
        |of: &str| Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("{of}{id}{mark}")))) as ArrayRef;
    let fields: Vec<_> = ["audio", "frames"]
        .into_iter()
        .map(|name| (Arc::new(Field::new(name, DataType::Utf8, true)), text(name)))
        .collect();
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef),
        ("title", text("title")),
        ("metaxy_provenance_by_field", Arc::new(StructArray::from(fields)) as ArrayRef),
    ])
    .unwrap()
}

/// A chain of stores a -> b -> c .., each at a place of its own.
struct Chain {
    test: String,
    config: MetaxyConfig,
}

impl Chain {
    fn new(test: &str, links: &[(&str, &[&str])]) -> Self {
        let mut builder = MetaxyConfig::builder();
        for (name, fallbacks) in links {
            let store = StoreConfig::new("memory").setting("root_path", format!("{test}/{name}"));
            let store = fallbacks.iter().fold(store, |store, name| store.fallback_store(*name));
            builder = builder.add_store(*name, store);
        }
        Self { test: test.to_owned(), config: builder.build().unwrap() }
    }

    async fn open(&self, name: &str) -> MetadataStore {
        self.config.open_store(name, graph(), AccessMode::ReadWrite).await.unwrap()
    }

    fn space(&self, name: &str) -> Arc<support::Space> {
        support::space(&format!("{}/{name}", self.test))
    }

    fn times_opened(&self, name: &str) -> usize {
        self.space(name).opened.load(Ordering::SeqCst)
    }

    /// Fills a store without opening the others.
    async fn fill(&self, name: &str, ids: &[i64], mark: &str) {
        let memory = support::Memory::at(format!("{}/{name}", self.test), HashAlgorithm::Xxhash32);
        let store = MetadataStore::builder(memory, graph()).name(name).open(AccessMode::ReadWrite).await.unwrap();
        store.write("raw/video", videos(ids, mark)).await.unwrap();
        self.space(name).opened.store(0, Ordering::SeqCst);
        self.space(name).modes.lock().unwrap().clear();
    }
}

async fn ids(store: &MetadataStore, feature: &str) -> Vec<i64> {
    let batches = store.read(feature).columns(["id"]).await.unwrap().collect().await.unwrap();
    let mut ids: Vec<i64> =
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn fallbacks_open_when_needed_for_reading_and_once() {
    // Two ways lead to d.
    let chain = Chain::new("lazy", &[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"]), ("d", &[])]);
    chain.fill("a", &[1], "").await;
    let store = chain.open("a").await;
    assert_eq!(ids(&store, "raw/video").await, [1]);
    assert_eq!(["a", "b", "c", "d"].map(|name| chain.times_opened(name)), [1, 0, 0, 0]);
    let error = store.read("made/clip").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "feature `made/clip` is not in store a nor in its fallbacks b, d, c, d; write it first, or check `fallback_stores`"
    );
    assert_eq!(["a", "b", "c", "d"].map(|name| chain.times_opened(name)), [1, 1, 1, 1]);
    for name in ["b", "c", "d"] {
        assert_eq!(*chain.space(name).modes.lock().unwrap(), [AccessMode::ReadOnly], "{name}");
    }
}

#[tokio::test]
async fn the_first_store_that_has_a_feature_serves_all_of_it() {
    let names = ["a", "b", "c", "d"];
    let chain = |test: &str| Chain::new(test, &[("a", &["b"]), ("b", &["c"]), ("c", &["d"]), ("d", &[])]);
    for holders in 0_u8..16 {
        let chain = chain(&format!("first-{holders}"));
        let holds = |at: usize| holders & (1 << at) != 0;
        for (at, name) in names.into_iter().enumerate().filter(|(at, _)| holds(*at)) {
            chain.fill(name, &[at as i64, 10 + at as i64], "").await;
        }
        let store = chain.open("a").await;
        let first = (0..4).find(|at| holds(*at));
        assert_eq!(store.store_of("raw/video").await.unwrap().as_deref(), first.map(|at| names[at]), "{holders:04b}");
        match first {
            Some(at) => assert_eq!(ids(&store, "raw/video").await, [at as i64, 10 + at as i64], "{holders:04b}"),
            None => assert!(matches!(store.read("raw/video").await, Err(Error::FeatureNotFound { .. }))),
        }
        assert_eq!(store.has_feature("raw/video").await.unwrap(), holds(0));
    }
}

/// A chain of stores s0 -> s1 -> .. with a sample in the last.
async fn long_chain(test: &str, length: usize) -> Chain {
    let names: Vec<String> = (0..length).map(|at| format!("s{at}")).collect();
    let next = |at: usize| names.get(at + 1).map(String::as_str).into_iter().collect::<Vec<_>>();
    let nexts: Vec<Vec<&str>> = (0..length).map(next).collect();
    let links: Vec<_> = names.iter().zip(&nexts).map(|(name, next)| (name.as_str(), next.as_slice())).collect();
    let chain = Chain::new(test, &links);
    chain.fill(&names[length - 1], &[7], "").await;
    chain
}

#[tokio::test]
async fn long_chains() {
    let store = long_chain("long", 100).await.open("s0").await;
    assert_eq!(store.store_of("raw/video").await.unwrap().as_deref(), Some("s99"));
    assert_eq!(ids(&store, "raw/video").await, [7]);
    let error = long_chain("longer", 1000).await.config.check().unwrap_err().to_string();
    assert_eq!(error, "`stores.s99.config.fallback_stores[0]`: the chain of fallback stores is longer than 100");
}

#[tokio::test]
async fn a_table_that_was_made_beforehand_counts_as_none() {
    let chain = Chain::new("empty", &[("dev", &["prod"]), ("prod", &[])]);
    chain.fill("prod", &[1, 2], "").await;
    let tables = chain.space("prod").tables.lock().unwrap().clone();
    let empty = tables.into_iter().map(|(key, (schema, _))| (key, (schema, Vec::new())));
    chain.space("dev").tables.lock().unwrap().extend(empty);
    let store = chain.open("dev").await;
    assert_eq!(store.store_of("raw/video").await.unwrap().as_deref(), Some("prod"));
    assert_eq!(ids(&store, "raw/video").await, [1, 2]);
    store.write("raw/video", videos(&[3], "")).await.unwrap();
    assert_eq!(ids(&store, "raw/video").await, [3]);
}

#[tokio::test]
async fn what_is_deleted_does_not_come_back() {
    let chain = Chain::new("deleted", &[("dev", &["prod"]), ("prod", &[])]);
    chain.fill("prod", &[1, 2], "").await;
    chain.fill("dev", &[1, 2], "").await;
    let store = chain.open("dev").await;
    assert_eq!(store.delete("raw/video").filter("id = 1").await.unwrap(), 1);
    assert_eq!(ids(&store, "raw/video").await, [2]);
    assert_eq!(store.delete("raw/video").await.unwrap(), 1);
    assert_eq!(ids(&store, "raw/video").await, [0_i64; 0]);
    assert_eq!(chain.times_opened("prod"), 0);
}

#[tokio::test]
async fn a_pipeline_whose_root_lives_in_prod_runs_in_dev() {
    let chain = Chain::new("pipeline", &[("dev", &["prod"]), ("prod", &[])]);
    chain.fill("prod", &[1, 2, 3], "").await;
    let before = format!("{:?}", chain.space("prod").tables.lock().unwrap());
    let store = chain.open("dev").await;
    for feature in ["made/clip", "made/text"] {
        let increment = store.resolve_update(feature).await.unwrap();
        assert_eq!((increment.new.num_rows(), increment.stale.num_rows()), (3, 0), "{feature}");
        store.write(feature, &increment.new).await.unwrap();
        assert!(store.resolve_update(feature).await.unwrap().is_empty(), "{feature}");
    }
    assert_eq!(store.store_of("raw/video").await.unwrap().as_deref(), Some("prod"));
    assert_eq!(store.store_of("made/text").await.unwrap().as_deref(), Some("dev"));
    assert_eq!(format!("{:?}", chain.space("prod").tables.lock().unwrap()), before);
    assert_eq!(*chain.space("prod").modes.lock().unwrap(), [AccessMode::ReadOnly]);
}

#[tokio::test]
async fn current_rows_come_from_the_own_store_alone() {
    let chain = Chain::new("own", &[("dev", &["prod"]), ("prod", &[])]);
    chain.fill("prod", &[1, 2], "").await;
    let prod = chain.open("prod").await;
    prod.write("made/clip", prod.resolve_update("made/clip").await.unwrap().new).await.unwrap();
    let dev = chain.open("dev").await;
    assert_eq!(dev.resolve_update("made/clip").await.unwrap().new.num_rows(), 2);
    assert_eq!(dev.resolve_update("raw/video").samples(videos(&[1, 9], "")).await.unwrap().new.num_rows(), 2);
}

#[tokio::test]
async fn the_log_tells_when_a_fallback_answers() {
    let chain = Chain::new("log", &[("dev", &["prod"]), ("prod", &[])]);
    chain.fill("prod", &[1], "").await;
    let log = support::Log::default();
    let _guard = log.start();
    let store = chain.open("dev").await;
    assert_eq!(ids(&store, "raw/video").await, [1]);
    let answered = "a fallback store answers feature=raw/video store=\"dev\" fallback=\"prod\"";
    assert!(log.text().contains(answered), "{}", log.text());
}

#[tokio::test]
async fn a_fallback_that_is_out_of_reach() {
    let chain = Chain::new("broken", &[("dev", &["prod"]), ("prod", &[])]);
    chain.fill("prod", &[1], "").await;
    *chain.space("prod").broken.lock().unwrap() = true;
    let store = chain.open("dev").await;
    // Not "not found": nobody knows.
    let error = store.read("raw/video").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(store.store_of("raw/video").await.is_err());
    store.write("raw/video", videos(&[5], "")).await.unwrap();
    assert_eq!(ids(&store, "raw/video").await, [5]);
    *chain.space("prod").broken.lock().unwrap() = false;
    store.drop_feature("raw/video").await.unwrap();
    assert_eq!(ids(&store, "raw/video").await, [1]);
}

#[tokio::test]
async fn opened_stores_may_be_fallbacks_too() {
    let open = async |name: &str, hash| {
        let memory = support::Memory::at(format!("opened/{name}"), hash);
        MetadataStore::builder(memory, graph()).name(name)
    };
    let prod = open("prod", HashAlgorithm::Md5).await.open(AccessMode::ReadWrite).await.unwrap();
    prod.write("raw/video", videos(&[4], "")).await.unwrap();
    let dev = open("dev", HashAlgorithm::Md5).await.fallback(&prod).open(AccessMode::ReadWrite).await.unwrap();
    assert_eq!(ids(&dev, "raw/video").await, [4]);
    let error = open("odd", HashAlgorithm::Sha256).await.fallback(prod).open(AccessMode::ReadWrite).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "store `odd` hashes with sha256, its fallback `prod` with md5; a chain needs one algorithm"
    );
}

// ---- copies --------------------------------------------------------------------------------------------------------

async fn lone(test: &str, name: &str, graph: FeatureGraph) -> MetadataStore {
    let memory = support::Memory::at(format!("{test}/{name}"), HashAlgorithm::Xxhash32);
    MetadataStore::builder(memory, graph).name(name).open(AccessMode::ReadWrite).await.unwrap()
}

/// All stored rows, with everything that a copy keeps.
async fn everything(store: &MetadataStore, feature: &str) -> Vec<String> {
    let read = store.read(feature).with_feature_history().with_sample_history().include_soft_deleted();
    let rows = read.await.unwrap().rows().await.unwrap().to_batch().unwrap();
    let mut lines: Vec<String> = (0..rows.num_rows())
        .map(|row| {
            let cells = rows.schema_ref().fields().iter().zip(rows.columns()).map(|(field, column)| {
                let column = match column.data_type() {
                    DataType::Timestamp(..) => arrow::compute::cast(column, &DataType::Int64).unwrap(),
                    _ => column.clone(),
                };
                let cell = arrow::util::display::array_value_to_string(&column, row).unwrap();
                format!("{}={cell}", field.name())
            });
            cells.collect::<Vec<_>>().join(" ")
        })
        .collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn copies_keep_versions_and_times() {
    let source = lone("copy-all", "source", graph()).await;
    source.write("raw/video", videos(&[1, 2, 3], "")).await.unwrap();
    source.write("made/clip", source.resolve_update("made/clip").await.unwrap().new).await.unwrap();
    let target = lone("copy-all", "target", graph()).await;
    let summary = target.copy_from(&source).await.unwrap();
    let counts: Vec<_> = summary.rows.iter().map(|(key, rows)| (key.to_string(), *rows)).collect();
    assert_eq!(counts, [("made/clip".to_owned(), 3), ("raw/video".to_owned(), 3)]);
    assert_eq!(summary.total(), 6);
    for feature in ["raw/video", "made/clip"] {
        assert_eq!(everything(&target, feature).await, everything(&source, feature).await);
    }
    assert!(target.resolve_update("made/clip").await.unwrap().is_empty());
    assert!(!target.has_feature("made/text").await.unwrap());
}

#[tokio::test]
async fn copies_with_and_without_history() {
    let old = lone("copy-history", "source", graph()).await;
    old.write("raw/video", videos(&[1, 2], "")).await.unwrap();
    old.write("raw/video", videos(&[2], "b")).await.unwrap();
    let source = old.with_graph(next_graph()).unwrap();
    source.write("raw/video", videos(&[2, 3, 4], "c")).await.unwrap();
    source.delete("raw/video").filter("id = 4").await.unwrap();
    // Rows in all: 1, 2, 2, 2, 3, 4, and the deletion of 4.
    for (features, samples, expected) in [(true, false, 3), (false, false, 2), (false, true, 4), (true, true, 7)] {
        let target = lone(&format!("copy-history-{features}-{samples}"), "target", next_graph()).await;
        let copy = target.copy_from(&source).with_feature_history(features).with_sample_history(samples);
        assert_eq!(copy.await.unwrap().total(), expected, "{features} {samples}");
        if features && samples {
            assert_eq!(everything(&target, "raw/video").await, everything(&source, "raw/video").await);
        }
        assert_eq!(ids(&target, "raw/video").await, [2, 3]);
    }
}

#[tokio::test]
async fn copies_of_some_features_and_rows() {
    let source = lone("copy-some", "source", graph()).await;
    source.write("raw/video", videos(&[1, 2, 3], "")).await.unwrap();
    source.write("made/clip", source.resolve_update("made/clip").await.unwrap().new).await.unwrap();
    let target = lone("copy-some", "target", graph()).await;
    let copy = target.copy_from(&source).features(["raw/video"]).filter("raw/video", "id > 1").global_filter("id < 3");
    assert_eq!(copy.await.unwrap().total(), 1);
    assert_eq!(ids(&target, "raw/video").await, [2]);
    assert!(!target.has_feature("made/clip").await.unwrap());

    for (copy, told) in [
        (
            target.copy_from(&source).features(["made/text"]),
            "feature `made/text` is not in store source; write it first, or check `fallback_stores`",
        ),
        (
            target.copy_from(&source).features(["made/tex"]),
            "feature `made/tex` is not in the graph; did you mean `made/text`?",
        ),
        (
            target.copy_from(&source).filter("raw/vide", "id = 1"),
            "feature `raw/vide` is not in the graph; did you mean `raw/video`?",
        ),
    ] {
        assert_eq!(copy.await.unwrap_err().to_string(), told);
    }
    assert!(target.copy_from(&source).global_filter("id = ").await.is_err());
    assert!(target.copy_from(&source).global_filter("idd = 1").await.is_err());
    assert_eq!(ids(&target, "raw/video").await, [2]);
}

#[tokio::test]
async fn copies_leave_the_rows_of_fallbacks_alone() {
    let chain = Chain::new("copy-fallback", &[("dev", &["prod"]), ("prod", &[])]);
    chain.fill("prod", &[1, 2], "").await;
    let dev = chain.open("dev").await;
    let target = lone("copy-fallback", "target", graph()).await;
    assert_eq!(target.copy_from(&dev).await.unwrap().total(), 0);
    assert!(matches!(target.copy_from(&dev).features(["raw/video"]).await, Err(Error::FeatureNotFound { .. })));
    // A store may take over what it only saw through its fallback.
    let prod = chain.open("prod").await;
    assert_eq!(dev.copy_from(&prod).await.unwrap().total(), 2);
    assert_eq!(dev.store_of("raw/video").await.unwrap().as_deref(), Some("dev"));
}

#[tokio::test]
async fn large_copies_are_written_in_parts() {
    let source = lone("copy-large", "source", graph()).await;
    for part in 0..30_i64 {
        let ids: Vec<i64> = (part * 10_000..(part + 1) * 10_000).collect();
        source.write("raw/video", videos(&ids, "")).await.unwrap();
    }
    let target = lone("copy-large", "target", graph()).await;
    let (calls, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let copy = target.copy_from(&source).with_sample_history(true).on_progress({
        let (calls, seen) = (calls.clone(), seen.clone());
        move |progress| {
            calls.fetch_add(1, Ordering::SeqCst);
            seen.lock().unwrap().push((progress.feature.to_string(), progress.rows, progress.done));
        }
    });
    assert_eq!(copy.await.unwrap().total(), 300_000);
    let seen = seen.lock().unwrap().clone();
    assert!(calls.load(Ordering::SeqCst) >= 3 && seen.is_sorted_by_key(|(_, rows, _)| *rows), "{seen:?}");
    assert_eq!(seen.last(), Some(&("raw/video".to_owned(), 300_000, true)));
    assert_eq!(ids(&target, "raw/video").await.len(), 300_000);
}
