//! Picks rows by their keys: keys are encoded, so those of several tables can be looked up in each other.

use ahash::AHashSet;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Schema};
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

    /// Encodes the keys of some rows; nulls equal nulls.
    pub(crate) fn encode(&self, batch: &RecordBatch) -> Result<Rows> {
        let column = |(name, data_type): &(String, DataType)| -> Result<ArrayRef> {
            comparable(batch.column(batch.schema_ref().index_of(name)?), data_type)
        };
        Ok(self.converter.convert_columns(&self.key.columns().iter().map(column).collect::<Result<Vec<_>>>()?)?)
    }
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
