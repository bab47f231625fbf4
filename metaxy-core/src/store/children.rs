//! Children of parents in a feature that expands (1:N): all of them are replaced together.

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::not;
use arrow::datatypes::{DataType, SchemaRef};

use crate::columns;
use crate::engine;
use crate::error::{Error, Result};
use crate::graph::FeaturePlan;
use crate::key::{FeatureKey, IntoFeatureKey};

use super::append::Preparation;
use super::delete::marked_deleted;
use super::named::{Named, expands};
use super::{IntoBatches, MetadataStore, ReadRequest};

/// The result of [`MetadataStore::replace_children`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// The number of children written.
    pub written: u64,
    /// The number of earlier children that were softly deleted.
    pub deleted: u64,
}

impl MetadataStore {
    /// Writes the children of some parents of a feature that expands (1:N), and softly deletes earlier children of
    /// these parents that are not among `rows`: a write of fewer children would leave the others behind. All of it
    /// happens in one step: a reader sees either the old children or the new ones.
    ///
    /// `parents` are rows with the columns `on`, as an increment has them; `rows` are written as by
    /// [`write`](MetadataStore::write). For parents without any children see [`mark_empty`](MetadataStore::mark_empty).
    ///
    /// # Errors
    /// The errors of [`MetadataStore::write`]; [`Error::Unsupported`] if the feature does not expand,
    /// [`Error::InvalidColumn`] for a row of another parent, [`Error::DuplicateId`].
    pub async fn replace_children(
        &self,
        feature: impl IntoFeatureKey,
        parents: impl IntoBatches,
        rows: impl IntoBatches,
    ) -> Result<Replaced> {
        let key = feature.into_feature_key()?;
        let plan = self.expanding(&key)?;
        let at = self.stamp_for(std::slice::from_ref(&key)).await?;
        let stamping = self.stamping(at);
        let complete = |batch: &RecordBatch| self.complete(plan, batch, &stamping);
        let rows = rows.into_batches()?.iter().map(complete).collect::<Result<Vec<_>>>()?;
        self.replace(plan, Named::parents(plan, parents.into_batches()?)?, rows, at).await
    }

    /// Marks some parents of a feature that expands (1:N) as processed without children: they are no longer new, and
    /// stale when they change. Children that they had are softly deleted. Returns the number of parents.
    ///
    /// `parents` are rows of an increment, with the columns `on` and `metaxy_provenance_by_field`. For each, a row with
    /// these columns and no other id is written, which reads of this store do not return; the Python package also takes
    /// it for a processed parent, but reads it as a row with a null id.
    ///
    /// # Errors
    /// The errors of [`MetadataStore::replace_children`]; [`Error::MissingColumn`] if the feature has no table yet from
    /// which the types of its other id columns are known, and the rows lack these columns.
    pub async fn mark_empty(&self, feature: impl IntoFeatureKey, parents: impl IntoBatches) -> Result<u64> {
        let key = feature.into_feature_key()?;
        let plan = self.expanding(&key)?;
        let parents = parents.into_batches()?;
        let at = self.stamp_for(std::slice::from_ref(&key)).await?;
        let table = self.table_to_write(&key).await?;
        let named = Named::parents(plan, parents.clone())?;
        let marker = |batch: &RecordBatch| -> Result<RecordBatch> {
            let marker = marker(plan, named.columns(), table.as_ref(), batch)?;
            self.complete_marker(plan, &marker, &self.stamping(at))
        };
        let markers = parents.iter().map(marker).collect::<Result<Vec<_>>>()?;
        Ok(self.replace(plan, named, markers, at).await?.written)
    }

    fn expanding(&self, key: &FeatureKey) -> Result<&FeaturePlan> {
        self.check_writable("replace children")?;
        let plan = self.plan(key)?;
        if expands(plan) {
            return Ok(plan);
        }
        Err(Error::NotApplicable {
            feature: key.clone(),
            operation: "replace children of",
            reason: "it has no dependency with the lineage 1:N",
            hint: "write its samples, and delete those that are orphaned",
        })
    }

    /// Appends complete rows of some parents together with the deletions of their other children.
    async fn replace(&self, plan: &FeaturePlan, parents: Named, rows: Vec<RecordBatch>, at: i64) -> Result<Replaced> {
        let key = &plan.spec.key;
        for batch in &rows {
            let Some(keys) = parents.keys(batch.schema_ref())? else { continue };
            let strange = not(&keys.contains(batch)?)?.true_count();
            if strange > 0 {
                return Err(Error::InvalidColumn {
                    feature: key.clone(),
                    column: parents.columns().join("`, `"),
                    reason: format!("{strange} rows are not of the parents whose children are replaced"),
                });
            }
        }
        let kept = Named::new(plan, rows.clone())?;
        kept.check_unique()?;
        let former = match self.has_feature(key).await? {
            false => Vec::new(),
            true => {
                let read = parents.narrowing().into_iter().fold(self.read(key).with_markers(), ReadRequest::filter);
                parents.pick(read.await?).await?
            }
        };
        let deleted =
            kept.drop_from(former)?.iter().map(|batch| marked_deleted(batch, at)).collect::<Result<Vec<_>>>()?;
        let count = |batches: &[RecordBatch]| batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let replaced = Replaced { written: count(&rows), deleted: count(&deleted) };
        let all = rows.into_iter().chain(deleted).collect();
        self.prepare_and_append(key, all, Preparation::COMPLETE).await?;
        Ok(replaced)
    }
}

/// Builds the rows that mark parents without children: the parent's columns and provenance, and nulls for the other
/// ids.
fn marker(
    plan: &FeaturePlan,
    parent_columns: &[String],
    table: Option<&SchemaRef>,
    parents: &RecordBatch,
) -> Result<RecordBatch> {
    let given = |name: &str| -> Result<ArrayRef> {
        parents.column_by_name(name).cloned().ok_or_else(|| Error::MissingColumn {
            feature: plan.spec.key.clone(),
            column: name.to_owned(),
            context: "the parents without children".to_owned(),
            available: parents.schema().fields().iter().map(|field| field.name().clone()).collect(),
        })
    };
    let null = |name: &str| -> Result<ArrayRef> {
        let stored = table.and_then(|table| Some(table.field_with_name(name).ok()?.data_type().clone()));
        let data_type = stored.map_or_else(|| Ok::<DataType, Error>(given(name)?.data_type().clone()), Ok)?;
        Ok(new_null_array(&data_type, parents.num_rows()))
    };
    let others = plan.spec.id_columns.iter().filter(|id| !parent_columns.contains(id));
    let mut all = vec![(columns::PROVENANCE_BY_FIELD.to_owned(), given(columns::PROVENANCE_BY_FIELD)?)];
    for name in parent_columns {
        all.push((name.clone(), given(name)?));
    }
    for name in others {
        all.push((name.clone(), null(name)?));
    }
    engine::batch_of(all, parents.num_rows())
}
