//! What differs between two graphs.

use crate::key::{FeatureKey, FieldKey};

use super::{FeatureGraph, FeaturePlan};

/// A feature that differs between two graphs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureChange {
    /// The feature.
    pub feature: FeatureKey,
    /// How it differs.
    pub kind: ChangeKind,
    /// The fields that differ, by key.
    pub fields: Vec<FieldChange>,
}

/// How a feature differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Only the later graph has it.
    Added,
    /// Only the earlier graph has it.
    Removed,
    /// It has another feature version: its rows become history, and its samples are new.
    Recomputed,
    /// Its definition differs, but not its feature version: rows stay as they are. (Which samples are expected may
    /// change all the same: by another filter or lineage.)
    Redefined,
}

/// A field that differs between two graphs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// The field.
    pub field: FieldKey,
    /// Why it differs.
    pub reason: FieldChangeReason,
}

/// Why a field differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldChangeReason {
    /// Only the later definition has it.
    Added,
    /// Only the earlier definition has it.
    Removed,
    /// It has another code version.
    Code {
        /// The earlier code version.
        from: String,
        /// The later code version.
        to: String,
    },
    /// It is made from other upstream fields.
    Inputs,
    /// What it is made from differs.
    Upstream,
}

impl FeatureGraph {
    /// Returns the features that differ from those of an earlier graph: in the order of this graph, upstream first, and
    /// then those that were removed.
    pub fn changes_since(&self, earlier: &Self) -> Vec<FeatureChange> {
        let of = |key: &FeatureKey| change(earlier.plan(key).ok(), self.plan(key).ok());
        let removed = earlier.topological_order().iter().filter(|key| self.plan(*key).is_err());
        self.topological_order().iter().chain(removed).filter_map(of).collect()
    }
}

/// Returns the change of a feature; `None` if there is none.
fn change(before: Option<&FeaturePlan>, after: Option<&FeaturePlan>) -> Option<FeatureChange> {
    let feature = after.or(before)?.spec.key.clone();
    let kind = match (before, after) {
        (None, _) => ChangeKind::Added,
        (_, None) => ChangeKind::Removed,
        (Some(before), Some(after)) if before.feature_version != after.feature_version => ChangeKind::Recomputed,
        (Some(before), Some(after)) if before.definition_version != after.definition_version => ChangeKind::Redefined,
        _ => return None,
    };
    let fields = match (before, after) {
        (Some(before), Some(after)) => field_changes(before, after),
        _ => Vec::new(),
    };
    Some(FeatureChange { feature, kind, fields })
}

fn field_changes(before: &FeaturePlan, after: &FeaturePlan) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    for (field, version) in &after.field_versions {
        let reason = match before.field_versions.get(field) {
            None => FieldChangeReason::Added,
            Some(earlier) if earlier == version => continue,
            Some(_) => reason(before, after, field),
        };
        changes.push(FieldChange { field: field.clone(), reason });
    }
    let removed = before.field_versions.keys().filter(|field| !after.field_versions.contains_key(*field));
    changes.extend(removed.map(|field| FieldChange { field: field.clone(), reason: FieldChangeReason::Removed }));
    changes
}

/// Returns why a field that both definitions have has another version: its own reasons come first.
fn reason(before: &FeaturePlan, after: &FeaturePlan, field: &FieldKey) -> FieldChangeReason {
    let code = |plan: &FeaturePlan| plan.spec.field(field).map(|field| field.code_version.clone()).unwrap_or_default();
    let parents = |plan: &FeaturePlan| {
        let position = plan.spec.fields.iter().position(|one| one.key() == field);
        position.map(|position| plan.parents[position].clone()).unwrap_or_default()
    };
    match (code(before), code(after)) {
        (from, to) if from != to => FieldChangeReason::Code { from, to },
        _ if parents(before) != parents(after) => FieldChangeReason::Inputs,
        _ => FieldChangeReason::Upstream,
    }
}
