//! Picks rows by their keys: keys are encoded, so those of several tables can be looked up in each other.

use ahash::AHashSet;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Schema;
use arrow::row::{RowConverter, Rows, SortField};

use crate::error::Result;

use super::key_type::{comparable, compared_type};
use super::typed_key::TypedKey;

/// Encodes the keys of rows of two tables in the same way.
pub(crate) struct KeyEncoder {
    key: TypedKey,
    converter: RowConverter,
}

impl KeyEncoder {
    /// Creates an encoder for two schemas that have the columns; `None` if their values cannot be compared.
    pub(crate) fn new(names: &[String], one: &Schema, other: &Schema) -> Result<Option<Self>> {
        TypedKey::between(names, one, other)?.map(Self::of).transpose()
    }

    /// Creates an encoder for a key.
    pub(crate) fn of(key: TypedKey) -> Result<Self> {
        let fields = key.columns().iter().map(|(_, data_type)| SortField::new(compared_type(data_type))).collect();
        Ok(Self { converter: RowConverter::new(fields)?, key })
    }

    /// Returns the key.
    pub(super) fn key(&self) -> &TypedKey {
        &self.key
    }

    /// Encodes the keys of some rows; nulls equal nulls.
    pub(crate) fn encode(&self, batch: &RecordBatch) -> Result<Rows> {
        self.encode_comparable(&self.comparable(&columns_of(batch, self.key.names())?)?)
    }

    /// Returns columns, given in the order of the key's, in the form in which they are compared.
    pub(super) fn comparable(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        self.key.columns().iter().zip(columns).map(|((_, data_type), array)| comparable(array, data_type)).collect()
    }

    /// Encodes columns of [`comparable`](Self::comparable).
    pub(super) fn encode_comparable(&self, columns: &[ArrayRef]) -> Result<Rows> {
        Ok(self.converter.convert_columns(columns)?)
    }
}

/// Returns some columns of a batch.
pub(crate) fn columns_of<'a>(
    batch: &RecordBatch,
    names: impl IntoIterator<Item = &'a String>,
) -> Result<Vec<ArrayRef>> {
    names.into_iter().map(|name| Ok(batch.column(batch.schema_ref().index_of(name)?).clone())).collect()
}

/// A set of keys by which rows are picked.
pub(crate) struct KeySet {
    encoder: KeyEncoder,
    keys: AHashSet<Box<[u8]>>,
}

impl KeySet {
    pub(crate) fn new(encoder: KeyEncoder) -> Self {
        Self { encoder, keys: AHashSet::new() }
    }

    /// Adds the keys of some rows, and returns the first row whose key is a duplicate.
    pub(crate) fn insert(&mut self, batch: &RecordBatch) -> Result<Option<usize>> {
        let mut again = None;
        for (row, key) in self.encoder.encode(batch)?.iter().enumerate() {
            if !self.keys.insert(key.as_ref().into()) {
                again.get_or_insert(row);
            }
        }
        Ok(again)
    }

    /// Returns the rows whose keys are in the set.
    pub(crate) fn pick(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        Ok(filter_record_batch(batch, &self.contains(batch)?)?)
    }

    /// Returns for each row whether its key is in the set.
    pub(crate) fn contains(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let rows = self.encoder.encode(batch)?;
        Ok(rows.iter().map(|key| Some(self.keys.contains(key.as_ref()))).collect())
    }
}
