//! Data frames of Polars as rows, and rows as data frames (cargo feature `polars`).
//!
//! Polars has Arrow arrays of its own. Both sides have the two structs of the C Data Interface in the specified layout,
//! so that an array is converted by moving those structs: no value is copied.
#![allow(unsafe_code)]

use std::mem::transmute;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, make_array, new_empty_array};
use arrow::datatypes::{Field, Schema};
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema};
use polars_arrow::array::ArrayRef as PolarsArray;
use polars_arrow::datatypes::Field as PolarsField;
use polars_arrow::ffi as theirs;
use polars_core::frame::DataFrame;
use polars_core::prelude::{Column, CompatLevel};
use polars_core::series::Series;

use crate::error::{BoxError, Error, Result};
use crate::fence;
use crate::store::{Increment, IntoBatches, Rows};

impl IntoBatches for DataFrame {
    fn into_batches(self) -> Result<Vec<RecordBatch>> {
        (&self).into_batches()
    }
}

/// Enumerations and categories become texts, as every encoded column does when it is stored.
impl IntoBatches for &DataFrame {
    fn into_batches(self) -> Result<Vec<RecordBatch>> {
        let mut frame = self.clone();
        let chunks = || Ok(frame.align_chunks().iter_chunks(CompatLevel::oldest(), false).collect::<Vec<_>>());
        fenced("*", chunks)?.into_iter().map(to_rows).collect()
    }
}

impl Rows {
    /// Converts the rows to a data frame of Polars. No value is copied.
    ///
    /// # Errors
    /// [`Error::DataFrame`] for a column of a type that Polars does not have.
    pub fn to_data_frame(&self) -> Result<DataFrame> {
        data_frame(self.schema(), self.batches().iter())
    }
}

impl Increment {
    /// Converts the samples to process, new and then stale, to a data frame of Polars.
    ///
    /// # Errors
    /// The errors of [`Rows::to_data_frame`].
    pub fn to_process_frame(&self) -> Result<DataFrame> {
        data_frame(self.new.schema(), self.to_process())
    }
}

fn data_frame<'a>(schema: &Schema, batches: impl Iterator<Item = &'a RecordBatch>) -> Result<DataFrame> {
    let batches: Vec<&RecordBatch> = batches.collect();
    let height = batches.iter().map(|batch| batch.num_rows()).sum();
    let columns = schema.fields().iter().enumerate().map(|(index, field)| {
        let chunks = batches.iter().map(|batch| batch.column(index));
        fenced(field.name(), || to_column(field, chunks.map(to_polars).collect::<Result<_, _>>()?))
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    fenced("*", || Ok(DataFrame::new(height, columns)?))
}

fn to_column(field: &Field, chunks: Vec<PolarsArray>) -> Result<Column, BoxError> {
    let chunks = if chunks.is_empty() { vec![to_polars(&new_empty_array(field.data_type()))?] } else { chunks };
    Ok(Series::from_arrow_chunks(field.name().into(), chunks)?.into())
}

fn to_rows(batch: polars_arrow::record_batch::RecordBatch) -> Result<RecordBatch> {
    let columns = batch.schema().iter_values().zip(batch.arrays());
    let columns = columns.map(|(field, array)| fenced(&field.name, || from_polars(field, array)));
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.height()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
}

/// Converts an array into one of Polars.
fn to_polars(array: &ArrayRef) -> Result<PolarsArray, BoxError> {
    let (array, schema) = arrow::ffi::to_ffi(&array.to_data())?;
    // SAFETY: both types are `#[repr(C)]` and follow the C Data Interface field by field; `transmute` checks that their
    // sizes agree, and moving the value moves the duty to release it.
    let (array, schema) = unsafe {
        (
            transmute::<FFI_ArrowArray, theirs::ArrowArray>(array),
            transmute::<FFI_ArrowSchema, theirs::ArrowSchema>(schema),
        )
    };
    // SAFETY: the schema was exported just above and has not been released.
    let field = unsafe { theirs::import_field_from_c(&schema) }?;
    // SAFETY: the array was exported together with the schema, and has not been released.
    Ok(unsafe { theirs::import_array_from_c(array, field.dtype) }?)
}

/// Converts an array of Polars, with its field.
fn from_polars(field: &PolarsField, array: &PolarsArray) -> Result<(Field, ArrayRef), BoxError> {
    let (schema, array) = (theirs::export_field_to_c(field), theirs::export_array_to_c(array.clone()));
    // SAFETY: as in `to_polars`, the other way round.
    let (array, schema) = unsafe {
        (
            transmute::<theirs::ArrowArray, FFI_ArrowArray>(array),
            transmute::<theirs::ArrowSchema, FFI_ArrowSchema>(schema),
        )
    };
    // SAFETY: as in `to_polars`.
    let data = unsafe { arrow::ffi::from_ffi(array, &schema) }?;
    // Metadata of Polars' own types means nothing to others.
    let field = Field::new(field.name.as_str(), data.data_type().clone(), true);
    Ok((field, make_array(data)))
}

/// Runs a part of a conversion. Polars panics on some types that it does not have.
fn fenced<T>(column: &str, convert: impl FnOnce() -> Result<T, BoxError>) -> Result<T> {
    let converted = fence::catch(convert).unwrap_or_else(|panic| Err(panic.into()));
    converted.map_err(|source| Error::DataFrame { column: column.to_owned(), source })
}
