//! Looking at the graph from one sample: what is deleted with it, what it was made from, and what other definitions
//! change.

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use metaxy_core::graph::{ChangeKind, FieldChangeReason};
use metaxy_core::store::{CascadeSummary, SampleState};
use metaxy_core::{Error, FeatureDep, FeatureGraph, FeatureSpec, FieldSpec, Lineage, MetadataStore, Result, columns};

use super::kit::{
    LEAF, PASSED, ROOT, assert_error, everything, increment, pair, process, read_ids, root, samples, versioned_pair,
};
use super::{Bench, Outcome};

/// Features of every kind of dependency on [`ROOT`], some of them on each other.
fn family() -> Result<FeatureGraph> {
    let only_ids = |feature: &str| FeatureDep::new(feature).select(Vec::<&str>::new());
    let feature = |key: &str| FeatureSpec::builder(key).id_columns(["id"]);
    FeatureGraph::new([
        root(ROOT)?,
        root("raw/other")?,
        feature(LEAF).dep(ROOT).build()?,
        feature("derived/late").dep(only_ids(LEAF)).dep(only_ids(ROOT)).build()?,
        feature("derived/noted").dep(only_ids("raw/other")).dep(only_ids(LEAF).optional()).build()?,
        FeatureSpec::builder("by/day")
            .id_columns(["day"])
            .dep(FeatureDep::new(ROOT).select(["day"]).lineage(Lineage::aggregation(["day"])))
            .build()?,
        FeatureSpec::builder("derived/part")
            .id_columns(["id", "part"])
            .dep(only_ids(ROOT).lineage(Lineage::expansion(["id"])))
            .build()?,
    ])
}

/// Writes samples of two days, and processes everything.
async fn family_store(bench: &Bench) -> Result<MetadataStore> {
    let store = bench.store(family()?).await?;
    let days = StringArray::from(vec!["mon", "mon", "tue"]);
    store.write(ROOT, samples(["s1", "s2", "s3"], "v1").column("day", days).batch()).await?;
    store.write("raw/other", samples(["s1", "s2", "s3"], "v1").batch()).await?;
    for feature in [LEAF, "derived/late", "derived/noted"] {
        process(&store, feature).await?;
    }
    let increment = store.resolve_update("by/day").await?;
    let groups: Vec<RecordBatch> = increment.groups()?.map(|group| group.slice(0, 1)).collect();
    store.write("by/day", groups).await?;
    let parents = store.resolve_update("derived/part").await?.new.to_batch()?;
    let part = |name: &str| -> Result<RecordBatch> {
        let names: ArrayRef = std::sync::Arc::new(StringArray::from(vec![name; parents.num_rows()]));
        columns::with_column(&parents, "part", names)
    };
    store.write("derived/part", vec![part("a")?, part("b")?]).await?;
    Ok(store)
}

fn counts(summary: &CascadeSummary) -> Vec<(String, u64)> {
    summary.rows.iter().map(|(feature, rows)| (feature.to_string(), *rows)).collect()
}

pub(super) async fn a_delete_cascades(bench: Bench) -> Result<Outcome> {
    let store = family_store(&bench).await?;
    let delete = || store.delete(ROOT).filter("id != 's1'").cascade();
    let before = everything(&store, ROOT).await?;
    let planned = delete().dry_run().await?;
    assert_eq!(everything(&store, ROOT).await?, before, "a dry run deletes nothing");
    let expected = |parts: u64| -> Vec<(String, u64)> {
        // One sample of Monday is left, so its group is left too.
        let rows = [("by/day", 1), ("derived/late", 2), ("derived/part", parts), (LEAF, 2), (ROOT, 2)];
        rows.map(|(feature, rows)| (feature.to_owned(), rows)).to_vec()
    };
    assert_eq!(counts(&planned), expected(2), "a dry run counts parents");
    assert_eq!(counts(&delete().await?), expected(4));
    for feature in [ROOT, LEAF, "derived/late"] {
        assert_eq!(read_ids(&store, feature).await?, ["s1"], "{feature}");
    }
    assert_eq!(read_ids(&store, "derived/part").await?, ["s1", "s1"]);
    // A sample whose optional input was deleted is still expected.
    assert_eq!(increment(&store, "derived/noted").await?, [vec![], vec!["s2".to_owned(), "s3".to_owned()], vec![]]);
    for feature in [LEAF, "derived/late", "derived/part", "by/day"] {
        let left = store.resolve_update(feature).await?;
        assert!(left.new.is_empty() && left.orphaned.is_empty(), "{feature}: {left}");
    }
    assert_eq!(store.resolve_update("by/day").await?.stale.num_rows(), 1);
    PASSED
}

pub(super) async fn a_hard_delete_cascades(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    store.write(ROOT, samples(["s1"], "v2").batch()).await?;
    process(&store, LEAF).await?;
    let orphaned_before = samples(["s9"], "v1").provenance(&["x", "y"], "v1").batch();
    store.write(LEAF, orphaned_before).await?;
    let named = samples(["s1"], "v1").batch();
    let deleted = store.delete_rows(ROOT, named).hard().cascade().await?;
    assert_eq!(counts(&deleted), [(LEAF.to_owned(), 1), (ROOT.to_owned(), 2)]);
    assert_eq!(everything(&store, ROOT).await?.len(), 1);
    assert_eq!(read_ids(&store, LEAF).await?, ["s2", "s9"], "what was orphaned before stays");
    // Nothing is left to delete.
    assert_eq!(store.delete(ROOT).filter("id = 's1'").cascade().await?.total(), 0);
    PASSED
}

pub(super) async fn deletes_are_counted(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    assert_eq!(store.delete(ROOT).count().await?, 2);
    assert_eq!(store.delete(ROOT).filter("id = 's1'").count().await?, 1);
    assert_eq!(store.delete_rows(ROOT, samples(["s1", "s7"], "v1").batch()).count().await?, 1);
    assert_eq!(read_ids(&store, ROOT).await?, ["s1", "s2"]);
    PASSED
}

pub(super) async fn results_of_kept_samples(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    let kept = store.resolve_update(LEAF).await?.new.to_batch()?;
    let results = samples(["s2", "s1"], "v1").without(columns::PROVENANCE_BY_FIELD).batch();
    let stranger = samples(["s3"], "v1").without(columns::PROVENANCE_BY_FIELD).batch();
    let refused = store.write(LEAF, &stranger).made_from_samples(&kept).await;
    assert_error!(refused, Error::InvalidColumn { .. });
    let without_provenance = store.write(LEAF, &results).made_from_samples(&results).await;
    assert_error!(without_provenance, Error::MissingColumn { column, .. } if column == columns::PROVENANCE_BY_FIELD);
    assert_eq!(store.write(LEAF, &results).made_from_samples(&kept).await?, 2);
    assert_eq!(increment(&store, LEAF).await?, [const { Vec::<String>::new() }; 3]);
    PASSED
}

pub(super) async fn samples_are_explained(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1", "s2", "s3"], "v1").batch()).await?;
    process(&store, LEAF).await?;
    store.write(ROOT, samples(["s2", "s4"], "v2").batch()).await?;
    store.delete(ROOT).filter("id = 's3'").await?;
    let asked = samples(["s1", "s2", "s3", "s4", "s5"], "v1").batch();
    let explained = store.explain(LEAF, asked).await?;
    let states: Vec<SampleState> = explained.iter().map(|one| one.state).collect();
    use SampleState::{Absent, New, Orphaned, Stale, UpToDate};
    assert_eq!(states, [UpToDate, Stale, Orphaned, New, Absent]);
    let stale = &explained[1];
    assert_eq!(stale.sample, "id=s2");
    assert!(stale.fields.iter().all(|field| field.is_changed() && field.stored.is_some()), "{stale:?}");
    let input = &stale.inputs[0].rows[0];
    assert!(input.is_later && input.sample == "id=s2", "{input:?}");
    let versions: Vec<_> = input.data_versions.iter().map(|(field, version)| (field.to_string(), version)).collect();
    assert_eq!(versions[0], ("a".to_owned(), &Some("v2-a".to_owned())));
    assert!(!explained[0].inputs[0].rows[0].is_later);
    assert!(explained[0].fields.iter().all(|field| !field.is_changed()));
    assert_eq!(explained[2].inputs[0].rows, []);
    let root = store.explain(ROOT, samples(["s1"], "v1").batch()).await;
    assert_error!(root, Error::NotApplicable { .. });
    // Under another definition the sample is new, and the row of the old one is named.
    let later = store.with_graph(versioned_pair("2")?)?;
    later.write(ROOT, samples(["s1"], "v1").batch()).await?;
    let new = later.explain(LEAF, samples(["s1"], "v1").batch()).await?.remove(0);
    assert_eq!((new.state, new.other_versions), (New, vec![store.graph().feature_version(LEAF)?.to_owned()]));
    PASSED
}

pub(super) async fn groups_and_children_are_explained(bench: Bench) -> Result<Outcome> {
    let store = family_store(&bench).await?;
    store.write(ROOT, samples(["s2"], "v2").column("day", StringArray::from(vec!["mon"])).batch()).await?;
    let monday =
        RecordBatch::try_from_iter([("day", std::sync::Arc::new(StringArray::from(vec!["mon"])) as ArrayRef)])?;
    assert_eq!(store.sample_columns("by/day")?, ["day"]);
    assert_eq!(store.sample_columns("derived/part")?, ["id"]);
    let group = store.explain("by/day", monday).await?.remove(0);
    assert_eq!((group.state, group.inputs[0].rows.len()), (SampleState::Stale, 2));
    assert_eq!(group.inputs[0].rows.iter().filter(|row| row.is_later).count(), 1, "{group:?}");
    let parents = store.explain("derived/part", samples(["s1", "s2"], "v1").batch()).await?;
    assert_eq!(parents.iter().map(|one| one.state).collect::<Vec<_>>(), [SampleState::UpToDate, SampleState::Stale]);
    PASSED
}

pub(super) async fn impact_of_definitions(bench: Bench) -> Result<Outcome> {
    let store = bench.store(versioned_pair("1")?).await?;
    store.write(ROOT, samples(["s1", "s2", "s3"], "v1").batch()).await?;
    process(&store, LEAF).await?;
    store.delete(LEAF).filter("id = 's3'").await?;
    assert_eq!(store.impact(store.graph()).await?, []);
    let impact = store.impact(&versioned_pair("2")?).await?;
    let shown: Vec<_> = impact.iter().map(|one| (one.change.kind, one.rows, one.outdated)).collect();
    assert_eq!(shown, [(ChangeKind::Recomputed, 3, 3), (ChangeKind::Recomputed, 2, 2)]);
    let fields = |at: usize| &impact[at].change.fields;
    assert_eq!(fields(0)[0].reason, FieldChangeReason::Code { from: "1".to_owned(), to: "2".to_owned() });
    // Only the field that is made from the changed one differs.
    assert_eq!(fields(1).len(), 1);
    assert_eq!((fields(1)[0].field.to_string(), &fields(1)[0].reason), ("x".to_owned(), &FieldChangeReason::Upstream));
    let other =
        FeatureGraph::new([FeatureSpec::builder("new/one").id_columns(["id"]).field(FieldSpec::new("a")).build()?])?;
    let kinds: Vec<_> =
        store.impact(&other).await?.iter().map(|one| (one.change.kind, one.rows, one.outdated)).collect();
    assert_eq!(kinds, [(ChangeKind::Added, 0, 0), (ChangeKind::Removed, 3, 0), (ChangeKind::Removed, 2, 0)]);
    PASSED
}
