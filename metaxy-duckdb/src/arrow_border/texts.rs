//! Reads and writes texts in DuckDB's vectors in place: its binding would copy each of them, and call DuckDB for each.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use duckdb::arrow::array::{Array, StringArray};
use duckdb::core::{DataChunkHandle, FlatVector, Inserter};
use duckdb::ffi::{
    duckdb_data_chunk_get_vector, duckdb_string_t, duckdb_validity_row_is_valid, duckdb_vector_get_data,
    duckdb_vector_get_validity,
};

/// The length up to which texts are in the vector itself.
const INLINE: usize = 12;

/// A column of texts.
pub(crate) struct Texts<'a> {
    values: *const duckdb_string_t,
    /// Null if all rows are valid.
    validity: *mut u64,
    rows: usize,
    chunk: PhantomData<&'a DataChunkHandle>,
}

impl<'a> Texts<'a> {
    /// Returns a column of a chunk with flat vectors, as scalar functions get them. The column has to be VARCHAR.
    pub(crate) fn new(chunk: &'a DataChunkHandle, column: usize) -> Self {
        assert!(column < chunk.num_columns());
        // SAFETY: the column exists, and the chunk outlives what is borrowed from it.
        let (values, validity) = unsafe {
            let vector = duckdb_data_chunk_get_vector(chunk.get_ptr(), column as u64);
            (duckdb_vector_get_data(vector).cast(), duckdb_vector_get_validity(vector))
        };
        Self { values, validity, rows: chunk.len(), chunk: PhantomData }
    }

    /// Returns the bytes of a text; `None` for a null.
    pub(crate) fn get(&self, row: usize) -> &'a [u8] {
        assert!(row < self.rows);
        // SAFETY: the row exists. Whatever its length, both forms of a text begin with it; a short text follows it, a
        // long one is pointed to and lives as long as the vector.
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

/// A column of texts that is written.
pub(crate) struct NewTexts<'a>(FlatVector<'a>);

impl<'a> NewTexts<'a> {
    /// Returns a column to be written. The vector has to be VARCHAR.
    pub(crate) fn new(vector: FlatVector<'a>) -> Self {
        Self(vector)
    }

    /// Writes the values of an array into the rows, from the first one on.
    pub(crate) fn set_all(&mut self, array: &StringArray) {
        for row in 0..array.len() {
            if array.is_null(row) {
                self.0.set_null(row);
            } else {
                self.set(row, array.value(row));
            }
        }
    }

    /// Writes a text into a row. DuckDB stores long texts elsewhere, and handles those with a NUL character.
    pub(crate) fn set(&mut self, row: usize, text: &str) {
        if text.len() > INLINE || text.as_bytes().contains(&0) {
            return self.0.insert(row, text);
        }
        // What follows a short text is zero.
        let mut inlined = [0; INLINE];
        inlined.iter_mut().zip(text.bytes()).for_each(|(to, byte)| *to = byte.cast_signed());
        // SAFETY: the vector holds texts, as many as its capacity says; every bit pattern of one can be overwritten.
        let values = unsafe { self.0.as_mut_slice::<duckdb_string_t>() };
        values[row].value.inlined.length = text.len() as u32;
        values[row].value.inlined.inlined = inlined;
    }
}
