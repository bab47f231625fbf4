//! Changes of definitions, as `impact` and `graph diff` show them.

use metaxy_core::graph::{ChangeKind, FeatureChange, FieldChangeReason};
use metaxy_core::{FeatureGraph, MetadataStore};
use serde::Serialize;

use crate::failure::{Failure, Result};

/// A feature that differs.
#[derive(Serialize)]
pub struct Change {
    pub feature: String,
    /// `added`, `removed`, `recomputed` or `redefined`.
    pub change: &'static str,
    pub fields: Vec<FieldChange>,
}

/// A field that differs.
#[derive(Serialize)]
pub struct FieldChange {
    pub field: String,
    /// `added`, `removed`, `code`, `inputs` or `upstream`.
    pub reason: &'static str,
    /// The code versions, if they differ.
    pub from: Option<String>,
    pub to: Option<String>,
}

impl Change {
    /// Returns a change in words.
    pub fn of(change: &FeatureChange) -> Self {
        let kind = match change.kind {
            ChangeKind::Added => "added",
            ChangeKind::Removed => "removed",
            ChangeKind::Recomputed => "recomputed",
            ChangeKind::Redefined => "redefined",
        };
        let field = |field: &metaxy_core::graph::FieldChange| {
            let (reason, from, to) = match &field.reason {
                FieldChangeReason::Added => ("added", None, None),
                FieldChangeReason::Removed => ("removed", None, None),
                FieldChangeReason::Code { from, to } => ("code", Some(from.clone()), Some(to.clone())),
                FieldChangeReason::Inputs => ("inputs", None, None),
                FieldChangeReason::Upstream => ("upstream", None, None),
            };
            FieldChange { field: field.field.to_string(), reason, from, to }
        };
        Self { feature: change.feature.to_string(), change: kind, fields: change.fields.iter().map(field).collect() }
    }

    /// Returns the fields with their reasons, for people.
    pub fn fields_text(&self) -> String {
        let text = |one: &FieldChange| match (&one.from, &one.to) {
            (Some(from), Some(to)) => format!("{} (code {from} → {to})", one.field),
            _ => format!("{} ({})", one.field, one.reason),
        };
        self.fields.iter().map(text).collect::<Vec<_>>().join(", ")
    }
}

/// Returns whether a change is one of the project: features of others are not in its files.
pub fn is_own(change: &FeatureChange, earlier: &FeatureGraph) -> bool {
    change.kind != ChangeKind::Removed || earlier.plan(&change.feature).is_ok_and(|plan| !plan.external)
}

/// Returns the features that a project has pushed last, or as a version of it.
pub async fn pushed(store: &MetadataStore, project: Option<&str>, version: Option<&str>) -> Result<FeatureGraph> {
    let mut pushed = store.definitions();
    if let Some(project) = project {
        pushed = pushed.project(project);
    }
    if let Some(version) = version {
        pushed = pushed.project_version(version);
    }
    pushed.graph().await.map_err(|error| match error {
        error @ metaxy_core::Error::NotPushed { .. } => {
            Failure::usage(format!("there is nothing to compare with: {error} (`metaxy push`, `metaxy history`)"))
        }
        error => error.into(),
    })
}
