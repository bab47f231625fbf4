//! Provenance outside of a resolve: of rows that carry their upstream versions, and of rows under a new definition.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, StringBuilder};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::nullif;

use crate::columns;
use crate::error::{Error, Result};
use crate::graph::FeaturePlan;
use crate::hash::RowHasher;
use crate::key::FeatureKey;
use crate::store::Rows;

use super::by_field;
use super::key_type::common_type;
use super::keys::{KeyIndex, Keys};
use super::table::{NO_ROW, Table, batch_of};

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

/// Returns rows of an old definition with the provenance that the current one expects. User columns are kept, and so
/// are data versions that the user gave; rows that nothing upstream expects are left out.
pub(crate) fn carry_over(plan: &FeaturePlan, old: &Rows, expected: &Rows) -> Result<Vec<RecordBatch>> {
    let old = Table::new(old.schema().clone(), old.batches().to_vec())?;
    let expected = Table::new(expected.schema().clone(), expected.batches().to_vec())?;
    let shared: Vec<&String> =
        plan.spec.id_columns.iter().filter(|id| expected.schema.column_with_name(id).is_some()).collect();
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for id in shared {
        let (own, other) = (old.column(id)?, expected.column(id)?);
        let shared = common_type(own.data_type(), other.data_type()).ok_or_else(|| Error::InvalidColumn {
            feature: plan.spec.key.clone(),
            column: id.clone(),
            reason: format!(
                "rows are matched by it, but it is {} in the table and {} upstream; store one type",
                own.data_type(),
                other.data_type()
            ),
        })?;
        left.push((own, shared.clone()));
        right.push((other, shared));
    }
    if left.is_empty() {
        return Err(Error::Unsupported {
            what: format!("rebasing `{}`, none of whose id columns come from upstream,", plan.spec.key),
            hint: "process its samples again".to_owned(),
        });
    }
    let (left, right) = (Keys::new(&left)?, Keys::new(&right)?);
    let index = KeyIndex::new(&right);
    let mut pairs = (Vec::new(), Vec::new());
    for row in 0..old.num_rows() {
        let found = index.find(&left, row);
        if found != NO_ROW {
            pairs.0.push(row as u32);
            pairs.1.push(found);
        }
    }
    let provenance = Table::values(&expected, columns::PROVENANCE_BY_FIELD, pairs.1.iter().copied())?;
    let kept = old.take(&pairs.0)?;
    let mut start = 0;
    kept.batches()
        .iter()
        .map(|batch| {
            let part = provenance.slice(start, batch.num_rows());
            start += batch.num_rows();
            with_provenance(plan, batch, part)
        })
        .collect()
}

/// Returns a batch of old rows with new provenance. If a row's data version differs from its provenance, the user has
/// given it, and all of its data versions are kept.
fn with_provenance(plan: &FeaturePlan, batch: &RecordBatch, provenance: ArrayRef) -> Result<RecordBatch> {
    let struct_keys = plan.spec.struct_keys();
    let column = |name: &str| Ok::<_, Error>(batch.column(batch.schema_ref().index_of(name)?).clone());
    let rows = batch.num_rows();
    let derived = not_distinct(
        &by_field::text(&column(columns::DATA_VERSION)?)?,
        &by_field::text(&column(columns::PROVENANCE)?)?,
    )?;
    let old_versions = column(columns::DATA_VERSION_BY_FIELD)?;
    let mut data_versions = Vec::with_capacity(struct_keys.len());
    for key in &struct_keys {
        data_versions.push(by_field::text(&nullif(&by_field::member(&old_versions, key)?, &derived)?)?);
    }
    let schema = batch.schema();
    let own = schema.fields().iter().zip(batch.columns());
    let own = own.filter(|(field, _)| !columns::is_system(field.name()) || field.name() == columns::CREATED_AT);
    let mut all: Vec<(String, ArrayRef)> = own.map(|(field, array)| (field.name().clone(), array.clone())).collect();
    all.push((columns::PROVENANCE_BY_FIELD.to_owned(), provenance));
    all.push((columns::DATA_VERSION_BY_FIELD.to_owned(), by_field::build(&struct_keys, data_versions, rows)?));
    batch_of(all, rows)
}
