//! Resolving: compares the expected rows with the stored ones.

use std::collections::{BTreeMap, BTreeSet};

use metaxy_core::{Lineage, columns};
use serde_json::Value;

use crate::scenario::{Expected, Resolve, Samples};

use super::definitions::Feature;
use super::filter::Filter;
use super::input::{Input, InputRow};
use super::rows::{by_field, key, projected, shown, time};
use super::store::Scope;
use super::{Oracle, Row};

impl Oracle {
    pub(super) fn resolve(&self, request: &Resolve) -> Result<Expected, String> {
        let feature = self.graph.feature(&request.feature)?;
        let (expected, ids) = match &request.samples {
            Some(samples) => (self.samples(feature, samples, request)?, feature.spec.id_columns.clone()),
            None if feature.spec.deps.is_empty() => return Err("a root is resolved with samples".to_owned()),
            None => self.expected(feature, request)?,
        };
        if request.skip_comparison == Some(true) {
            return Ok(Expected { new: expected.iter().map(shown).collect(), ..Expected::default() });
        }
        let (current, staleness) = self.current(feature, request)?;
        let expands = feature.spec.deps.iter().any(|dep| matches!(dep.lineage, Lineage::Expansion { .. }));
        let current = if expands { newest_of_each(current, &ids) } else { current };
        let mut answer = Expected::default();
        for row in &expected {
            let mine = key(row, &ids);
            let known: Vec<&Row> = current.iter().filter(|row| mine.is_some() && key(row, &ids) == mine).collect();
            let outdated = |known: &&Row| {
                let provenance = |row: &Row| row.get(columns::PROVENANCE).and_then(Value::as_str).map(str::to_owned);
                provenance(known) != provenance(row) || staleness.iter().any(|predicate| predicate.passes(known))
            };
            if known.is_empty() {
                answer.new.push(shown(row));
            } else if known.iter().any(outdated) {
                answer.stale.push(shown(row));
            }
        }
        let wanted: BTreeSet<Vec<String>> = expected.iter().filter_map(|row| key(row, &ids)).collect();
        for row in &current {
            if key(row, &ids).is_none_or(|key| !wanted.contains(&key)) {
                let parent_columns = ids.iter().map(String::as_str);
                let parent_columns = parent_columns.chain([columns::PROVENANCE_BY_FIELD, columns::PROVENANCE]);
                answer.orphaned.push(shown(&if expands { projected(row, parent_columns) } else { row.clone() }));
            }
        }
        Ok(answer)
    }

    /// Returns the samples that pass the filters on the feature, with all versions.
    fn samples(&self, feature: &Feature, samples: &Samples, request: &Resolve) -> Result<Vec<Row>, String> {
        let mut filters = self.filters_for(&request.feature, request);
        filters.extend(request.target_filters.iter().flatten().cloned());
        let filters = filters.iter().map(|text| Filter::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let known = |name: &String| samples.columns.contains_key(name) || columns::is_system(name);
        if let Some(name) = filters.iter().flat_map(Filter::columns).find(|name| !known(name)) {
            return Err(format!("a filter names `{name}`, which the samples do not have"));
        }
        let rows = samples.rows.iter().map(|row| self.completed(feature, row)).collect::<Result<Vec<_>, _>>()?;
        Ok(rows.into_iter().filter(|row| filters.iter().all(|filter| filter.passes(row))).collect())
    }

    /// Returns the stored rows, and the staleness predicates.
    fn current(&self, feature: &Feature, request: &Resolve) -> Result<(Vec<Row>, Vec<Filter>), String> {
        let Some(table) = self.tables.get(&request.feature).filter(|_| self.has(&request.feature)) else {
            return Ok((Vec::new(), Vec::new()));
        };
        let mut filters = self.filters_for(&request.feature, request);
        filters.extend(request.target_filters.iter().flatten().cloned());
        let staleness =
            request.staleness_predicates.iter().flatten().map(|text| table.filter(text)).collect::<Result<_, _>>()?;
        Ok((self.rows_of(feature, table, Scope::default(), &filters)?, staleness))
    }

    /// Returns the caller's filters on a feature that takes part.
    fn filters_for(&self, feature: &str, request: &Resolve) -> Vec<String> {
        let own = request.filters.iter().flatten().filter(|(key, _)| *key == feature).flat_map(|(_, filters)| filters);
        own.chain(request.global_filters.iter().flatten()).cloned().collect()
    }

    /// Returns the expected rows, and the columns that identify them.
    fn expected(&self, feature: &Feature, request: &Resolve) -> Result<(Vec<Row>, Vec<String>), String> {
        let mut inputs = Vec::new();
        for dep in &feature.spec.deps {
            let filters = self.filters_for(&dep.feature().to_string(), request);
            inputs.push(self.input(&feature.spec, dep, &filters)?);
        }
        let shared = |id: &&String| inputs.iter().all(|input| input.ids.contains(id));
        let ids: Vec<String> = inputs.iter().flat_map(|input| &input.ids).filter(shared).cloned().collect();
        let mut seen = BTreeSet::new();
        let ids: Vec<String> = ids.into_iter().filter(|id| seen.insert(id.clone())).collect();
        if ids.is_empty() {
            return Err("the dependencies have no id column in common".to_owned());
        }
        check_collisions(feature, &inputs, &ids)?;
        let rows = joined(&inputs, &ids).into_iter().map(|parts| self.expected_row(feature, &inputs, &parts)).collect();
        Ok((rows, ids))
    }

    /// Returns one expected row, from one row of each input, or none of an optional input.
    fn expected_row(&self, feature: &Feature, inputs: &[Input], parts: &[Option<&InputRow>]) -> Row {
        let mut row = Row::new();
        for part in parts.iter().flatten() {
            for (name, value) in &part.user {
                row.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        let mut provenance = BTreeMap::new();
        for (field_key, field) in &feature.fields {
            let mut hashed = vec![field_key.clone(), field.code_version.clone()];
            for (name, parent) in &field.parents {
                let input = inputs.iter().position(|input| input.feature == parent.feature);
                let part = input.and_then(|index| parts.get(index)).copied().flatten();
                hashed.push(name.clone());
                hashed.push(part.and_then(|part| part.versions.get(&parent.struct_key)).cloned().unwrap_or_default());
            }
            provenance.insert(field.struct_key.clone(), self.hash(&hashed.join("|")));
        }
        let provenance: Vec<(String, String)> = provenance.into_iter().collect();
        for column in [columns::PROVENANCE_BY_FIELD, columns::DATA_VERSION_BY_FIELD] {
            row.insert(column.to_owned(), by_field(&provenance));
        }
        for column in [columns::PROVENANCE, columns::DATA_VERSION] {
            row.insert(column.to_owned(), Value::from(self.hash_of_all(&provenance)));
        }
        row
    }
}

/// Returns all combinations of rows with equal ids: by an inner join if an input is required, by an outer join if it is
/// optional.
fn joined<'a>(inputs: &'a [Input], ids: &[String]) -> Vec<Vec<Option<&'a InputRow>>> {
    let keys: BTreeSet<Vec<String>> =
        inputs.iter().flat_map(|input| &input.rows).filter_map(|row| key(&row.user, ids)).collect();
    let mut all = Vec::new();
    for wanted in keys {
        let mut combinations: Vec<Vec<Option<&InputRow>>> = vec![Vec::new()];
        for input in inputs {
            let matching = input.rows.iter().filter(|row| key(&row.user, ids).as_ref() == Some(&wanted));
            let mut choices: Vec<Option<&InputRow>> = matching.map(Some).collect();
            if choices.is_empty() && input.optional {
                choices.push(None);
            }
            let with = |combination: &Vec<Option<&'a InputRow>>, choice: &Option<&'a InputRow>| {
                combination.iter().chain([choice]).copied().collect::<Vec<_>>()
            };
            combinations =
                combinations.iter().flat_map(|before| choices.iter().map(|choice| with(before, choice))).collect();
        }
        all.extend(combinations);
    }
    all
}

/// Checks that no two dependencies have a column of the same name, except ids.
fn check_collisions(feature: &Feature, inputs: &[Input], ids: &[String]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for name in inputs.iter().flat_map(|input| &input.columns) {
        if !ids.contains(name) && !feature.spec.id_columns.contains(name) && !seen.insert(name) {
            return Err(format!("`{name}` comes from two dependencies"));
        }
    }
    Ok(())
}

/// Returns the row of each parent that was written last.
fn newest_of_each(rows: Vec<Row>, ids: &[String]) -> Vec<Row> {
    let mut newest: BTreeMap<Option<Vec<String>>, Row> = BTreeMap::new();
    for row in rows {
        let known = newest.entry(key(&row, ids)).or_insert_with(|| row.clone());
        if time(&row, columns::UPDATED_AT) > time(known, columns::UPDATED_AT) {
            *known = row;
        }
    }
    newest.into_values().collect()
}
