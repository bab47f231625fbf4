//! Texts in DuckDB's vectors, read where they lie: what its binding gives would copy each of them.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use duckdb::core::DataChunkHandle;
use duckdb::ffi::{
    duckdb_data_chunk_get_vector, duckdb_string_t, duckdb_validity_row_is_valid, duckdb_vector_get_data,
    duckdb_vector_get_validity,
};

/// Texts up to this length lie in the vector itself.
const INLINE: usize = 12;

/// A column of texts.
pub(crate) struct Texts<'a> {
    values: *const duckdb_string_t,
    /// Null where all rows are valid.
    validity: *mut u64,
    rows: usize,
    chunk: PhantomData<&'a DataChunkHandle>,
}

impl<'a> Texts<'a> {
    /// A column of a chunk whose vectors are flat, as those are that a scalar function gets. The column has to be VARCHAR.
    pub(crate) fn new(chunk: &'a DataChunkHandle, column: usize) -> Self {
        assert!(column < chunk.num_columns());
        // SAFETY: the column exists, and the chunk outlives what is borrowed from it.
        let (values, validity) = unsafe {
            let vector = duckdb_data_chunk_get_vector(chunk.get_ptr(), column as u64);
            (duckdb_vector_get_data(vector).cast(), duckdb_vector_get_validity(vector))
        };
        Self { values, validity, rows: chunk.len(), chunk: PhantomData }
    }

    /// The bytes of a text, none for a null.
    pub(crate) fn get(&self, row: usize) -> &'a [u8] {
        assert!(row < self.rows);
        // SAFETY: the row exists. Whatever its length, both forms of a text begin with it; a short text follows it, a long
        // one is pointed to and lives as long as the vector.
        unsafe {
            if !self.validity.is_null() && !duckdb_validity_row_is_valid(self.validity, row as u64) {
                return &[];
            }
            let value = &(*self.values.add(row)).value;
            let length = value.inlined.length as usize;
            let start = if length <= INLINE { value.inlined.inlined.as_ptr() } else { value.pointer.ptr.cast_const() };
            std::slice::from_raw_parts(start.cast(), length)
        }
    }
}
