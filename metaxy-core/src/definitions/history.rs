//! Reading pushed definitions: every row, the newest of each feature, or push by push.

use std::collections::{BTreeMap, BTreeSet};

use crate::columns::PROJECT_VERSION;
use crate::deferred::Deferred;
use crate::error::{Error, Result};
use crate::filter::{Filter, col};
use crate::key::{FeatureKey, IntoFeatureKey, InvalidKey};
use crate::store::MetadataStore;

use super::record::PushedDefinition;
use super::select::latest_by_feature;
use super::table::{self, Entry, FEATURE, PROJECT};

/// Up to this number of features the storage system selects their rows.
const SELECTED_FEATURES: usize = 100;

/// The definitions that were pushed to a store, or some of them.
#[derive(Clone, Debug)]
#[must_use = "nothing is read before `history`, `latest`, `pushes` or `graph`"]
pub struct PushedDefinitions {
    pub(super) store: MetadataStore,
    pub(super) project: Option<String>,
    pub(super) project_version: Option<String>,
    features: Deferred<Vec<FeatureKey>, InvalidKey>,
}

/// A push of a project: the features that it recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProjectPush {
    /// The project.
    pub project: String,
    /// The version of the project.
    pub project_version: String,
    /// The time of its first row, in microseconds since 1970-01-01 UTC.
    pub recorded_at: i64,
    /// Its rows, by the key of the feature.
    pub definitions: Vec<PushedDefinition>,
}

impl MetadataStore {
    /// Returns the definitions that were pushed to this store; those of fallback stores are not searched.
    pub fn definitions(&self) -> PushedDefinitions {
        let features = Deferred::new(Ok::<_, InvalidKey>(Vec::new()));
        PushedDefinitions { store: self.clone(), project: None, project_version: None, features }
    }
}

impl PushedDefinitions {
    /// Selects the definitions of a project.
    pub fn project(mut self, name: impl Into<String>) -> Self {
        self.project = Some(name.into());
        self
    }

    /// Selects the definitions that were pushed as this version of their project.
    pub fn project_version(mut self, version: impl Into<String>) -> Self {
        self.project_version = Some(version.into());
        self
    }

    /// Selects the definitions of a feature, and of those that were selected before.
    pub fn feature(mut self, feature: impl IntoFeatureKey) -> Self {
        self.features.add(feature.into_feature_key(), |features, feature| features.push(feature));
        self
    }

    /// Returns all selected definitions, the newest first.
    ///
    /// # Errors
    /// [`Error::InvalidKey`], [`Error::Corrupt`] or [`Error::UnusableDefinition`] for a row that no program has pushed,
    /// and the errors of the backend.
    pub async fn history(&self) -> Result<Vec<PushedDefinition>> {
        let mut rows = table::definitions(&self.store, self.filter(true)?.as_ref()).await?;
        rows.retain(|row| self.selects(&row.entry()));
        rows.sort_by_cached_key(|row| std::cmp::Reverse(row.entry()));
        Ok(rows)
    }

    /// Returns the newest definition of each feature, by key. A feature that two projects have pushed belongs to the one
    /// that pushed it last. A feature stays in the store after its project has removed it.
    ///
    /// # Errors
    /// The errors of [`history`](Self::history).
    pub async fn latest(&self) -> Result<Vec<PushedDefinition>> {
        let entries = table::entries(&self.store, self.filter(false)?.as_ref()).await?;
        let latest = latest_by_feature(entries.iter().filter(|entry| self.selects_but_for_project(entry)));
        let selected: Vec<&Entry> = latest.into_values().filter(|entry| self.selects(entry)).collect();
        let mut rows = fetch(&self.store, &selected).await?;
        rows.sort_by(|one, other| one.feature.cmp(&other.feature));
        Ok(rows)
    }

    /// Returns the pushes of each project with the selected definitions that they recorded, the newest first.
    ///
    /// # Errors
    /// The errors of [`history`](Self::history).
    pub async fn pushes(&self) -> Result<Vec<ProjectPush>> {
        let mut by_project: BTreeMap<String, Vec<ProjectPush>> = BTreeMap::new();
        for row in self.history().await?.into_iter().rev() {
            let pushes = by_project.entry(row.project.clone()).or_default();
            match pushes.last_mut().filter(|push| push.project_version == row.project_version) {
                Some(push) => push.definitions.push(row),
                None => pushes.push(ProjectPush {
                    project: row.project.clone(),
                    project_version: row.project_version.clone(),
                    recorded_at: row.recorded_at,
                    definitions: vec![row],
                }),
            }
        }
        let mut pushes: Vec<ProjectPush> = by_project.into_values().flatten().collect();
        for push in &mut pushes {
            push.definitions.sort_by(|one, other| one.feature.cmp(&other.feature));
        }
        pushes.sort_by_key(|push| std::cmp::Reverse(push.recorded_at));
        Ok(pushes)
    }

    /// Returns the selected features; none selects all.
    pub(super) fn features(&self) -> Result<&[FeatureKey]> {
        self.features.get().map(Vec::as_slice).map_err(|invalid| invalid.clone().into())
    }

    fn selects(&self, entry: &Entry) -> bool {
        self.project.as_ref().is_none_or(|project| *project == entry.project) && self.selects_but_for_project(entry)
    }

    fn selects_but_for_project(&self, entry: &Entry) -> bool {
        let features = self.features.get().map_or(&[][..], Vec::as_slice);
        self.project_version.as_ref().is_none_or(|version| *version == entry.project_version)
            && (features.is_empty() || features.iter().any(|feature| feature.to_string() == entry.feature))
    }

    /// Returns a filter for the storage system that all selected rows pass.
    fn filter(&self, by_project: bool) -> Result<Option<Filter>> {
        let features = self.features()?;
        let project = self.project.as_deref().filter(|_| by_project).map(|project| col(PROJECT).eq(project));
        let version = self.project_version.as_deref().map(|version| col(PROJECT_VERSION).eq(version));
        let few = (1..=SELECTED_FEATURES).contains(&features.len());
        let features = few.then(|| col(FEATURE).is_in(features.iter().map(ToString::to_string)));
        let all: Vec<Filter> = [project, version, features].into_iter().flatten().collect();
        Ok((!all.is_empty()).then(|| Filter::all(all)))
    }
}

/// Reads the whole rows of entries, one for each.
pub(super) async fn fetch(store: &MetadataStore, entries: &[&Entry]) -> Result<Vec<PushedDefinition>> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let mut versions: Vec<&str> = entries.iter().map(|entry| entry.project_version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    let filter = col(PROJECT_VERSION).is_in(versions.into_iter().map(str::to_owned));
    let mut found: BTreeMap<Entry, PushedDefinition> = BTreeMap::new();
    let wanted: BTreeSet<&Entry> = entries.iter().copied().collect();
    for row in table::definitions(store, Some(&filter)).await? {
        let entry = row.entry();
        if wanted.contains(&entry) {
            found.entry(entry).or_insert(row);
        }
    }
    if found.len() < wanted.len() {
        // The table was dropped in the time between.
        return Err(Error::Conflict { table: table::key().table_name(), attempts: 1 });
    }
    Ok(found.into_values().collect())
}
