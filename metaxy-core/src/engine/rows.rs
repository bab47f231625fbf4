//! Provenance of rows that carry their upstream versions.

use std::collections::HashMap;

use arrow::array::{ArrayRef, RecordBatch, StringArray, StringBuilder};

use crate::columns;
use crate::error::{Error, Result};
use crate::graph::FeaturePlan;
use crate::hash::RowHasher;
use crate::key::FeatureKey;

use super::by_field;
use super::table::batch_of;

/// Returns the name of the column with the data versions of an upstream feature, among rows that are already joined.
fn upstream_versions(feature: &FeatureKey) -> String {
    format!("{}__{}", columns::DATA_VERSION_BY_FIELD, feature.parts().join("_"))
}

/// Computes the four version columns of a batch whose rows carry the data versions of their upstream rows.
pub(crate) fn provenance_of_batch(plan: &FeaturePlan, hasher: RowHasher, batch: &RecordBatch) -> Result<RecordBatch> {
    let mut versions: HashMap<String, StringArray> = HashMap::new();
    for field in plan.parents.iter().flatten() {
        let column = upstream_versions(&field.feature);
        let array = batch.column_by_name(&column).ok_or_else(|| Error::MissingColumn {
            feature: plan.spec.key.clone(),
            column: column.clone(),
            context: format!("the batch; it holds the data versions of `{}`", field.feature),
            available: batch.schema().fields().iter().map(|field| field.name().clone()).collect(),
        })?;
        versions.insert(field.to_string(), by_field::member(array, &field.field.struct_key())?);
    }
    let mut fields: Vec<(String, StringArray)> = Vec::new();
    for (field, parents) in plan.spec.fields.iter().zip(&plan.parents) {
        let mut builder = StringBuilder::new();
        for row in 0..batch.num_rows() {
            let mut text = format!("{}|{}", field.key(), field.code_version);
            for parent in parents {
                let name = parent.to_string();
                text.push_str(&format!("|{name}|{}", by_field::value_or_empty(&versions[&name], row)));
            }
            builder.append_value(hasher.hash(&text));
        }
        fields.push((field.key().struct_key(), builder.finish()));
    }
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    let (keys, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    let provenance: ArrayRef = std::sync::Arc::new(by_field::combined_hash(&values, batch.num_rows(), hasher)?);
    let struct_column = by_field::build(&keys, values, batch.num_rows())?;
    let schema = batch.schema();
    let is_upstream = |name: &str| plan.spec.deps.iter().any(|dep| name == upstream_versions(dep.feature()));
    let is_own = |name: &str| !columns::is_system(name) && !is_upstream(name);
    let own = schema.fields().iter().zip(batch.columns()).filter(|(field, _)| is_own(field.name()));
    let mut all: Vec<(String, ArrayRef)> = own.map(|(field, array)| (field.name().clone(), array.clone())).collect();
    all.push((columns::PROVENANCE_BY_FIELD.to_owned(), struct_column.clone()));
    all.push((columns::PROVENANCE.to_owned(), provenance.clone()));
    all.push((columns::DATA_VERSION_BY_FIELD.to_owned(), struct_column));
    all.push((columns::DATA_VERSION.to_owned(), provenance));
    batch_of(all, batch.num_rows())
}
