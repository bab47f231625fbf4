//! A set of keys by which the rows of several tables are picked.

use std::sync::Arc;

use ahash::AHashSet;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat_batches, filter_record_batch, is_not_null, take, take_record_batch};
use arrow::datatypes::{DataType, Schema};

use crate::error::Result;
use crate::scan::ScanKeys;

use super::pick::{KeyEncoder, columns_of};
use super::table::batch_of;
use super::typed_key::TypedKey;

/// Distinct keys, in the types in which the tables are compared.
pub(crate) struct KeyList {
    encoder: KeyEncoder,
    encoded: AHashSet<Box<[u8]>>,
    /// The values of those columns that any storage system compares in the same way.
    plain: Vec<RecordBatch>,
    has_nulls: bool,
}

impl KeyList {
    /// Creates an empty list of keys of these columns and types.
    pub(crate) fn new(key: TypedKey) -> Result<Self> {
        let encoder = KeyEncoder::of(key)?;
        Ok(Self { encoder, encoded: AHashSet::new(), plain: Vec::new(), has_nulls: false })
    }

    /// Returns the number of keys.
    pub(crate) fn len(&self) -> usize {
        self.encoded.len()
    }

    /// Returns whether a key has a null.
    pub(crate) fn has_nulls(&self) -> bool {
        self.has_nulls
    }

    /// Adds the keys in some columns, given in the order of the list's.
    pub(crate) fn add(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let arrays = self.encoder.comparable(columns)?;
        let rows = self.encoder.encode_comparable(&arrays)?;
        let mut added = Vec::new();
        for (row, key) in rows.iter().enumerate() {
            if self.encoded.insert(key.as_ref().into()) {
                added.push(row as u32);
            }
        }
        if added.is_empty() {
            return Ok(());
        }
        let added = UInt32Array::from(added);
        let is_null = |array: &ArrayRef| -> Result<bool> { Ok(take(array, &added, None)?.logical_null_count() > 0) };
        for array in &arrays {
            self.has_nulls |= is_null(array)?;
        }
        let typed = self.encoder.key().columns().iter().zip(arrays);
        let plain = typed.filter(|((_, data_type), _)| is_plain(data_type));
        let plain = batch_of(plain.map(|((name, _), array)| (name.clone(), array)).collect(), rows.num_rows())?;
        self.plain.push(take_record_batch(&plain, &added)?);
        Ok(())
    }

    /// Adds the keys of a batch, by the names of the list's columns.
    pub(crate) fn add_batch(&mut self, batch: &RecordBatch) -> Result<()> {
        self.add(&columns_of(batch, self.encoder.key().names())?)
    }

    /// Returns the rows of a batch whose keys are in the list; `names` has the columns of the batch.
    pub(crate) fn pick(&self, batch: RecordBatch, names: &[String]) -> Result<RecordBatch> {
        let columns = self.encoder.comparable(&columns_of(&batch, names)?)?;
        let rows = self.encoder.encode_comparable(&columns)?;
        let mask: BooleanArray = rows.iter().map(|key| Some(self.encoded.contains(key.as_ref()))).collect();
        Ok(if mask.true_count() == batch.num_rows() { batch } else { filter_record_batch(&batch, &mask)? })
    }

    /// Returns the keys as a backend understands them: of those columns of the table whose equality is the same in all
    /// storage systems. `None` if there is no such column, or if a key has a null, which no comparison finds.
    pub(crate) fn for_scan(&self, table: &Schema, names: &[String]) -> Result<Option<Arc<ScanKeys>>> {
        let Some(first) = self.plain.first().filter(|_| !self.has_nulls) else { return Ok(None) };
        let keys = concat_batches(first.schema_ref(), &self.plain)?;
        let names = self.encoder.key().columns().iter().zip(names).filter(|((_, compared), _)| is_plain(compared));
        let mut columns: Vec<(String, ArrayRef)> = Vec::new();
        for ((_, name), array) in names.zip(keys.columns()) {
            let stored = table.field_with_name(name)?.data_type();
            if is_plain(stored) {
                columns.push((name.clone(), cast(array, stored)?));
            }
        }
        if columns.is_empty() {
            return Ok(None);
        }
        // A key that the type of the table's column cannot hold is not in the table.
        let mut rows = batch_of(columns, keys.num_rows())?;
        for column in 0..rows.num_columns() {
            if rows.column(column).null_count() > 0 {
                rows = filter_record_batch(&rows, &is_not_null(rows.column(column))?)?;
            }
        }
        Ok(Some(Arc::new(ScanKeys::new(rows))))
    }
}

/// Returns whether equality of the values of a type is the same in all storage systems.
fn is_plain(data_type: &DataType) -> bool {
    data_type.is_integer() || matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}
