//! The table of pushed definitions: its columns, and its rows as values.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use futures::TryStreamExt;

use crate::columns::{FEATURE_VERSION, PROJECT_VERSION};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::key::FeatureKey;
use crate::store::{MetadataStore, SYSTEM_PREFIX};

use super::record::{PushedDefinition, time_text};

pub(super) const PROJECT: &str = "project";
pub(super) const FEATURE: &str = "feature_key";
const DEFINITION_VERSION: &str = "metaxy_definition_version";
const RECORDED_AT: &str = "recorded_at";
const SPEC: &str = "feature_spec";
const SCHEMA: &str = "feature_schema";
const CLASS_PATH: &str = "feature_class_path";
const TAGS: &str = "tags";
const DELETED_AT: &str = "deleted_at";

/// Returns the key of the table.
pub(super) fn key() -> &'static FeatureKey {
    static KEY: LazyLock<FeatureKey> = LazyLock::new(|| {
        FeatureKey::from_parts([SYSTEM_PREFIX, "feature_versions"]).unwrap_or_else(|_| unreachable!("it is a key"))
    });
    &KEY
}

/// What identifies a row: of several rows of a feature the greatest counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) recorded_at: i64,
    pub(super) project: String,
    pub(super) project_version: String,
    pub(super) feature: String,
    pub(super) definition_version: String,
}

impl PushedDefinition {
    pub(super) fn entry(&self) -> Entry {
        Entry {
            recorded_at: self.recorded_at,
            project: self.project.clone(),
            project_version: self.project_version.clone(),
            feature: self.feature.to_string(),
            definition_version: self.definition_version.clone(),
        }
    }
}

/// Reads what identifies the rows, in no particular order.
pub(super) async fn entries(store: &MetadataStore, filter: Option<&Filter>) -> Result<Vec<Entry>> {
    let columns = [PROJECT, FEATURE, DEFINITION_VERSION, PROJECT_VERSION, RECORDED_AT];
    let mut batches = store.read_system_table(key(), &columns, &[], filter).await?;
    let mut entries = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        let rows = Rows(&batch);
        let [projects, features, definitions, versions] =
            [rows.texts(PROJECT)?, rows.texts(FEATURE)?, rows.texts(DEFINITION_VERSION)?, rows.texts(PROJECT_VERSION)?];
        let times = rows.times(RECORDED_AT)?;
        for row in 0..batch.num_rows() {
            entries.push(Entry {
                recorded_at: required_time(&times, row)?,
                project: required(&projects, row, PROJECT)?,
                project_version: required(&versions, row, PROJECT_VERSION)?,
                feature: required(&features, row, FEATURE)?,
                definition_version: required(&definitions, row, DEFINITION_VERSION)?,
            });
        }
    }
    Ok(entries)
}

/// Reads whole rows, in no particular order.
pub(super) async fn definitions(store: &MetadataStore, filter: Option<&Filter>) -> Result<Vec<PushedDefinition>> {
    let columns = [PROJECT, FEATURE, FEATURE_VERSION, DEFINITION_VERSION, PROJECT_VERSION, RECORDED_AT, SPEC, SCHEMA];
    let mut batches = store.read_system_table(key(), &columns, &[CLASS_PATH, TAGS, DELETED_AT], filter).await?;
    let mut all = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        all.extend(definitions_in(&batch)?);
    }
    Ok(all)
}

fn definitions_in(batch: &RecordBatch) -> Result<Vec<PushedDefinition>> {
    let rows = Rows(batch);
    let [projects, features, versions, definitions, project_versions, specs, schemas] = [
        rows.texts(PROJECT)?,
        rows.texts(FEATURE)?,
        rows.texts(FEATURE_VERSION)?,
        rows.texts(DEFINITION_VERSION)?,
        rows.texts(PROJECT_VERSION)?,
        rows.texts(SPEC)?,
        rows.texts(SCHEMA)?,
    ];
    let [class_paths, tags] = [rows.texts(CLASS_PATH)?, rows.texts(TAGS)?];
    let [recorded, deleted] = [rows.times(RECORDED_AT)?, rows.times(DELETED_AT)?];
    let definition = |row| {
        let (project, recorded_at) = (required(&projects, row, PROJECT)?, required_time(&recorded, row)?);
        Ok(PushedDefinition {
            feature: feature_key(required(&features, row, FEATURE)?, &project, recorded_at)?,
            project,
            feature_version: required(&versions, row, FEATURE_VERSION)?,
            definition_version: required(&definitions, row, DEFINITION_VERSION)?,
            project_version: required(&project_versions, row, PROJECT_VERSION)?,
            recorded_at,
            spec_json: required(&specs, row, SPEC)?,
            schema_json: required(&schemas, row, SCHEMA)?,
            class_path: optional(&class_paths, row),
            tags_json: optional(&tags, row),
            deleted_at: deleted.is_valid(row).then(|| deleted.value(row)),
        })
    };
    (0..batch.num_rows()).map(definition).collect()
}

fn feature_key(text: String, project: &str, recorded_at: i64) -> Result<FeatureKey> {
    text.parse().map_err(|error: crate::key::InvalidKey| Error::UnusableDefinition {
        project: project.to_owned(),
        recorded_at: time_text(recorded_at),
        reason: format!("{error}; remove the row"),
        source: None,
        feature: text,
    })
}

/// Appends definitions, all or none.
pub(super) async fn append(store: &MetadataStore, definitions: &[PushedDefinition]) -> Result<()> {
    store.append_to_system_table(key(), batch_of(definitions)?, "push").await
}

/// Returns definitions as rows, with the columns that the Python package writes, in its order.
fn batch_of(definitions: &[PushedDefinition]) -> Result<RecordBatch> {
    type Text = fn(&PushedDefinition) -> Option<String>;
    let texts = |text: Text| -> ArrayRef { Arc::new(definitions.iter().map(text).collect::<StringArray>()) };
    let recorded = TimestampMicrosecondArray::from_iter_values(definitions.iter().map(|row| row.recorded_at));
    let columns: [(&str, ArrayRef); 11] = [
        (PROJECT, texts(|row| Some(row.project.clone()))),
        (FEATURE, texts(|row| Some(row.feature.to_string()))),
        (FEATURE_VERSION, texts(|row| Some(row.feature_version.clone()))),
        (DEFINITION_VERSION, texts(|row| Some(row.definition_version.clone()))),
        (RECORDED_AT, Arc::new(recorded)),
        (SPEC, texts(|row| Some(row.spec_json.clone()))),
        (SCHEMA, texts(|row| Some(row.schema_json.clone()))),
        (CLASS_PATH, texts(|row| row.class_path.clone())),
        (PROJECT_VERSION, texts(|row| Some(row.project_version.clone()))),
        (TAGS, texts(|row| row.tags_json.clone())),
        (DELETED_AT, new_null_array(&time_type(), definitions.len())),
    ];
    let field = |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    Ok(RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, array)| array).collect())?)
}

/// Returns the type of the times: microseconds, without a zone.
fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// The rows of a batch, by column.
struct Rows<'a>(&'a RecordBatch);

impl Rows<'_> {
    /// Returns the texts of a column; nulls if there is no such column.
    fn texts(&self, name: &str) -> Result<StringArray> {
        Ok(self.cast(name, &DataType::Utf8)?.as_string::<i32>().clone())
    }

    /// Returns the times of a column in microseconds; nulls if there is no such column.
    fn times(&self, name: &str) -> Result<Int64Array> {
        let zone = match self.0.column_by_name(name).map(|array| array.data_type()) {
            Some(DataType::Timestamp(_, zone)) => zone.clone(),
            _ => None,
        };
        let micros = self.cast(name, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
        Ok(cast(&micros, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    }

    fn cast(&self, name: &str, to: &DataType) -> Result<ArrayRef> {
        let Some(array) = self.0.column_by_name(name) else { return Ok(new_null_array(to, self.0.num_rows())) };
        let unfit = |error| {
            let reason =
                format!("its column `{name}` has the type {}; drop the table, and push again", array.data_type());
            Error::corrupt(key().table_name(), reason).with_source(error)
        };
        if array.data_type() == to { Ok(array.clone()) } else { cast(array, to).map_err(unfit) }
    }
}

fn optional(texts: &StringArray, row: usize) -> Option<String> {
    texts.is_valid(row).then(|| texts.value(row).to_owned())
}

fn required(texts: &StringArray, row: usize, column: &str) -> Result<String> {
    optional(texts, row).ok_or_else(|| missing(column))
}

fn required_time(times: &Int64Array, row: usize) -> Result<i64> {
    if times.is_valid(row) { Ok(times.value(row)) } else { Err(missing(RECORDED_AT)) }
}

fn missing(column: &str) -> Error {
    Error::corrupt(key().table_name(), format!("a row has no value in `{column}`; remove the row"))
}
