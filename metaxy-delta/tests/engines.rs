//! DataFusion and the Arrow engine: the same increments from the same tables.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field};
use futures::TryStreamExt;
use metaxy_core::{
    AccessMode, FeatureGraph, FeatureSpec, HashAlgorithm, Increment, MetadataStore, RowKind, SharedBackend,
    VersioningEngine, columns,
};
use metaxy_delta::{DeltaBackend, DeltaConfig};
use metaxy_testkit::oracle::Histories;
use metaxy_testkit::scenario::{self, Scenario};

fn backend(path: &Path) -> SharedBackend {
    Arc::new(DeltaBackend::new(DeltaConfig::new(path.display().to_string())).unwrap())
}

/// Runs both engines, step by step, on some scenarios, with all hash algorithms in turn; returns the number of resolves
/// that DataFusion ran.
async fn resolved(scenarios: Vec<Scenario>) -> usize {
    let mut resolved = 0;
    let mut failures = Vec::new();
    for (scenario, hash) in scenarios.into_iter().zip(HashAlgorithm::ALL.into_iter().cycle()) {
        let directory = tempfile::tempdir().unwrap();
        match scenario::compare_engines(&scenario, &scenario.name, backend(directory.path()), hash).await {
            Ok(count) => resolved += count,
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    resolved
}

#[tokio::test(flavor = "multi_thread")]
async fn both_engines_agree_on_scenarios() {
    let resolved = resolved(Scenario::bundled()).await;
    assert!(resolved > 60, "only {resolved} resolves ran in DataFusion");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_engines_agree_on_random_histories() {
    let cases = std::env::var("METAXY_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    let resolved = resolved(Histories::new(cases).scenarios().unwrap()).await;
    assert!(resolved > cases, "only {resolved} resolves ran in DataFusion");
}

/// The features of the tests below: results are made from two inputs with the same ids.
fn graph() -> FeatureGraph {
    let root = |key: &str| FeatureSpec::builder(key).id_columns(["id"]).field("default").build().unwrap();
    let both = FeatureSpec::builder("both").id_columns(["id"]).dep("left").dep("right").build().unwrap();
    FeatureGraph::new([root("left"), root("right"), both]).unwrap()
}

/// Returns samples of a root, with a column that is named like it.
fn samples(root: &str, ids: ArrayRef, version: &str) -> RecordBatch {
    let versions: ArrayRef = Arc::new(StringArray::from(vec![version; ids.len()]));
    let field = Arc::new(Field::new("default", DataType::Utf8, true));
    let texts: ArrayRef = Arc::new((0..ids.len()).map(|row| Some(format!("{row:0200}"))).collect::<StringArray>());
    let provenance: ArrayRef = Arc::new(StructArray::from(vec![(field, versions)]));
    RecordBatch::try_from_iter([("id", ids), (root, texts), (columns::PROVENANCE_BY_FIELD, provenance)]).unwrap()
}

async fn counted(store: &MetadataStore, engine: VersioningEngine) -> [usize; 3] {
    let found: Increment = store.resolve_update("both").versioning_engine(engine).await.unwrap();
    [found.new, found.stale, found.orphaned].map(|rows| rows.num_rows())
}

/// Sorts far more rows than fit, into temporary files, and streams the increment.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_memory_limit_is_kept_by_temporary_files() {
    const ROWS: i64 = 800_000;
    let directory = tempfile::tempdir().unwrap();
    let temporary = directory.path().join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let store = MetadataStore::builder(backend(&directory.path().join("store")), graph()).memory_limit(1);
    let store = store.temp_dir(&temporary).open(AccessMode::ReadWrite).await.unwrap();
    for root in ["left", "right"] {
        store.write(root, samples(root, Arc::new(Int64Array::from_iter_values(0..ROWS)), "1")).await.unwrap();
    }
    let lazy = store.resolve_update("both").versioning_engine(VersioningEngine::Native).lazy().await.unwrap();
    let (mut rows, mut found, mut spilled) = (lazy.stream(), 0, false);
    while let Some((kind, batch)) = rows.try_next().await.unwrap() {
        assert_eq!(kind, RowKind::New);
        found += batch.num_rows();
        spilled |= std::fs::read_dir(&temporary).unwrap().next().is_some();
    }
    assert_eq!(found, ROWS as usize);
    assert!(spilled, "no temporary file was seen");
    drop(rows);
    assert_eq!(lazy.counts().await.unwrap().new, ROWS as usize);
}

/// Ids are matched across types, and null, NaN and zeros as in the Arrow engine.
#[tokio::test(flavor = "multi_thread")]
async fn ids_of_other_types_match_as_in_the_arrow_engine() {
    let integers: ArrayRef = Arc::new(Int32Array::from(vec![0, 1, 2, 7]));
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.0, 1.0, 2.5, 7.0]));
    let longs: ArrayRef = Arc::new(Int64Array::from(vec![0, 1, 3, 7]));
    for (left, right, matched) in [(&integers, &longs, 3), (&floats, &floats, 4)] {
        let directory = tempfile::tempdir().unwrap();
        let store = MetadataStore::builder(backend(directory.path()), graph());
        let store = store.open(AccessMode::ReadWrite).await.unwrap();
        store.write("left", samples("left", left.clone(), "1")).await.unwrap();
        store.write("right", samples("right", right.clone(), "1")).await.unwrap();
        for engine in [VersioningEngine::Arrow, VersioningEngine::Native] {
            assert_eq!(counted(&store, engine).await, [matched, 0, 0], "{engine:?}");
        }
        let new = store.resolve_update("both").await.unwrap().new;
        store.write("both", new).await.unwrap();
        store.write("left", samples("left", left.slice(0, 2), "2")).await.unwrap();
        store.delete("right").filter("id >= 7").hard().await.unwrap();
        for engine in [VersioningEngine::Arrow, VersioningEngine::Native] {
            assert_eq!(counted(&store, engine).await, [0, 2, 1], "{engine:?}");
        }
    }
}

#[test]
#[cfg(not(feature = "ballista"))]
fn a_cluster_needs_a_cargo_feature() {
    let settings = "root_path = 'store'\nscheduler = 'df://host:50050'";
    let config = toml::from_str::<DeltaConfig>(settings).unwrap();
    let error = DeltaBackend::new(config).unwrap_err();
    assert!(matches!(&error, metaxy_core::Error::Config { key, .. } if key == "scheduler"), "{error:?}");
    assert!(error.to_string().contains("--features ballista"), "{error}");
}

/// Inputs of a chain are in several stores, and one query reads them all.
#[tokio::test(flavor = "multi_thread")]
async fn inputs_of_several_stores() {
    let directory = tempfile::tempdir().unwrap();
    let builder = |name: &str| MetadataStore::builder(backend(&directory.path().join(name)), graph()).name(name);
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
    let shared = builder("shared").open(AccessMode::ReadWrite).await.unwrap();
    shared.write("left", samples("left", ids.clone(), "1")).await.unwrap();
    let own = builder("own").fallback(shared.clone()).open(AccessMode::ReadWrite).await.unwrap();
    own.write("right", samples("right", ids.slice(2, 8), "1")).await.unwrap();
    for engine in [VersioningEngine::Arrow, VersioningEngine::Native] {
        assert_eq!(counted(&own, engine).await, [8, 0, 0], "{engine:?}");
    }
    let new = own.resolve_update("both").versioning_engine(VersioningEngine::Native).await.unwrap().new;
    own.write("both", new).await.unwrap();
    shared.write("left", samples("left", ids.slice(0, 4), "2")).await.unwrap();
    own.delete("right").filter("id = 9").hard().await.unwrap();
    for engine in [VersioningEngine::Arrow, VersioningEngine::Native] {
        assert_eq!(counted(&own, engine).await, [0, 2, 1], "{engine:?}");
    }
}
