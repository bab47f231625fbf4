//! Resolving: new, stale and orphaned samples, with the Arrow engine and the storage system's own.

use arrow::array::{BooleanArray, Int64Array, StringArray};
use metaxy_core::{Error, FeatureDep, FeatureGraph, FeatureSpec, FieldSpec, MetadataStore, Result};

use super::kit::{
    LEAF, PASSED, ROOT, assert_error, both_engines, ids, ids_of, increment, pair, process, read_ids, root, samples,
    texts, versioned_pair,
};
use super::{Bench, Outcome};

/// Returns a store with three processed samples.
async fn processed(bench: &Bench) -> Result<MetadataStore> {
    let store = bench.store(pair()?).await?;
    let batch = samples(["s1", "s2", "s3"], "v1")
        .column("n", Int64Array::from(vec![Some(1), Some(2), None]))
        .column("t", StringArray::from(vec![Some("it's"), None, Some("")]));
    store.write(ROOT, batch.batch()).await?;
    process(&store, LEAF).await?;
    Ok(store)
}

fn texts_of(expected: [&[&str]; 3]) -> [Vec<String>; 3] {
    expected.map(|ids| ids.iter().map(ToString::to_string).collect())
}

pub(super) async fn everything_is_new_at_first(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    assert_eq!(increment(&store, LEAF).await?, texts_of([&["s1", "s2"], &[], &[]]));
    PASSED
}

pub(super) async fn nothing_changed(bench: Bench) -> Result<Outcome> {
    let store = processed(&bench).await?;
    assert_eq!(increment(&store, LEAF).await?, texts_of([&[], &[], &[]]));
    // Writing the same versions again is no change.
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    assert_eq!(increment(&store, LEAF).await?, texts_of([&[], &[], &[]]));
    PASSED
}

pub(super) async fn changed_added_and_removed(bench: Bench) -> Result<Outcome> {
    let store = processed(&bench).await?;
    store.write(ROOT, samples(["s2", "s4"], "v2").batch()).await?;
    store.delete(ROOT).filter("id = 's3'").await?;
    assert_eq!(increment(&store, LEAF).await?, texts_of([&["s4"], &["s2"], &["s3"]]));
    process(&store, LEAF).await?;
    assert_eq!(increment(&store, LEAF).await?, texts_of([&[], &[], &["s3"]]));
    PASSED
}

pub(super) async fn upstream_columns_are_included(bench: Bench) -> Result<Outcome> {
    let store = processed(&bench).await?;
    let all = store.resolve_update(LEAF).skip_comparison().await?;
    assert_eq!((all.new.num_rows(), all.stale.num_rows(), all.orphaned.num_rows()), (3, 0, 0));
    let rows = super::kit::sorted(all.new)?;
    assert_eq!(texts(&rows, "n"), ["1", "2", "NULL"]);
    assert_eq!(texts(&rows, "t"), ["it's", "NULL", ""]);
    PASSED
}

pub(super) async fn a_deleted_result_is_new_again(bench: Bench) -> Result<Outcome> {
    let store = processed(&bench).await?;
    store.delete(LEAF).filter("id = 's1'").await?;
    assert_eq!(increment(&store, LEAF).await?, texts_of([&["s1"], &[], &[]]));
    PASSED
}

pub(super) async fn a_new_definition_makes_every_sample_new(bench: Bench) -> Result<Outcome> {
    let store = processed(&bench).await?.with_graph(versioned_pair("2")?)?;
    assert_eq!(increment(&store, LEAF).await?, texts_of([&[], &[], &[]]), "no row has the new feature version yet");
    store.write(ROOT, samples(["s1", "s2"], "v2").batch()).await?;
    assert_eq!(increment(&store, LEAF).await?, texts_of([&["s1", "s2"], &[], &[]]));
    PASSED
}

pub(super) async fn only_what_depends_on_a_change_is_stale(bench: Bench) -> Result<Outcome> {
    let only = |key: &str, field: &str| {
        FeatureSpec::builder(key)
            .id_columns(["id"])
            .dep(ROOT)
            .field(FieldSpec::new("x").depends_on(ROOT, [field]))
            .build()
    };
    let graph = FeatureGraph::new([root(ROOT)?, only("of/a", "a")?, only("of/b", "b")?])?;
    let store = bench.store(graph).await?;
    let with = |a: &str| {
        let arrays = [a, "same"]
            .map(|value| std::sync::Arc::new(StringArray::from(vec![value, value])) as arrow::array::ArrayRef);
        let provenance =
            arrow::array::StructArray::new(metaxy_core::columns::by_field_fields(["a", "b"]), arrays.to_vec(), None);
        samples(["s1", "s2"], "")
            .without(metaxy_core::columns::PROVENANCE_BY_FIELD)
            .column(metaxy_core::columns::PROVENANCE_BY_FIELD, provenance)
            .batch()
    };
    store.write(ROOT, with("first")).await?;
    for feature in ["of/a", "of/b"] {
        process(&store, feature).await?;
    }
    store.write(ROOT, with("second")).await?;
    assert_eq!(increment(&store, "of/a").await?, texts_of([&[], &["s1", "s2"], &[]]));
    assert_eq!(increment(&store, "of/b").await?, texts_of([&[], &[], &[]]));
    PASSED
}

pub(super) async fn samples_of_a_root(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    assert_error!(store.resolve_update(ROOT).await, Error::RootWithoutSamples(_));
    store.write(ROOT, samples(["s1", "s2", "s3"], "v1").batch()).await?;
    let mut given = vec![samples(["s1", "s4"], "v1").batch()];
    given.push(samples(["s2"], "v2").batch());
    let answer = store.resolve_update(ROOT).samples(given).await?;
    let answer = [ids_of(&answer.new), ids_of(&answer.stale), ids_of(&answer.orphaned)];
    assert_eq!(answer, texts_of([&["s4"], &["s2"], &["s3"]]));
    PASSED
}

pub(super) async fn samples_of_another_kind_are_refused(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["1", "01", "a"], "v1").batch()).await?;
    let numbers = samples(["1", "2"], "v1").without("id").column("id", Int64Array::from(vec![1, 2])).batch();
    assert_error!(
        store.resolve_update(ROOT).samples(numbers).await,
        Error::InvalidColumn { ref column, .. } if column == "id"
    );
    PASSED
}

pub(super) async fn filters_of_a_resolve(bench: Bench) -> Result<Outcome> {
    let store = processed(&bench).await?;
    store.write(ROOT, samples(["s1", "s2", "s3", "s4"], "v2").batch()).await?;
    let one = both_engines(|| store.resolve_update(LEAF).filter(ROOT, "id > 's2'").target_filter("id > 's2'")).await?;
    assert_eq!(one, texts_of([&["s4"], &["s3"], &[]]));
    let one = both_engines(|| store.resolve_update(LEAF).global_filter("id IN ('s1', 's4')")).await?;
    assert_eq!(one, texts_of([&["s4"], &["s1"], &[]]));
    PASSED
}

pub(super) async fn staleness_predicates(bench: Bench) -> Result<Outcome> {
    let store = processed(&bench).await?;
    let one = both_engines(|| store.resolve_update(LEAF).staleness("n = 2").staleness("t = ''")).await?;
    assert_eq!(one, texts_of([&[], &["s2", "s3"], &[]]));
    PASSED
}

pub(super) async fn static_filters_and_renames(bench: Bench) -> Result<Outcome> {
    let dep = FeatureDep::new(ROOT).rename("n", "number").filter("number > 1 AND ok").select(["number"]);
    let graph = FeatureGraph::new([
        root(ROOT)?,
        FeatureSpec::builder(LEAF).id_columns(["id"]).dep(dep).fields(["x"]).build()?,
    ])?;
    let store = bench.store(graph).await?;
    let batch = samples(["s1", "s2", "s3"], "v1")
        .column("n", Int64Array::from(vec![1, 2, 3]))
        .column("ok", BooleanArray::from(vec![Some(true), Some(true), None]));
    store.write(ROOT, batch.batch()).await?;
    assert_eq!(increment(&store, LEAF).await?, texts_of([&["s2"], &[], &[]]));
    let rows = store.resolve_update(LEAF).await?.new.to_batch()?;
    assert_eq!(texts(&rows, "number"), ["2"]);
    assert!(rows.column_by_name("ok").is_none() && rows.column_by_name("n").is_none());
    PASSED
}

/// Returns two roots, and a feature made from both.
fn diamond(optional: bool) -> Result<FeatureGraph> {
    let second = FeatureDep::new("raw/second").rename("n", "m");
    let second = if optional { second.optional() } else { second };
    FeatureGraph::new([
        root("raw/first")?,
        root("raw/second")?,
        FeatureSpec::builder("joined").id_columns(["id"]).dep("raw/first").dep(second).fields(["x"]).build()?,
    ])
}

async fn diamond_store(bench: &Bench, optional: bool) -> Result<MetadataStore> {
    let store = bench.store(diamond(optional)?).await?;
    let numbered = |ids: &[&str], numbers: Vec<i64>| samples(ids, "v1").column("n", Int64Array::from(numbers)).batch();
    store.write("raw/first", numbered(&["s1", "s2", "it's"], vec![1, 2, 3])).await?;
    store.write("raw/second", numbered(&["s2", "it's", "s4"], vec![20, 30, 40])).await?;
    Ok(store)
}

pub(super) async fn joins_match_the_right_samples(bench: Bench) -> Result<Outcome> {
    let store = diamond_store(&bench, false).await?;
    assert_eq!(increment(&store, "joined").await?, texts_of([&["it's", "s2"], &[], &[]]));
    let rows = super::kit::sorted(store.resolve_update("joined").await?.new)?;
    assert_eq!((texts(&rows, "n"), texts(&rows, "m")), (vec!["3".into(), "2".into()], vec!["30".into(), "20".into()]));
    process(&store, "joined").await?;
    store.write("raw/second", samples(["s2"], "v2").batch()).await?;
    assert_eq!(increment(&store, "joined").await?, texts_of([&[], &["s2"], &[]]));
    PASSED
}

pub(super) async fn optional_dependencies(bench: Bench) -> Result<Outcome> {
    let store = diamond_store(&bench, true).await?;
    assert_eq!(increment(&store, "joined").await?, texts_of([&["it's", "s1", "s2"], &[], &[]]));
    process(&store, "joined").await?;
    assert_eq!(increment(&store, "joined").await?, texts_of([&[], &[], &[]]));
    store.write("raw/second", samples(["s1"], "v1").column("n", Int64Array::from(vec![10])).batch()).await?;
    assert_eq!(increment(&store, "joined").await?, texts_of([&[], &["s1"], &[]]));
    PASSED
}

pub(super) async fn a_thousand_changes_among_ten_thousand(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let all = ids("s", 10_000);
    store.write(ROOT, samples(&all, "v1").batch()).await?;
    process(&store, LEAF).await?;
    store.write(ROOT, samples(&all[..1_000], "v2").batch()).await?;
    store.write(ROOT, samples(ids("t", 10), "v1").batch()).await?;
    let [new, stale, orphaned] = increment(&store, LEAF).await?;
    assert_eq!((new.len(), stale.as_slice(), orphaned.len()), (10, &all[..1_000], 0));
    process(&store, LEAF).await?;
    assert_eq!(increment(&store, LEAF).await?, texts_of([&[], &[], &[]]));
    assert_eq!(read_ids(&store, LEAF).await?.len(), 10_010);
    PASSED
}
