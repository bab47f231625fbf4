//! Sorts features so that each comes after those it depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::{Error, Result, nearest};
use crate::key::FeatureKey;
use crate::spec::FeatureSpec;

pub(super) type Specs = BTreeMap<FeatureKey, Arc<FeatureSpec>>;

/// Sorts the keys so that each comes after those it depends on, and else by key.
pub(super) fn topological_order(specs: &Specs) -> Result<Vec<FeatureKey>> {
    let mut waiting: BTreeMap<&FeatureKey, BTreeSet<&FeatureKey>> = BTreeMap::new();
    for (key, spec) in specs {
        let mut upstream = BTreeSet::new();
        for dep in &spec.deps {
            if !specs.contains_key(dep.feature()) {
                return Err(Error::MissingDependency {
                    feature: key.clone(),
                    dependency: dep.feature().clone(),
                    nearest: nearest_key(dep.feature(), specs.keys()),
                });
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
