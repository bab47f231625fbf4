//! Converts between the Arrow version of this project and the newer one of DuckDB's binding.
//!
//! Both have the two structs of the C Data Interface in the specified layout, so that an array is converted by moving
//! those structs: no value is copied. This module can be removed when both are on one version.
#![allow(unsafe_code)]

pub(crate) mod cursor;
pub(crate) mod hashing;
pub(crate) mod source;
mod texts;

use std::mem::transmute;

use arrow::array::{Array, ArrayData, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema};
use duckdb::arrow::array as theirs;
use duckdb::arrow::ffi as their_ffi;
use metaxy_core::{Error, Result};

use crate::KIND;

/// A batch of DuckDB's binding.
pub(crate) type DuckBatch = theirs::RecordBatch;

/// A schema of DuckDB's binding.
pub(crate) type DuckSchema = duckdb::arrow::datatypes::Schema;

/// Converts a batch into one of DuckDB.
pub(crate) fn to_duckdb(batch: RecordBatch) -> Result<DuckBatch> {
    let data = StructArray::from(batch).into_data();
    let (array, schema) = arrow::ffi::to_ffi(&data)?;
    // SAFETY: both types are `#[repr(C)]` and follow the C Data Interface field by field; `transmute` checks that their
    // sizes agree, and moving the value moves the duty to release it.
    let (array, schema): (their_ffi::FFI_ArrowArray, their_ffi::FFI_ArrowSchema) = unsafe {
        (
            transmute::<FFI_ArrowArray, their_ffi::FFI_ArrowArray>(array),
            transmute::<FFI_ArrowSchema, their_ffi::FFI_ArrowSchema>(schema),
        )
    };
    // SAFETY: the two structs were exported together just above and describe one array that has not been released.
    let data = unsafe { their_ffi::from_ffi(array, &schema) }.map_err(|error| Error::backend(KIND, "write", error))?;
    Ok(theirs::StructArray::from(data).into())
}

/// Converts a batch of DuckDB.
pub(crate) fn from_duckdb(batch: DuckBatch) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let data = theirs::Array::into_data(theirs::StructArray::from(batch));
    let (array, schema) = their_ffi::to_ffi(&data).map_err(|error| Error::backend(KIND, "read", error))?;
    // SAFETY: as in `to_duckdb`, the other way round.
    let (array, schema): (FFI_ArrowArray, FFI_ArrowSchema) = unsafe {
        (
            transmute::<their_ffi::FFI_ArrowArray, FFI_ArrowArray>(array),
            transmute::<their_ffi::FFI_ArrowSchema, FFI_ArrowSchema>(schema),
        )
    };
    // SAFETY: as in `to_duckdb`.
    let data: ArrayData = unsafe { arrow::ffi::from_ffi(array, &schema) }?;
    if data.len() != rows || !matches!(data.data_type(), DataType::Struct(_)) || data.null_count() > 0 {
        return Err(ArrowError::CDataInterface("DuckDB's batch is not a plain struct".to_owned()).into());
    }
    Ok(StructArray::from(data).into())
}

/// Converts a schema of DuckDB.
pub(crate) fn schema_from_duckdb(schema: &DuckSchema) -> Result<Schema> {
    let exported = their_ffi::FFI_ArrowSchema::try_from(schema).map_err(|error| Error::backend(KIND, "read", error))?;
    // SAFETY: as in `to_duckdb`, the other way round.
    let exported = unsafe { transmute::<their_ffi::FFI_ArrowSchema, FFI_ArrowSchema>(exported) };
    Ok(Schema::try_from(&exported)?)
}

/// Returns the number of rows that DuckDB processes at once: the most that a table function may return in one call.
pub(crate) fn vector_size() -> usize {
    // SAFETY: the function takes nothing and returns a constant of the library.
    usize::try_from(unsafe { duckdb::ffi::duckdb_vector_size() }).unwrap_or(1).max(1)
}
