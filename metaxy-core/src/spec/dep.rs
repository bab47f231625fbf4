//! Dependencies on upstream features.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use indexmap::IndexMap;
use serde::Serialize;

use crate::deferred::Deferred;
use crate::error::Result;
use crate::filter::{Filter, IntoFilter};
use crate::key::{FeatureKey, FieldKey, IntoFeatureKey, InvalidKey};

use super::json;

/// A dependency on another feature. An invalid key is reported when the feature is built.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureDep {
    #[serde(serialize_with = "json::serialize_key")]
    pub(super) feature: Deferred<FeatureKey, InvalidKey>,
    /// The selected columns, by their new names; `None` selects all, an empty list only those that are needed.
    pub select: Option<Vec<String>>,
    /// New names by old ones. Everything else names columns by their new names.
    pub rename: Option<IndexMap<String, String>>,
    /// The upstream fields of the fields that do not list theirs.
    pub fields_mapping: FieldsMapping,
    /// Filters on upstream rows. All must be true.
    #[serde(rename = "sql_filters")]
    pub filters: Option<Vec<String>>,
    /// How upstream samples relate to samples of the feature.
    pub lineage: Lineage,
    /// Whether a sample exists without a row of this dependency.
    pub optional: bool,
}

/// Assigns fields of an upstream feature to the fields of a feature.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldsMapping {
    /// The field of the same key; if there is none, every field.
    Default {
        /// Whether fields whose last parts equal the key match too.
        match_suffix: bool,
        /// Fields that never match.
        exclude_fields: Vec<FieldKey>,
    },
    /// Upstream fields by field.
    Specific(IndexMap<FieldKey, BTreeSet<FieldKey>>),
    /// Every field.
    All,
    /// No field.
    None,
}

impl Default for FieldsMapping {
    fn default() -> Self {
        Self::Default { match_suffix: false, exclude_fields: Vec::new() }
    }
}

/// How upstream samples relate to the samples made from them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lineage {
    /// One to one.
    #[default]
    Identity,
    /// Many to one: the upstream samples with equal values in `on`, by default the feature's id columns, make one
    /// sample.
    Aggregation {
        /// The columns that make a group.
        on: Option<Vec<String>>,
    },
    /// One to many: the samples made from one upstream sample have equal values in `on`.
    Expansion {
        /// The columns that name the parent.
        on: Vec<String>,
        /// How the Python package makes ids of the children; kept, but not used.
        id_generation_pattern: Option<String>,
    },
}

impl FeatureDep {
    /// Returns a dependency that selects all columns of `feature`, one to one.
    pub fn new(feature: impl IntoFeatureKey) -> Self {
        Self {
            feature: Deferred::new(feature.into_feature_key()),
            select: None,
            rename: None,
            fields_mapping: FieldsMapping::default(),
            filters: None,
            lineage: Lineage::Identity,
            optional: false,
        }
    }

    /// Returns the upstream feature. An invalid key reads as `invalid`; no validated feature has one.
    pub fn feature(&self) -> &FeatureKey {
        static INVALID: LazyLock<FeatureKey> =
            LazyLock::new(|| FeatureKey::from_parts(["invalid"]).unwrap_or_else(|_| unreachable!()));
        self.feature.get().unwrap_or(&INVALID)
    }

    /// Selects only these columns, by their new names, and those that are needed.
    #[must_use]
    pub fn select<S: AsRef<str>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.select = Some(columns.into_iter().map(|column| column.as_ref().to_owned()).collect());
        self
    }

    /// Renames a column.
    #[must_use]
    pub fn rename(mut self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.rename.get_or_insert_default().insert(from.into(), to.into());
        self
    }

    /// Sets which upstream fields are assigned to which fields.
    #[must_use]
    pub fn fields_mapping(mut self, mapping: FieldsMapping) -> Self {
        self.fields_mapping = mapping;
        self
    }

    /// Adds a filter on upstream rows, which names columns by their new names.
    #[must_use]
    pub fn filter(mut self, filter: impl ToString) -> Self {
        self.filters.get_or_insert_default().push(filter.to_string());
        self
    }

    /// Sets how upstream samples relate to samples of the feature.
    #[must_use]
    pub fn lineage(mut self, lineage: Lineage) -> Self {
        self.lineage = lineage;
        self
    }

    /// Lets samples exist without a row of this dependency.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Returns the new name of an upstream column.
    pub fn renamed<'a>(&'a self, column: &'a str) -> &'a str {
        self.rename.as_ref().and_then(|rename| rename.get(column)).map_or(column, String::as_str)
    }

    /// Parses the filters, and returns them as one.
    ///
    /// # Errors
    /// [`Error::FilterSyntax`](crate::Error::FilterSyntax) if one does not parse.
    pub fn filter_expression(&self) -> Result<Option<Filter>> {
        let Some(texts) = self.filters.as_ref().filter(|texts| !texts.is_empty()) else { return Ok(None) };
        Ok(Some(Filter::all(texts.iter().map(IntoFilter::into_filter).collect::<Result<Vec<_>>>()?)))
    }

    /// Returns whether the key of the upstream feature is valid.
    pub(crate) fn has_valid_key(&self) -> bool {
        self.feature.get().is_ok()
    }
}

/// A value that names a dependency: a key, or a [`FeatureDep`].
pub trait IntoFeatureDep {
    /// Returns the dependency.
    fn into_feature_dep(self) -> FeatureDep;
}

impl IntoFeatureDep for FeatureDep {
    fn into_feature_dep(self) -> FeatureDep {
        self
    }
}

impl<K: IntoFeatureKey> IntoFeatureDep for K {
    fn into_feature_dep(self) -> FeatureDep {
        FeatureDep::new(self)
    }
}

impl Lineage {
    /// Returns a lineage in which the upstream samples with equal values in `on` make one sample.
    pub fn aggregation<S: AsRef<str>>(on: impl IntoIterator<Item = S>) -> Self {
        Self::Aggregation { on: Some(on.into_iter().map(|column| column.as_ref().to_owned()).collect()) }
    }

    /// Returns a lineage in which one upstream sample makes many, with equal values in `on`.
    pub fn expansion<S: AsRef<str>>(on: impl IntoIterator<Item = S>) -> Self {
        Self::Expansion {
            on: on.into_iter().map(|column| column.as_ref().to_owned()).collect(),
            id_generation_pattern: None,
        }
    }
}
