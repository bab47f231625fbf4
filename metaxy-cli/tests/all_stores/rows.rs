//! Small features, rows for them, and the results of a store.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::DataType;
use metaxy_core::{FeatureGraph, FeatureSpec, FieldSpec, MetadataStore, Rows, columns};

/// Returns a root with fields `a` and `b`.
pub fn root(key: &str) -> FeatureSpec {
    FeatureSpec::builder(key).id_columns(["id"]).fields(["a", "b"]).build().unwrap()
}

/// Returns a feature made from field `a` of another.
pub fn made_from(key: &str, upstream: &str) -> FeatureSpec {
    let field = FieldSpec::new("a").depends_on(upstream, ["a"]);
    FeatureSpec::builder(key).id_columns(["id"]).dep(upstream).field(field).build().unwrap()
}

pub fn graph(features: impl IntoIterator<Item = FeatureSpec>) -> FeatureGraph {
    FeatureGraph::new(features).unwrap()
}

/// Returns samples of a root.
pub fn samples<S: ToString>(ids: impl IntoIterator<Item = S>, version: &str) -> RecordBatch {
    let ids: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
    let text = |of: &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("{of}-{id}-{version}"))))
    };
    let provenance = columns::by_field([("a", text("a")), ("b", text("b"))]).unwrap();
    RecordBatch::try_from_iter([
        ("id", Arc::new(StringArray::from(ids.clone())) as ArrayRef),
        ("title", text("title")),
        (columns::PROVENANCE_BY_FIELD, provenance),
    ])
    .unwrap()
}

/// Returns one line for each row, sorted: the values of some columns.
fn lines(rows: &Rows, names: &[&str]) -> Vec<String> {
    let batch = concat_batches(rows.schema(), rows.batches()).unwrap();
    let shown: Vec<ArrayRef> = names
        .iter()
        .map(|name| {
            let column = batch.column_by_name(name).unwrap_or_else(|| panic!("there is no column `{name}`"));
            match column.data_type() {
                DataType::Timestamp(..) => cast(&cast(column, &DataType::Int64).unwrap(), &DataType::Utf8).unwrap(),
                _ => cast(column, &DataType::Utf8).unwrap(),
            }
        })
        .collect();
    let line = |row: usize| {
        let values = shown.iter().map(|column| column.as_string::<i32>());
        values.map(|values| if values.is_valid(row) { values.value(row) } else { "-" }).collect::<Vec<_>>().join(" ")
    };
    let mut lines: Vec<String> = (0..batch.num_rows()).map(line).collect();
    lines.sort();
    lines
}

/// Returns the ids of some rows.
pub fn ids_of(rows: &Rows) -> Vec<String> {
    lines(rows, &["id"])
}

/// Returns the ids that a store reads for a feature.
pub async fn ids(store: &MetadataStore, feature: &str) -> Vec<String> {
    ids_of(&store.read(feature).await.unwrap().rows().await.unwrap())
}

/// Returns everything that a store has of a feature, including deleted and old rows.
pub async fn everything(store: &MetadataStore, feature: &str) -> Vec<String> {
    let read = store.read(feature).with_feature_history().with_sample_history().include_soft_deleted();
    let rows = read.await.unwrap().rows().await.unwrap();
    let versions = [columns::PROVENANCE, columns::DATA_VERSION, columns::FEATURE_VERSION, columns::PROJECT_VERSION];
    let times = [columns::CREATED_AT, columns::UPDATED_AT, columns::DELETED_AT];
    lines(&rows, &[&["id", "title"], &versions[..], &times[..]].concat())
}

/// Resolves a feature, and writes the new and stale samples; returns the ids of the new ones.
pub async fn process(store: &MetadataStore, feature: &str) -> Vec<String> {
    let increment = store.resolve_update(feature).await.unwrap();
    let new = ids_of(&increment.new);
    for rows in [increment.new, increment.stale].into_iter().filter(|rows| rows.num_rows() > 0) {
        store.write(feature, rows).await.unwrap();
    }
    assert!(store.resolve_update(feature).await.unwrap().is_empty(), "{feature}");
    new
}
