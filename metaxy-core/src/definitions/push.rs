//! Pushing the definitions of a project.

use std::collections::BTreeMap;
use std::future::IntoFuture;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use crate::canonical_json;
use crate::error::{Error, Result};
use crate::graph::FeaturePlan;
use crate::key::FeatureKey;
use crate::store::{MetadataStore, check_project};

use super::record::PushedDefinition;
use super::select::{latest_by_feature, latest_versions};
use super::table::{self, Entry};

/// The tag with the version of the program that has pushed.
const PROGRAM_TAG: &str = "metaxy";

/// A push, to be awaited.
#[derive(Debug)]
#[must_use = "nothing is pushed until it is awaited"]
pub struct PushRequest {
    store: MetadataStore,
    project: Option<String>,
    tags: Map<String, Value>,
}

/// What a push has recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed {
    /// The project.
    pub project: String,
    /// The version of the project.
    pub project_version: String,
    /// Whether the last push of the project had this version.
    pub already_pushed: bool,
    /// The features that were recorded: all of the project or, if the version was pushed already, those that the store
    /// did not have in this definition; mostly none.
    pub features: Vec<FeatureKey>,
}

impl MetadataStore {
    /// Records the definitions of this store's graph, so that other programs can read them from the store, and the
    /// Python package too. Features of other projects are left out. The tags say what was pushed, such as
    /// `[("git_commit", "4f2a91c")]`; `()` is none.
    ///
    /// If the last push of the project had the same version, nothing is recorded, except features that the store does
    /// not have in this definition. Everything is recorded or nothing; a second push at the same time does no harm.
    ///
    /// # Errors
    /// Awaiting it returns [`Error::ReadOnly`], [`Error::Config`] without a project or for an unusable tag,
    /// [`Error::NothingToPush`], [`Error::TableMissing`], and the errors of the backend.
    pub fn push(&self, tags: impl IntoTags) -> PushRequest {
        PushRequest { store: self.clone(), project: self.project().map(str::to_owned), tags: tags.into_tags() }
    }
}

impl PushRequest {
    /// Sets the project, instead of the store's.
    pub fn project(mut self, name: impl Into<String>) -> Self {
        self.project = Some(name.into());
        self
    }

    async fn run(self) -> Result<Pushed> {
        let Self { store, project, tags } = self;
        store.check_writable("push")?;
        let project = checked_project(&store, project)?;
        let tags = tags_json(tags)?;
        let graph = store.graph();
        let own: Vec<&FeaturePlan> = in_order(&store).filter(|plan| !plan.external).collect();
        if own.is_empty() {
            return Err(Error::NothingToPush { project });
        }
        let entries = table::entries(&store, None).await?;
        let version = graph.project_version();
        let already_pushed = latest_versions(&entries).get(project.as_str()) == Some(&version);
        let unknown = if already_pushed { without_recorded(own, &entries, &project, version) } else { own };
        let newest = entries.iter().map(|entry| entry.recorded_at).max();
        let at = store.next_stamp().max(newest.map_or(i64::MIN, |newest| newest.saturating_add(1)));
        let rows = rows_of(&unknown, &project, version, &tags, at);
        if !rows.is_empty() {
            table::append(&store, &rows).await?;
        }
        let features = rows.into_iter().map(|row| row.feature).collect();
        let version = version.to_owned();
        tracing::info!(store = store.name(), project, version, already_pushed, "definitions are pushed");
        Ok(Pushed { project, project_version: version, already_pushed, features })
    }
}

impl IntoFuture for PushRequest {
    type Output = Result<Pushed>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}

/// Returns the rows of features that are pushed at a time.
fn rows_of(plans: &[&FeaturePlan], project: &str, version: &str, tags: &str, at: i64) -> Vec<PushedDefinition> {
    let row = |(number, plan): (i64, &&FeaturePlan)| PushedDefinition {
        project: project.to_owned(),
        feature: plan.spec.key.clone(),
        feature_version: plan.feature_version.clone(),
        definition_version: plan.definition_version.clone(),
        project_version: version.to_owned(),
        // As in Python: each row has its own time, in the order of the features.
        recorded_at: at.saturating_add(number),
        spec_json: plan.spec.to_pushed_json(),
        schema_json: canonical_json::to_string_in_order(&plan.schema),
        class_path: None,
        tags_json: Some(tags.to_owned()),
        deleted_at: None,
    };
    (0..).zip(plans).map(row).collect()
}

/// Returns the features, each after those that it depends on.
fn in_order(store: &MetadataStore) -> impl Iterator<Item = &FeaturePlan> {
    let graph = store.graph();
    graph.topological_order().iter().filter_map(|key| graph.plan(key).ok())
}

/// Returns the features whose newest row of this project version is missing or has another definition.
fn without_recorded<'a>(
    own: Vec<&'a FeaturePlan>,
    entries: &[Entry],
    project: &str,
    version: &str,
) -> Vec<&'a FeaturePlan> {
    let of_version = entries.iter().filter(|entry| entry.project == project && entry.project_version == version);
    let recorded = latest_by_feature(of_version);
    let is_unknown = |plan: &&FeaturePlan| {
        let known = recorded.get(plan.spec.key.to_string().as_str());
        known.is_none_or(|known| known.definition_version != plan.definition_version)
    };
    own.into_iter().filter(is_unknown).collect()
}

fn checked_project(store: &MetadataStore, project: Option<String>) -> Result<String> {
    let Some(project) = project else {
        let reason = format!(
            "store `{}` belongs to no project; set `project` in metaxy.toml, or name it with `StoreBuilder::project` or \
             `PushRequest::project`",
            store.name()
        );
        return Err(Error::setting("project", reason));
    };
    check_project(&project)?;
    Ok(project)
}

/// Returns the tags as JSON, with the version of this program as the last one.
fn tags_json(mut tags: Map<String, Value>) -> Result<String> {
    if tags.contains_key(PROGRAM_TAG) {
        let reason = "this tag holds the version of the program that pushes; use another name";
        return Err(Error::setting(format!("tags.{PROGRAM_TAG}"), reason));
    }
    let program = json!({"version": env!("CARGO_PKG_VERSION"), "implementation": "rust"});
    tags.insert(PROGRAM_TAG.to_owned(), Value::String(canonical_json::to_string_in_order(&program)));
    Ok(canonical_json::to_string_in_order(&Value::Object(tags)))
}

/// Tags of a push: `()` for none, names with values, or a JSON object.
pub trait IntoTags {
    /// Returns the tags as a JSON object.
    fn into_tags(self) -> Map<String, Value>;
}

impl IntoTags for () {
    fn into_tags(self) -> Map<String, Value> {
        Map::new()
    }
}

impl IntoTags for Map<String, Value> {
    fn into_tags(self) -> Map<String, Value> {
        self
    }
}

fn collected<K: Into<String>, V: Into<Value>>(tags: impl IntoIterator<Item = (K, V)>) -> Map<String, Value> {
    tags.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

impl<K: Into<String>, V: Into<Value>, const N: usize> IntoTags for [(K, V); N] {
    fn into_tags(self) -> Map<String, Value> {
        collected(self)
    }
}

impl<K: Into<String>, V: Into<Value>> IntoTags for Vec<(K, V)> {
    fn into_tags(self) -> Map<String, Value> {
        collected(self)
    }
}

impl<K: Into<String>, V: Into<Value>> IntoTags for BTreeMap<K, V> {
    fn into_tags(self) -> Map<String, Value> {
        collected(self)
    }
}
