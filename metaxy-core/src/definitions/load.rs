//! A graph from pushed definitions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::graph::FeatureGraph;
use crate::key::IntoFeatureKey;
use crate::spec::FeatureSpec;

use super::history::{PushedDefinitions, fetch};
use super::record::PushedDefinition;
use super::select::{latest_by_feature, latest_versions};
use super::table::{self, Entry};

impl PushedDefinitions {
    /// Returns the graph of what the selected projects have pushed last, or of the selected version, with everything
    /// upstream. [`with_graph`](crate::MetadataStore::with_graph) gives it to the store.
    ///
    /// The features of the selected project or, if none is selected, of the store's project or the only one are the
    /// graph's own; all others are external. Upstream features are those of the same version of their
    /// project or, if it does not have them, those that were pushed last. Features that their project has removed are
    /// left out, unless others depend on them.
    ///
    /// # Errors
    /// [`Error::NotPushed`] if nothing is selected; [`Error::UnusableDefinition`] for a definition that is not valid, or
    /// that has another version here than the one that was pushed; the errors of
    /// [`FeatureGraphBuilder::build`](crate::graph::FeatureGraphBuilder::build), such as [`Error::MissingDependency`];
    /// and the errors of [`history`](Self::history).
    pub async fn graph(&self) -> Result<FeatureGraph> {
        let entries = table::entries(&self.store, None).await?;
        let current = self.current(&entries);
        let own = self.own_project(&current);
        let wanted = self.wanted(&current)?;
        if wanted.is_empty() {
            return Err(self.not_pushed());
        }
        // Upstream features that no current push has are those that were pushed last.
        let mut available = latest_by_feature(&entries);
        available.extend(&current);
        let loaded = self.load(wanted, &available).await?;
        let mut builder = FeatureGraph::builder().hash_truncation_length(self.truncation());
        for (definition, spec, schema) in loaded {
            builder = builder.schema(spec.key.clone(), schema);
            builder = if own == Some(definition.project.as_str()) {
                builder.features([spec])
            } else {
                builder.external([spec])
            };
        }
        builder.build()
    }

    /// Returns the graph of the newest push, of those that are selected, under which a feature has this version.
    /// [`with_graph`](crate::MetadataStore::with_graph) gives it to a store, for reads and
    /// [rebases](crate::MetadataStore::rebase) under another version.
    ///
    /// # Errors
    /// [`Error::NotPushed`] if the feature was not pushed with this version, and the errors of [`graph`](Self::graph).
    pub async fn graph_of_version(&self, feature: impl IntoFeatureKey, version: &str) -> Result<FeatureGraph> {
        let key = feature.into_feature_key()?;
        let pushed = self.clone().feature(&key).history().await?;
        let Some(push) = pushed.iter().find(|row| row.feature == key && row.feature_version == version) else {
            let selection = format!(" of `{key}` with the version `{version}`");
            return Err(Error::NotPushed { store: self.store.name().to_owned(), selection });
        };
        let of_push = self.store.definitions().project(&push.project).project_version(&push.project_version);
        let graph = of_push.feature(&key).graph().await?;
        match graph.feature_version(&key)? {
            found if found == version => Ok(graph),
            found => Err(push.unusable(
                format!("with what is upstream of it now it has the version {found}; push what it depends on again"),
                None,
            )),
        }
    }

    fn truncation(&self) -> usize {
        self.store.graph().hash_truncation_length()
    }

    /// Returns the rows of the selected version or, if none is selected, of the last push of each selected project, by
    /// feature.
    fn current<'a>(&self, entries: &'a [Entry]) -> BTreeMap<&'a str, &'a Entry> {
        let last = latest_versions(entries);
        latest_by_feature(entries.iter().filter(|entry| {
            let version = match &self.project_version {
                Some(version) => Some(version.as_str()),
                None => last.get(entry.project.as_str()).copied(),
            };
            let is_selected = self.project.as_ref().is_none_or(|project| *project == entry.project);
            is_selected && version == Some(entry.project_version.as_str())
        }))
    }

    /// Returns the project to which the graph belongs; `None` if there are several, and none of them is named.
    fn own_project<'a>(&'a self, current: &BTreeMap<&str, &'a Entry>) -> Option<&'a str> {
        let projects: BTreeSet<&str> = current.values().map(|entry| entry.project.as_str()).collect();
        let of_store = self.store.project().filter(|project| projects.contains(project));
        let only = || projects.first().copied().filter(|_| projects.len() == 1);
        self.project.as_deref().or(of_store).or_else(only)
    }

    /// Returns the selected features.
    fn wanted(&self, current: &BTreeMap<&str, &Entry>) -> Result<Vec<String>> {
        let features = self.features()?;
        if features.is_empty() {
            return Ok(current.keys().map(|&key| key.to_owned()).collect());
        }
        let keys: Vec<String> = features.iter().map(ToString::to_string).collect();
        if keys.iter().any(|key| !current.contains_key(key.as_str())) { Err(self.not_pushed()) } else { Ok(keys) }
    }

    /// Reads these features and everything upstream.
    pub(super) async fn load(
        &self,
        mut wanted: Vec<String>,
        available: &BTreeMap<&str, &Entry>,
    ) -> Result<Vec<(PushedDefinition, FeatureSpec, Value)>> {
        let mut loaded: BTreeMap<String, (PushedDefinition, FeatureSpec, Value)> = BTreeMap::new();
        while !wanted.is_empty() {
            let entries: Vec<&Entry> = wanted.iter().filter_map(|key| available.get(key.as_str()).copied()).collect();
            wanted.clear();
            for definition in fetch(&self.store, &entries).await? {
                let (spec, schema) = checked(&definition, self.truncation())?;
                wanted.extend(spec.deps.iter().map(|dep| dep.feature().to_string()));
                loaded.insert(spec.key.to_string(), (definition, spec, schema));
            }
            // What the store does not have is reported when the graph is built.
            wanted.retain(|key| !loaded.contains_key(key) && available.contains_key(key.as_str()));
        }
        Ok(loaded.into_values().collect())
    }

    fn not_pushed(&self) -> Error {
        let features = self.features().map(<[_]>::to_vec).unwrap_or_default();
        let of = |what: &str, value: Option<&String>| value.map(|value| format!(" of {what} `{value}`"));
        let parts = [of("project", self.project.as_ref()), of("version", self.project_version.as_ref())];
        let features = features.iter().map(|feature| Some(format!(" of `{feature}`")));
        let selection = parts.into_iter().chain(features).flatten().collect();
        Error::NotPushed { store: self.store.name().to_owned(), selection }
    }
}

/// Returns a definition and its schema, after checking that they have the version that was pushed. A definition that is
/// read as another one would look for its rows under another version.
fn checked(definition: &PushedDefinition, truncation: usize) -> Result<(FeatureSpec, Value)> {
    let (spec, schema) = (definition.spec()?, definition.schema()?);
    let alone = FeatureGraph::definition_version(&spec, &schema, truncation);
    let pushed = &definition.definition_version;
    if alone == *pushed {
        return Ok((spec, schema));
    }
    let reason = if pushed.len() == alone.len() {
        format!(
            "it is version {pushed}, but its JSON is version {alone}: it has something that this version of the library \
             does not know; update the library, or push the feature again"
        )
    } else {
        format!(
            "its versions have {} characters, those of the store's graph {truncation}; open the store with a graph whose \
             `hash_truncation_length` is that of the push",
            pushed.len()
        )
    };
    Err(definition.unusable(reason, None))
}
