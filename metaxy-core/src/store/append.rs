//! The only way into a table: rows are completed, conformed to the table's schema, checked, and appended. It is used by
//! writes, the buffered writer, copies, rebases and soft deletes.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, SchemaRef};
use futures::{StreamExt, TryStreamExt};

use crate::backend::BatchStream;
use crate::blocking;
use crate::columns;
use crate::error::{Error, Result};
use crate::key::FeatureKey;
use crate::schema::{align, bytes_of_rows, convert, plain_type};

use super::duplicates::one_row_each;
use super::stamp::Stamping;
use super::trace::{Volume, call};
use super::{Duplicates, MetadataStore};

/// Small batches are concatenated up to this size, far below the 2 GiB that a text column can hold.
const JOINED_BYTES: usize = 256 << 20;

/// Batches from this size on are not concatenated: it saves less than the copy costs.
const LARGE_BYTES: usize = 4 << 20;

/// The steps that rows still need before they are appended.
#[derive(Clone, Debug)]
pub(crate) struct Preparation {
    /// `None` if the rows have all system columns, of any definition.
    stamping: Option<Stamping>,
    /// How several rows of one sample are handled; `None` keeps all of them.
    pub(super) duplicates: Option<Duplicates>,
    /// Whether small batches are concatenated. Those of a plain write reach the backend one by one.
    joins: bool,
}

impl Preparation {
    /// For complete rows, as in copies and deletions.
    pub(crate) const COMPLETE: Self = Self { stamping: None, duplicates: None, joins: true };

    /// Prepares rows of a user, who may write several of one sample.
    pub(crate) fn of_rows(stamping: Stamping, duplicates: Duplicates) -> Self {
        let duplicates = (!stamping.preserve).then_some(duplicates);
        Self { stamping: Some(stamping), duplicates, joins: false }
    }

    /// Keeps all rows, because there is one for each sample, or will be.
    pub(super) fn keeping_duplicates(self) -> Self {
        Self { duplicates: None, ..self }
    }

    /// Prepares rows of many puts: of several rows of one sample the last one counts.
    pub(crate) fn of_puts(stamping: Stamping) -> Self {
        Self { stamping: Some(stamping), duplicates: Some(Duplicates::Last), joins: true }
    }
}

/// Rows in the schema of their table.
#[derive(Clone, Debug)]
pub(crate) struct PreparedRows {
    pub(super) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
    /// Whether the rows add to the table's schema, so that another write may add to it differently first.
    pub(crate) changes_table: bool,
}

/// Rows that are ready to be appended.
pub(crate) enum Prepared {
    Rows(PreparedRows),
    /// Rows of one schema that are read from a temporary file.
    Stream(SchemaRef, BatchStream),
}

impl MetadataStore {
    /// Prepares rows for their table without writing anything.
    pub(crate) async fn prepare(
        &self,
        key: &FeatureKey,
        batches: Vec<RecordBatch>,
        preparation: Preparation,
    ) -> Result<PreparedRows> {
        let table = self.table_to_write(key).await?;
        self.prepare_for(key, table, batches, preparation).await
    }

    /// Prepares rows for a table of this schema. Asks the backend for nothing that waits for an open write.
    pub(super) async fn prepare_for(
        &self,
        key: &FeatureKey,
        table: Option<SchemaRef>,
        batches: Vec<RecordBatch>,
        preparation: Preparation,
    ) -> Result<PreparedRows> {
        let (store, key) = (self.clone(), key.clone());
        blocking::run(move || {
            let mut batches = if preparation.joins { joined(batches)? } else { batches };
            if let Some(stamping) = &preparation.stamping {
                let plan = store.plan(&key)?;
                batches = store.complete_all(plan, &batches, stamping)?;
            }
            let batches = store.with_new_columns(&key, table.as_ref(), batches)?;
            let (schema, mut batches) = align(&key, table.as_ref(), batches)?;
            if let Some(duplicates) = preparation.duplicates {
                batches = one_row_each(&store.plan(&key)?.spec, &schema, batches, duplicates)?;
            }
            batches.iter().try_for_each(|batch| store.inner.backend.check(&key, batch))?;
            let changes_table = !is_stored_in(table.as_ref(), &schema);
            Ok(PreparedRows { schema, batches, changes_table })
        })
        .await
    }

    /// Appends rows, all or none, and returns how many.
    pub(crate) async fn append(&self, key: &FeatureKey, rows: PreparedRows) -> Result<Volume> {
        let volume = Volume::of(&rows.batches);
        if volume.rows == 0 {
            return Ok(volume);
        }
        let append = async {
            self.inner.backend.append(key, rows.schema, rows.batches).await?;
            Ok(volume)
        };
        call!("append", feature = key.to_string(), store = self.name()).run(append).await
    }

    /// Prepares and appends rows of one feature, and returns how many.
    pub(crate) async fn prepare_and_append(
        &self,
        key: &FeatureKey,
        batches: Vec<RecordBatch>,
        preparation: Preparation,
    ) -> Result<Volume> {
        if batches.iter().all(|batch| batch.num_rows() == 0) {
            return Ok(Volume::default());
        }
        let rows = self.prepare(key, batches, preparation).await?;
        self.append(key, rows).await
    }

    /// Appends prepared rows, all or none if the backend can; returns how many.
    pub(crate) async fn append_prepared(&self, key: &FeatureKey, rows: Prepared) -> Result<Volume> {
        let (schema, batches) = match rows {
            Prepared::Rows(rows) => return self.append(key, rows).await,
            Prepared::Stream(schema, batches) => (schema, batches),
        };
        let volume = Arc::new(Mutex::new(Volume::default()));
        let counting = volume.clone();
        let batches = batches.inspect_ok(move |batch| {
            counting.lock().unwrap_or_else(PoisonError::into_inner).add(batch);
        });
        let append = async {
            self.inner.backend.append_stream(key, schema, batches.boxed()).await?;
            Ok(*volume.lock().unwrap_or_else(PoisonError::into_inner))
        };
        call!("append", feature = key.to_string(), store = self.name()).run(append).await
    }

    /// Returns the schema of a table, or `None` if a write may create it.
    pub(super) async fn table_to_write(&self, key: &FeatureKey) -> Result<Option<SchemaRef>> {
        self.check_may_change(key, "write")?;
        self.table_or_permission(key).await
    }

    /// Returns the schema of a table, or `None` if the store may create it.
    pub(super) async fn table_or_permission(&self, key: &FeatureKey) -> Result<Option<SchemaRef>> {
        let table = self.inner.backend.schema(key).await?;
        if table.is_none() && !self.inner.auto_create_tables {
            return Err(Error::TableMissing { table: key.table_name(), location: self.inner.info.location.clone() });
        }
        Ok(table)
    }

    /// Returns the batches with new by-field columns in the form that this store is configured for.
    fn with_new_columns(
        &self,
        key: &FeatureKey,
        table: Option<&SchemaRef>,
        batches: Vec<RecordBatch>,
    ) -> Result<Vec<RecordBatch>> {
        if !self.inner.maps {
            return Ok(batches);
        }
        batches.iter().map(|batch| with_maps(key, table, batch)).collect()
    }
}

/// Returns whether a table has all columns of a schema, with its types.
fn is_stored_in(table: Option<&SchemaRef>, schema: &SchemaRef) -> bool {
    let is_stored = |field: &Arc<Field>| {
        let known = table.and_then(|table| table.field_with_name(field.name()).ok());
        known.is_some_and(|known| known.data_type() == field.data_type())
    };
    schema.fields().iter().all(is_stored)
}

/// Returns the batch with maps instead of by-field structs that the table does not have yet.
fn with_maps(key: &FeatureKey, table: Option<&SchemaRef>, batch: &RecordBatch) -> Result<RecordBatch> {
    let is_new = |name: &str| table.is_none_or(|table| table.column_with_name(name).is_none());
    let mut batch = batch.clone();
    for name in [columns::PROVENANCE_BY_FIELD, columns::DATA_VERSION_BY_FIELD] {
        if let Some(structs) = batch.column_by_name(name).filter(|_| is_new(name)) {
            let maps = convert(key, name, structs, &columns::by_field_map_type())?;
            batch = columns::with_column(&batch, name, maps)?;
        }
    }
    Ok(batch)
}

/// Concatenates small neighbouring batches of one schema. Batches with encoded columns are kept, because the keys of a
/// dictionary may be too short for the values of several batches.
fn joined(batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let mut joined = Vec::new();
    let mut run: Vec<RecordBatch> = Vec::new();
    let mut bytes = 0;
    for batch in batches {
        let size = bytes_of_rows(&batch);
        let continues = run.first().is_some_and(|first| first.schema_ref() == batch.schema_ref());
        if !continues || bytes + size > JOINED_BYTES {
            joined.extend(join(std::mem::take(&mut run))?);
            bytes = 0;
        }
        if size > LARGE_BYTES || (run.is_empty() && !is_plain(&batch)) {
            joined.extend(join(std::mem::take(&mut run))?);
            joined.push(batch);
            bytes = 0;
            continue;
        }
        bytes += size;
        run.push(batch);
    }
    joined.extend(join(run)?);
    Ok(joined)
}

/// Returns whether no column of a batch is encoded.
fn is_plain(batch: &RecordBatch) -> bool {
    batch.schema_ref().fields().iter().all(|field| plain_type(field.data_type()) == *field.data_type())
}

fn join(run: Vec<RecordBatch>) -> Result<Option<RecordBatch>> {
    match run.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        several => Ok(Some(concat_batches(several[0].schema_ref(), several)?)),
    }
}
