//! Picks rows by their keys: keys are encoded, so those of several tables can be looked up in each other.

use ahash::AHashSet;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::row::{RowConverter, Rows, SortField};

use crate::error::Result;

use super::key_type::{common_type, comparable, compared_type};

/// Encodes the keys of rows of two tables in the same way.
pub(crate) struct KeyEncoder {
    columns: Vec<(String, DataType)>,
    converter: RowConverter,
}

impl KeyEncoder {
    /// Creates an encoder for two schemas that have the columns; `None` if their values cannot be compared.
    pub(crate) fn new(names: &[String], one: &Schema, other: &Schema) -> Result<Option<Self>> {
        let mut columns = Vec::with_capacity(names.len());
        for name in names {
            let types = [one, other].map(|schema| schema.field_with_name(name).map(|field| field.data_type().clone()));
            let [one, other] = types;
            match common_type(&one?, &other?) {
                Some(shared) => columns.push((name.clone(), shared)),
                None => return Ok(None),
            }
        }
        let fields = columns.iter().map(|(_, data_type)| SortField::new(compared_type(data_type))).collect();
        Ok(Some(Self { columns, converter: RowConverter::new(fields)? }))
    }

    /// Encodes the keys of some rows; nulls equal nulls.
    pub(crate) fn encode(&self, batch: &RecordBatch) -> Result<Rows> {
        let column = |(name, data_type): &(String, DataType)| -> Result<ArrayRef> {
            comparable(batch.column(batch.schema_ref().index_of(name)?), data_type)
        };
        Ok(self.converter.convert_columns(&self.columns.iter().map(column).collect::<Result<Vec<_>>>()?)?)
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

    /// Returns for each row whether its key is in the set.
    pub(crate) fn contains(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let rows = self.encoder.encode(batch)?;
        Ok(rows.iter().map(|key| Some(self.keys.contains(key.as_ref()))).collect())
    }
}
