//! The rows that the target of a copy already has, so that a copy can be repeated.

use std::sync::Arc;

use ahash::AHashMap;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use futures::TryStreamExt;

use crate::backend::ScanRequest;
use crate::columns;
use crate::engine::{self, KeyEncoder};
use crate::error::{Error, Result};
use crate::key::FeatureKey;

use super::MetadataStore;

const TIMES: [&str; 2] = [columns::UPDATED_AT, columns::DELETED_AT];

/// The numbers of rows of one feature, by what the copy did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) written: u64,
    pub(super) skipped: u64,
    pub(super) deleted: u64,
}

/// The rows of a feature that a store already has, by id and feature version.
pub(super) struct Known {
    /// `None` if the store has no rows, or if their ids cannot be compared.
    encoder: Option<KeyEncoder>,
    /// The time when the newest row of each key was written or deleted; with the sample history, every row has its own
    /// key.
    newest: AHashMap<Box<[u8]>, i64>,
    every_row: bool,
}

impl Known {
    /// Reads the rows that `store` itself has, to compare them with rows of the schema `given`.
    pub(super) async fn of(
        store: &MetadataStore,
        key: &FeatureKey,
        given: &SchemaRef,
        every_row: bool,
    ) -> Result<Self> {
        let mut known = Self { encoder: None, newest: AHashMap::new(), every_row };
        let Some(table) = store.own_table(key).await? else { return Ok(known) };
        let mut names = store.plan(key)?.spec.id_columns.clone();
        names.push(columns::FEATURE_VERSION.to_owned());
        if every_row {
            names.extend(TIMES.map(str::to_owned));
        }
        let has = |schema: &Schema| names.iter().all(|name| schema.column_with_name(name).is_some());
        let Some(encoder) = (has(&table) && has(given)).then(|| KeyEncoder::new(&names, given, &table)).transpose()?
        else {
            return Ok(known);
        };
        known.encoder = encoder;
        names.extend(TIMES.iter().filter(|_| !every_row).map(|name| (*name).to_owned()));
        let request = ScanRequest { columns: Some(names), ..ScanRequest::default() };
        let (_, mut stream) = match store.scan(key, &request).await {
            Err(Error::FeatureNotFound { .. }) => return Ok(known),
            scan => scan?,
        };
        while let Some(batch) = stream.try_next().await? {
            known.learn(&batch)?;
        }
        Ok(known)
    }

    fn learn(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(encoder) = &self.encoder else { return Ok(()) };
        let times = Times::of(batch)?;
        for (row, id) in encoder.encode(batch)?.iter().enumerate() {
            let time = times.touched(row);
            let newest = self.newest.entry(id.as_ref().into()).or_insert(time);
            *newest = time.max(*newest);
        }
        Ok(())
    }

    /// Returns the rows of a batch that the copy has to write.
    pub(super) fn unknown_of(&self, batch: &RecordBatch, counts: &mut Counts) -> Result<RecordBatch> {
        let batch = with_struct_versions(batch)?;
        let times = Times::of(&batch)?;
        let encoded = self.encoder.as_ref().map(|encoder| encoder.encode(&batch)).transpose()?;
        let is_needed = |row: usize| {
            let newest = encoded.as_ref().and_then(|ids| self.newest.get(ids.row(row).as_ref()));
            match newest {
                Some(newest) => *newest < times.touched(row),
                // A deletion without an earlier row deletes nothing, but belongs to the history.
                None => self.every_row || !times.is_deletion(row),
            }
        };
        let needed: BooleanArray = (0..batch.num_rows()).map(|row| Some(is_needed(row))).collect();
        counts.skipped += needed.false_count() as u64;
        let deletions = (0..batch.num_rows()).filter(|row| needed.value(*row) && times.is_deletion(*row));
        counts.deleted += deletions.count() as u64;
        Ok(filter_record_batch(&batch, &needed)?)
    }
}

/// The times when rows were written and deleted, in microseconds.
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
