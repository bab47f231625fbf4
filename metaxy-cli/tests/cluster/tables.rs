//! A store with two roots and a feature that is made from both, on a directory or in a bucket.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field};
use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, MetadataStore, SharedBackend, columns};
use metaxy_delta::{DeltaBackend, DeltaConfig};

/// Returns a backend at a location, on a cluster if there is one.
pub fn backend(root: &str, options: &BTreeMap<String, String>, scheduler: Option<&str>) -> SharedBackend {
    let config =
        options.iter().fold(DeltaConfig::new(root), |config, (name, value)| config.storage_option(name, value));
    let config = scheduler.into_iter().fold(config, DeltaConfig::scheduler);
    Arc::new(DeltaBackend::new(config).unwrap())
}

/// Returns a store on a directory.
pub async fn store(directory: &Path, scheduler: Option<&str>) -> MetadataStore {
    let backend = backend(&directory.display().to_string(), &BTreeMap::new(), scheduler);
    MetadataStore::builder(backend, graph()).open(AccessMode::ReadWrite).await.unwrap()
}

pub fn graph() -> FeatureGraph {
    let root = |key: &str| FeatureSpec::builder(key).id_columns(["id"]).field("default").build().unwrap();
    let both = FeatureSpec::builder("both").id_columns(["id"]).dep("left").dep("right").build().unwrap();
    FeatureGraph::new([root("left"), root("right"), both]).unwrap()
}

/// Returns samples of a root, with a column that is named like it.
pub fn samples(root: &str, ids: std::ops::Range<i64>, version: &str) -> RecordBatch {
    let rows = usize::try_from(ids.end - ids.start).unwrap();
    let versions: ArrayRef = Arc::new(StringArray::from(vec![version; rows]));
    let field = Arc::new(Field::new("default", DataType::Utf8, true));
    let texts: ArrayRef = Arc::new(ids.clone().map(|id| Some(format!("{id:0100}"))).collect::<StringArray>());
    let provenance: ArrayRef = Arc::new(StructArray::from(vec![(field, versions)]));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
    RecordBatch::try_from_iter([("id", ids), (root, texts), (columns::PROVENANCE_BY_FIELD, provenance)]).unwrap()
}

/// Writes roots in several files, results of half of them, and a change: an increment of all kinds.
pub async fn fill(store: &MetadataStore, rows: i64) {
    for root in ["left", "right"] {
        for part in 0..4 {
            store.write(root, samples(root, rows * part / 4..rows * (part + 1) / 4, "1")).await.unwrap();
        }
    }
    let new = store.resolve_update("both").await.unwrap().new;
    store.write("both", new).await.unwrap();
    store.write("left", samples("left", 0..rows / 4, "2")).await.unwrap();
    store.write("left", samples("left", rows..rows + 10, "1")).await.unwrap();
    store.write("right", samples("right", rows..rows + 10, "1")).await.unwrap();
    store.delete("right").filter(format!("id >= {} AND id < {rows}", rows - 7)).hard().await.unwrap();
}

/// The numbers of new, stale and orphaned rows of [`fill`].
pub fn expected(rows: i64) -> [usize; 3] {
    [10, usize::try_from(rows / 4).unwrap(), 7]
}

/// Returns the numbers of new, stale and orphaned rows.
pub async fn counted(store: &MetadataStore) -> metaxy_core::Result<[usize; 3]> {
    let found = store.resolve_update("both").await?;
    Ok([found.new, found.stale, found.orphaned].map(|rows| rows.num_rows()))
}
