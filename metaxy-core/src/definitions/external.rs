//! Features of other projects, for a graph that depends on them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;
use crate::key::FeatureKey;
use crate::spec::FeatureSpec;

use super::history::PushedDefinitions;
use super::record::PushedDefinition;
use super::select::{latest_by_feature, latest_versions};
use super::table::{self, Entry};

/// A selection of the features of a store: all, or those of some projects and some by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSelection {
    /// The features of these projects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<String>,
    /// The features of these keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<FeatureKey>,
    /// Whether every feature is selected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// A feature of another project, as it was pushed last.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExternalFeature {
    /// The pushed row.
    pub pushed: PushedDefinition,
    /// The definition.
    pub spec: FeatureSpec,
    /// The JSON schema of the user's columns.
    pub schema: Value,
}

impl PushedDefinitions {
    /// Returns what other projects have pushed last of the features that are selected, with everything upstream of them.
    /// The features of the selected project and those in `own` are no one else's: they are left out, and so is what only
    /// they depend on. Features that the store does not have are left out too.
    ///
    /// # Errors
    /// [`Error::UnusableDefinition`](crate::Error::UnusableDefinition), and the errors of [`history`](Self::history).
    pub async fn externals(
        &self,
        own: &BTreeSet<FeatureKey>,
        selections: &[FeatureSelection],
    ) -> Result<Vec<ExternalFeature>> {
        let entries = table::entries(&self.store, None).await?;
        let own: BTreeSet<String> = own.iter().map(ToString::to_string).collect();
        let is_other = |entry: &&Entry| {
            self.project.as_ref().is_none_or(|project| *project != entry.project) && !own.contains(&entry.feature)
        };
        let last = latest_versions(&entries);
        let is_current = |entry: &&Entry| last.get(entry.project.as_str()) == Some(&entry.project_version.as_str());
        let current = latest_by_feature(entries.iter().filter(is_other).filter(is_current));
        // What a project has removed still counts for those who depend on it.
        let mut available: BTreeMap<&str, &Entry> = latest_by_feature(entries.iter().filter(is_other));
        available.extend(&current);
        let mut wanted = BTreeSet::new();
        for selection in selections {
            let selects = |entry: &Entry| selection.all || selection.projects.contains(&entry.project);
            wanted.extend(current.values().filter(|entry| selects(entry)).map(|entry| entry.feature.clone()));
            wanted.extend(selection.keys.iter().map(ToString::to_string));
        }
        let loaded = self.load(wanted.into_iter().collect(), &available).await?;
        Ok(loaded.into_iter().map(|(pushed, spec, schema)| ExternalFeature { pushed, spec, schema }).collect())
    }
}
