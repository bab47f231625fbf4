//! One pushed definition.

use chrono::DateTime;
use serde_json::{Map, Value};

use crate::error::{BoxError, Error, Result};
use crate::key::FeatureKey;
use crate::spec::FeatureSpec;

/// The definition of a feature as a push has recorded it: a row of the table.
///
/// Its JSON is kept as text, so that a row that cannot be read is still listed; [`spec`](Self::spec),
/// [`schema`](Self::schema) and [`tags`](Self::tags) read it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushedDefinition {
    /// The project that the feature belongs to.
    pub project: String,
    /// The feature.
    pub feature: FeatureKey,
    /// The version of the feature.
    pub feature_version: String,
    /// The version of its definition and schema.
    pub definition_version: String,
    /// The version of the project at the time of the push.
    pub project_version: String,
    /// The time of the push, in microseconds since 1970-01-01 UTC.
    pub recorded_at: i64,
    /// The definition, as JSON.
    pub spec_json: String,
    /// The schema of the user's columns, as JSON.
    pub schema_json: String,
    /// The class that defines the feature in Python, such as `films.features.Video`.
    pub class_path: Option<String>,
    /// What the push was tagged with, as JSON.
    pub tags_json: Option<String>,
    /// The time in the column `deleted_at`, which no program sets; in microseconds since 1970-01-01 UTC.
    pub deleted_at: Option<i64>,
}

impl PushedDefinition {
    /// Returns the definition.
    ///
    /// # Errors
    /// [`Error::UnusableDefinition`] if its JSON is not a valid definition of this feature.
    pub fn spec(&self) -> Result<FeatureSpec> {
        let spec = FeatureSpec::from_json(&self.spec_json).map_err(|error| {
            self.unusable("its `feature_spec` is not a definition; correct it and push again", Some(error.into()))
        })?;
        if spec.key == self.feature {
            return Ok(spec);
        }
        Err(self.unusable(format!("its `feature_spec` defines `{}`; push the feature again", spec.key), None))
    }

    /// Returns the JSON schema of the user's columns.
    ///
    /// # Errors
    /// [`Error::UnusableDefinition`] if it is not JSON.
    pub fn schema(&self) -> Result<Value> {
        let schema = serde_json::from_str(&self.schema_json);
        schema.map_err(|error| self.unusable("its `feature_schema` is not JSON; push it again", Some(error.into())))
    }

    /// Returns what the push was tagged with; `metaxy` is the version of the package that has pushed.
    ///
    /// # Errors
    /// [`Error::UnusableDefinition`] if it is not a JSON object.
    pub fn tags(&self) -> Result<Map<String, Value>> {
        let Some(tags) = &self.tags_json else { return Ok(Map::new()) };
        serde_json::from_str(tags)
            .map_err(|error| self.unusable("its `tags` are not a JSON object; push it again", Some(error.into())))
    }

    /// Returns the time of the push as text, such as `2026-03-01 12:00:00.123456`.
    pub fn recorded_at_text(&self) -> String {
        time_text(self.recorded_at)
    }

    /// Returns the error of a row that cannot be used.
    pub(super) fn unusable(&self, reason: impl Into<String>, source: Option<BoxError>) -> Error {
        let reason = match &source {
            Some(source) => format!("{}: {source}", reason.into()),
            None => reason.into(),
        };
        Error::UnusableDefinition {
            feature: self.feature.to_string(),
            project: self.project.clone(),
            recorded_at: self.recorded_at_text(),
            reason,
            source,
        }
    }
}

/// Returns a time in microseconds as text, in UTC.
pub(super) fn time_text(micros: i64) -> String {
    match DateTime::from_timestamp_micros(micros) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
        None => format!("{micros} µs after 1970"),
    }
}
