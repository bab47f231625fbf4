//! Finds everything that is wrong with the features of a graph, where [`FeatureGraphBuilder::build`] stops at the first.
//!
//! [`FeatureGraphBuilder::build`]: super::FeatureGraphBuilder::build

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::Error;
use crate::key::{FeatureKey, FqFieldKey};
use crate::lineage;
use crate::spec::{Fault, FeatureSpec};

use super::order::{Specs, find_cycles, missing};
use super::parents::{check_renames, parent_fields};

/// Returns what is wrong between the features. Features in `broken` have faults of their own, or could not be read at
/// all: others may depend on them, but nothing that follows from their definitions is checked.
pub(crate) fn faults(specs: &Specs, broken: &BTreeSet<FeatureKey>) -> Vec<(FeatureKey, Fault)> {
    let mut faults = Vec::new();
    for (key, spec) in specs {
        for (index, dep) in spec.deps.iter().enumerate().filter(|(_, dep)| dep.has_valid_key()) {
            if !specs.contains_key(dep.feature()) && !broken.contains(dep.feature()) {
                let error = missing(specs, key, dep.feature());
                faults.push((key.clone(), Fault::of_dep(index, &["feature"], error)));
            }
        }
    }
    faults.extend(find_cycles(specs).into_iter().filter_map(|cycle| cycle_fault(specs, cycle)));
    for (key, spec) in specs.iter().filter(|(key, _)| !broken.contains(key)) {
        let is_sound = |key: &FeatureKey| !broken.contains(key);
        let upstream = spec.deps.iter().map(|dep| specs.get(dep.feature()).filter(|parent| is_sound(&parent.key)));
        let Some(upstream) = upstream.map(|parent| parent.cloned()).collect::<Option<Vec<_>>>() else { continue };
        let mut own = Vec::new();
        check(spec, &upstream, &mut own);
        faults.extend(own.into_iter().map(|fault| (key.clone(), fault)));
    }
    faults
}

/// Checks a feature against the definitions of its upstream features, and returns the upstream fields of each field.
pub(super) fn check(
    spec: &FeatureSpec,
    upstream: &[Arc<FeatureSpec>],
    faults: &mut Vec<Fault>,
) -> Vec<Vec<FqFieldKey>> {
    check_renames(spec, upstream, faults);
    lineage::check(spec, upstream, faults);
    parent_fields(spec, upstream, faults)
}

/// Returns the fault of a cycle, at the first dependency of it.
fn cycle_fault(specs: &Specs, cycle: Vec<FeatureKey>) -> Option<(FeatureKey, Fault)> {
    let [first, next, ..] = cycle.as_slice() else { return None };
    let index = specs.get(first)?.deps.iter().position(|dep| dep.feature() == next)?;
    Some((first.clone(), Fault::of_dep(index, &["feature"], Error::DependencyCycle(cycle))))
}
