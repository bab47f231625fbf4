//! Valid definitions.
//!
//! Features have one to three id columns, of which shorter lists are prefixes of longer ones. The possible lineages of
//! a dependency follow from the lengths: as many ids are `1:1` (or groups of one), more are `N:1`, fewer are `1:N`.

use std::collections::BTreeSet;

use metaxy_core::{FeatureSpec, HashAlgorithm};
use serde_json::{Map, Value, json};

use crate::scenario::Definitions;

use super::values::{base, id_names, own_columns};
use super::{DepDraft, FeatureDraft, FieldDraft};
use crate::oracle::Oracle;

const KEYS: [&str; 6] = ["v", "v-x", "v/x", "a/b/c", "b_1", "z-9/y"];
const FIELD_KEYS: [&str; 8] = ["audio", "frames", "audio/en", "video/audio", "en", "default", "text/en", "x/y/z"];

/// A feature with its definition.
#[derive(Clone, Debug)]
pub(super) struct Built {
    pub(super) key: String,
    pub(super) spec: FeatureSpec,
    pub(super) ids: Vec<String>,
    /// Its own columns, without ids.
    pub(super) own: Vec<String>,
    /// All columns of its table after rows of every kind are written.
    columns: Vec<String>,
    pub(super) passes_on: bool,
    /// The number of its ids that identify the parent of a sample, if it has `1:N` lineage.
    pub(super) parent_ids: Option<usize>,
}

/// Builds all features, each with dependencies on earlier ones.
pub(super) fn build(drafts: &[FeatureDraft]) -> Result<Vec<Built>, String> {
    let mut built: Vec<Built> = Vec::new();
    for (index, draft) in drafts.iter().enumerate() {
        let key = KEYS.get(index).copied().unwrap_or("extra");
        let feature = build_feature(key, draft, &built)?;
        built.push(feature);
    }
    Ok(built)
}

fn build_feature(key: &str, draft: &FeatureDraft, before: &[Built]) -> Result<Built, String> {
    let count = usize::from(draft.ids.clamp(1, 3));
    let ids = id_names(count, draft.other_names);
    let own = own_columns(draft.columns);
    let mut parents: Vec<(&DepDraft, &Built)> = Vec::new();
    for dep in &draft.deps {
        let parent = (!before.is_empty()).then(|| &before[usize::from(dep.feature) % before.len()]);
        if let Some(parent) = parent.filter(|parent| parents.iter().all(|(_, known)| known.key != parent.key)) {
            parents.push((dep, parent));
        }
    }
    let joined = parents.iter().map(|(_, parent)| parent.ids.len()).min().unwrap_or(count).min(count);
    let mut brought: BTreeSet<String> = ids.iter().cloned().collect();
    let mut columns: Vec<String> = ids.iter().chain(&own).cloned().collect();
    let mut deps = Vec::new();
    for (index, (dep, parent)) in parents.iter().enumerate() {
        let (json, kept) = build_dep(index, dep, parent, &ids, joined, &mut brought, &draft.fields);
        deps.push(json);
        if draft.passes_on {
            columns.extend(kept.into_iter().filter(|column| !own.contains(column)));
        }
    }
    let parents: Vec<&Built> = parents.into_iter().map(|(_, parent)| parent).collect();
    let spec = |simple: bool| {
        let fields = build_fields(&draft.fields, &parents, simple);
        let description = (draft.columns == 15).then_some("Gr\u{f6}\u{df}e \u{1f3ac}");
        json!({"key": key, "id_columns": ids, "deps": deps, "fields": fields, "description": description})
    };
    // A mapping may leave a field without parents; then all fields depend on everything.
    let mut specs: Vec<FeatureSpec> = before.iter().map(|feature| feature.spec.clone()).collect();
    let first = FeatureSpec::from_json(&spec(false).to_string()).map_err(|error| error.to_string())?;
    specs.push(first.clone());
    let definitions = Definitions { features: specs, ..Definitions::default() };
    let spec = match Oracle::new(&definitions, HashAlgorithm::Md5, 8) {
        Ok(_) => first,
        Err(_) => FeatureSpec::from_json(&spec(true).to_string()).map_err(|error| error.to_string())?,
    };
    let parent_ids = (joined < ids.len()).then_some(joined);
    Ok(Built { key: key.to_owned(), spec, ids, own, columns, passes_on: draft.passes_on, parent_ids })
}

/// Returns a dependency, and its columns without the ids.
fn build_dep(
    index: usize,
    dep: &DepDraft,
    parent: &Built,
    ids: &[String],
    joined: usize,
    brought: &mut BTreeSet<String>,
    fields: &[FieldDraft],
) -> (Value, Vec<String>) {
    let on: Vec<String> = ids.iter().take(joined).cloned().collect();
    let explicit = dep.explicit || joined < ids.len();
    let lineage = if parent.ids.len() == joined && joined < ids.len() {
        json!({"type": "1:N", "on": on})
    } else if parent.ids.len() > joined || dep.grouped {
        json!({"type": "N:1", "on": if explicit { json!(on) } else { Value::Null }})
    } else {
        json!({"type": "1:1"})
    };
    let drops_ids = lineage["type"] == "N:1" && !lineage["on"].is_null();
    let mut rename = Map::new();
    for (from, to) in parent.ids.iter().zip(&on).filter(|(from, to)| from != to) {
        rename.insert(from.clone(), json!(to));
    }
    let others: Vec<&String> =
        parent.columns.iter().filter(|name| !parent.ids.iter().take(joined).any(|id| id == *name)).collect();
    let mut kept = Vec::new();
    let mut select = Vec::new();
    for (position, column) in others.into_iter().enumerate() {
        let is_id = parent.ids.contains(column);
        let bit = 1u8.rotate_left(position as u32);
        let selected = match dep.select {
            0 | 1 => true,
            2 => false,
            _ => dep.picks & bit != 0,
        };
        let comes = selected || (is_id && !drops_ids);
        let mut name = column.clone();
        if comes && dep.renames & bit != 0 && !is_id {
            name = format!("n_{}", base(column));
        }
        while comes && ((name != *column && parent.columns.contains(&name)) || !brought.insert(name.clone())) {
            name = format!("r{index}_{name}");
        }
        if name != *column {
            rename.insert(column.clone(), json!(name));
        }
        if comes {
            kept.push(name.clone());
        }
        if selected {
            select.push(name);
        }
    }
    let new_name = |column: &String| rename.get(column).and_then(Value::as_str).unwrap_or(column).to_owned();
    let filterable: Vec<String> = parent.ids.iter().chain(&parent.own).map(new_name).collect();
    let filter = dep.filter.as_ref().and_then(|filter| filter.text(&filterable));
    let json = json!({
        "feature": parent.key,
        "select": if dep.select < 2 { Value::Null } else { json!(select) },
        "rename": if rename.is_empty() { Value::Null } else { Value::Object(rename.clone()) },
        "fields_mapping": {"mapping": build_mapping(dep, parent, fields)},
        "sql_filters": filter.map(|filter| vec![filter]),
        "lineage": {"relationship": lineage},
        "optional": dep.optional,
    });
    (json, kept)
}

fn field_key(draft: &FieldDraft) -> &'static str {
    FIELD_KEYS[usize::from(draft.key) % FIELD_KEYS.len()]
}

/// Returns some of a feature's fields.
fn picked(parent: &Built, picks: u8) -> Vec<String> {
    let fields = parent.spec.fields.iter().enumerate();
    fields.filter(|(index, _)| picks & (1 << (index % 8)) != 0).map(|(_, field)| field.key().to_string()).collect()
}

fn build_mapping(dep: &DepDraft, parent: &Built, fields: &[FieldDraft]) -> Value {
    match dep.mapping {
        3 | 4 => json!({"type": "default", "match_suffix": true, "exclude_fields": []}),
        5 => {
            json!({"type": "default", "match_suffix": dep.picks.is_multiple_of(2), "exclude_fields": picked(parent, dep.picks)})
        }
        6 => {
            let parts = |key: &String| key.split('/').map(str::to_owned).collect::<Vec<_>>();
            let targets = |index: usize| -> Vec<Vec<String>> {
                picked(parent, dep.picks.rotate_left(index as u32)).iter().map(parts).collect()
            };
            let mapping: Map<String, Value> = fields
                .iter()
                .enumerate()
                .map(|(index, field)| (field_key(field).to_owned(), json!(targets(index))))
                .collect();
            json!({"type": "specific", "mapping": mapping})
        }
        7 => json!({"type": if dep.picks.is_multiple_of(2) { "all" } else { "none" }}),
        _ => json!({"type": "default", "match_suffix": false, "exclude_fields": []}),
    }
}

fn build_fields(drafts: &[FieldDraft], parents: &[&Built], simple: bool) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let mut fields = Vec::new();
    for draft in drafts {
        let key = field_key(draft);
        if !seen.insert(key) {
            continue;
        }
        let chosen = parents.get(usize::from(draft.picks) % parents.len().max(1));
        let exactly: Vec<Value> = parents
            .iter()
            .enumerate()
            .map(|(index, parent)| (parent, picked(parent, draft.picks.rotate_left(index as u32 * 3))))
            .filter(|(_, fields)| !fields.is_empty())
            .map(|(parent, fields)| json!({"feature": parent.key, "fields": fields}))
            .collect();
        let deps = match (draft.deps, chosen) {
            (_, Some(_)) if simple => json!("__METAXY_ALL_DEP__"),
            (3, _) => json!(exactly),
            (4, Some(parent)) => json!([{"feature": parent.key, "fields": "__METAXY_ALL_DEP__"}]),
            (5, Some(_)) => json!("__METAXY_ALL_DEP__"),
            _ => json!([]),
        };
        let code_version = ["__metaxy_initial__", "1", "2"][usize::from(draft.code_version) % 3];
        fields.push(json!({"key": key, "code_version": code_version, "deps": deps}));
    }
    fields
}
