//! Determines the columns that match the samples of a feature with those of its dependencies, and checks lineages.

use std::sync::Arc;

use crate::columns;
use crate::error::{Error, Result};
use crate::spec::{Fault, FeatureDep, FeatureSpec, Lineage};

/// Returns the id columns of an upstream feature, by their new names.
pub(crate) fn renamed_ids(dep: &FeatureDep, parent: &FeatureSpec) -> Vec<String> {
    parent.id_columns.iter().map(|column| dep.renamed(column).to_owned()).collect()
}

/// Returns the columns that identify a sample of a dependency after its lineage has been applied.
pub(crate) fn input_id_columns(spec: &FeatureSpec, dep: &FeatureDep, parent: &FeatureSpec) -> Vec<String> {
    match &dep.lineage {
        Lineage::Identity => renamed_ids(dep, parent),
        Lineage::Aggregation { on: None } => spec.id_columns.clone(),
        Lineage::Aggregation { on: Some(on) } | Lineage::Expansion { on, .. } => on.clone(),
    }
}

/// Returns the id columns that all inputs share, on which they are joined and compared; for a root its own ids.
pub(crate) fn shared_ids(spec: &FeatureSpec, upstream: &[Arc<FeatureSpec>]) -> Vec<String> {
    let inputs = spec.deps.iter().zip(upstream).map(|(dep, parent)| input_id_columns(spec, dep, parent));
    let shared = inputs.reduce(|shared, ids| shared.into_iter().filter(|column| ids.contains(column)).collect());
    shared.unwrap_or_else(|| spec.id_columns.clone())
}

/// Refuses a lineage whose increment could never become empty, even if all of it is processed.
///
/// Stored rows are identified by the feature's ids, and compared with expected ones by the shared ids. So the ids have
/// to determine the shared ones, and all expected rows that agree in the shared ids need the same versions.
pub(crate) fn check(spec: &FeatureSpec, upstream: &[Arc<FeatureSpec>], faults: &mut Vec<Fault>) {
    if spec.deps.iter().all(|dep| dep.lineage == Lineage::Identity) {
        return;
    }
    let shared = shared_ids(spec, upstream);
    for (index, (dep, parent)) in spec.deps.iter().zip(upstream).enumerate() {
        let checked = check_on(spec, dep, parent).and_then(|()| check_versions(spec, dep, parent, &shared));
        faults.extend(checked.err().map(|error| Fault::of_dep(index, &["lineage"], error)));
    }
}

/// Checks that the columns `on` exist, and that the feature's ids determine them.
fn check_on(spec: &FeatureSpec, dep: &FeatureDep, parent: &FeatureSpec) -> Result<()> {
    if dep.lineage == Lineage::Identity {
        return Ok(());
    }
    let on = input_id_columns(spec, dep, parent);
    if let Some(column) = on.iter().find(|column| columns::is_system(column)) {
        return refuse(spec, dep, &format!("names the system column `{column}` in `on`; name columns of the samples"));
    }
    if let Some((from, to)) = dep.rename.iter().flatten().find(|(from, _)| on.contains(from) && !is_target(dep, from)) {
        return refuse(spec, dep, &format!("names `{from}` in `on`, which the dependency renames; name it `{to}`"));
    }
    let Some(column) = on.iter().find(|column| !spec.id_columns.contains(column)) else { return Ok(()) };
    let row_for_each = matches!(dep.lineage, Lineage::Aggregation { .. })
        && renamed_ids(dep, parent).iter().all(|id| spec.id_columns.contains(id));
    if row_for_each {
        return Ok(());
    }
    let ids = spec.id_columns.join("`, `");
    refuse(
        spec,
        dep,
        &format!("names `{column}` in `on`, which is not among the feature's id columns `{ids}`; add it to them"),
    )
}

fn is_target(dep: &FeatureDep, name: &str) -> bool {
    dep.rename.iter().flatten().any(|(_, to)| to == name)
}

/// Checks that rows with equal shared ids have one version: else the stored row could match only one of them.
fn check_versions(spec: &FeatureSpec, dep: &FeatureDep, parent: &FeatureSpec, shared: &[String]) -> Result<()> {
    let versioned_by = match &dep.lineage {
        Lineage::Aggregation { .. } => input_id_columns(spec, dep, parent),
        Lineage::Identity | Lineage::Expansion { .. } => renamed_ids(dep, parent),
    };
    let Some(column) = versioned_by.iter().find(|column| !shared.contains(column)) else { return Ok(()) };
    let shared = if shared.is_empty() { "no column at all".to_owned() } else { format!("`{}`", shared.join("`, `")) };
    refuse(
        spec,
        dep,
        &format!(
            "has a version for each `{column}`, but rows are matched by {shared}: several versions would meet one result; \
             name `{column}` in every `on`, rename an id column to it, or group this dependency (N:1) on what is matched"
        ),
    )
}

fn refuse(spec: &FeatureSpec, dep: &FeatureDep, reason: &str) -> Result<()> {
    let reason = format!("the lineage of its dependency `{}` {reason}", dep.feature());
    Err(Error::InvalidSpec { feature: spec.key.to_string(), reason })
}
