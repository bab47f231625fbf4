//! The graph of a project together with the features of other projects.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::definitions::{ExternalFeature, FeatureSelection};
use crate::error::{Error, Result};
use crate::feature_files::OtherVersion;
use crate::graph::FeatureGraph;
use crate::key::FeatureKey;
use crate::store::MetadataStore;

use super::MetaxyConfig;
use super::lock::{Entry, LockFile};

/// The graph of a project with the features of other projects, as a store has them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkedGraph {
    /// The graph.
    pub graph: FeatureGraph,
    /// The features that have another version than the lock file or the feature files expect.
    pub changed: Vec<ChangedExternal>,
    /// The features of the lock file, of `extra_features` and of the feature files (`external`) that the store does not
    /// have. The graph has those that a file defines as it defines them.
    pub absent: Vec<FeatureKey>,
}

/// A feature of another project that has another version than is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangedExternal {
    /// The feature.
    pub feature: FeatureKey,
    /// The version in the lock file, or that which the feature files define.
    pub expected: String,
    /// The version in the graph.
    pub found: String,
}

/// A lock file as it should be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Lock {
    /// The path of the file.
    pub path: PathBuf,
    /// The features that differ from the file, or are in only one of the two, by key.
    pub changes: Vec<LockChange>,
    /// The number of features.
    pub features: usize,
    /// The contents of the file.
    pub text: String,
}

/// A difference between a lock file and what the store has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockChange {
    /// The feature.
    pub feature: String,
    /// Its project.
    pub project: String,
    /// The version in the file; `None` if the feature is added.
    pub from: Option<String>,
    /// The version in the store; `None` if the feature is removed.
    pub to: Option<String>,
}

impl MetaxyConfig {
    /// Returns whether the graph of this project needs the features of other projects that are in the store: if `sync` is
    /// on, and if the lock file, `extra_features` or the feature files (`external`) name some, or if the project depends on
    /// features that the feature files do not have.
    ///
    /// # Errors
    /// [`Error::Config`] if the lock file cannot be used.
    pub fn needs_other_projects(&self) -> Result<bool> {
        if !self.sync() || self.fields.features.is_none() {
            return Ok(false);
        }
        if !self.extra_features().is_empty() || !self.locked_features()?.is_empty() {
            return Ok(true);
        }
        let files = self.feature_files();
        Ok(!files.missing().is_empty() || !files.externals().is_empty())
    }

    /// Returns the graph of the features in the feature files, with the features of other projects that were pushed to a
    /// store: those that the lock file has, those on which the project depends, `extra_features`, and everything upstream.
    /// [`with_graph`](MetadataStore::with_graph) gives it to the store. If `sync` is off, the store is not read, and the
    /// graph is that of [`graph`](Self::graph).
    ///
    /// # Errors
    /// The errors of [`graph`](Self::graph); [`Error::ExternalVersions`] if a feature has another version than is
    /// expected, and `locked` is on or its definition says `external = "error"`; and the errors of
    /// [`PushedDefinitions::externals`](crate::PushedDefinitions::externals).
    pub async fn graph_with(&self, store: &MetadataStore) -> Result<LinkedGraph> {
        self.check_names_features()?;
        if !self.sync() {
            return Ok(LinkedGraph { graph: self.graph()?, changed: Vec::new(), absent: Vec::new() });
        }
        let files = self.feature_files();
        let all = files.keys();
        let defined = files.externals();
        let own: BTreeSet<FeatureKey> = all.iter().filter(|key| !defined.contains_key(key)).cloned().collect();
        let mut locked = self.locked_features()?;
        locked.retain(|locked| !all.contains(&locked.spec.key));
        let keys =
            locked.iter().map(|locked| locked.spec.key.clone()).chain(files.missing()).chain(defined.keys().cloned());
        let named = FeatureSelection { keys: keys.collect(), ..FeatureSelection::default() };
        let found = self.of_others(store, &own, named).await?;
        let known: BTreeSet<FeatureKey> = found.iter().map(|external| external.spec.key.clone()).collect();
        let mut expected: BTreeMap<FeatureKey, String> =
            locked.iter().map(|locked| (locked.spec.key.clone(), locked.version.clone())).collect();
        let asked = self.extra_features().iter().flat_map(|selection| &selection.keys);
        let asked: BTreeSet<&FeatureKey> = asked.chain(expected.keys()).chain(defined.keys()).collect();
        let absent = asked.into_iter().filter(|key| !known.contains(key) && !own.contains(key)).cloned().collect();
        let fallback = locked.into_iter().map(|locked| locked.into_external());
        let fallback = fallback.filter(|(spec, _)| !known.contains(&spec.key));
        let of_store = found.iter().map(|external| (external.spec.clone(), external.schema.clone()));
        let externals: Vec<_> = of_store.chain(fallback).collect();
        if !defined.is_empty() {
            // What the files expect, over what the store has upstream of it.
            let graph = files.graph(self.with_externals(&files, externals.iter().cloned()))?;
            for key in defined.keys() {
                expected.insert(key.clone(), graph.feature_version(key)?.to_owned());
            }
        }
        let files = files.without_externals(&known);
        let graph = files.graph(self.with_externals(&files, externals.into_iter()))?;
        let changed = self.changed(&graph, &expected)?;
        let is_refused = |one: &&ChangedExternal| {
            self.locked() == Some(true) || defined.get(&one.feature) == Some(&OtherVersion::Error)
        };
        let refused: Vec<&ChangedExternal> = changed.iter().filter(is_refused).collect();
        if !refused.is_empty() {
            return Err(other_versions(store, refused));
        }
        Ok(LinkedGraph { graph, changed, absent })
    }

    /// Returns what the lock file should be: the features of other projects on which this one depends, `extra_features`,
    /// and everything upstream, as they were pushed to a store last. Nothing is written.
    ///
    /// # Errors
    /// [`Error::Config`] without a configuration file; [`Error::NotPushed`] for features that the store does not have;
    /// [`Error::ExternalVersions`] for features whose upstream features were pushed again since; the errors of
    /// [`graph_with`](Self::graph_with).
    pub async fn lock(&self, store: &MetadataStore) -> Result<Lock> {
        self.check_names_features()?;
        let Some(path) = self.lock_file() else {
            return Err(Error::setting("metaxy_lock_path", "it is relative, but there is no configuration file"));
        };
        let files = self.feature_files();
        let externals = files.externals().into_keys().collect();
        let files = files.without_externals(&externals);
        let own = files.keys();
        let missing = files.missing();
        let named = FeatureSelection { keys: missing.iter().cloned().collect(), ..FeatureSelection::default() };
        let found = self.of_others(store, &own, named).await?;
        let known: BTreeSet<&FeatureKey> = found.iter().map(|external| &external.spec.key).collect();
        let upstream = found.iter().flat_map(|external| &external.spec.deps).map(|dep| dep.feature());
        let needed = missing.iter().chain(upstream).chain(self.extra_features().iter().flat_map(|one| &one.keys));
        let absent: BTreeSet<&FeatureKey> = needed.filter(|key| !known.contains(key) && !own.contains(key)).collect();
        if !absent.is_empty() {
            let listed = absent.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            return Err(Error::NotPushed { store: store.name().to_owned(), selection: format!(" of {listed}") });
        }
        let externals = found.iter().map(|external| (external.spec.clone(), external.schema.clone()));
        let graph = files.graph(self.with_externals(&files, externals))?;
        let expected = found.iter().map(|one| (one.spec.key.clone(), one.pushed.feature_version.clone())).collect();
        let changed = self.changed(&graph, &expected)?;
        if !changed.is_empty() {
            return Err(other_versions(store, &changed));
        }
        let mut lock = LockFile::default();
        for external in &found {
            let entry = Entry::of(external, graph.plan(&external.spec.key)?)?;
            lock.features.insert(external.spec.key.to_string(), entry);
        }
        let before = self.read_lock()?.unwrap_or_default();
        Ok(Lock { path, changes: changes(&before, &lock), features: lock.features.len(), text: lock.to_text()? })
    }

    /// Returns the selected features of other projects, and `extra_features`.
    async fn of_others(
        &self,
        store: &MetadataStore,
        own: &BTreeSet<FeatureKey>,
        named: FeatureSelection,
    ) -> Result<Vec<ExternalFeature>> {
        let definitions = match self.project() {
            Some(project) => store.definitions().project(project),
            None => store.definitions(),
        };
        let selections: Vec<FeatureSelection> =
            std::iter::once(named).chain(self.extra_features().iter().cloned()).collect();
        definitions.externals(own, &selections).await
    }

    /// Returns the features that have other versions in a graph than are expected.
    fn changed(&self, graph: &FeatureGraph, expected: &BTreeMap<FeatureKey, String>) -> Result<Vec<ChangedExternal>> {
        let mut changed = Vec::new();
        for (feature, expected) in expected {
            let found = graph.feature_version(feature)?;
            if found != expected {
                let (expected, found) = (expected.clone(), found.to_owned());
                changed.push(ChangedExternal { feature: feature.clone(), expected, found });
            }
        }
        Ok(changed)
    }
}

impl Lock {
    /// Returns whether the file is as it should be.
    pub fn is_current(&self) -> bool {
        self.changes.is_empty() && self.path.exists()
    }
}

fn other_versions<'a>(store: &MetadataStore, changed: impl IntoIterator<Item = &'a ChangedExternal>) -> Error {
    let listed = |one: &ChangedExternal| format!("`{}` ({} in place of {})", one.feature, one.found, one.expected);
    let features = changed.into_iter().map(listed).collect::<Vec<_>>().join(", ");
    Error::ExternalVersions { store: store.name().to_owned(), features }
}

fn changes(before: &LockFile, after: &LockFile) -> Vec<LockChange> {
    let keys: BTreeSet<&String> = before.features.keys().chain(after.features.keys()).collect();
    let change = |key: &String| {
        let (old, new) = (before.features.get(key), after.features.get(key));
        let is_same = old.zip(new).is_some_and(|(old, new)| old.info == new.info);
        let project = &new.or(old)?.data.project;
        let version = |entry: Option<&Entry>| entry.map(|entry| entry.info.version.clone());
        let change =
            LockChange { feature: key.clone(), project: project.clone(), from: version(old), to: version(new) };
        (!is_same).then_some(change)
    };
    keys.into_iter().filter_map(change).collect()
}
