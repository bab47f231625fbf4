//! Definitions of features: what a sample is, which fields it has, what each field is made from.
//!
//! The serde form is the JSON that the system table stores and that the Python package writes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::canonical_json;
use crate::columns;
use crate::error::{Error, Result};
use crate::filter::{Filter, IntoFilter};
use crate::hash::definition_hash;
use crate::key::{FeatureKey, FieldKey, IntoFeatureKey, IntoFieldKey, InvalidKey};

/// The code version of a field that names none.
pub const INITIAL_CODE_VERSION: &str = "__metaxy_initial__";
/// The JSON word for "all upstream fields".
const ALL_DEP: &str = "__METAXY_ALL_DEP__";

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
    /// Its key.
    pub key: FeatureKey,
    /// The columns that identify a sample, at least one.
    pub id_columns: Vec<String>,
    /// The features it is made from; none for a root.
    #[serde(default)]
    pub deps: Vec<FeatureDep>,
    /// Its fields, at least one, with unique keys.
    #[serde(default = "default_fields")]
    pub fields: Vec<FieldSpec>,
    /// Whatever the user wants to say about it; part of the spec version, not of the feature version.
    #[serde(default)]
    pub metadata: serde_json::Map<String, Value>,
    /// A sentence for people.
    #[serde(default)]
    pub description: Option<String>,
}

fn default_fields() -> Vec<FieldSpec> {
    vec![FieldSpec::new("default")]
}

/// The definition of a field.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldSpec {
    /// Its key, as it was given; checked when the feature is built.
    #[serde(serialize_with = "key_or_text")]
    key: Result<FieldKey, InvalidKey>,
    /// A change of it makes everything that is made from the field stale.
    pub code_version: String,
    /// What it is made from.
    pub deps: FieldDeps,
}

fn key_or_text<S: Serializer>(key: &Result<FieldKey, InvalidKey>, serializer: S) -> Result<S::Ok, S::Error> {
    match key {
        Ok(key) => key.serialize(serializer),
        Err(bad) => bad.key.serialize(serializer),
    }
}

/// Upstream fields that a field is made from.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldDeps {
    /// Every field of every upstream feature.
    All,
    /// Exactly these; where the list is empty, what the [`FieldsMapping`] of each dependency says.
    Listed(Vec<FieldDep>),
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

/// Which fields of a feature.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum FieldSelection {
    /// All of them.
    #[default]
    All,
    /// These.
    Only(Vec<FieldKey>),
}

/// A dependency on another feature.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureDep {
    /// The upstream feature.
    pub feature: FeatureKey,
    /// The columns that are taken, by their new names; `None` takes all, an empty list none but what is needed.
    pub select: Option<Vec<String>>,
    /// New names by old ones; comes before everything else.
    pub rename: Option<BTreeMap<String, String>>,
    /// Which upstream fields feed a field that does not say so itself.
    pub fields_mapping: FieldsMapping,
    /// Filters on upstream rows, in the new names. All must be true.
    #[serde(rename = "sql_filters")]
    pub filters: Option<Vec<String>>,
    /// How upstream samples relate to samples of this feature.
    pub lineage: Lineage,
    /// Whether a sample exists where this dependency has no row for it.
    pub optional: bool,
}

/// Which upstream fields feed a field of the same feature dependency.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldsMapping {
    /// The field of the same key; where there is none, every field.
    Default {
        /// Also fields whose last parts equal the key.
        match_suffix: bool,
        /// Fields that never match.
        exclude_fields: Vec<FieldKey>,
    },
    /// Upstream fields by the field they feed.
    Specific(BTreeMap<FieldKey, BTreeSet<FieldKey>>),
    /// Every field.
    All,
    /// None.
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
    /// One for one.
    #[default]
    Identity,
    /// Many upstream samples make one: those that agree in the columns `on`, by default the feature's id columns.
    Aggregation {
        /// The columns that make a group.
        on: Option<Vec<String>>,
    },
    /// One upstream sample makes many, which share the columns `on`.
    Expansion {
        /// The columns that name the parent.
        on: Vec<String>,
        /// How the Python package makes ids of the children; kept, not used.
        id_generation_pattern: Option<String>,
    },
}

impl FeatureSpec {
    /// Starts the definition of a feature.
    pub fn builder(key: impl IntoFeatureKey) -> FeatureSpecBuilder {
        FeatureSpecBuilder {
            key: key.into_feature_key().map_err(Error::from),
            id_columns: Vec::new(),
            deps: Vec::new(),
            fields: Vec::new(),
            metadata: serde_json::Map::new(),
            description: None,
        }
    }

    /// The definition from its JSON form.
    ///
    /// # Errors
    /// [`Error::InvalidSpec`] where the text is no definition, and what [`FeatureSpec::validate`] finds.
    pub fn from_json(json: &str) -> Result<Self> {
        let spec: Self = serde_json::from_str(json).map_err(|error| {
            let key =
                serde_json::from_str::<Value>(json).ok().and_then(|value| Some(value["key"].as_str()?.to_owned()));
            Error::InvalidSpec { feature: key.unwrap_or_default(), reason: format!("its JSON cannot be read: {error}") }
        })?;
        spec.validate()?;
        Ok(spec)
    }

    /// The JSON form, as the version of the spec is hashed from it and as the system table stores it.
    pub fn to_json(&self) -> String {
        canonical_json::to_string(&serde_json::to_value(self).unwrap_or_default())
    }

    /// The version of the whole definition, metadata and description included.
    pub fn spec_version(&self, truncation: usize) -> String {
        definition_hash([self.to_json().as_str()], truncation).to_string()
    }

    /// The version of the code: field keys and code versions, nothing of what is upstream.
    pub fn code_version(&self, truncation: usize) -> String {
        let fields: BTreeMap<String, &FieldSpec> =
            self.fields.iter().map(|field| (field.key().to_string(), field)).collect();
        let parts = fields.iter().flat_map(|(key, field)| [key.as_str(), field.code_version.as_str()]);
        definition_hash(parts, truncation).to_string()
    }

    /// Whether it has no dependencies.
    pub fn is_root(&self) -> bool {
        self.deps.is_empty()
    }

    /// The field of a key.
    pub fn field(&self, key: &FieldKey) -> Option<&FieldSpec> {
        self.fields.iter().find(|field| field.key() == key)
    }

    /// The names of the fields inside by-field columns, sorted.
    pub fn struct_keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.fields.iter().map(|field| field.key().struct_key()).collect();
        keys.sort();
        keys
    }

    /// Checks everything that can be checked without the rest of the graph.
    ///
    /// # Errors
    /// The case that names the fault: [`Error::NoIdColumns`], [`Error::DuplicateField`], [`Error::InvalidRename`],
    /// [`Error::InvalidSpec`], [`Error::FilterSyntax`].
    pub fn validate(&self) -> Result<()> {
        let invalid = |reason: String| Error::InvalidSpec { feature: self.key.to_string(), reason };
        if self.id_columns.is_empty() {
            return Err(Error::NoIdColumns { feature: self.key.to_string() });
        }
        let mut seen = BTreeSet::new();
        for column in &self.id_columns {
            if columns::is_system(column) {
                return Err(invalid(format!("`{column}` is a system column and cannot be an id column")));
            }
            if column.is_empty() || !seen.insert(column) {
                return Err(invalid(format!("the id column `{column}` is empty or named twice")));
            }
        }
        self.validate_fields()?;
        let mut upstream = BTreeSet::new();
        for dep in &self.deps {
            if !upstream.insert(&dep.feature) {
                return Err(invalid(format!("it depends on `{}` twice; join both into one dependency", dep.feature)));
            }
            dep.validate(self)?;
        }
        Ok(())
    }

    fn validate_fields(&self) -> Result<()> {
        if self.fields.is_empty() {
            let reason = "it has no fields; leave `fields` out for one field `default`".to_owned();
            return Err(Error::InvalidSpec { feature: self.key.to_string(), reason });
        }
        let mut seen = BTreeMap::new();
        for field in &self.fields {
            let key = field.checked_key()?;
            if seen.insert(key.struct_key(), key).is_some_and(|other| other == key) {
                return Err(Error::DuplicateField { feature: self.key.to_string(), field: key.to_string() });
            }
        }
        if seen.len() < self.fields.len() {
            let reason =
                "two field keys differ only in `/` and `_` and would share one struct key; rename one".to_owned();
            return Err(Error::InvalidSpec { feature: self.key.to_string(), reason });
        }
        Ok(())
    }
}

/// Builds a [`FeatureSpec`].
#[derive(Debug)]
pub struct FeatureSpecBuilder {
    key: Result<FeatureKey>,
    id_columns: Vec<String>,
    deps: Vec<Result<FeatureDep>>,
    fields: Vec<FieldSpec>,
    metadata: serde_json::Map<String, Value>,
    description: Option<String>,
}

impl FeatureSpecBuilder {
    /// The columns that identify a sample.
    #[must_use]
    pub fn id_columns<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.id_columns.extend(columns.into_iter().map(Into::into));
        self
    }

    /// Adds a dependency: a key, or a [`FeatureDep`] with all its settings.
    #[must_use]
    pub fn dep(mut self, dep: impl IntoFeatureDep) -> Self {
        self.deps.push(dep.into_feature_dep());
        self
    }

    /// Adds several dependencies.
    #[must_use]
    pub fn deps<D: IntoFeatureDep>(self, deps: impl IntoIterator<Item = D>) -> Self {
        deps.into_iter().fold(self, Self::dep)
    }

    /// Adds a field: a key, or a [`FieldSpec`]. Without any the feature has one field, `default`.
    #[must_use]
    pub fn field(mut self, field: impl Into<FieldSpec>) -> Self {
        self.fields.push(field.into());
        self
    }

    /// Adds several fields.
    #[must_use]
    pub fn fields<F: Into<FieldSpec>>(self, fields: impl IntoIterator<Item = F>) -> Self {
        fields.into_iter().fold(self, Self::field)
    }

    /// Adds an entry to the metadata.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// A sentence for people.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// The definition, checked.
    ///
    /// # Errors
    /// [`Error::InvalidKey`], and what [`FeatureSpec::validate`] finds.
    pub fn build(self) -> Result<FeatureSpec> {
        let spec = FeatureSpec {
            key: self.key?,
            id_columns: self.id_columns,
            deps: self.deps.into_iter().collect::<Result<_>>()?,
            fields: if self.fields.is_empty() { default_fields() } else { self.fields },
            metadata: self.metadata,
            description: self.description,
        };
        spec.validate()?;
        Ok(spec)
    }
}

impl FieldSpec {
    /// A field with the initial code version, made from what the dependencies' mappings say.
    pub fn new(key: impl IntoFieldKey) -> Self {
        let key = key.into_field_key();
        Self { key, code_version: INITIAL_CODE_VERSION.to_owned(), deps: FieldDeps::Listed(Vec::new()) }
    }

    /// The key. A key that breaks the rules reads as `invalid`; such a field never gets into a checked feature.
    pub fn key(&self) -> &FieldKey {
        static INVALID: std::sync::LazyLock<FieldKey> =
            std::sync::LazyLock::new(|| FieldKey::from_parts(["invalid"]).unwrap_or_else(|_| unreachable!()));
        self.key.as_ref().unwrap_or(&INVALID)
    }

    fn checked_key(&self) -> Result<&FieldKey> {
        self.key.as_ref().map_err(|invalid| invalid.clone().into())
    }

    /// Sets the code version: whatever changes when the code that makes the field changes.
    #[must_use]
    pub fn code_version(mut self, version: impl Into<String>) -> Self {
        self.code_version = version.into();
        self
    }

    /// Makes the field depend on some fields of an upstream feature, beside those named before.
    ///
    /// A key that breaks the rules is reported when the feature is built.
    #[must_use]
    pub fn depends_on<F: IntoFieldKey>(
        self,
        feature: impl IntoFeatureKey,
        fields: impl IntoIterator<Item = F>,
    ) -> Self {
        let fields = fields.into_iter().map(IntoFieldKey::into_field_key).collect::<Result<Vec<_>, _>>();
        match (feature.into_feature_key(), fields) {
            (Ok(feature), Ok(fields)) => self.listed(FieldDep { feature, fields: FieldSelection::Only(fields) }),
            (Err(error), _) | (_, Err(error)) => self.broken(error),
        }
    }

    /// Makes the field depend on every field of an upstream feature, beside those named before.
    #[must_use]
    pub fn depends_on_all_of(self, feature: impl IntoFeatureKey) -> Self {
        match feature.into_feature_key() {
            Ok(feature) => self.listed(FieldDep { feature, fields: FieldSelection::All }),
            Err(error) => self.broken(error),
        }
    }

    /// Makes the field depend on every field of every upstream feature.
    #[must_use]
    pub fn depends_on_everything(mut self) -> Self {
        self.deps = FieldDeps::All;
        self
    }

    fn listed(mut self, dep: FieldDep) -> Self {
        match &mut self.deps {
            FieldDeps::All => self.deps = FieldDeps::Listed(vec![dep]),
            FieldDeps::Listed(deps) => deps.push(dep),
        }
        self
    }

    /// Remembers a bad key of a dependency in the place of the field's own, so that `build` reports it.
    fn broken(mut self, error: InvalidKey) -> Self {
        self.key = Err(error);
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

impl FeatureDep {
    /// A dependency that takes all columns of `feature`, one for one.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] where `feature` is no key.
    pub fn new(feature: impl IntoFeatureKey) -> Result<Self> {
        Ok(Self {
            feature: feature.into_feature_key()?,
            select: None,
            rename: None,
            fields_mapping: FieldsMapping::default(),
            filters: None,
            lineage: Lineage::Identity,
            optional: false,
        })
    }

    /// Takes only these columns, by their new names, and what is needed.
    #[must_use]
    pub fn select<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.select = Some(columns.into_iter().map(Into::into).collect());
        self
    }

    /// Gives a column a new name.
    #[must_use]
    pub fn rename(mut self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.rename.get_or_insert_default().insert(from.into(), to.into());
        self
    }

    /// Says which upstream fields feed which fields.
    #[must_use]
    pub fn fields_mapping(mut self, mapping: FieldsMapping) -> Self {
        self.fields_mapping = mapping;
        self
    }

    /// Takes only rows for which this is true; names columns by their new names.
    #[must_use]
    pub fn filter(mut self, filter: impl ToString) -> Self {
        self.filters.get_or_insert_default().push(filter.to_string());
        self
    }

    /// Says how samples relate.
    #[must_use]
    pub fn lineage(mut self, lineage: Lineage) -> Self {
        self.lineage = lineage;
        self
    }

    /// Lets a sample exist where this dependency has no row for it.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// The new name of an upstream column.
    pub fn renamed<'a>(&'a self, column: &'a str) -> &'a str {
        self.rename.as_ref().and_then(|rename| rename.get(column)).map_or(column, String::as_str)
    }

    /// The filters, parsed, as one; in the new names.
    ///
    /// # Errors
    /// [`Error::FilterSyntax`] where one does not parse.
    pub fn filter_expression(&self) -> Result<Option<Filter>> {
        let Some(texts) = self.filters.as_ref().filter(|texts| !texts.is_empty()) else { return Ok(None) };
        Ok(Some(Filter::all(texts.iter().map(IntoFilter::into_filter).collect::<Result<Vec<_>>>()?)))
    }

    fn validate(&self, feature: &FeatureSpec) -> Result<()> {
        let mut targets = BTreeSet::new();
        for (from, to) in self.rename.iter().flatten() {
            let refuse = |reason: &str| {
                Err(Error::InvalidRename {
                    feature: feature.key.clone(),
                    dependency: self.feature.clone(),
                    from: from.clone(),
                    to: to.clone(),
                    reason: reason.to_owned(),
                })
            };
            if columns::is_system(to) {
                return refuse("that name belongs to a system column");
            }
            if columns::is_system(from) {
                return refuse("system columns keep their names");
            }
            if !targets.insert(to) {
                return refuse("another column gets that name too");
            }
        }
        let on = match &self.lineage {
            Lineage::Aggregation { on: Some(on) } => Some(on),
            Lineage::Expansion { on, .. } => Some(on),
            _ => None,
        };
        if on.is_some_and(Vec::is_empty) {
            let reason = format!("the lineage of its dependency `{}` has an empty list `on`", self.feature);
            return Err(Error::InvalidSpec { feature: feature.key.to_string(), reason });
        }
        self.filter_expression().map(|_| ())
    }
}

/// Anything that names a dependency: a key, or a [`FeatureDep`].
pub trait IntoFeatureDep {
    /// The dependency.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] where the text is no key.
    fn into_feature_dep(self) -> Result<FeatureDep>;
}

impl IntoFeatureDep for FeatureDep {
    fn into_feature_dep(self) -> Result<FeatureDep> {
        Ok(self)
    }
}

impl IntoFeatureDep for Result<FeatureDep> {
    fn into_feature_dep(self) -> Result<FeatureDep> {
        self
    }
}

impl<K: IntoFeatureKey> IntoFeatureDep for K {
    fn into_feature_dep(self) -> Result<FeatureDep> {
        FeatureDep::new(self)
    }
}

impl IntoFeatureKey for &FeatureSpec {
    fn into_feature_key(self) -> Result<FeatureKey, InvalidKey> {
        Ok(self.key.clone())
    }
}

impl Lineage {
    /// Many upstream samples make one: those that agree in `on`.
    pub fn aggregation<S: Into<String>>(on: impl IntoIterator<Item = S>) -> Self {
        Self::Aggregation { on: Some(on.into_iter().map(Into::into).collect()) }
    }

    /// One upstream sample makes many, which share `on`.
    pub fn expansion<S: Into<String>>(on: impl IntoIterator<Item = S>) -> Self {
        Self::Expansion { on: on.into_iter().map(Into::into).collect(), id_generation_pattern: None }
    }
}

// ---- the JSON form ---------------------------------------------------------------------------------------------

impl<'de> Deserialize<'de> for FieldSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Key(FieldKey),
            Full {
                key: FieldKey,
                #[serde(default = "initial_code_version")]
                code_version: String,
                #[serde(default)]
                deps: FieldDeps,
            },
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Key(key) => Self::new(key),
            Form::Full { key, code_version, deps } => Self { key: Ok(key), code_version, deps },
        })
    }
}

fn initial_code_version() -> String {
    INITIAL_CODE_VERSION.to_owned()
}

impl Default for FieldDeps {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl Serialize for FieldDeps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => ALL_DEP.serialize(serializer),
            Self::Listed(deps) => deps.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for FieldDeps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(list_or_all(deserializer)?.map_or(Self::All, Self::Listed))
    }
}

impl Serialize for FieldSelection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => ALL_DEP.serialize(serializer),
            Self::Only(fields) => fields.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for FieldSelection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(list_or_all(deserializer)?.map_or(Self::All, Self::Only))
    }
}

/// A list, or `None` for the word that means all.
fn list_or_all<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Vec<T>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form<T> {
        Word(String),
        List(Vec<T>),
    }
    match Form::deserialize(deserializer)? {
        Form::List(items) => Ok(Some(items)),
        Form::Word(word) if word == ALL_DEP => Ok(None),
        Form::Word(word) => {
            Err(serde::de::Error::custom(format!("expected a list or \"{ALL_DEP}\", found \"{word}\"")))
        }
    }
}

impl<'de> Deserialize<'de> for FeatureDep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Full {
            feature: FeatureKey,
            #[serde(default)]
            select: Option<Vec<String>>,
            #[serde(default)]
            rename: Option<BTreeMap<String, String>>,
            #[serde(default)]
            fields_mapping: FieldsMapping,
            #[serde(default, alias = "filters")]
            sql_filters: Option<Vec<String>>,
            #[serde(default)]
            lineage: Lineage,
            #[serde(default)]
            optional: bool,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Key(FeatureKey),
            Full(Full),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Key(key) => Self::new(key).map_err(serde::de::Error::custom)?,
            Form::Full(full) => Self {
                feature: full.feature,
                select: full.select,
                rename: full.rename,
                fields_mapping: full.fields_mapping,
                filters: full.sql_filters,
                lineage: full.lineage,
                optional: full.optional,
            },
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum MappingForm {
    Default {
        #[serde(default)]
        match_suffix: bool,
        #[serde(default)]
        exclude_fields: Vec<FieldKey>,
    },
    Specific {
        mapping: BTreeMap<FieldKey, Vec<Vec<String>>>,
    },
    All {},
    None {},
}

#[derive(Serialize, Deserialize)]
struct MappingEnvelope {
    mapping: MappingForm,
}

impl Serialize for FieldsMapping {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mapping = match self.clone() {
            Self::Default { match_suffix, exclude_fields } => MappingForm::Default { match_suffix, exclude_fields },
            Self::All => MappingForm::All {},
            Self::None => MappingForm::None {},
            Self::Specific(mapping) => MappingForm::Specific {
                mapping: mapping
                    .into_iter()
                    .map(|(key, fields)| (key, fields.iter().map(|field| field.parts().to_vec()).collect()))
                    .collect(),
            },
        };
        MappingEnvelope { mapping }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FieldsMapping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match MappingEnvelope::deserialize(deserializer)?.mapping {
            MappingForm::Default { match_suffix, exclude_fields } => Self::Default { match_suffix, exclude_fields },
            MappingForm::All {} => Self::All,
            MappingForm::None {} => Self::None,
            MappingForm::Specific { mapping } => Self::Specific(
                mapping
                    .into_iter()
                    .map(|(key, fields)| {
                        let fields =
                            fields.into_iter().map(FieldKey::from_parts).collect::<Result<BTreeSet<_>, _>>()?;
                        Ok((key, fields))
                    })
                    .collect::<Result<_>>()
                    .map_err(serde::de::Error::custom)?,
            ),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type")]
enum LineageForm {
    #[serde(rename = "1:1")]
    Identity {},
    #[serde(rename = "N:1")]
    Aggregation {
        #[serde(default)]
        on: Option<Vec<String>>,
    },
    #[serde(rename = "1:N")]
    Expansion {
        on: Vec<String>,
        #[serde(default)]
        id_generation_pattern: Option<String>,
    },
}

#[derive(Serialize, Deserialize)]
struct LineageEnvelope {
    relationship: LineageForm,
}

impl Serialize for Lineage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let relationship = match self.clone() {
            Self::Identity => LineageForm::Identity {},
            Self::Aggregation { on } => LineageForm::Aggregation { on },
            Self::Expansion { on, id_generation_pattern } => LineageForm::Expansion { on, id_generation_pattern },
        };
        LineageEnvelope { relationship }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Lineage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match LineageEnvelope::deserialize(deserializer)?.relationship {
            LineageForm::Identity {} => Self::Identity,
            LineageForm::Aggregation { on } => Self::Aggregation { on },
            LineageForm::Expansion { on, id_generation_pattern } => Self::Expansion { on, id_generation_pattern },
        })
    }
}
