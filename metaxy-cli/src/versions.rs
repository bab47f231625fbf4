//! Versions of the fields of a root, from columns of its files.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use metaxy_core::columns::{self, DATA_VERSION_BY_FIELD, PROVENANCE_BY_FIELD};
use metaxy_core::{Error, FeatureSpec, IntoFieldKey};
use serde_json::{Map, Value};

use crate::failure::{Failure, Result};

/// The columns from which the version of a field is made: `frames=etag+size`.
#[derive(Clone, Debug)]
pub struct FieldVersion {
    field: String,
    columns: Vec<String>,
}

impl FromStr for FieldVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not FIELD=COLUMN, or FIELD=COLUMN+COLUMN");
        let (field, columns) = text.split_once('=').ok_or_else(wrong)?;
        let columns: Vec<String> = columns.split('+').map(|column| column.trim().to_owned()).collect();
        if field.trim().is_empty() || columns.iter().any(String::is_empty) {
            return Err(wrong());
        }
        Ok(Self { field: field.trim().to_owned(), columns })
    }
}

/// How the rows of files become rows of a feature.
#[derive(Clone, Debug)]
pub struct Completion {
    spec: Arc<FeatureSpec>,
    /// The columns of each field, by its struct key.
    versions: Vec<(String, Vec<String>)>,
}

impl Completion {
    /// Returns how rows of a feature are completed: with versions from columns, if any are given.
    pub fn new(spec: &Arc<FeatureSpec>, given: &[FieldVersion]) -> Result<Self> {
        let mut versions = Vec::new();
        for FieldVersion { field, columns } in given {
            let key = field.as_str().into_field_key().map_err(Error::from)?;
            if spec.field(&key).is_none() {
                return Err(Failure::usage(format!(
                    "`--version {field}=`: feature `{}` has no field `{field}`; its fields: {}",
                    spec.key,
                    fields(spec)
                )));
            }
            versions.push((key.struct_key(), columns.clone()));
        }
        let left = spec.fields.iter().find(|field| versions.iter().all(|(key, _)| *key != field.key().struct_key()));
        match left {
            Some(field) if !given.is_empty() => Err(Failure::usage(format!(
                "`--version` gives the field `{}` of `{}` no version; name a column for each of {}",
                field.key(),
                spec.key,
                fields(spec)
            ))),
            _ => Ok(Self { spec: spec.clone(), versions }),
        }
    }

    /// Returns the columns from which versions are made.
    pub fn columns(&self) -> Vec<String> {
        self.versions.iter().flat_map(|(_, columns)| columns.clone()).collect()
    }

    /// Returns whether versions are made from columns.
    pub fn makes_versions(&self) -> bool {
        !self.versions.is_empty()
    }

    /// Completes rows.
    pub fn apply(&self, batch: RecordBatch) -> Result<RecordBatch, Error> {
        let mut batch = batch;
        for name in [PROVENANCE_BY_FIELD, DATA_VERSION_BY_FIELD] {
            let text = batch.column_by_name(name).filter(|array| *array.data_type() == DataType::Utf8);
            if let Some(values) = text.map(|array| self.parsed(name, array)).transpose()? {
                batch = columns::with_column(&batch, name, values)?;
            }
        }
        if self.versions.is_empty() {
            return Ok(batch);
        }
        let made = self.versions.iter().map(|(key, names)| Ok((key, self.joined(&batch, names)?)));
        let made = made.collect::<Result<Vec<_>, Error>>()?;
        columns::with_column(&batch, PROVENANCE_BY_FIELD, columns::by_field(made)?)
    }

    /// Returns the values of columns as texts, joined by `|`.
    fn joined(&self, batch: &RecordBatch, names: &[String]) -> Result<ArrayRef, Error> {
        let texts = names.iter().map(|name| self.texts(batch, name)).collect::<Result<Vec<_>, Error>>()?;
        let joined = (0..batch.num_rows()).map(|row| {
            let values: Vec<&str> = texts.iter().map(|texts| texts.value(row)).collect();
            Some(values.join("|"))
        });
        Ok(Arc::new(StringArray::from_iter(joined)))
    }

    fn texts(&self, batch: &RecordBatch, name: &str) -> Result<StringArray, Error> {
        let Some(array) = batch.column_by_name(name) else {
            return Err(Error::MissingColumn {
                feature: self.spec.key.clone(),
                column: name.to_owned(),
                context: "the file, which `--version` names".to_owned(),
                available: batch.schema().fields().iter().map(|field| field.name().clone()).collect(),
            });
        };
        let texts = cast(array, &DataType::Utf8)?;
        match (0..texts.len()).find(|row| texts.is_null(*row)) {
            None => Ok(texts.as_string::<i32>().clone()),
            Some(row) => {
                Err(self.invalid(name, format!("row {row} of a batch has no value to be a version; give it one")))
            }
        }
    }

    /// Parses by-field values that a CSV file holds as JSON.
    fn parsed(&self, name: &str, array: &ArrayRef) -> Result<ArrayRef, Error> {
        let objects = array.as_string::<i32>().iter().map(|text| match text {
            Some(text) => serde_json::from_str::<Map<String, Value>>(text)
                .map_err(|error| self.invalid(name, format!("`{text}` is not a JSON object of texts: {error}"))),
            None => Ok(Map::new()),
        });
        let objects = objects.collect::<Result<Vec<_>, Error>>()?;
        let of_key = |key: String| {
            let values = objects.iter().map(|object| object.get(&key).and_then(Value::as_str));
            let values: ArrayRef = Arc::new(StringArray::from_iter(values));
            (key, values)
        };
        columns::by_field(self.spec.struct_keys().into_iter().map(of_key))
    }

    fn invalid(&self, column: &str, reason: String) -> Error {
        Error::InvalidColumn { feature: self.spec.key.clone(), column: column.to_owned(), reason }
    }
}

fn fields(spec: &FeatureSpec) -> String {
    spec.fields.iter().map(|field| field.key().to_string()).collect::<Vec<_>>().join(", ")
}
