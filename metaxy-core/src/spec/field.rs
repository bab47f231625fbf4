//! Definitions of fields.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::deferred::Deferred;
use crate::key::{FeatureKey, FieldKey, IntoFeatureKey, IntoFieldKey, InvalidKey};

use super::json;

/// The code version of a field that has none.
pub const INITIAL_CODE_VERSION: &str = "__metaxy_initial__";

/// The definition of a field. An invalid key is reported when the feature is built.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldSpec {
    #[serde(serialize_with = "json::serialize_key")]
    pub(super) key: Deferred<FieldKey, InvalidKey>,
    /// The code version. Everything made from the field becomes stale when it changes.
    pub code_version: String,
    /// The upstream fields.
    pub deps: FieldDeps,
}

/// The upstream fields of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldDeps {
    /// Every field of every upstream feature.
    All,
    /// These fields; if the list is empty, those that the [`FieldsMapping`](super::FieldsMapping) of each dependency
    /// assigns.
    Listed(Vec<FieldDep>),
}

impl Default for FieldDeps {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

/// Fields of one upstream feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldDep {
    /// The upstream feature.
    pub feature: FeatureKey,
    /// Its fields.
    #[serde(default)]
    pub fields: FieldSelection,
}

/// A selection of the fields of a feature.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum FieldSelection {
    /// All fields.
    #[default]
    All,
    /// These fields.
    Only(Vec<FieldKey>),
}

impl FieldSpec {
    /// Returns a field with the initial code version, made from the fields that the dependencies' mappings assign.
    pub fn new(key: impl IntoFieldKey) -> Self {
        let key = Deferred::new(key.into_field_key());
        Self { key, code_version: INITIAL_CODE_VERSION.to_owned(), deps: FieldDeps::default() }
    }

    /// Returns the key. An invalid key reads as `invalid`; no validated feature has one.
    pub fn key(&self) -> &FieldKey {
        static INVALID: LazyLock<FieldKey> =
            LazyLock::new(|| FieldKey::from_parts(["invalid"]).unwrap_or_else(|_| unreachable!()));
        self.key.get().unwrap_or(&INVALID)
    }

    /// Sets the code version, which has to change when the code that makes the field changes.
    #[must_use]
    pub fn code_version(mut self, version: impl Into<String>) -> Self {
        self.code_version = version.into();
        self
    }

    /// Adds fields of an upstream feature from which the field is made.
    #[must_use]
    pub fn depends_on<F: IntoFieldKey>(
        self,
        feature: impl IntoFeatureKey,
        fields: impl IntoIterator<Item = F>,
    ) -> Self {
        let fields = fields.into_iter().map(IntoFieldKey::into_field_key).collect::<Result<Vec<_>, _>>();
        let dep = |feature| fields.map(|fields| FieldDep { feature, fields: FieldSelection::Only(fields) });
        self.depends(feature.into_feature_key().and_then(dep))
    }

    /// Adds every field of an upstream feature.
    #[must_use]
    pub fn depends_on_all_of(self, feature: impl IntoFeatureKey) -> Self {
        let dep = |feature| FieldDep { feature, fields: FieldSelection::All };
        self.depends(feature.into_feature_key().map(dep))
    }

    /// Makes the field depend on every field of every upstream feature.
    #[must_use]
    pub fn depends_on_everything(mut self) -> Self {
        self.deps = FieldDeps::All;
        self
    }

    fn depends(mut self, dep: Result<FieldDep, InvalidKey>) -> Self {
        let deps = &mut self.deps;
        self.key.add(dep, |_, dep| match deps {
            FieldDeps::All => *deps = FieldDeps::Listed(vec![dep]),
            FieldDeps::Listed(listed) => listed.push(dep),
        });
        self
    }
}

impl From<&str> for FieldSpec {
    fn from(key: &str) -> Self {
        Self::new(key)
    }
}

impl From<String> for FieldSpec {
    fn from(key: String) -> Self {
        Self::new(key)
    }
}

impl From<FieldKey> for FieldSpec {
    fn from(key: FieldKey) -> Self {
        Self::new(key)
    }
}
