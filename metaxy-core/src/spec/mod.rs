//! Definitions of features: what identifies a sample, the fields, and what each field is made from.
//!
//! The serde form is the JSON that the system table stores and that the Python package writes.

mod check;
mod dep;
mod fault;
mod field;
mod json;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::canonical_json;
use crate::deferred::Deferred;
use crate::error::{Error, Result};
use crate::hash::definition_hash;
use crate::key::{FeatureKey, FieldKey, IntoFeatureKey, InvalidKey};

pub(crate) use fault::{Fault, Step};

pub use dep::{FeatureDep, FieldsMapping, IntoFeatureDep, Lineage};
pub use field::{FieldDep, FieldDeps, FieldSelection, FieldSpec, INITIAL_CODE_VERSION};

/// The definition of a feature.
///
/// ```
/// use metaxy_core::{FeatureSpec, FieldSpec};
/// let spec = FeatureSpec::builder("processed/transcript")
///     .id_columns(["video_id"])
///     .dep("raw/video")
///     .field(FieldSpec::new("text").code_version("2").depends_on("raw/video", ["audio"]))
///     .build()?;
/// assert_eq!(spec.key.table_name(), "processed__transcript");
/// # Ok::<(), metaxy_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureSpec {
    /// The key.
    pub key: FeatureKey,
    /// The columns that identify a sample, at least one.
    pub id_columns: Vec<String>,
    /// The dependencies on upstream features; none for a root.
    #[serde(default)]
    pub deps: Vec<FeatureDep>,
    /// The fields, at least one, with unique keys.
    #[serde(default = "default_fields")]
    pub fields: Vec<FieldSpec>,
    /// Metadata of the user. It is part of the spec version, not of the feature version.
    #[serde(default)]
    pub metadata: serde_json::Map<String, Value>,
    /// A description for people.
    #[serde(default)]
    pub description: Option<String>,
}

fn default_fields() -> Vec<FieldSpec> {
    vec![FieldSpec::new("default")]
}

impl FeatureSpec {
    /// Returns a builder for the definition of a feature.
    pub fn builder(key: impl IntoFeatureKey) -> FeatureSpecBuilder {
        let spec = |key| Self {
            key,
            id_columns: Vec::new(),
            deps: Vec::new(),
            fields: Vec::new(),
            metadata: serde_json::Map::new(),
            description: None,
        };
        FeatureSpecBuilder { spec: Deferred::new(key.into_feature_key().map(spec)) }
    }

    /// Reads a definition from its JSON form, and validates it.
    ///
    /// # Errors
    /// [`Error::InvalidSpec`] if the text is not a definition, and the errors of [`FeatureSpec::validate`].
    pub fn from_json(json: &str) -> Result<Self> {
        let spec: Self = serde_json::from_str(json).map_err(|error| {
            let key =
                serde_json::from_str::<Value>(json).ok().and_then(|value| Some(value["key"].as_str()?.to_owned()));
            Error::InvalidSpec { feature: key.unwrap_or_default(), reason: format!("its JSON cannot be read: {error}") }
        })?;
        spec.validate()?;
        Ok(spec)
    }

    /// Returns the JSON form with sorted keys, from which the spec version is hashed.
    pub fn to_json(&self) -> String {
        canonical_json::to_string(&serde_json::to_value(self).unwrap_or_default())
    }

    /// Returns the JSON form that a push stores: the same text as the Python package's, with keys in their order.
    pub fn to_pushed_json(&self) -> String {
        canonical_json::to_string_in_order(&serde_json::to_value(self).unwrap_or_default())
    }

    /// Returns the version of the whole definition, metadata and description included.
    pub fn spec_version(&self, truncation: usize) -> String {
        definition_hash([self.to_json().as_str()], truncation).to_string()
    }

    /// Returns the version of the code: of the keys and code versions of the fields, without anything upstream.
    pub fn code_version(&self, truncation: usize) -> String {
        let fields: BTreeMap<String, &FieldSpec> =
            self.fields.iter().map(|field| (field.key().to_string(), field)).collect();
        let parts = fields.iter().flat_map(|(key, field)| [key.as_str(), field.code_version.as_str()]);
        definition_hash(parts, truncation).to_string()
    }

    /// Returns whether the feature has no dependencies.
    pub fn is_root(&self) -> bool {
        self.deps.is_empty()
    }

    /// Returns the field of a key.
    pub fn field(&self, key: &FieldKey) -> Option<&FieldSpec> {
        self.fields.iter().find(|field| field.key() == key)
    }

    /// Returns the names of the fields inside by-field columns, sorted.
    pub fn struct_keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.fields.iter().map(|field| field.key().struct_key()).collect();
        keys.sort();
        keys
    }
}

/// Builds a [`FeatureSpec`]. An error of any part is returned by [`build`](Self::build).
#[derive(Debug)]
pub struct FeatureSpecBuilder {
    spec: Deferred<FeatureSpec>,
}

impl FeatureSpecBuilder {
    /// Adds columns that identify a sample.
    #[must_use]
    pub fn id_columns<S: AsRef<str>>(self, columns: impl IntoIterator<Item = S>) -> Self {
        self.change(|spec| spec.id_columns.extend(columns.into_iter().map(|column| column.as_ref().to_owned())))
    }

    /// Adds a dependency: a key, or a [`FeatureDep`] with settings.
    #[must_use]
    pub fn dep(self, dep: impl IntoFeatureDep) -> Self {
        self.change(|spec| spec.deps.push(dep.into_feature_dep()))
    }

    /// Adds several dependencies.
    #[must_use]
    pub fn deps<D: IntoFeatureDep>(self, deps: impl IntoIterator<Item = D>) -> Self {
        deps.into_iter().fold(self, Self::dep)
    }

    /// Adds a field: a key, or a [`FieldSpec`]. If none is added, the feature has one field, `default`.
    #[must_use]
    pub fn field(self, field: impl Into<FieldSpec>) -> Self {
        self.change(|spec| spec.fields.push(field.into()))
    }

    /// Adds several fields.
    #[must_use]
    pub fn fields<F: Into<FieldSpec>>(self, fields: impl IntoIterator<Item = F>) -> Self {
        fields.into_iter().fold(self, Self::field)
    }

    /// Adds an entry to the metadata.
    #[must_use]
    pub fn metadata(self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.change(|spec| drop(spec.metadata.insert(key.into(), value.into())))
    }

    /// Sets the description for people.
    #[must_use]
    pub fn description(self, text: impl Into<String>) -> Self {
        self.change(|spec| spec.description = Some(text.into()))
    }

    /// Validates the definition, and returns it.
    ///
    /// # Errors
    /// [`Error::InvalidKey`], and the errors of [`FeatureSpec::validate`].
    pub fn build(self) -> Result<FeatureSpec> {
        let mut spec = self.spec.finish()?;
        if spec.fields.is_empty() {
            spec.fields = default_fields();
        }
        spec.validate()?;
        Ok(spec)
    }

    fn change(mut self, change: impl FnOnce(&mut FeatureSpec)) -> Self {
        self.spec.change(change);
        self
    }
}

impl IntoFeatureKey for &FeatureSpec {
    fn into_feature_key(self) -> Result<FeatureKey, InvalidKey> {
        Ok(self.key.clone())
    }
}
