//! Determines the upstream fields of each field.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::{Error, nearest};
use crate::key::{FieldKey, FqFieldKey};
use crate::spec::{Fault, FeatureSpec, FieldDep, FieldDeps, FieldSelection, FieldSpec, FieldsMapping, Step};

/// Checks that no upstream column is renamed to an id column of its feature.
pub(super) fn check_renames(spec: &FeatureSpec, upstream: &[Arc<FeatureSpec>], faults: &mut Vec<Fault>) {
    for (index, (dep, parent)) in spec.deps.iter().zip(upstream).enumerate() {
        for (from, to) in dep.rename.iter().flatten().filter(|(_, to)| parent.id_columns.contains(to)) {
            let error = Error::InvalidRename {
                feature: spec.key.clone(),
                dependency: dep.feature().clone(),
                from: from.clone(),
                to: to.clone(),
                reason: "that name belongs to an id column".to_owned(),
            };
            faults.push(Fault::of_dep(index, &["rename", from], error));
        }
    }
}

/// Returns the upstream fields of each field, sorted.
pub(super) fn parent_fields(
    spec: &FeatureSpec,
    upstream: &[Arc<FeatureSpec>],
    faults: &mut Vec<Fault>,
) -> Vec<Vec<FqFieldKey>> {
    let parents = |(index, field): (usize, &FieldSpec)| {
        let before = faults.len();
        let parents = parents_of(spec, upstream, index, field, faults);
        if parents.is_empty() && !spec.is_root() && faults.len() == before {
            let error = Error::NoParentFields { feature: spec.key.clone(), field: field.key().to_string() };
            faults.push(Fault::new(["fields".into(), index.into()], error));
        }
        parents.into_iter().collect()
    };
    spec.fields.iter().enumerate().map(parents).collect()
}

fn parents_of(
    spec: &FeatureSpec,
    upstream: &[Arc<FeatureSpec>],
    index: usize,
    field: &FieldSpec,
    faults: &mut Vec<Fault>,
) -> BTreeSet<FqFieldKey> {
    match &field.deps {
        FieldDeps::All => upstream.iter().flat_map(|parent| all_fields(parent)).collect(),
        FieldDeps::Listed(deps) if deps.is_empty() => {
            let mapped = spec.deps.iter().zip(upstream);
            mapped.flat_map(|(dep, parent)| mapped_fields(&dep.fields_mapping, parent, field.key())).collect()
        }
        FieldDeps::Listed(deps) => {
            let listed = deps.iter().enumerate().flat_map(|(at, dep)| {
                listed_fields(dep, upstream, &mut |name, below| {
                    let part = ["fields".into(), index.into(), "deps".into(), at.into()];
                    let error = missing_field(spec, field, name, upstream);
                    faults.push(Fault::new(part.into_iter().chain(below), error));
                })
            });
            listed.collect()
        }
    }
}

/// Returns the fields that a field lists of one upstream feature. `missing` is told of every name that does not exist,
/// with its path below the dependency.
fn listed_fields(
    dep: &FieldDep,
    upstream: &[Arc<FeatureSpec>],
    missing: &mut impl FnMut(String, Vec<Step>),
) -> Vec<FqFieldKey> {
    let Some(parent) = upstream.iter().find(|parent| parent.key == dep.feature) else {
        missing(dep.feature.to_string(), vec!["feature".into()]);
        return Vec::new();
    };
    let FieldSelection::Only(keys) = &dep.fields else { return all_fields(parent).collect() };
    let mut fields = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        match parent.field(key) {
            Some(_) => fields.push(FqFieldKey { feature: parent.key.clone(), field: key.clone() }),
            None => missing(format!("{}.{key}", parent.key), vec!["fields".into(), index.into()]),
        }
    }
    fields
}

fn all_fields(parent: &FeatureSpec) -> impl Iterator<Item = FqFieldKey> {
    parent.fields.iter().map(|field| FqFieldKey { feature: parent.key.clone(), field: field.key().clone() })
}

/// Returns the fields of one upstream feature that a mapping assigns to a field.
fn mapped_fields(mapping: &FieldsMapping, parent: &FeatureSpec, field: &FieldKey) -> Vec<FqFieldKey> {
    match mapping {
        FieldsMapping::All => all_fields(parent).collect(),
        FieldsMapping::None => Vec::new(),
        FieldsMapping::Specific(mapping) => {
            let wanted = mapping.get(field);
            all_fields(parent).filter(|key| wanted.is_some_and(|wanted| wanted.contains(&key.field))).collect()
        }
        FieldsMapping::Default { match_suffix, exclude_fields } => {
            let candidates: Vec<_> = all_fields(parent).filter(|key| !exclude_fields.contains(&key.field)).collect();
            let matches = |key: &&FqFieldKey| key.field == *field || (*match_suffix && key.field.ends_with(field));
            let matched: Vec<_> = candidates.iter().filter(matches).cloned().collect();
            if matched.is_empty() { candidates } else { matched }
        }
    }
}

fn missing_field(spec: &FeatureSpec, field: &FieldSpec, dependency: String, upstream: &[Arc<FeatureSpec>]) -> Error {
    let known: Vec<String> = upstream.iter().flat_map(|parent| all_fields(parent)).map(|key| key.to_string()).collect();
    Error::MissingFieldDependency {
        feature: spec.key.clone(),
        field: field.key().to_string(),
        nearest: nearest(&dependency, known.iter().map(String::as_str)),
        dependency,
    }
}
