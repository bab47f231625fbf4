//! The graph of features: validated once, then immutable, with the version of every definition.

mod changes;
mod faults;
mod order;
mod parents;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use crate::canonical_json;
use crate::error::{Error, Result};
use crate::hash::{MIN_TRUNCATION, check_truncation, definition_hash};
use crate::key::{FeatureKey, FieldKey, FqFieldKey, IntoFeatureKey};
use crate::spec::{Fault, FeatureDep, FeatureSpec};

pub use changes::{ChangeKind, FeatureChange, FieldChange, FieldChangeReason};
pub(crate) use faults::faults;
pub(crate) use order::Specs;

use order::{nearest_key, topological_order};

/// All features of a project. It is cheap to clone.
///
/// ```
/// use metaxy_core::{FeatureGraph, FeatureSpec, FieldSpec};
/// let graph = FeatureGraph::new([
///     FeatureSpec::builder("raw/video").id_columns(["video_id"]).fields(["audio", "frames"]).build()?,
///     FeatureSpec::builder("processed/transcript").id_columns(["video_id"]).dep("raw/video")
///         .field(FieldSpec::new("text").depends_on("raw/video", ["audio"])).build()?,
/// ])?;
/// assert_eq!(graph.feature_version("raw/video")?.len(), 8);
/// # Ok::<(), metaxy_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct FeatureGraph {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    nodes: BTreeMap<FeatureKey, FeaturePlan>,
    topological: Vec<FeatureKey>,
    project_version: String,
    truncation: usize,
}

/// A feature in its graph: its definition, its upstream features and fields, and its versions.
#[derive(Clone, Debug)]
pub struct FeaturePlan {
    /// The definition.
    pub spec: Arc<FeatureSpec>,
    /// The definitions of its upstream features, in the order of `spec.deps`.
    pub upstream: Vec<Arc<FeatureSpec>>,
    /// The upstream fields of each field, sorted; in the order of `spec.fields`.
    pub parents: Vec<Vec<FqFieldKey>>,
    /// The version of each field, by key.
    pub field_versions: BTreeMap<FieldKey, String>,
    /// The version of the feature. It changes with everything that changes what its rows mean, upstream included.
    pub feature_version: String,
    /// The version of the code of its fields alone.
    pub code_version: String,
    /// The version of its whole definition, metadata included.
    pub spec_version: String,
    /// The version of its definition and schema.
    pub definition_version: String,
    /// The JSON schema of the user's columns; an empty object if there is none.
    pub schema: Arc<Value>,
    /// Whether another project owns it.
    pub external: bool,
}

impl FeaturePlan {
    /// Returns the dependencies with the definitions of their features.
    pub fn deps(&self) -> impl Iterator<Item = (&FeatureDep, &Arc<FeatureSpec>)> {
        self.spec.deps.iter().zip(&self.upstream)
    }
}

/// Builds a [`FeatureGraph`].
#[derive(Debug)]
pub struct FeatureGraphBuilder {
    features: Vec<FeatureSpec>,
    external: BTreeSet<FeatureKey>,
    schemas: HashMap<FeatureKey, Value>,
    truncation: usize,
}

impl FeatureGraphBuilder {
    /// Adds features.
    #[must_use]
    pub fn features(mut self, features: impl IntoIterator<Item = FeatureSpec>) -> Self {
        self.features.extend(features);
        self
    }

    /// Adds features that another project owns. The project version leaves them out.
    #[must_use]
    pub fn external(mut self, features: impl IntoIterator<Item = FeatureSpec>) -> Self {
        for feature in features {
            self.external.insert(feature.key.clone());
            self.features.push(feature);
        }
        self
    }

    /// Returns the features that were added.
    pub(crate) fn specs(&self) -> &[FeatureSpec] {
        &self.features
    }

    /// Sets the JSON schema of a feature's user columns, if the project has one. It is part of the definition version.
    #[must_use]
    pub fn schema(mut self, feature: FeatureKey, schema: Value) -> Self {
        self.schemas.insert(feature, schema);
        self
    }

    /// Sets the number of characters of every definition version that are kept; 8 by default.
    #[must_use]
    pub fn hash_truncation_length(mut self, length: usize) -> Self {
        self.truncation = length;
        self
    }

    /// Validates the features, and returns the graph.
    ///
    /// # Errors
    /// [`Error::DuplicateFeature`], [`Error::MissingDependency`], [`Error::MissingFieldDependency`],
    /// [`Error::NoParentFields`], [`Error::DependencyCycle`], [`Error::InvalidRename`], [`Error::InvalidSpec`] for a
    /// lineage under which an increment could never become empty, and the errors of [`FeatureSpec::validate`].
    pub fn build(self) -> Result<FeatureGraph> {
        check_truncation(self.truncation)?;
        let mut specs = BTreeMap::new();
        for spec in self.features {
            spec.validate()?;
            let key = spec.key.clone();
            if specs.insert(key.clone(), Arc::new(spec)).is_some() {
                return Err(Error::DuplicateFeature(key));
            }
        }
        let topological = topological_order(&specs)?;
        let mut nodes: BTreeMap<FeatureKey, FeaturePlan> = BTreeMap::new();
        for key in &topological {
            let schema = self.schemas.get(key);
            let node = resolve_feature(&specs, &nodes, key, schema, self.external.contains(key), self.truncation)?;
            nodes.insert(key.clone(), node);
        }
        let project_version = project_version(&nodes, self.truncation);
        Ok(FeatureGraph { inner: Arc::new(Inner { nodes, topological, project_version, truncation: self.truncation }) })
    }
}

impl FeatureGraph {
    /// Returns a graph of features that all belong to this project, with definition versions of 8 characters.
    ///
    /// # Errors
    /// The errors of [`FeatureGraphBuilder::build`].
    pub fn new(features: impl IntoIterator<Item = FeatureSpec>) -> Result<Self> {
        Self::builder().features(features).build()
    }

    /// Returns a builder for a graph.
    pub fn builder() -> FeatureGraphBuilder {
        FeatureGraphBuilder {
            features: Vec::new(),
            external: BTreeSet::new(),
            schemas: HashMap::new(),
            truncation: MIN_TRUNCATION,
        }
    }

    /// Returns all features, by key.
    pub fn features(&self) -> impl Iterator<Item = &FeaturePlan> {
        self.inner.nodes.values()
    }

    /// Returns all keys, every feature after those it depends on.
    pub fn topological_order(&self) -> &[FeatureKey] {
        &self.inner.topological
    }

    /// Returns the position of a feature if several are written: dependents come before their dependencies, so that no
    /// reader sees upstream rows whose results follow in the same write. An unknown feature comes last.
    pub(crate) fn write_turn(&self, key: &FeatureKey) -> usize {
        let order = self.topological_order();
        order.iter().rev().position(|other| other == key).unwrap_or(order.len())
    }

    /// Returns a feature in its graph.
    ///
    /// # Errors
    /// [`Error::UnknownFeature`] with the nearest key, [`Error::InvalidKey`].
    pub fn plan(&self, feature: impl IntoFeatureKey) -> Result<&FeaturePlan> {
        let key = feature.into_feature_key()?;
        self.inner
            .nodes
            .get(&key)
            .ok_or_else(|| Error::UnknownFeature { nearest: nearest_key(&key, self.inner.nodes.keys()), key })
    }

    /// Returns the definition of a feature.
    ///
    /// # Errors
    /// The errors of [`FeatureGraph::plan`].
    pub fn spec(&self, feature: impl IntoFeatureKey) -> Result<&FeatureSpec> {
        Ok(&self.plan(feature)?.spec)
    }

    /// Returns the version of a feature.
    ///
    /// # Errors
    /// The errors of [`FeatureGraph::plan`].
    pub fn feature_version(&self, feature: impl IntoFeatureKey) -> Result<&str> {
        Ok(&self.plan(feature)?.feature_version)
    }

    /// Returns the version of all features that the project owns; `empty` if it owns none.
    pub fn project_version(&self) -> &str {
        &self.inner.project_version
    }

    /// Returns the number of characters of every definition version that are kept.
    pub fn hash_truncation_length(&self) -> usize {
        self.inner.truncation
    }

    /// Returns the version of a definition and its schema, which depends on nothing upstream.
    pub(crate) fn definition_version(spec: &FeatureSpec, schema: &Value, truncation: usize) -> String {
        definition_version(&spec.spec_version(truncation), schema, truncation)
    }

    /// Returns the features that depend on this one directly, by key.
    pub fn dependents<'a>(&'a self, feature: &'a FeatureKey) -> impl Iterator<Item = &'a FeatureKey> {
        self.features()
            .filter(move |plan| plan.spec.deps.iter().any(|dep| dep.feature() == feature))
            .map(|plan| &plan.spec.key)
    }
}

fn resolve_feature(
    specs: &Specs,
    done: &BTreeMap<FeatureKey, FeaturePlan>,
    key: &FeatureKey,
    schema: Option<&Value>,
    external: bool,
    truncation: usize,
) -> Result<FeaturePlan> {
    let spec = specs[key].clone();
    let upstream: Vec<_> = spec.deps.iter().map(|dep| specs[dep.feature()].clone()).collect();
    let mut faults = Vec::new();
    let parents = faults::check(&spec, &upstream, &mut faults);
    Fault::first(faults)?;
    let mut field_versions = BTreeMap::new();
    for (field, parents) in spec.fields.iter().zip(&parents) {
        let own = FqFieldKey { feature: key.clone(), field: field.key().clone() }.to_string();
        let upstream_versions =
            parents.iter().map(|parent| done[&parent.feature].field_versions[&parent.field].as_str());
        let version = definition_hash(
            [own.as_str(), field.code_version.as_str()].into_iter().chain(upstream_versions),
            truncation,
        );
        field_versions.insert(field.key().clone(), version.to_string());
    }
    let spec_version = spec.spec_version(truncation);
    let schema = schema.cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    Ok(FeaturePlan {
        feature_version: hash_pairs(field_versions.iter().map(|(key, version)| (key.to_string(), version)), truncation),
        code_version: spec.code_version(truncation),
        definition_version: definition_version(&spec_version, &schema, truncation),
        schema: Arc::new(schema),
        spec_version,
        spec,
        upstream,
        parents,
        field_versions,
        external,
    })
}

fn definition_version(spec_version: &str, schema: &Value, truncation: usize) -> String {
    definition_hash([spec_version, canonical_json::to_string(schema).as_str()], truncation).to_string()
}

/// Returns the hash of all keys and versions, in the order of the keys as text.
fn hash_pairs<'a>(pairs: impl Iterator<Item = (String, &'a String)>, truncation: usize) -> String {
    let sorted: BTreeMap<String, &String> = pairs.collect();
    let parts = sorted.iter().flat_map(|(key, version)| [key.as_str(), version.as_str()]);
    definition_hash(parts, truncation).to_string()
}

fn project_version(nodes: &BTreeMap<FeatureKey, FeaturePlan>, truncation: usize) -> String {
    let own: Vec<(String, &str)> = nodes
        .iter()
        .filter(|(_, node)| !node.external)
        .map(|(key, node)| (key.to_string(), node.definition_version.as_str()))
        .collect();
    if own.is_empty() {
        return "empty".to_owned();
    }
    definition_hash(own.iter().flat_map(|(key, version)| [key.as_str(), *version]), truncation).to_string()
}
