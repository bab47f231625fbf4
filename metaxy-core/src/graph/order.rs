//! Sorts features so that each comes after those it depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::{Error, Result, nearest};
use crate::key::FeatureKey;
use crate::spec::FeatureSpec;

/// Definitions by key.
pub(crate) type Specs = BTreeMap<FeatureKey, Arc<FeatureSpec>>;

/// Sorts the keys so that each comes after those it depends on, and else by key.
pub(super) fn topological_order(specs: &Specs) -> Result<Vec<FeatureKey>> {
    let mut waiting: BTreeMap<&FeatureKey, BTreeSet<&FeatureKey>> = BTreeMap::new();
    for (key, spec) in specs {
        let mut upstream = BTreeSet::new();
        for dep in &spec.deps {
            if !specs.contains_key(dep.feature()) {
                return Err(missing(specs, key, dep.feature()));
            }
            upstream.insert(dep.feature());
        }
        waiting.insert(key, upstream);
    }
    let mut order = Vec::with_capacity(specs.len());
    while !waiting.is_empty() {
        let ready: Vec<&FeatureKey> = waiting.iter().filter(|(_, on)| on.is_empty()).map(|(key, _)| *key).collect();
        if ready.is_empty() {
            return Err(Error::DependencyCycle(find_cycle(&waiting)));
        }
        for key in &ready {
            waiting.remove(key);
            order.push((*key).clone());
        }
        waiting.values_mut().for_each(|on| on.retain(|key| !ready.contains(key)));
    }
    Ok(order)
}

/// Returns the error of a dependency that does not exist.
pub(super) fn missing(specs: &Specs, feature: &FeatureKey, dependency: &FeatureKey) -> Error {
    Error::MissingDependency {
        feature: feature.clone(),
        dependency: dependency.clone(),
        nearest: nearest_key(dependency, specs.keys()),
    }
}

/// Finds cycles until none is left. Every cycle has its first key at its end too. Two cycles that share a feature count
/// as one.
pub(super) fn find_cycles(specs: &Specs) -> Vec<Vec<FeatureKey>> {
    let upstream = |spec: &FeatureSpec| -> BTreeSet<&FeatureKey> {
        spec.deps.iter().filter_map(|dep| specs.get_key_value(dep.feature())).map(|(key, _)| key).collect()
    };
    let mut waiting: BTreeMap<_, _> = specs.iter().map(|(key, spec)| (key, upstream(spec))).collect();
    let mut cycles = Vec::new();
    while !waiting.is_empty() {
        let mut done: Vec<&FeatureKey> = waiting.iter().filter(|(_, on)| on.is_empty()).map(|(key, _)| *key).collect();
        if done.is_empty() {
            let cycle = find_cycle(&waiting);
            done = waiting.keys().copied().filter(|key| cycle.contains(key)).collect();
            cycles.push(cycle);
        }
        waiting.retain(|key, _| !done.contains(key));
        waiting.values_mut().for_each(|on| on.retain(|key| !done.contains(key)));
    }
    cycles
}

/// Finds a cycle among features that all have an unsorted dependency.
fn find_cycle(waiting: &BTreeMap<&FeatureKey, BTreeSet<&FeatureKey>>) -> Vec<FeatureKey> {
    let mut path: Vec<&FeatureKey> = Vec::new();
    let mut next = waiting.keys().next().copied();
    while let Some(key) = next {
        if let Some(start) = path.iter().position(|seen| *seen == key) {
            return path[start..].iter().chain([&key]).map(|key| (*key).clone()).collect();
        }
        path.push(key);
        next = waiting.get(key).and_then(|on| on.first().copied());
    }
    path.into_iter().cloned().collect()
}

pub(super) fn nearest_key<'a>(key: &FeatureKey, keys: impl Iterator<Item = &'a FeatureKey>) -> Option<String> {
    let known: Vec<String> = keys.map(ToString::to_string).collect();
    nearest(&key.to_string(), known.iter().map(String::as_str))
}
