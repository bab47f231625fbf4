//! Determines the upstream fields of each field.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::{Error, Result, nearest};
use crate::key::{FieldKey, FqFieldKey};
use crate::spec::{FeatureSpec, FieldDeps, FieldSelection, FieldSpec, FieldsMapping};

/// Checks that no upstream column is renamed to an id column of its feature.
pub(super) fn check_renames(spec: &FeatureSpec, upstream: &[Arc<FeatureSpec>]) -> Result<()> {
    for (dep, parent) in spec.deps.iter().zip(upstream) {
        if let Some((from, to)) = dep.rename.iter().flatten().find(|(_, to)| parent.id_columns.contains(to)) {
            return Err(Error::InvalidRename {
                feature: spec.key.clone(),
                dependency: dep.feature().clone(),
                from: from.clone(),
                to: to.clone(),
                reason: "that name belongs to an id column".to_owned(),
            });
        }
    }
    Ok(())
}

/// Returns the upstream fields of a field, sorted.
pub(super) fn parent_fields(
    spec: &FeatureSpec,
    upstream: &[Arc<FeatureSpec>],
    field: &FieldSpec,
) -> Result<Vec<FqFieldKey>> {
    let mut parents = BTreeSet::new();
    match &field.deps {
        FieldDeps::All => upstream.iter().for_each(|parent| parents.extend(all_fields(parent))),
        FieldDeps::Listed(deps) if !deps.is_empty() => {
            for dep in deps {
                let Some(parent) = upstream.iter().find(|parent| parent.key == dep.feature) else {
                    return Err(missing_field(spec, field, dep.feature.to_string(), upstream));
                };
                match &dep.fields {
                    FieldSelection::All => parents.extend(all_fields(parent)),
                    FieldSelection::Only(keys) => {
                        for key in keys {
                            if parent.field(key).is_none() {
                                return Err(missing_field(spec, field, format!("{}.{key}", parent.key), upstream));
                            }
                            parents.insert(FqFieldKey { feature: parent.key.clone(), field: key.clone() });
                        }
                    }
                }
            }
        }
        FieldDeps::Listed(_) => {
            for (dep, parent) in spec.deps.iter().zip(upstream) {
                parents.extend(mapped_fields(&dep.fields_mapping, parent, field.key()));
            }
        }
    }
    if parents.is_empty() && !spec.is_root() {
        return Err(Error::NoParentFields { feature: spec.key.clone(), field: field.key().to_string() });
    }
    Ok(parents.into_iter().collect())
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
