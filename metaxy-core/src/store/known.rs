//! The rows that the target of a copy already has, so that a copy can be repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::AHashMap;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use futures::StreamExt;

use crate::backend::{BatchStream, ScanRequest};
use crate::columns;
use crate::engine::{self, KeyEncoder, Table, TypedKey};
use crate::error::{Error, Result};
use crate::key::FeatureKey;

use super::{MetadataStore, RowStream};

const TIMES: [&str; 2] = [columns::UPDATED_AT, columns::DELETED_AT];

/// The rows of a feature that a store has: for each id and feature version when its newest row was written or deleted;
/// with the sample history, every row has a key of its own.
#[derive(Default)]
struct Known(AHashMap<Box<[u8]>, i64>);

/// How rows are compared with those of the target.
struct Comparison {
    /// `None` if the target has no rows that these can be compared with.
    encoder: Option<KeyEncoder>,
    every_row: bool,
    skipped: Arc<AtomicU64>,
}

/// Returns the rows of a stream that `store` itself does not have, and counts the others in `skipped`.
pub(super) async fn unknown_rows(
    store: &MetadataStore,
    key: &FeatureKey,
    rows: RowStream,
    every_row: bool,
    skipped: &Arc<AtomicU64>,
) -> Result<BatchStream> {
    let (schema, rows) = rows.into_parts();
    let comparison = Comparison { encoder: None, every_row, skipped: skipped.clone() };
    let Some(stored) = Stored::read(store, key, &schema, every_row).await? else {
        return Ok(rows.map(move |batch| comparison.unknown_of(&Known::default(), &batch?)).boxed());
    };
    let Stored { key, encoder, rows: (table_schema, table) } = stored;
    let comparison = Arc::new(Comparison { encoder: Some(encoder), ..comparison });
    let indexing = comparison.clone();
    let index = move |table: Table| indexing.known(&table);
    let probe = move |known: &Known, batch: RecordBatch| comparison.unknown_of(known, &batch);
    let pool = &store.inner.pool;
    let table = engine::collect(table_schema, table, Some(&key), pool).await?;
    engine::look_up((schema, rows), table, &key, pool, index, probe).await
}

/// The keys and times of the rows of a feature that a store itself has.
struct Stored {
    key: TypedKey,
    encoder: KeyEncoder,
    rows: (SchemaRef, BatchStream),
}

impl Stored {
    /// Begins to read them. Returns `None` if there are no rows that those of the schema `given` can be compared with.
    async fn read(
        store: &MetadataStore,
        feature: &FeatureKey,
        given: &SchemaRef,
        every_row: bool,
    ) -> Result<Option<Self>> {
        let Some(table) = store.own_table(feature).await? else { return Ok(None) };
        let mut names = store.plan(feature)?.spec.id_columns.clone();
        names.push(columns::FEATURE_VERSION.to_owned());
        if every_row {
            names.extend(TIMES.map(str::to_owned));
        }
        let has = |schema: &Schema| names.iter().all(|name| schema.column_with_name(name).is_some());
        if !(has(&table) && has(given)) {
            return Ok(None);
        }
        let Some(key) = TypedKey::between(&names, given, &table)? else { return Ok(None) };
        let encoder = KeyEncoder::of(key.clone())?;
        names.extend(TIMES.iter().filter(|_| !every_row).map(|name| (*name).to_owned()));
        let request = ScanRequest { columns: Some(names), ..ScanRequest::default() };
        match store.scan(feature, &request).await {
            Err(Error::FeatureNotFound { .. }) => Ok(None),
            scan => Ok(Some(Self { key, encoder, rows: scan? })),
        }
    }
}

impl Comparison {
    /// Returns the rows of a table of keys and times.
    fn known(&self, table: &Table) -> Result<Known> {
        let mut known = Known::default();
        let Some(encoder) = &self.encoder else { return Ok(known) };
        for batch in table.batches() {
            let times = Times::of(batch)?;
            for (row, id) in encoder.encode(batch)?.iter().enumerate() {
                let time = times.touched(row);
                let newest = known.0.entry(id.as_ref().into()).or_insert(time);
                *newest = time.max(*newest);
            }
        }
        Ok(known)
    }

    /// Returns the rows of a batch that the target needs.
    fn unknown_of(&self, known: &Known, batch: &RecordBatch) -> Result<RecordBatch> {
        let batch = with_struct_versions(batch)?;
        let times = Times::of(&batch)?;
        let encoded = self.encoder.as_ref().map(|encoder| encoder.encode(&batch)).transpose()?;
        let is_needed = |row: usize| {
            let newest = encoded.as_ref().and_then(|ids| known.0.get(ids.row(row).as_ref()));
            match newest {
                Some(newest) => *newest < times.touched(row),
                // A deletion without an earlier row deletes nothing, but belongs to the history.
                None => self.every_row || !times.is_deletion(row),
            }
        };
        let needed: BooleanArray = (0..batch.num_rows()).map(|row| Some(is_needed(row))).collect();
        self.skipped.fetch_add(needed.false_count() as u64, Ordering::Relaxed);
        Ok(filter_record_batch(&batch, &needed)?)
    }
}

/// Returns how many rows of a batch delete a sample.
pub(super) fn deletions_in(batch: &RecordBatch) -> Result<u64> {
    let times = Times::of(batch)?;
    Ok((0..batch.num_rows()).filter(|row| times.is_deletion(*row)).count() as u64)
}

/// When rows were written and deleted, in microseconds.
struct Times {
    updated: ArrayRef,
    deleted: ArrayRef,
}

impl Times {
    fn of(batch: &RecordBatch) -> Result<Self> {
        let micros = |name: &str| -> Result<ArrayRef> {
            let array = batch.column(batch.schema_ref().index_of(name)?);
            Ok(cast(&cast(array, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?, &DataType::Int64)?)
        };
        Ok(Self { updated: micros(columns::UPDATED_AT)?, deleted: micros(columns::DELETED_AT)? })
    }

    fn is_deletion(&self, row: usize) -> bool {
        self.deleted.is_valid(row)
    }

    fn touched(&self, row: usize) -> i64 {
        let array = if self.is_deletion(row) { &self.deleted } else { &self.updated };
        if array.is_valid(row) { array.as_primitive::<Int64Type>().value(row) } else { i64::MIN }
    }
}

/// Converts by-field columns that other programs have stored as maps to structs of the fields in the maps. A table that
/// has maps accepts both.
fn with_struct_versions(batch: &RecordBatch) -> Result<RecordBatch> {
    let schema = batch.schema();
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        let is_by_field =
            [columns::PROVENANCE_BY_FIELD, columns::DATA_VERSION_BY_FIELD].contains(&field.name().as_str());
        let array = match array.data_type() {
            DataType::Map(..) if is_by_field => engine::conform_by_field(array, &fields_of(array)?)?,
            _ => array.clone(),
        };
        fields.push(Field::new(field.name(), array.data_type().clone(), true));
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
}

/// Returns the distinct keys of a map, sorted.
fn fields_of(map: &ArrayRef) -> Result<Vec<String>> {
    let keys = engine::text(map.as_map().keys())?;
    let keys: std::collections::BTreeSet<&str> = keys.iter().flatten().collect();
    Ok(keys.into_iter().map(str::to_owned).collect())
}
