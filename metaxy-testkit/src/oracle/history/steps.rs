//! Possible steps.

use std::collections::{BTreeMap, BTreeSet};

use metaxy_core::columns;
use serde_json::{Map, Value, json};

use crate::oracle::{Answer, Oracle};
use crate::scenario::{Definitions, Delete, Read, Resolve, Row, Samples, Step, Write};

use super::features::Built;
use super::values::{mixed, type_of, value};
use super::{FeatureDraft, FieldDraft, RowDraft, StepDraft, specs};

/// Returns the step of a draft; `None` if it is impossible.
pub(super) fn step(draft: &StepDraft, built: &[Built], oracle: &Oracle) -> Result<Option<Step>, String> {
    let feature = |number: u8| built.get(usize::from(number) % built.len().max(1));
    Ok(match draft {
        StepDraft::Write { feature: number, rows, data_versions } => feature(*number).map(|feature| {
            let rows = rows_of(feature, rows, *data_versions);
            Step::Write(Write { feature: feature.key.clone(), samples: samples(feature, rows) })
        }),
        StepDraft::Process { feature: number, part, values, data_versions } => {
            feature(*number).and_then(|feature| process(feature, oracle, *part, *values, *data_versions))
        }
        StepDraft::Resolve { feature: number, rows, filters, skip_comparison } => {
            let Some(feature) = feature(*number) else { return Ok(None) };
            let mut resolve = Resolve { feature: feature.key.clone(), ..Resolve::default() };
            if feature.spec.deps.is_empty() {
                resolve.samples = Some(samples(feature, rows_of(feature, rows, false)));
            }
            resolve.skip_comparison = skip_comparison.then_some(true);
            for (kind, filter) in filters {
                add_filter(&mut resolve, feature, *kind, oracle, |columns| filter.text(columns));
            }
            Some(Step::Resolve(resolve))
        }
        StepDraft::Read { feature: number, flags, columns, filter } => feature(*number).map(|feature| {
            let known = oracle.user_columns(&feature.key);
            let chosen = |(index, name): (usize, &String)| (columns & (1 << (index % 8)) != 0).then(|| name.clone());
            let chosen: Vec<String> = known.iter().enumerate().filter_map(chosen).collect();
            Step::Read(Read {
                feature: feature.key.clone(),
                filters: filter.as_ref().and_then(|filter| filter.text(&known)).map(|filter| vec![filter]),
                columns: (columns % 3 == 0 && !chosen.is_empty()).then_some(chosen),
                with_feature_history: (flags & 1 != 0).then_some(true),
                with_sample_history: (flags & 2 != 0).then_some(true),
                include_soft_deleted: (flags & 4 != 0).then_some(true),
                expect: Vec::new(),
            })
        }),
        StepDraft::Delete { feature: number, filter, soft } => feature(*number).map(|feature| {
            let filter = filter.as_ref().and_then(|filter| filter.text(&oracle.user_columns(&feature.key)));
            let soft = (!soft).then_some(false);
            Step::Delete(Delete { feature: feature.key.clone(), filters: filter.map(|filter| vec![filter]), soft })
        }),
        StepDraft::Redefine { .. } => {
            Some(Step::Redefine(Definitions { features: specs(built), ..Definitions::default() }))
        }
    })
}

/// Returns the first step of a feature.
pub(super) fn start(feature: &Built, rows: &[RowDraft], oracle: &Oracle) -> Option<Step> {
    if rows.is_empty() {
        return None;
    }
    if !feature.spec.deps.is_empty() {
        return process(feature, oracle, 0, rows.len() as u8, false);
    }
    let rows = rows_of(feature, rows, false);
    Some(Step::Write(Write { feature: feature.key.clone(), samples: samples(feature, rows) }))
}

/// Returns a resolve without options, if the feature needs none.
pub(super) fn plain_resolve(feature: &Built) -> Option<Step> {
    let resolve = Resolve { feature: feature.key.clone(), ..Resolve::default() };
    (!feature.spec.deps.is_empty()).then_some(Step::Resolve(resolve))
}

fn add_filter(
    resolve: &mut Resolve,
    feature: &Built,
    kind: u8,
    oracle: &Oracle,
    text: impl Fn(&[String]) -> Option<String>,
) {
    let deps = &feature.spec.deps;
    let add = |list: &mut Option<Vec<String>>, filter: Option<String>| list.get_or_insert_default().extend(filter);
    // Only columns that are equal for all children of one parent may make them stale, because any of the children may
    // be compared.
    let own = oracle.user_columns(&feature.key);
    let common: Vec<String> = match feature.parent_ids {
        Some(count) => feature.ids.iter().take(count).cloned().collect(),
        None => own.clone(),
    };
    match kind {
        0..=2 if !deps.is_empty() => {
            let upstream = deps[usize::from(kind) % deps.len()].feature().to_string();
            if let Some(filter) = text(&oracle.user_columns(&upstream)) {
                resolve.filters.get_or_insert_default().entry(upstream).or_default().push(filter);
            }
        }
        3 => {
            if let Some(filter) = text(&own) {
                resolve.filters.get_or_insert_default().entry(feature.key.clone()).or_default().push(filter);
            }
        }
        4 => add(&mut resolve.target_filters, text(&own)),
        5 => add(&mut resolve.global_filters, text(&feature.ids[..1])),
        _ if oracle.has(&feature.key) => add(&mut resolve.staleness_predicates, text(&common)),
        _ => {}
    }
}

/// Returns rows of a user, one for each sample.
fn rows_of(feature: &Built, drafts: &[RowDraft], data_versions: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut seen = BTreeSet::new();
    let mut provenance_of_parent: BTreeMap<String, u8> = BTreeMap::new();
    for draft in drafts {
        let mut row = Row::new();
        for (id, number) in feature.ids.iter().zip(draft.ids) {
            row.insert(id.clone(), value(id, number));
        }
        let parent = feature.ids.iter().take(feature.parent_ids.unwrap_or(feature.ids.len()));
        let parent: Vec<String> = parent.map(|id| row[id].to_string()).collect();
        let provenance = *provenance_of_parent.entry(parent.join("|")).or_insert(draft.provenance);
        if !seen.insert(Value::Object(row.clone()).to_string()) {
            continue;
        }
        add_own_values(feature, &mut row, draft.values);
        let field = |index: usize, key: String| {
            let version = format!("{key}{}", (usize::from(provenance) + index) % 4);
            (key, json!(version))
        };
        let versions: Map<String, Value> =
            struct_keys(feature).into_iter().enumerate().map(|(index, key)| field(index, key)).collect();
        row.insert(columns::PROVENANCE_BY_FIELD.to_owned(), Value::Object(versions));
        if data_versions {
            add_data_versions(feature, &mut row, draft.values);
        }
        rows.push(row);
    }
    rows
}

fn struct_keys(feature: &Built) -> Vec<String> {
    feature.spec.fields.iter().map(|field| field.key().parts().join("_")).collect()
}

fn add_own_values(feature: &Built, row: &mut Row, seed: u8) {
    for (index, column) in feature.own.iter().enumerate() {
        row.insert(column.clone(), value(column, mixed(&[seed, index as u8])));
    }
}

/// Adds data versions of some fields; those of the others are computed.
fn add_data_versions(feature: &Built, row: &mut Row, seed: u8) {
    let versions: Map<String, Value> = struct_keys(feature)
        .into_iter()
        .enumerate()
        .filter(|(index, _)| !mixed(&[seed, *index as u8, 1]).is_multiple_of(3))
        .map(|(_, key)| (key, json!(format!("d{}", seed % 3))))
        .collect();
    if !versions.is_empty() {
        row.insert(columns::DATA_VERSION_BY_FIELD.to_owned(), Value::Object(versions));
    }
}

/// Returns rows with the types of their columns.
fn samples(feature: &Built, rows: Vec<Row>) -> Samples {
    let mut names: BTreeSet<String> = feature.ids.iter().chain(&feature.own).cloned().collect();
    names.extend(rows.iter().flat_map(|row| row.keys().filter(|name| !columns::is_system(name)).cloned()));
    let columns = names.into_iter().map(|name| (name.clone(), type_of(&name).to_owned())).collect();
    Samples { columns, rows }
}

/// Returns the write of the rows that an increment requires.
fn process(feature: &Built, oracle: &Oracle, part: u8, seed: u8, data_versions: bool) -> Option<Step> {
    let Ok(Answer::Increment(increment)) = oracle.clone().take(&plain_resolve(feature)?) else { return None };
    let mut todo = Vec::new();
    if part != 2 {
        todo.extend(increment.new);
    }
    if part != 1 {
        todo.extend(increment.stale);
    }
    let mut rows = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, expected) in todo.iter().enumerate() {
        // Part 3 leaves some samples unprocessed.
        if part == 3 && mixed(&[seed, index as u8]).is_multiple_of(3) {
            continue;
        }
        let children = feature.parent_ids.map_or(1, |_| 1 + mixed(&[seed, index as u8, 2]) % 2);
        for child in 0..children {
            let row = processed(feature, expected, mixed(&[seed, index as u8, child]), child, data_versions);
            let ids: Option<Vec<String>> = feature.ids.iter().map(|id| Some(row.get(id)?.to_string())).collect();
            if ids.is_some_and(|ids| seen.insert(ids)) {
                rows.push(row);
            }
        }
    }
    let write = Write { feature: feature.key.clone(), samples: samples(feature, rows) };
    (!write.samples.rows.is_empty()).then_some(Step::Write(write))
}

fn processed(feature: &Built, expected: &Row, seed: u8, child: u8, data_versions: bool) -> Row {
    let is_id = |name: &str| feature.ids.iter().any(|id| id == name);
    let mut row = Row::new();
    for (name, value) in expected {
        if is_id(name) || (feature.passes_on && !columns::is_system(name)) {
            row.insert(name.clone(), value.clone());
        }
    }
    if let Some(count) = feature.parent_ids {
        for id in feature.ids.iter().skip(count) {
            row.insert(id.clone(), value(id, child));
        }
    }
    add_own_values(feature, &mut row, seed);
    for name in [columns::PROVENANCE_BY_FIELD, columns::PROVENANCE] {
        row.extend(expected.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    if data_versions {
        add_data_versions(feature, &mut row, seed);
    }
    row
}

/// Changes a definition.
pub(super) fn redefine(drafts: &mut [FeatureDraft], feature: u8, change: u8, value: u8) {
    let count = drafts.len().max(1);
    let Some(draft) = drafts.get_mut(usize::from(feature) % count) else { return };
    let field = usize::from(value) % draft.fields.len().max(1);
    let dep = usize::from(value) % draft.deps.len().max(1);
    match change {
        0..=2 => {
            if let Some(field) = draft.fields.get_mut(field) {
                field.code_version = field.code_version.wrapping_add(1);
            }
        }
        3 => draft.fields.push(FieldDraft { key: value % 8, code_version: 1, deps: 0, picks: value }),
        4 if draft.fields.len() > 1 => {
            draft.fields.remove(field);
        }
        5 => draft.columns ^= 1 << (value % 4),
        _ => {
            if let Some(dep) = draft.deps.get_mut(dep) {
                if change == 6 {
                    dep.mapping = value % 8
                } else {
                    dep.select = value % 4
                }
                dep.picks = value;
            }
        }
    }
}
