//! Definitions: the upstream fields of each field, and all versions.

use std::collections::{BTreeMap, BTreeSet};

use metaxy_core::spec::{FeatureDep, FieldDeps, FieldSelection};
use metaxy_core::{FeatureSpec, FieldKey, FieldSpec, FieldsMapping};
use serde_json::Value;

use crate::scenario::{Definitions, Versions};

use super::hashing::definition_hash;

/// All features, by slashed key.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    features: BTreeMap<String, Feature>,
}

/// A feature with its versions.
#[derive(Clone, Debug)]
pub(super) struct Feature {
    pub(super) spec: FeatureSpec,
    /// The feature's version.
    pub(super) version: String,
    /// By slashed field key.
    pub(super) fields: BTreeMap<String, Field>,
}

/// A field with its version.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) struct_key: String,
    pub(super) code_version: String,
    pub(super) version: String,
    /// By `feature.field`, and so in that order.
    pub(super) parents: BTreeMap<String, Parent>,
}

/// An upstream field.
#[derive(Clone, Debug)]
pub(super) struct Parent {
    pub(super) feature: String,
    pub(super) field: String,
    pub(super) struct_key: String,
}

impl Graph {
    pub(super) fn new(definitions: &Definitions, truncation: usize) -> Result<Self, String> {
        let mut graph = Self { features: BTreeMap::new() };
        let mut waiting: Vec<&FeatureSpec> = definitions.features.iter().collect();
        while !waiting.is_empty() {
            let before = waiting.len();
            let mut later = Vec::new();
            for spec in waiting {
                if spec.deps.iter().all(|dep| graph.features.contains_key(&dep.feature().to_string())) {
                    let feature = graph.work_out(spec, truncation)?;
                    graph.features.insert(spec.key.to_string(), feature);
                } else {
                    later.push(spec);
                }
            }
            waiting = later;
            if waiting.len() == before {
                return Err("a dependency is missing, or there is a cycle".to_owned());
            }
        }
        Ok(graph)
    }

    pub(super) fn feature(&self, key: &str) -> Result<&Feature, String> {
        self.features.get(key).ok_or_else(|| format!("there is no feature `{key}`"))
    }

    fn work_out(&self, spec: &FeatureSpec, truncation: usize) -> Result<Feature, String> {
        let mut fields = BTreeMap::new();
        for field in &spec.fields {
            let parents = self.parents(spec, field)?;
            let mut parts = vec![format!("{}.{}", spec.key, field.key()), field.code_version.clone()];
            for parent in parents.values() {
                let upstream = self.feature(&parent.feature)?.fields.get(&parent.field);
                parts.push(upstream.ok_or("a parent field is missing")?.version.clone());
            }
            let worked_out = Field {
                struct_key: field.key().parts().join("_"),
                code_version: field.code_version.clone(),
                version: definition_hash(&parts, truncation),
                parents,
            };
            fields.insert(field.key().to_string(), worked_out);
        }
        let parts: Vec<String> = fields.iter().flat_map(|(key, field)| [key.clone(), field.version.clone()]).collect();
        Ok(Feature { spec: spec.clone(), version: definition_hash(&parts, truncation), fields })
    }

    /// Returns the upstream fields of a field.
    fn parents(&self, spec: &FeatureSpec, field: &FieldSpec) -> Result<BTreeMap<String, Parent>, String> {
        let mut found = Vec::new();
        match &field.deps {
            FieldDeps::All => {
                for dep in &spec.deps {
                    found.extend(self.all_fields(&dep.feature().to_string())?);
                }
            }
            FieldDeps::Listed(listed) if !listed.is_empty() => {
                for dep in listed {
                    let all = self.all_fields(&dep.feature.to_string())?;
                    match &dep.fields {
                        FieldSelection::All => found.extend(all),
                        FieldSelection::Only(keys) => {
                            found.extend(all.into_iter().filter(|(_, key)| keys.contains(key)));
                        }
                    }
                }
            }
            FieldDeps::Listed(_) => {
                for dep in &spec.deps {
                    found.extend(self.mapped(dep, field.key())?);
                }
            }
        }
        if found.is_empty() && !spec.deps.is_empty() {
            return Err(format!("the field `{}` of `{}` has no upstream field", field.key(), spec.key));
        }
        let parent = |(feature, key): (String, FieldKey)| {
            let struct_key = key.parts().join("_");
            (format!("{feature}.{key}"), Parent { feature, field: key.to_string(), struct_key })
        };
        Ok(found.into_iter().map(parent).collect())
    }

    fn all_fields(&self, feature: &str) -> Result<Vec<(String, FieldKey)>, String> {
        let fields = &self.feature(feature)?.spec.fields;
        Ok(fields.iter().map(|field| (feature.to_owned(), field.key().clone())).collect())
    }

    /// Returns the fields that the mapping of a dependency assigns to a field.
    fn mapped(&self, dep: &FeatureDep, field: &FieldKey) -> Result<Vec<(String, FieldKey)>, String> {
        let all = self.all_fields(&dep.feature().to_string())?;
        Ok(match &dep.fields_mapping {
            FieldsMapping::All => all,
            FieldsMapping::None => Vec::new(),
            FieldsMapping::Specific(mapping) => {
                let nothing = BTreeSet::new();
                let wanted = mapping.get(field).unwrap_or(&nothing);
                all.into_iter().filter(|(_, key)| wanted.contains(key)).collect()
            }
            FieldsMapping::Default { match_suffix, exclude_fields } => {
                let candidates: Vec<_> = all.into_iter().filter(|(_, key)| !exclude_fields.contains(key)).collect();
                let is_match = |key: &FieldKey| {
                    let (theirs, ours) = (key.parts(), field.parts());
                    theirs == ours || (*match_suffix && is_suffix(ours, theirs))
                };
                let matches: Vec<_> = candidates.iter().filter(|(_, key)| is_match(key)).cloned().collect();
                if matches.is_empty() { candidates } else { matches }
            }
        })
    }

    /// Returns definitions with all their versions.
    pub(super) fn versioned(&self, definitions: &Definitions, truncation: usize) -> Definitions {
        let mut versions = BTreeMap::new();
        let mut project = Vec::new();
        for (key, feature) in &self.features {
            let own = feature.versions(truncation);
            // Keys compare by their parts, in a different order than the slashed strings.
            project.push((feature.spec.key.parts().to_vec(), key.clone(), own.definition_version.clone()));
            versions.insert(key.clone(), own);
        }
        project.sort();
        let parts: Vec<String> = project.into_iter().flat_map(|(_, key, version)| [key, version]).collect();
        let project_version = if parts.is_empty() { "empty".to_owned() } else { definition_hash(&parts, truncation) };
        Definitions { features: definitions.features.clone(), versions, project_version: Some(project_version) }
    }
}

fn is_suffix(short: &[String], long: &[String]) -> bool {
    short.len() <= long.len() && short.iter().rev().zip(long.iter().rev()).all(|(one, other)| one == other)
}

impl Feature {
    /// Returns the names of the fields inside the by-field columns, sorted.
    pub(super) fn struct_keys(&self) -> Vec<String> {
        let keys: BTreeSet<String> = self.fields.values().map(|field| field.struct_key.clone()).collect();
        keys.into_iter().collect()
    }

    fn versions(&self, truncation: usize) -> Versions {
        let code: Vec<String> =
            self.fields.iter().flat_map(|(key, field)| [key.clone(), field.code_version.clone()]).collect();
        let spec = definition_hash(&[json(&serde_json::to_value(&self.spec).unwrap_or_default())], truncation);
        Versions {
            feature_version: self.version.clone(),
            fields: self.fields.iter().map(|(key, field)| (key.clone(), field.version.clone())).collect(),
            code_version: definition_hash(&code, truncation),
            definition_version: definition_hash(&[spec.clone(), "{}".to_owned()], truncation),
            spec_version: spec,
            table_name: self.spec.key.parts().join("__").replace('-', "_"),
        }
    }
}

/// Returns JSON as Python's `json.dumps(value, sort_keys=True)` writes it.
fn json(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<&String, &Value> = members.iter().collect();
            let members: Vec<String> =
                sorted.into_iter().map(|(key, value)| format!("{}: {}", json_text(key), json(value))).collect();
            format!("{{{}}}", members.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(", ")),
        Value::String(text) => json_text(text),
        other => other.to_string(),
    }
}

fn json_text(text: &str) -> String {
    let mut out = String::from("\"");
    for unit in text.encode_utf16() {
        match char::from_u32(u32::from(unit)) {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some('\u{8}') => out.push_str("\\b"),
            Some('\u{c}') => out.push_str("\\f"),
            Some(plain) if (' '..='~').contains(&plain) => out.push(plain),
            _ => out.push_str(&format!("\\u{unit:04x}")),
        }
    }
    out.push('"');
    out
}
