//! What the buffered writer asks of a store: checks before rows are taken, and writes of many small batches at once.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::columns;
use crate::engine;
use crate::error::Result;
use crate::graph::FeaturePlan;
use crate::key::FeatureKey;

use super::MetadataStore;
use super::align::{align, convert};
use super::write::{Stamping, check_ids};

/// Batches are joined up to this size, far from the 2 GiB that a text column can hold.
const JOINED_BYTES: usize = 256 << 20;

impl MetadataStore {
    /// A time for rows that are written now.
    pub(crate) fn next_stamp(&self) -> i64 {
        self.inner.stamps.next()
    }

    /// Writes rows of one feature under a given time.
    pub(crate) async fn write_at(&self, key: FeatureKey, batches: Vec<RecordBatch>, at: i64) -> Result<()> {
        let batches = tokio::task::spawn_blocking(move || joined(batches)).await??;
        let (schema, batches) = self.prepare(key.clone(), batches, self.stamping(at)).await?;
        self.inner.backend.append(&key, schema, batches).await
    }

    /// Rows with all that a write adds to them.
    pub(crate) fn completed(&self, key: &FeatureKey, batch: &RecordBatch, at: i64) -> Result<RecordBatch> {
        self.complete(self.plan(key)?, batch, &self.stamping(at))
    }

    /// Writes rows that are complete as they are, under whatever definitions; returns how many.
    pub(crate) async fn append_complete(&self, key: FeatureKey, batches: Vec<RecordBatch>) -> Result<u64> {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if rows == 0 {
            return Ok(0);
        }
        let table = self.table_to_write(&key).await?;
        let of = key.clone();
        let (schema, batches) =
            tokio::task::spawn_blocking(move || align(&of, table.as_ref(), joined(batches)?)).await??;
        self.inner.backend.append(&key, schema, batches).await?;
        Ok(rows as u64)
    }

    /// The hash of each row's id.
    pub(crate) fn id_hashes(&self, key: &FeatureKey, batch: &RecordBatch) -> Result<Vec<u64>> {
        let columns = self.plan(key)?.spec.id_columns.iter().filter_map(|name| batch.column_by_name(name).cloned());
        engine::key_hashes(columns.collect())
    }

    /// What rows of a feature are checked against before they are buffered.
    pub(crate) async fn batch_check(&self, key: &FeatureKey) -> Result<BatchCheck> {
        let plan = Arc::new(self.plan(key)?.clone());
        let known = self.table_to_write(key).await?.unwrap_or_else(|| Arc::new(Schema::empty()));
        Ok(BatchCheck { plan, known, as_it_is: None })
    }

    fn stamping(&self, at: i64) -> Stamping {
        Stamping { at, materialization_id: self.inner.materialization_id.clone(), preserve: false }
    }
}

/// Refuses batches that a later write would refuse: for their columns, or because values of a column cannot be stored in
/// the type that the column has in the table or in a batch that was accepted before.
#[derive(Clone, Debug)]
pub(crate) struct BatchCheck {
    plan: Arc<FeaturePlan>,
    /// The columns of the table, and those that batches have brought.
    known: SchemaRef,
    /// The schema of a batch that was taken as it was, with nothing new.
    as_it_is: Option<SchemaRef>,
}

impl BatchCheck {
    /// The batch with its columns in their types, and the checks of later batches, where the batch has changed them.
    /// Columns of no type that nobody has brought before are left out: whoever brings them with a type decides on it.
    pub(crate) fn accept(
        &self,
        store: &MetadataStore,
        batch: &RecordBatch,
    ) -> Result<(RecordBatch, Option<BatchCheck>)> {
        check_ids(&self.plan, batch)?;
        engine::check_provenance(&self.plan.spec, batch)?;
        let given = batch.schema();
        if self.as_it_is.as_ref() == Some(&given) {
            return Ok((batch.clone(), None));
        }
        let batch = self.without_untyped(batch)?;
        let empty = store.complete(&self.plan, &batch.slice(0, 0), &store.stamping(0))?;
        let (target, _) = align(&self.plan.spec.key, Some(&self.known), vec![empty])?;
        let batch = self.converted(&batch, &target)?;
        let known = merged(&self.known, &target);
        let is_as_it_was = given == *batch.schema_ref();
        let after = match (known == self.known, &self.as_it_is) {
            (false, _) => Some(Self { plan: self.plan.clone(), known, as_it_is: None }),
            (true, None) if is_as_it_was => Some(Self { as_it_is: Some(given), ..self.clone() }),
            (true, _) => None,
        };
        Ok((batch, after))
    }

    fn without_untyped(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let schema = batch.schema();
        let is_typed =
            |field: &Field| *field.data_type() != DataType::Null || self.known.column_with_name(field.name()).is_some();
        let kept: Vec<usize> = (0..schema.fields().len()).filter(|index| is_typed(schema.field(*index))).collect();
        Ok(batch.project(&kept)?)
    }

    /// The user's columns in the types of the table. System columns are built anew by the write.
    fn converted(&self, batch: &RecordBatch, target: &Schema) -> Result<RecordBatch> {
        let schema = batch.schema();
        let convert_one = |(field, array): (&Arc<Field>, &ArrayRef)| -> Result<(Arc<Field>, ArrayRef)> {
            let wanted = target.field_with_name(field.name())?.data_type();
            if columns::is_system(field.name()) || array.data_type() == wanted {
                return Ok((field.clone(), array.clone()));
            }
            let array = convert(&self.plan.spec.key, field.name(), array, wanted)?;
            Ok((Arc::new(Field::new(field.name(), wanted.clone(), true)), array))
        };
        let converted = schema.fields().iter().zip(batch.columns()).map(convert_one).collect::<Result<Vec<_>>>()?;
        let (fields, arrays): (Vec<_>, Vec<_>) = converted.into_iter().unzip();
        Ok(RecordBatch::try_new(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())), arrays)?)
    }
}

/// The known columns with those of a batch: as the batch has them, for it has been brought in line.
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

/// The same rows in fewer batches: neighbours of one schema are joined.
fn joined(batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let mut joined = Vec::new();
    let mut run: Vec<RecordBatch> = Vec::new();
    let mut bytes = 0;
    for batch in batches {
        let size = batch.get_array_memory_size();
        let is_over =
            run.first().is_some_and(|first| first.schema_ref() != batch.schema_ref() || bytes + size > JOINED_BYTES);
        if is_over {
            joined.push(join(std::mem::take(&mut run))?);
            bytes = 0;
        }
        bytes += size;
        run.push(batch);
    }
    if !run.is_empty() {
        joined.push(join(run)?);
    }
    Ok(joined)
}

fn join(run: Vec<RecordBatch>) -> Result<RecordBatch> {
    match run.as_slice() {
        [one] => Ok(one.clone()),
        several => Ok(concat_batches(several[0].schema_ref(), several)?),
    }
}
