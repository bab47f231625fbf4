//! Three features of a film archive, and rows for the first one.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use metaxy_core::{FeatureGraph, FeatureSpec, FieldSpec, MetadataStore};

pub fn graph() -> FeatureGraph {
    let spec = |key: &str| FeatureSpec::builder(key).id_columns(["id"]);
    FeatureGraph::new([
        spec("raw/video").fields(["audio", "frames"]).build().unwrap(),
        spec("made/clip").dep("raw/video").build().unwrap(),
        spec("made/text").dep("made/clip").field(FieldSpec::new("text")).build().unwrap(),
    ])
    .unwrap()
}

/// Returns the same definitions with another code version of one field, so that every feature gets another version.
pub fn next_graph() -> FeatureGraph {
    let spec = |key: &str| FeatureSpec::builder(key).id_columns(["id"]);
    let frames = FieldSpec::new("frames").code_version("2");
    FeatureGraph::new([
        spec("raw/video").fields([FieldSpec::new("audio"), frames]).build().unwrap(),
        spec("made/clip").dep("raw/video").build().unwrap(),
        spec("made/text").dep("made/clip").field(FieldSpec::new("text")).build().unwrap(),
    ])
    .unwrap()
}

/// Returns samples of `raw/video` with these ids.
pub fn videos(ids: &[i64], mark: &str) -> RecordBatch {
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

pub async fn ids(store: &MetadataStore, feature: &str) -> Vec<i64> {
    let batches = store.read(feature).columns(["id"]).await.unwrap().collect().await.unwrap();
    let mut ids: Vec<i64> =
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    ids.sort_unstable();
    ids
}
