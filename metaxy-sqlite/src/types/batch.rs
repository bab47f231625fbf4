//! Collects rows of SQLite in a batch.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use metaxy_core::{Error, Result};
use rusqlite::types::ValueRef;

use crate::error::{During, corrupt};

use super::decode::{Decoder, decoder};
use super::fixed_bytes;

/// The maximum number of rows of a batch.
pub(crate) const MAX_ROWS: usize = 64 * 1024;

/// The capacity of a batch of unknown size.
pub(crate) const FEW_ROWS: usize = 1024;

/// The maximum bytes of text and blobs, and of values of fixed size, of a batch, unless single rows are larger.
const MAX_BYTES: usize = 64 << 20;

/// The largest size of a row whose values are all null; a schema that needs more is damaged.
const MAX_FIXED_BYTES: usize = 1 << 30;

/// The batch that is being collected.
pub(crate) struct Batch<'a> {
    schema: &'a SchemaRef,
    table: &'a str,
    decoders: Vec<Box<dyn Decoder>>,
    rows: usize,
    bytes: usize,
    /// The size of a row whose values are all null.
    row_bytes: usize,
}

impl<'a> Batch<'a> {
    /// Creates an empty batch with a capacity in rows.
    pub(crate) fn new(schema: &'a SchemaRef, table: &'a str, capacity: usize) -> Result<Self> {
        let fixed = schema.fields().iter().map(|field| fixed_bytes(field.data_type()));
        let row_bytes = fixed.fold(0, usize::saturating_add);
        if row_bytes > MAX_FIXED_BYTES {
            return Err(corrupt(table, format!("its types take {row_bytes} bytes for each row")));
        }
        let decoders = schema.fields().iter().map(|field| decoder(field.data_type(), capacity)).collect();
        Ok(Self { schema, table, decoders, rows: 0, bytes: 0, row_bytes })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rows >= MAX_ROWS || self.bytes >= MAX_BYTES
    }

    /// Adds the values of a row; `offset` is the position of the batch's first column in it.
    pub(crate) fn push(&mut self, row: &rusqlite::Row<'_>, offset: usize, during: During<'_>) -> Result<()> {
        for (position, decoder) in self.decoders.iter_mut().enumerate() {
            let value = row.get_ref(position + offset).map_err(|error| during.error(error))?;
            if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = value {
                self.bytes += bytes.len();
            }
            decoder.push(value).map_err(|reason| damaged(self.table, self.schema, position, &reason))?;
        }
        self.rows += 1;
        self.bytes += self.row_bytes;
        Ok(())
    }

    /// Returns the batch; the next row begins a new one.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch> {
        let finish = |(position, decoder): (usize, &mut Box<dyn Decoder>)| {
            decoder.finish().map_err(|reason| damaged(self.table, self.schema, position, &reason))
        };
        let columns = self.decoders.iter_mut().enumerate().map(finish).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        // Nulls in columns whose schema does not allow them are damage.
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|error| corrupt(self.table, error.to_string()).with_source(error))
    }
}

fn damaged(table: &str, schema: &SchemaRef, position: usize, reason: &str) -> Error {
    corrupt(table, format!("column `{}` holds {reason}", schema.field(position).name()))
}
