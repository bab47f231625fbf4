//! Rows as plain Rust structs, by `serde`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_arrow::schema::{SchemaLike, TracingOptions};

use crate::columns;
use crate::error::{Error, Result};
use crate::key::IntoFeatureKey;

use super::{Increment, IntoBatches, MetadataStore, Rows, WriteRequest};

/// Structs that are written as rows: each field of the struct is a column.
#[derive(Clone, Debug)]
#[must_use = "structs are not written until they are passed to a store"]
pub struct StructRows<'a, T> {
    rows: &'a [T],
    versions: Versions,
}

/// The versions of a root's fields.
#[derive(Clone, Debug)]
enum Versions {
    /// Contained in the structs, or added by the write.
    Given,
    /// By field, one text for each row.
    Texts(BTreeMap<String, Vec<Option<String>>>),
    /// By field, the column that has them.
    Columns(BTreeMap<String, String>),
}

/// Wraps structs as rows, so that the versions of their fields can be given.
pub fn structs<T>(rows: &[T]) -> StructRows<'_, T> {
    StructRows { rows, versions: Versions::Given }
}

impl<'a, T> StructRows<'a, T> {
    /// Sets the versions of each struct's fields: pairs of field and version.
    pub fn versions<F, V, I>(mut self, of: impl Fn(&'a T) -> I) -> Self
    where
        F: AsRef<str>,
        V: Display,
        I: IntoIterator<Item = (F, V)>,
    {
        let mut texts: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
        for (index, row) in self.rows.iter().enumerate() {
            for (field, version) in of(row) {
                let values = texts.entry(field.as_ref().to_owned()).or_default();
                values.resize(index, None);
                values.push(Some(version.to_string()));
            }
        }
        texts.values_mut().for_each(|values| values.resize(self.rows.len(), None));
        self.versions = Versions::Texts(texts);
        self
    }

    /// Sets the columns that hold the versions: pairs of a field of the feature and a field of the struct.
    pub fn versions_in<F: Into<String>, C: Into<String>>(mut self, pairs: impl IntoIterator<Item = (F, C)>) -> Self {
        let pairs = pairs.into_iter().map(|(field, column)| (field.into(), column.into()));
        self.versions = Versions::Columns(pairs.collect());
        self
    }
}

impl<'a, T> From<&'a [T]> for StructRows<'a, T> {
    fn from(rows: &'a [T]) -> Self {
        structs(rows)
    }
}

impl<'a, T> From<&'a Vec<T>> for StructRows<'a, T> {
    fn from(rows: &'a Vec<T>) -> Self {
        structs(rows)
    }
}

impl<'a, T, const N: usize> From<&'a [T; N]> for StructRows<'a, T> {
    fn from(rows: &'a [T; N]) -> Self {
        structs(rows)
    }
}

impl<T: Serialize> IntoBatches for StructRows<'_, T> {
    fn into_batches(self) -> Result<Vec<RecordBatch>> {
        if self.rows.is_empty() {
            return Ok(Vec::new());
        }
        let options = TracingOptions::default()
            .allow_null_fields(true)
            .strings_as_large_utf8(false)
            .sequence_as_large_list(false);
        let fields = Vec::<FieldRef>::from_samples(self.rows, options).map_err(misfit)?;
        let fields: Vec<FieldRef> =
            fields.iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true))).collect();
        let batch = serde_arrow::to_record_batch(&fields, &self.rows).map_err(misfit)?;
        Ok(vec![with_versions(batch, self.versions)?])
    }
}

fn with_versions(batch: RecordBatch, versions: Versions) -> Result<RecordBatch> {
    let texts: Vec<(String, ArrayRef)> = match versions {
        Versions::Given => return Ok(batch),
        Versions::Texts(texts) => {
            let array = |values: Vec<Option<String>>| Arc::new(StringArray::from(values)) as ArrayRef;
            texts.into_iter().map(|(field, values)| (field, array(values))).collect()
        }
        Versions::Columns(pairs) => {
            let text = |(field, column): (String, String)| -> Result<(String, ArrayRef)> {
                let values = batch.column(batch.schema_ref().index_of(&column)?);
                Ok((field, cast(values, &DataType::Utf8)?))
            };
            pairs.into_iter().map(text).collect::<Result<_>>()?
        }
    };
    columns::with_column(&batch, columns::PROVENANCE_BY_FIELD, columns::by_field(texts)?)
}

impl MetadataStore {
    /// Writes structs as rows of a feature: `&videos`, or [`structs`]`(&videos)` with the versions of a root's fields.
    /// Results of an increment get their versions by [`made_from`](WriteRequest::made_from).
    ///
    /// # Errors
    /// The errors of [`MetadataStore::write`]; [`Error::Structs`] if the structs cannot be converted to rows.
    pub fn write_rows<'a, T: Serialize + 'a>(
        &self,
        feature: impl IntoFeatureKey,
        rows: impl Into<StructRows<'a, T>>,
    ) -> WriteRequest {
        self.write(feature, rows.into())
    }
}

impl Rows {
    /// Converts the rows to structs. Columns without a field in the struct are left out.
    ///
    /// # Errors
    /// [`Error::Structs`] if a row cannot be converted to the struct.
    pub fn to_structs<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        structs_of(self.batches().iter())
    }
}

impl Increment {
    /// Converts the samples to process, new and then stale, to structs.
    ///
    /// # Errors
    /// The errors of [`Rows::to_structs`].
    pub fn to_process_as<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        structs_of(self.to_process())
    }
}

fn structs_of<'a, T: DeserializeOwned>(batches: impl Iterator<Item = &'a RecordBatch>) -> Result<Vec<T>> {
    let mut structs = Vec::new();
    for batch in batches {
        structs.extend(serde_arrow::from_record_batch::<Vec<T>>(batch).map_err(misfit)?);
    }
    Ok(structs)
}

fn misfit(error: serde_arrow::Error) -> Error {
    Error::Structs { source: error.into() }
}
