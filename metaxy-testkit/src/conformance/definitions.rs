//! Pushed definitions.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use metaxy_core::{
    AccessMode, Error, FeatureDep, FeatureGraph, FeatureKey, FeatureSpec, FieldSpec, Lineage, MetadataStore, Result,
};

use super::kit::{LEAF, PASSED, ROOT, assert_error, increment, pair, process, read_ids, root, samples, versioned_pair};
use super::{Bench, Outcome};
use crate::clock::ManualClock;

const FILMS: &str = "films";
const TABLE: &str = "metaxy-system/feature_versions";

/// Returns the features of a graph with their versions, and whether another project owns them.
fn versions(graph: &FeatureGraph) -> Vec<(String, String, String, bool)> {
    graph
        .features()
        .map(|plan| {
            let key = plan.spec.key.to_string();
            (key, plan.feature_version.clone(), plan.definition_version.clone(), plan.external)
        })
        .collect()
}

async fn push(store: &MetadataStore) -> Result<usize> {
    Ok(store.push(()).project(FILMS).await?.features.len())
}

fn no_graph() -> Result<FeatureGraph> {
    FeatureGraph::new([])
}

pub(super) async fn definitions_are_read_back(bench: Bench) -> Result<Outcome> {
    let described = FeatureSpec::builder("raw/text-1")
        .id_columns(["id", "ü"])
        .dep(FeatureDep::new(ROOT).rename("z", "q").rename("a", "r").lineage(Lineage::expansion(["id"])).optional())
        .field(FieldSpec::new("text/en").code_version("'\"\\\n日本🙂"))
        .metadata("z", "it's; DROP TABLE \u{7f}")
        .metadata("a", 1.5)
        .description("%s ? $1 {} \u{0}".replace('\u{0}', "NUL"))
        .build()?;
    let graph = FeatureGraph::new([root(ROOT)?, described])?;
    let store = bench.store(graph.clone()).await?;
    let tags = [("git_commit", "4f2a'91c"), ("ü", "日本")];
    assert_eq!(store.push(tags).project(FILMS).await?.features.len(), 2);
    let history = store.definitions().history().await?;
    store.close().await?;
    let store = bench.store(no_graph()?).await?;
    assert_eq!(store.definitions().history().await?, history);
    assert_eq!(store.definitions().latest().await?.len(), 2);
    assert!(history[0].recorded_at > history[1].recorded_at, "{history:?}");
    for definition in &history {
        let plan = graph.plan(&definition.feature)?;
        assert_eq!(definition.spec()?, *plan.spec);
        assert_eq!(definition.spec_json, plan.spec.to_pushed_json());
        assert_eq!(definition.feature_version, plan.feature_version);
        assert_eq!((definition.class_path.as_deref(), definition.deleted_at), (None, None));
        let found = definition.tags()?;
        assert!(tags.iter().all(|(name, value)| found[*name] == *value), "{found:?}");
    }
    assert_eq!(store.definitions().feature("raw/text-1").history().await?, history[..1]);
    PASSED
}

pub(super) async fn the_table_is_that_of_the_python_package(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    push(&store).await?;
    assert_eq!(store.tables().await?, ["metaxy_system__feature_versions"]);
    let key: FeatureKey = TABLE.parse()?;
    let schema = store.backend().schema(&key).await?.expect("the table is there");
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let expected = [
        "project",
        "feature_key",
        "metaxy_feature_version",
        "metaxy_definition_version",
        "recorded_at",
        "feature_spec",
        "feature_schema",
        "feature_class_path",
        "metaxy_project_version",
        "tags",
        "deleted_at",
    ];
    assert_eq!(names, expected);
    for field in schema.fields() {
        let is_text = matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let is_time = *field.data_type() == DataType::Timestamp(TimeUnit::Microsecond, None);
        let fits = if field.name().ends_with("_at") { is_time } else { is_text };
        assert!(fits, "{field}");
    }
    PASSED
}

pub(super) async fn only_changes_are_pushed(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let next = store.with_graph(versioned_pair("2")?)?;
    for (store, recorded) in [(&store, 2), (&store, 0), (&next, 2), (&next, 0), (&store, 2), (&store, 0)] {
        assert_eq!(push(store).await?, recorded);
        let loaded = store.definitions().graph().await?;
        assert_eq!(versions(&loaded), versions(store.graph()));
    }
    let pushes = store.definitions().project(FILMS).pushes().await?;
    let found: Vec<&str> = pushes.iter().map(|push| push.project_version.as_str()).collect();
    let [one, other] = [&store, &next].map(|store| store.graph().project_version());
    assert_eq!(found, [one, other, one]);
    let earlier = store.definitions().project_version(other).graph().await?;
    assert_eq!(versions(&earlier), versions(next.graph()));
    PASSED
}

pub(super) async fn the_graph_of_a_store(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    process(&store, LEAF).await?;
    store.write(ROOT, samples(["s2", "s3"], "v2").batch()).await?;
    push(&store).await?;
    let expected = increment(&store, LEAF).await?;
    store.close().await?;
    let store = bench.store(no_graph()?).await?;
    let store = store.with_graph(store.definitions().graph().await?)?;
    assert_eq!(read_ids(&store, ROOT).await?, ["s1", "s2", "s3"]);
    assert_eq!(increment(&store, LEAF).await?, expected);
    PASSED
}

pub(super) async fn projects_are_kept_apart(bench: Bench) -> Result<Outcome> {
    let lake = bench.store(FeatureGraph::new([root(ROOT)?])?).await?;
    lake.push(()).project("lake").await?;
    let leaf = versioned_pair("1")?.spec(LEAF)?.clone();
    let mine = FeatureGraph::builder().external([root(ROOT)?]).features([leaf]).build()?;
    let store = lake.with_graph(mine)?;
    assert_eq!(push(&store).await?, 1, "features of other projects are left out");
    assert!(lake.push(()).project("lake").await?.already_pushed);
    let definitions = || store.definitions();
    assert_eq!(versions(&definitions().project(FILMS).graph().await?), versions(store.graph()));
    assert_eq!(versions(&definitions().project("lake").graph().await?), versions(lake.graph()));
    assert_eq!(definitions().project("lake").latest().await?.len(), 1);
    assert_eq!(definitions().latest().await?.len(), 2);
    assert_error!(definitions().project("other").graph().await, Error::NotPushed { .. });
    PASSED
}

pub(super) async fn concurrent_pushes(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    push(&store).await?;
    let next = store.with_graph(versioned_pair("2")?)?;
    let tasks: Vec<_> = (0..6)
        .map(|number| {
            let (store, project) = (next.clone(), ["films", "lake"][number % 2]);
            tokio::spawn(async move { store.push(()).project(project).await })
        })
        .collect();
    let mut recorded = 0;
    for task in tasks {
        match task.await.expect("a push ends") {
            Ok(pushed) => recorded += pushed.features.len(),
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
    assert!(recorded >= 2, "{recorded}");
    assert_eq!(store.definitions().history().await?.len(), 2 + recorded);
    assert_eq!(push(&next).await.unwrap_or_default() % 2, 0);
    assert_eq!(versions(&store.definitions().project(FILMS).graph().await?), versions(next.graph()));
    PASSED
}

pub(super) async fn a_clock_that_is_set_back_pushes(bench: Bench) -> Result<Outcome> {
    for (number, version) in ["1", "2", "3"].into_iter().enumerate() {
        let clock = ManualClock::new();
        clock.advance(-3600 * number as i64);
        let builder = bench.builder(versioned_pair(version)?).await?;
        let store = builder.clock(Arc::clone(&clock) as _).open(AccessMode::ReadWrite).await?;
        assert_eq!(push(&store).await?, 2);
        assert_eq!(versions(&store.definitions().graph().await?), versions(store.graph()));
        store.close().await?;
    }
    PASSED
}

pub(super) async fn a_large_project(bench: Bench) -> Result<Outcome> {
    let spec = |number: usize| {
        let text = if number < 5 { "é".repeat(20_000) } else { String::new() };
        FeatureSpec::builder(format!("raw/f{number}")).id_columns(["id"]).description(text).build()
    };
    let graph = FeatureGraph::new((0..300).map(spec).collect::<Result<Vec<_>>>()?)?;
    let store = bench.store(graph).await?;
    assert_eq!(push(&store).await?, 300);
    assert_eq!(push(&store).await?, 0);
    assert_eq!(versions(&store.definitions().graph().await?), versions(store.graph()));
    PASSED
}

pub(super) async fn a_push_is_not_a_feature(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1"], "v1").batch()).await?;
    push(&store).await?;
    assert_eq!(read_ids(&store, ROOT).await?, ["s1"]);
    assert_error!(store.drop_feature(TABLE).await, Error::ReservedFeature { .. });
    assert_error!(store.delete(TABLE).hard().await, Error::ReservedFeature { .. } | Error::UnknownFeature { .. });
    store.delete(ROOT).hard().await?;
    store.drop_feature(ROOT).await?;
    assert_eq!(store.definitions().history().await?.len(), 2);
    store.compact(TABLE).await?;
    assert_eq!(versions(&store.definitions().graph().await?), versions(store.graph()));
    PASSED
}

pub(super) async fn a_store_that_is_open_for_reading(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    push(&store).await?;
    store.close().await?;
    let reader = bench.builder(no_graph()?).await?.open(AccessMode::ReadOnly).await?;
    assert_eq!(versions(&reader.definitions().graph().await?), versions(&pair()?));
    let reader = reader.with_graph(versioned_pair("2")?)?;
    assert_error!(push(&reader).await, Error::ReadOnly { .. });
    assert_eq!(reader.definitions().history().await?.len(), 2);
    PASSED
}

pub(super) async fn rebases_to_a_pushed_version(bench: Bench) -> Result<Outcome> {
    let store = bench.store(versioned_pair("1")?).await?;
    store.write(ROOT, samples(["s1", "s2", "s3"], "v1").batch()).await?;
    process(&store, LEAF).await?;
    let first = store.graph().feature_version(LEAF)?.to_owned();
    push(&store).await?;
    let other = store.with_graph(versioned_pair("2")?)?;
    push(&other).await?;
    let second = other.graph().feature_version(LEAF)?.to_owned();
    // The root's rows have the version of its new definition too.
    other.write(ROOT, samples(["s1", "s2", "s3"], "v1").batch()).await?;

    // From the store of the first definitions to the second ones.
    let graph = store.definitions().graph_of_version(LEAF, &second).await?;
    assert_eq!(versions(&graph), versions(other.graph()));
    let target = store.with_graph(graph)?;
    let named = || samples(["s2", "none"], "v1").batch();
    assert_eq!(target.rebase(LEAF, &first).samples(named()).count().await?, 1);
    assert_eq!(target.rebase(LEAF, &first).count().await?, 3);
    assert_eq!(target.rebase(LEAF, &first).samples(Vec::new()).count().await?, 0, "no rows name no samples");
    assert_eq!(increment(&other, LEAF).await?[0], ["s1", "s2", "s3"], "counting writes nothing");
    assert_eq!(target.rebase(LEAF, &first).samples(named()).await?, 1);
    assert_eq!(increment(&other, LEAF).await?[0], ["s1", "s3"]);
    assert_eq!(target.rebase(LEAF, &first).await?, 3);
    assert!(other.resolve_update(LEAF).await?.is_empty());
    let unknown = store.definitions().graph_of_version(LEAF, "00000000").await;
    assert_error!(unknown, Error::NotPushed { ref selection, .. } if selection.contains("00000000"));
    PASSED
}

pub(super) async fn a_rebase_is_counted_in_a_store_for_reading(bench: Bench) -> Result<Outcome> {
    let store = bench.store(versioned_pair("1")?).await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    process(&store, LEAF).await?;
    let first = store.graph().feature_version(LEAF)?.to_owned();
    let other = store.with_graph(versioned_pair("2")?)?;
    other.write(ROOT, samples(["s1"], "v1").batch()).await?;
    store.close().await?;
    let reader = bench.builder(versioned_pair("2")?).await?.open(AccessMode::ReadOnly).await?;
    assert_eq!(reader.rebase(LEAF, &first).count().await?, 1, "the other sample is no longer expected");
    assert_error!(reader.rebase(LEAF, &first).await, Error::ReadOnly { .. });
    PASSED
}
