//! The buffered writer's access to a store: rows are checked, and completed for a spool, before they are accepted.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::columns;
use crate::engine;
use crate::error::Result;
use crate::graph::FeaturePlan;
use crate::key::FeatureKey;
use crate::schema::{align, convert};

use super::checks::check_ids;
use super::duplicates::one_row_each;
use super::{Duplicates, MetadataStore};

impl MetadataStore {
    /// Returns a stamp for rows that are written now.
    pub(crate) fn next_stamp(&self) -> i64 {
        self.inner.stamps.next()
    }

    /// Returns the same store with this value of `metaxy_materialization_id` for its writes.
    pub(crate) fn with_materialization_id(&self, id: String) -> Self {
        self.with(|inner| inner.materialization_id = Some(id))
    }

    /// Returns rows with all columns that a write adds.
    pub(crate) fn completed(&self, key: &FeatureKey, batch: &RecordBatch, at: i64) -> Result<RecordBatch> {
        self.complete(self.plan(key)?, batch, &self.stamping(at))
    }

    /// Returns the hash of each row's id.
    pub(crate) fn id_hashes(&self, key: &FeatureKey, batch: &RecordBatch) -> Result<Vec<u64>> {
        let columns = self.plan(key)?.spec.id_columns.iter().filter_map(|name| batch.column_by_name(name).cloned());
        engine::key_hashes(columns.collect())
    }

    /// Creates the check of rows of a feature before they are buffered.
    pub(crate) async fn batch_check(&self, key: &FeatureKey) -> Result<BatchCheck> {
        let plan = Arc::new(self.plan(key)?.clone());
        let known = self.table_to_write(key).await?.unwrap_or_else(|| Arc::new(Schema::empty()));
        Ok(BatchCheck { plan, known, as_it_is: None })
    }
}

/// Refuses batches that a later write would refuse: for their columns, or because values of a column cannot be stored
/// in the type that the column has in the table or in a batch that was accepted before.
#[derive(Clone, Debug)]
pub(crate) struct BatchCheck {
    plan: Arc<FeaturePlan>,
    /// The columns of the table, and those of earlier batches.
    known: SchemaRef,
    /// The schema of a batch that was accepted unchanged and added no column.
    as_it_is: Option<SchemaRef>,
}

impl BatchCheck {
    /// Returns whether batches of this schema are accepted unchanged.
    pub(crate) fn takes_as_it_is(&self, schema: &SchemaRef) -> bool {
        self.as_it_is.as_ref() == Some(schema)
    }

    /// Accepts a batch unchanged, and returns it with the shared schema, so that many small batches do not keep one
    /// each.
    pub(crate) fn take_as_it_is(&self, store: &MetadataStore, batch: RecordBatch) -> Result<RecordBatch> {
        self.check_rows(store, &batch)?;
        store.inner.backend.check(&self.plan.spec.key, &batch)?;
        match &self.as_it_is {
            Some(schema) => Ok(batch.with_schema(schema.clone())?),
            None => Ok(batch),
        }
    }

    /// Refuses rows without ids or versions and, if the store refuses duplicates, several rows of one sample.
    fn check_rows(&self, store: &MetadataStore, batch: &RecordBatch) -> Result<()> {
        check_ids(&self.plan, batch)?;
        if store.inner.duplicates == Duplicates::Error && batch.num_rows() > 1 {
            let ids = self.plan.spec.id_columns.iter().map(|id| batch.schema().index_of(id));
            let ids = batch.project(&ids.collect::<Result<Vec<_>, _>>()?)?;
            one_row_each(&self.plan.spec, &ids.schema(), vec![ids], Duplicates::Error)?;
        }
        engine::check_provenance(&self.plan.spec, batch)
    }

    /// Returns the batch with its columns in the types of the table, and the check of later batches if the batch has
    /// changed it. Columns without a type that no earlier batch had are left out.
    pub(crate) fn accept(
        &self,
        store: &MetadataStore,
        batch: &RecordBatch,
    ) -> Result<(RecordBatch, Option<BatchCheck>)> {
        let given = batch.schema();
        if self.takes_as_it_is(&given) {
            return Ok((self.take_as_it_is(store, batch.clone())?, None));
        }
        self.check_rows(store, batch)?;
        let empty = store.complete(&self.plan, &batch.slice(0, 0), &store.stamping(0))?;
        let (target, _) = align(&self.plan.spec.key, Some(&self.known), vec![empty])?;
        let batch = self.converted(batch, &target)?;
        store.inner.backend.check(&self.plan.spec.key, &batch)?;
        let known = merged(&self.known, &target);
        let is_as_it_was = given == *batch.schema_ref();
        let after = match (known == self.known, &self.as_it_is) {
            (false, _) => Some(Self { plan: self.plan.clone(), known, as_it_is: None }),
            (true, None) if is_as_it_was => Some(Self { as_it_is: Some(given), ..self.clone() }),
            (true, _) => None,
        };
        Ok((batch, after))
    }

    /// Casts the user's columns to the types of the table. System columns are built later, by the write.
    fn converted(&self, batch: &RecordBatch, target: &Schema) -> Result<RecordBatch> {
        let schema = batch.schema();
        let convert_one = |(field, array): (&Arc<Field>, &ArrayRef)| -> Option<Result<(Arc<Field>, ArrayRef)>> {
            // A column without a type is not in the target: the first batch that has a type for it decides.
            let wanted = target.field_with_name(field.name()).ok()?.data_type();
            if columns::is_system(field.name()) || array.data_type() == wanted {
                return Some(Ok((field.clone(), array.clone())));
            }
            let array = convert(&self.plan.spec.key, field.name(), array, wanted);
            Some(array.map(|array| (Arc::new(Field::new(field.name(), wanted.clone(), true)), array)))
        };
        let converted =
            schema.fields().iter().zip(batch.columns()).filter_map(convert_one).collect::<Result<Vec<_>>>()?;
        let (fields, arrays): (Vec<_>, Vec<_>) = converted.into_iter().unzip();
        Ok(RecordBatch::try_new(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())), arrays)?)
    }
}

/// Merges the columns of a batch into the known ones; its types win, because it has been conformed.
fn merged(known: &SchemaRef, given: &Schema) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = known.fields().iter().cloned().collect();
    for field in given.fields() {
        match fields.iter_mut().find(|other| other.name() == field.name()) {
            Some(other) if other.data_type() == field.data_type() => {}
            Some(other) => *other = field.clone(),
            None => fields.push(field.clone()),
        }
    }
    Arc::new(Schema::new_with_metadata(fields, known.metadata().clone()))
}
