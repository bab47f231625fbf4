//! The graph of features: validated once, then immutable, with the version of every definition.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use crate::canonical_json;
use crate::error::{Error, Result, nearest};
use crate::hash::{MIN_TRUNCATION, check_truncation, definition_hash};
use crate::key::{FeatureKey, FieldKey, FqFieldKey, IntoFeatureKey};
use crate::lineage;
use crate::spec::{FeatureDep, FeatureSpec, FieldDeps, FieldSelection, FieldSpec, FieldsMapping};

/// All features of a project. Cheap to clone.
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

/// A feature in its graph: its definition, what it is made from, and its versions.
#[derive(Clone, Debug)]
pub struct FeaturePlan {
    /// The definition.
    pub spec: Arc<FeatureSpec>,
    /// The definitions of the features it depends on, in the order of `spec.deps`.
    pub upstream: Vec<Arc<FeatureSpec>>,
    /// For each field, in the order of `spec.fields`, the upstream fields it is made from, sorted.
    pub parents: Vec<Vec<FqFieldKey>>,
    /// The version of each field, by key.
    pub field_versions: BTreeMap<FieldKey, String>,
    /// The version of the feature: changes with anything that changes what its rows mean, upstream included.
    pub feature_version: String,
    /// The version of the code of its fields alone.
    pub code_version: String,
    /// The version of its whole definition, metadata included.
    pub spec_version: String,
    /// The version of its definition and schema.
    pub definition_version: String,
    /// Whether another project owns it.
    pub external: bool,
}

impl FeaturePlan {
    /// The dependencies with the definitions they lead to.
    pub fn deps(&self) -> impl Iterator<Item = (&FeatureDep, &Arc<FeatureSpec>)> {
        self.spec.deps.iter().zip(&self.upstream)
    }
}

/// Collects what a graph is made of.
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

    /// Adds features that another project owns; they do not count in the project version.
    #[must_use]
    pub fn external(mut self, features: impl IntoIterator<Item = FeatureSpec>) -> Self {
        for feature in features {
            self.external.insert(feature.key.clone());
            self.features.push(feature);
        }
        self
    }

    /// The JSON schema of a feature's user columns, where the project keeps one; part of its definition version.
    #[must_use]
    pub fn schema(mut self, feature: FeatureKey, schema: Value) -> Self {
        self.schemas.insert(feature, schema);
        self
    }

    /// How many characters of every definition version are kept; 8 where this is not called.
    #[must_use]
    pub fn hash_truncation_length(mut self, length: usize) -> Self {
        self.truncation = length;
        self
    }

    /// The graph.
    ///
    /// # Errors
    /// [`Error::DuplicateFeature`], [`Error::MissingDependency`], [`Error::MissingFieldDependency`],
    /// [`Error::NoParentFields`], [`Error::DependencyCycle`], [`Error::InvalidRename`], [`Error::InvalidSpec`] for a
    /// lineage under which an increment could never become empty, and what [`FeatureSpec::validate`] finds.
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
    /// A graph of features, all of this project, with definition versions of 8 characters.
    ///
    /// # Errors
    /// As [`FeatureGraphBuilder::build`].
    pub fn new(features: impl IntoIterator<Item = FeatureSpec>) -> Result<Self> {
        Self::builder().features(features).build()
    }

    /// Starts a graph with settings.
    pub fn builder() -> FeatureGraphBuilder {
        FeatureGraphBuilder {
            features: Vec::new(),
            external: BTreeSet::new(),
            schemas: HashMap::new(),
            truncation: MIN_TRUNCATION,
        }
    }

    /// All features, by key.
    pub fn features(&self) -> impl Iterator<Item = &FeaturePlan> {
        self.inner.nodes.values()
    }

    /// All keys, every feature after those it depends on.
    pub fn topological_order(&self) -> &[FeatureKey] {
        &self.inner.topological
    }

    /// Returns a feature's turn if several are written: dependents come before what they are made from, so that no reader
    /// sees upstream rows whose results are still to come in the same write. An unknown feature comes last.
    pub(crate) fn write_turn(&self, key: &FeatureKey) -> usize {
        let order = self.topological_order();
        order.iter().rev().position(|other| other == key).unwrap_or(order.len())
    }

    /// A feature in its graph.
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

    /// A feature's definition.
    ///
    /// # Errors
    /// As [`FeatureGraph::plan`].
    pub fn spec(&self, feature: impl IntoFeatureKey) -> Result<&FeatureSpec> {
        Ok(&self.plan(feature)?.spec)
    }

    /// The version of a feature.
    ///
    /// # Errors
    /// As [`FeatureGraph::plan`].
    pub fn feature_version(&self, feature: impl IntoFeatureKey) -> Result<&str> {
        Ok(&self.plan(feature)?.feature_version)
    }

    /// The version of all features that the project owns; `empty` where it owns none.
    pub fn project_version(&self) -> &str {
        &self.inner.project_version
    }

    /// How many characters of every definition version are kept.
    pub fn hash_truncation_length(&self) -> usize {
        self.inner.truncation
    }

    /// The features that depend on this one directly, by key.
    pub fn dependents<'a>(&'a self, feature: &'a FeatureKey) -> impl Iterator<Item = &'a FeatureKey> {
        self.features()
            .filter(move |plan| plan.spec.deps.iter().any(|dep| &dep.feature == feature))
            .map(|plan| &plan.spec.key)
    }
}

fn nearest_key<'a>(key: &FeatureKey, keys: impl Iterator<Item = &'a FeatureKey>) -> Option<String> {
    let known: Vec<String> = keys.map(ToString::to_string).collect();
    nearest(&key.to_string(), known.iter().map(String::as_str))
}

type Specs = BTreeMap<FeatureKey, Arc<FeatureSpec>>;

/// Every key after those it depends on; among equals in the order of keys.
fn topological_order(specs: &Specs) -> Result<Vec<FeatureKey>> {
    let mut waiting: BTreeMap<&FeatureKey, BTreeSet<&FeatureKey>> = BTreeMap::new();
    for (key, spec) in specs {
        let mut upstream = BTreeSet::new();
        for dep in &spec.deps {
            if !specs.contains_key(&dep.feature) {
                return Err(Error::MissingDependency {
                    feature: key.clone(),
                    dependency: dep.feature.clone(),
                    nearest: nearest_key(&dep.feature, specs.keys()),
                });
            }
            upstream.insert(&dep.feature);
        }
        waiting.insert(key, upstream);
    }
    let mut order = Vec::with_capacity(specs.len());
    while !waiting.is_empty() {
        let ready: Vec<&FeatureKey> = waiting.iter().filter(|(_, on)| on.is_empty()).map(|(key, _)| *key).collect();
        if ready.is_empty() {
            return Err(Error::DependencyCycle(find_cycle(&waiting)));
        }
        for key in &ready {
            waiting.remove(key);
            order.push((*key).clone());
        }
        waiting.values_mut().for_each(|on| on.retain(|key| !ready.contains(key)));
    }
    Ok(order)
}

/// A circle among features that all wait for another one: following any of them must come back.
fn find_cycle(waiting: &BTreeMap<&FeatureKey, BTreeSet<&FeatureKey>>) -> Vec<FeatureKey> {
    let mut path: Vec<&FeatureKey> = Vec::new();
    let mut next = waiting.keys().next().copied();
    while let Some(key) = next {
        if let Some(start) = path.iter().position(|seen| *seen == key) {
            return path[start..].iter().chain([&key]).map(|key| (*key).clone()).collect();
        }
        path.push(key);
        next = waiting.get(key).and_then(|on| on.first().copied());
    }
    path.into_iter().cloned().collect()
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
    let upstream: Vec<_> = spec.deps.iter().map(|dep| specs[&dep.feature].clone()).collect();
    check_renames(&spec, &upstream)?;
    lineage::check(&spec, &upstream)?;
    let parents = spec.fields.iter().map(|field| parent_fields(&spec, &upstream, field)).collect::<Result<Vec<_>>>()?;
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
    let schema = schema.map_or_else(|| "{}".to_owned(), canonical_json::to_string);
    Ok(FeaturePlan {
        feature_version: hash_pairs(field_versions.iter().map(|(key, version)| (key.to_string(), version)), truncation),
        code_version: spec.code_version(truncation),
        definition_version: definition_hash([spec_version.as_str(), schema.as_str()], truncation).to_string(),
        spec_version,
        spec,
        upstream,
        parents,
        field_versions,
        external,
    })
}

/// The hash over (key + version) in the order of the slashed keys.
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

/// An upstream column may not be renamed onto an id column of its feature.
fn check_renames(spec: &FeatureSpec, upstream: &[Arc<FeatureSpec>]) -> Result<()> {
    for (dep, parent) in spec.deps.iter().zip(upstream) {
        if let Some((from, to)) = dep.rename.iter().flatten().find(|(_, to)| parent.id_columns.contains(to)) {
            return Err(Error::InvalidRename {
                feature: spec.key.clone(),
                dependency: dep.feature.clone(),
                from: from.clone(),
                to: to.clone(),
                reason: "that name belongs to an id column".to_owned(),
            });
        }
    }
    Ok(())
}

/// The upstream fields that a field is made from, sorted.
fn parent_fields(spec: &FeatureSpec, upstream: &[Arc<FeatureSpec>], field: &FieldSpec) -> Result<Vec<FqFieldKey>> {
    let mut parents = BTreeSet::new();
    match &field.deps {
        FieldDeps::All => upstream.iter().for_each(|parent| parents.extend(all_fields(parent))),
        FieldDeps::Listed(deps) if !deps.is_empty() => {
            for dep in deps {
                let Some(parent) = upstream.iter().find(|parent| parent.key == dep.feature) else {
                    return Err(missing_field(spec, field, dep.feature.to_string(), upstream));
                };
                match &dep.fields {
                    FieldSelection::All => parents.extend(all_fields(parent)),
                    FieldSelection::Only(keys) => {
                        for key in keys {
                            if parent.field(key).is_none() {
                                return Err(missing_field(spec, field, format!("{}.{key}", parent.key), upstream));
                            }
                            parents.insert(FqFieldKey { feature: parent.key.clone(), field: key.clone() });
                        }
                    }
                }
            }
        }
        FieldDeps::Listed(_) => {
            for (dep, parent) in spec.deps.iter().zip(upstream) {
                parents.extend(mapped_fields(&dep.fields_mapping, parent, field.key()));
            }
        }
    }
    if parents.is_empty() && !spec.is_root() {
        return Err(Error::NoParentFields { feature: spec.key.clone(), field: field.key().to_string() });
    }
    Ok(parents.into_iter().collect())
}

fn all_fields(parent: &FeatureSpec) -> impl Iterator<Item = FqFieldKey> {
    parent.fields.iter().map(|field| FqFieldKey { feature: parent.key.clone(), field: field.key().clone() })
}

/// The fields of one upstream feature that a mapping gives to a field.
fn mapped_fields(mapping: &FieldsMapping, parent: &FeatureSpec, field: &FieldKey) -> Vec<FqFieldKey> {
    match mapping {
        FieldsMapping::All => all_fields(parent).collect(),
        FieldsMapping::None => Vec::new(),
        FieldsMapping::Specific(mapping) => {
            let wanted = mapping.get(field);
            all_fields(parent).filter(|key| wanted.is_some_and(|wanted| wanted.contains(&key.field))).collect()
        }
        FieldsMapping::Default { match_suffix, exclude_fields } => {
            let candidates: Vec<_> = all_fields(parent).filter(|key| !exclude_fields.contains(&key.field)).collect();
            let matches = |key: &&FqFieldKey| key.field == *field || (*match_suffix && key.field.ends_with(field));
            let matched: Vec<_> = candidates.iter().filter(matches).cloned().collect();
            if matched.is_empty() { candidates } else { matched }
        }
    }
}

fn missing_field(spec: &FeatureSpec, field: &FieldSpec, dependency: String, upstream: &[Arc<FeatureSpec>]) -> Error {
    let known: Vec<String> = upstream.iter().flat_map(|parent| all_fields(parent)).map(|key| key.to_string()).collect();
    Error::MissingFieldDependency {
        feature: spec.key.clone(),
        field: field.key().to_string(),
        nearest: nearest(&dependency, known.iter().map(String::as_str)),
        dependency,
    }
}
