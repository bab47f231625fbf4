//! Lineages that a graph accepts: after an increment has been processed, the next one is empty.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::util::display::array_value_to_string;
use metaxy_core::{
    AccessMode, Error, FeatureDep, FeatureGraph, FeatureSpec, HashAlgorithm, Lineage, MetadataStore, Result, columns,
};

/// Returns all non-empty subsets of some names.
fn choices(names: &[&'static str]) -> Vec<Vec<&'static str>> {
    let chosen = |set: usize| (0..names.len()).filter(move |at| set >> at & 1 == 1).map(|at| names[at]).collect();
    (1..1_usize << names.len()).map(chosen).collect()
}

/// A lineage on some columns, and the ids of the features on both sides; with or without another dependency.
#[derive(Debug)]
struct Case {
    parent: Vec<&'static str>,
    child: Vec<&'static str>,
    lineage: Lineage,
    beside: Option<Vec<&'static str>>,
}

impl Case {
    fn graph(&self) -> Result<FeatureGraph> {
        let parent = FeatureSpec::builder("parent").id_columns(self.parent.clone()).build()?;
        let child = FeatureSpec::builder("child").id_columns(self.child.clone());
        let mut child = child.dep(FeatureDep::new("parent").lineage(self.lineage.clone()));
        let mut all = vec![parent];
        if let Some(ids) = &self.beside {
            all.push(FeatureSpec::builder("beside").id_columns(ids.clone()).build()?);
            child = child.dep(FeatureDep::new("beside").select(ids.clone()));
        }
        all.push(child.build()?);
        FeatureGraph::new(all)
    }
}

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for parent in choices(&["a", "b"]) {
        for child in choices(&["a", "b", "c"]) {
            let on = choices(&["a", "b", "c"]).into_iter();
            let lineages = on.flat_map(|on| [Lineage::aggregation(on.clone()), Lineage::expansion(on)]);
            for lineage in lineages.chain([Lineage::Aggregation { on: None }]) {
                for beside in [None, Some(vec!["a"]), Some(vec!["a", "b"])] {
                    let (parent, child, lineage) = (parent.clone(), child.clone(), lineage.clone());
                    all.push(Case { parent, child, lineage, beside });
                }
            }
        }
    }
    all
}

/// Returns rows with columns `a` and `b`, one for each id, each with a unique version.
fn rows(ids: &[&str]) -> RecordBatch {
    let pairs: &[(i64, i64)] = if ids.len() == 2 { &[(0, 0), (0, 1), (1, 0), (1, 1)] } else { &[(0, 0), (1, 1)] };
    let version = |pair: &(i64, i64)| format!("{ids:?} {pair:?}");
    let versions: ArrayRef = Arc::new(StringArray::from_iter_values(pairs.iter().map(version)));
    let column =
        |pick: fn(&(i64, i64)) -> i64| Arc::new(Int64Array::from_iter_values(pairs.iter().map(pick))) as ArrayRef;
    let provenance = columns::by_field([("default", versions)]).unwrap();
    let all = [("a", column(|pair| pair.0)), ("b", column(|pair| pair.1)), (columns::PROVENANCE_BY_FIELD, provenance)];
    RecordBatch::try_from_iter(all).unwrap()
}

/// Returns the rows to write for an increment: one for each id, or two children for each parent if the children have an
/// id of their own.
fn results(case: &Case, todo: &RecordBatch) -> Vec<RecordBatch> {
    let mut results = Vec::new();
    let own = case.child.iter().filter(|id| todo.column_by_name(id).is_none()).copied().collect::<Vec<_>>();
    let children = if matches!(case.lineage, Lineage::Expansion { .. }) && !own.is_empty() { 2 } else { 1 };
    let mut seen = BTreeSet::new();
    for child in 0..children {
        let mut batch = todo.clone();
        for id in &own {
            let values = Arc::new(Int64Array::from(vec![child; todo.num_rows()]));
            batch = columns::with_column(&batch, id, values).unwrap();
        }
        for row in 0..batch.num_rows() {
            let value = |id: &&str| array_value_to_string(batch.column_by_name(id).unwrap(), row).unwrap();
            if seen.insert(case.child.iter().map(value).collect::<Vec<_>>()) {
                results.push(batch.slice(row, 1));
            }
        }
    }
    results
}

#[tokio::test]
async fn a_processed_increment_is_empty_afterwards() {
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, case) in cases().iter().enumerate() {
        let graph = match case.graph() {
            Ok(graph) => graph,
            Err(Error::InvalidSpec { .. }) => {
                *outcomes.entry("refused").or_default() += 1;
                continue;
            }
            Err(error) => panic!("{case:?}: {error}"),
        };
        let memory = support::Memory::at(format!("lineages/{number}"), HashAlgorithm::Xxhash32);
        let store = MetadataStore::builder(memory, graph).open(AccessMode::ReadWrite).await.unwrap();
        store.write("parent", rows(&case.parent)).await.unwrap();
        if let Some(ids) = &case.beside {
            store.write("beside", rows(ids)).await.unwrap();
        }
        let increment = match store.resolve_update("child").await {
            Ok(increment) => increment,
            // The columns of a table are not part of the definitions.
            Err(Error::MissingColumn { .. } | Error::ColumnCollision { .. }) => {
                *outcomes.entry("refused by a resolve").or_default() += 1;
                continue;
            }
            Err(error) => panic!("{case:?}: {error}"),
        };
        assert!(!increment.new.is_empty(), "{case:?}");
        store.write("child", results(case, &increment.new.to_batch().unwrap())).await.unwrap();
        let left = store.resolve_update("child").await.unwrap();
        let left = [&left.new, &left.stale, &left.orphaned].map(metaxy_core::Rows::num_rows);
        assert_eq!(left, [0, 0, 0], "{case:?} is accepted, and never done");
        *outcomes.entry("done").or_default() += 1;
    }
    println!("{outcomes:?}");
    assert!(outcomes["done"] > 30 && outcomes["refused"] > 100, "{outcomes:?}");
}

#[test]
fn unusable_lineages_are_refused() {
    let refused = |child: &[&str], dep: FeatureDep| {
        let parent = FeatureSpec::builder("video").id_columns(["video_id"]).build().unwrap();
        let child = FeatureSpec::builder("chunk").id_columns(child.to_vec()).dep(dep).build().unwrap();
        FeatureGraph::new([parent, child]).unwrap_err().to_string()
    };
    let video = || FeatureDep::new("video");
    for (error, told) in [
        (refused(&["chunk_id"], video().lineage(Lineage::expansion(["video_id"]))), "`video_id` in `on`"),
        (refused(&["path", "n"], video().lineage(Lineage::expansion(["path"]))), "a version for each `video_id`"),
        (refused(&["day"], video().lineage(Lineage::aggregation(["week"]))), "`week` in `on`"),
        (
            refused(&["video_id", "n"], video().rename("video_id", "v").lineage(Lineage::expansion(["video_id"]))),
            "name it `v`",
        ),
        (
            refused(&["video_id"], video().lineage(Lineage::aggregation(["metaxy_provenance"]))),
            "the system column `metaxy_provenance`",
        ),
    ] {
        assert!(error.contains(told) && error.contains("`chunk`") && error.contains("`video`"), "{error}");
    }
}
