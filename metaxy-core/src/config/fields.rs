//! The fields of a configuration, without its stores.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::definitions::FeatureSelection;
use crate::error::{Error, Result};
use crate::hash::MIN_TRUNCATION;
use crate::key::invalid_project;
use crate::registry::{push_path, read};

use super::document::Node;

/// The fields that variables may set.
pub(super) const SETTABLE: [&str; 10] = [
    "store",
    "project",
    "hash_truncation_length",
    "auto_create_tables",
    "enable_map_datatype",
    "sync",
    "locked",
    "extra_features",
    "metaxy_lock_path",
    "features",
];

/// Fields that only mean something to the Python package.
const IGNORED: [&str; 3] = ["entrypoints", "theme", "ext"];

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fields {
    #[serde(default = "default_store")]
    pub(super) store: String,
    #[serde(default)]
    pub(super) project: Option<String>,
    #[serde(default)]
    pub(super) hash_truncation_length: Option<usize>,
    #[serde(default)]
    pub(super) auto_create_tables: Option<bool>,
    #[serde(default)]
    pub(super) enable_map_datatype: bool,
    #[serde(default = "default_sync")]
    pub(super) sync: bool,
    #[serde(default)]
    pub(super) locked: Option<bool>,
    #[serde(default)]
    pub(super) extra_features: Vec<FeatureSelection>,
    #[serde(default)]
    pub(super) metaxy_lock_path: Option<String>,
    /// The patterns of feature files.
    #[serde(default)]
    pub(super) features: Option<Vec<String>>,
    // Read elsewhere; listed here so that unknown variables can be recognized.
    #[serde(default, rename = "stores")]
    _stores: IgnoredAny,
    #[serde(default, rename = "extend")]
    _extend: IgnoredAny,
}

fn default_store() -> String {
    "dev".to_owned()
}

fn default_sync() -> bool {
    true
}

impl Fields {
    /// Reads and checks the fields of a document without its stores.
    pub(super) fn read(document: &Node) -> Result<Self> {
        let is_ours = |key: &str| !IGNORED.contains(&key);
        for (key, node) in document.as_table().into_iter().flatten().filter(|(key, _)| is_ours(key)) {
            if let Some((path, reason)) = node.first_unresolved() {
                let path: Vec<String> = std::iter::once(key.clone()).chain(path).collect();
                return Err(error_at(document, &path, reason));
            }
        }
        let mut values = document.to_toml();
        if let Some(table) = values.as_table_mut() {
            table.retain(|key, _| is_ours(key));
        }
        let fields: Self = read::read(&values).map_err(|problem| {
            let is_stores =
                problem.path == ["store"] && document.get("store").is_some_and(|store| store.as_table().is_some());
            let hint = if is_stores { "; a store is declared in a table [stores.<name>]" } else { "" };
            error_at(document, &problem.path, &(problem.reason + hint))
        })?;
        fields.check(document)?;
        warn_of_ignored(document);
        Ok(fields)
    }

    fn check(&self, document: &Node) -> Result<()> {
        let fail = |path: &[&str], reason: String| {
            let path: Vec<String> = path.iter().map(|&key| key.to_owned()).collect();
            Err(error_at(document, &path, &reason))
        };
        if let Some(reason) = self.project.as_deref().and_then(invalid_project) {
            return fail(&["project"], reason);
        }
        if let Some(length) = self.hash_truncation_length.filter(|length| *length < MIN_TRUNCATION) {
            return fail(
                &["hash_truncation_length"],
                format!("{length} is too short: keep at least {MIN_TRUNCATION} characters, or versions collide"),
            );
        }
        let selects = |selection: &FeatureSelection| {
            selection.all || !selection.projects.is_empty() || !selection.keys.is_empty()
        };
        match self.extra_features.iter().position(|selection| !selects(selection)) {
            Some(at) => fail(
                &["extra_features", &format!("[{at}]")],
                "it selects nothing; give `projects`, `keys` or `all = true`".to_owned(),
            ),
            None => Ok(()),
        }
    }
}

fn warn_of_ignored(document: &Node) {
    let ignored: Vec<&str> = IGNORED.into_iter().filter(|key| document.get(key).is_some()).collect();
    if !ignored.is_empty() {
        tracing::warn!(settings = ignored.join(", "), "only the Python package uses these settings; they are ignored");
    }
}

/// Returns the error of a setting in a document.
pub(super) fn error_at(document: &Node, path: &[String], reason: &str) -> Error {
    let mut key = String::new();
    push_path(&mut key, path);
    document.origins().nearest(path).cloned().unwrap_or_default().error(key, reason)
}
