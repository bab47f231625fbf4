//! One dependency of a resolve: its rows, renamed, filtered, selected, and grouped if its lineage says so.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use metaxy_core::spec::FeatureDep;
use metaxy_core::{FeatureSpec, Lineage, columns};

use super::definitions::Feature;
use super::filter::{Filter, order};
use super::rows::{key, member, projected, time};
use super::store::Scope;
use super::{Oracle, Row, Table};

/// The rows of a dependency, ready to be joined.
pub(super) struct Input {
    pub(super) feature: String,
    pub(super) optional: bool,
    /// The columns that identify its samples.
    pub(super) ids: Vec<String>,
    /// The columns that it contributes.
    pub(super) columns: BTreeSet<String>,
    pub(super) rows: Vec<InputRow>,
}

/// A row of a dependency.
#[derive(Clone, Debug)]
pub(super) struct InputRow {
    /// The columns that it contributes.
    pub(super) user: Row,
    /// Its data versions, by struct key.
    pub(super) versions: BTreeMap<String, String>,
    /// The whole row under the new names, including columns that are not selected.
    whole: Row,
}

impl Oracle {
    /// Reads a dependency. `filters` are the caller's, with the names of the upstream feature.
    pub(super) fn input(&self, spec: &FeatureSpec, dep: &FeatureDep, filters: &[String]) -> Result<Input, String> {
        let name = dep.feature().to_string();
        let upstream = self.graph.feature(&name)?;
        let ids = input_ids(spec, dep, upstream);
        let mut input =
            Input { feature: name.clone(), optional: dep.optional, ids, columns: BTreeSet::new(), rows: Vec::new() };
        let static_filters =
            dep.filters.iter().flatten().map(|text| Filter::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let Some(table) = self.table(&name) else {
            if !dep.optional {
                return Err(format!("`{name}` is in no store"));
            }
            // A table whose rows were removed has its columns still, which filters and renames have to name.
            if let Some(emptied) = self.tables.get(&name) {
                self.rows_of(upstream, emptied, Scope::default(), filters)?;
                let renamed_columns = renamed_columns(dep, emptied, &static_filters)?;
                kept_columns(dep, upstream, &input.ids, &renamed_columns)?;
            }
            return Ok(input);
        };
        let renamed_columns = renamed_columns(dep, table, &static_filters)?;
        input.columns = kept_columns(dep, upstream, &input.ids, &renamed_columns)?;
        for row in self.rows_of(upstream, table, Scope::default(), filters)? {
            let whole: Row = row.iter().map(|(column, value)| (renamed(dep, column), value.clone())).collect();
            if !static_filters.iter().all(|filter| filter.passes(&whole)) {
                continue;
            }
            let version = |key: String| Some((key.clone(), member(&row, columns::DATA_VERSION_BY_FIELD, &key)?));
            let versions = upstream.struct_keys().into_iter().filter_map(version).collect();
            input.rows.push(InputRow { user: projected(&whole, &input.columns), versions, whole });
        }
        if let Lineage::Aggregation { .. } = dep.lineage {
            self.group(&mut input, dep, upstream);
        }
        Ok(input)
    }

    /// Gives all rows of a group the hash of the group's data versions.
    fn group(&self, input: &mut Input, dep: &FeatureDep, upstream: &Feature) {
        let ids: Vec<String> = upstream.spec.id_columns.iter().map(|id| renamed(dep, id)).collect();
        let (kept, dropped): (Vec<String>, Vec<String>) =
            ids.iter().cloned().partition(|id| input.columns.contains(id));
        in_order_of_arrival(&mut input.rows, &ids, &dropped);
        input.rows.sort_by(|left, right| by_columns(&left.whole, &right.whole, &kept));
        let mut groups: BTreeMap<Option<Vec<String>>, BTreeMap<String, Vec<String>>> = BTreeMap::new();
        for row in &input.rows {
            let group = groups.entry(key(&row.whole, &input.ids)).or_default();
            for (field, version) in &row.versions {
                group.entry(field.clone()).or_default().push(version.clone());
            }
        }
        for row in &mut input.rows {
            let Some(group) = groups.get(&key(&row.whole, &input.ids)) else { continue };
            row.versions = group.iter().map(|(field, all)| (field.clone(), self.hash(&all.join("|")))).collect();
        }
    }
}

/// Returns the columns of a table under their new names, after checking renames and filters.
fn renamed_columns(dep: &FeatureDep, table: &Table, filters: &[Filter]) -> Result<BTreeSet<String>, String> {
    let name = dep.feature();
    let renamed_columns: BTreeSet<String> = table.columns.iter().map(|column| renamed(dep, column)).collect();
    if renamed_columns.len() < table.columns.len() {
        return Err(format!("a rename gives two columns of `{name}` the same name"));
    }
    if let Some(from) = dep.rename.iter().flatten().map(|(from, _)| from).find(|from| !table.columns.contains(*from)) {
        return Err(format!("`{from}` of `{name}` is renamed, but does not exist"));
    }
    let is_column = |column: &String| renamed_columns.contains(column) || columns::is_system(column);
    match filters.iter().flat_map(Filter::columns).find(|column| !is_column(column)) {
        Some(column) => Err(format!("a filter on `{name}` names `{column}`, which is not a column")),
        None => Ok(renamed_columns),
    }
}

/// Sorts rows that are equal in the kept id columns. If no id column is dropped, there are none.
fn in_order_of_arrival(rows: &mut Vec<InputRow>, ids: &[String], dropped: &[String]) {
    if dropped.is_empty() {
        return;
    }
    let times: BTreeSet<Option<i64>> = rows.iter().map(|row| time(&row.whole, columns::UPDATED_AT)).collect();
    if times.len() <= 1 {
        rows.sort_by(|left, right| by_columns(&left.whole, &right.whole, ids));
        let second_half = rows.split_off(rows.len().div_ceil(2));
        rows.splice(0..0, second_half);
    } else {
        rows.sort_by(|left, right| {
            let newest_first = time(&right.whole, columns::UPDATED_AT).cmp(&time(&left.whole, columns::UPDATED_AT));
            newest_first.then_with(|| by_columns(&left.whole, &right.whole, dropped))
        });
    }
}

fn by_columns(left: &Row, right: &Row, names: &[String]) -> Ordering {
    let compare = |name: &String| order(left.get(name)?, right.get(name)?);
    names.iter().filter_map(compare).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn renamed(dep: &FeatureDep, column: &str) -> String {
    dep.rename.as_ref().and_then(|rename| rename.get(column)).cloned().unwrap_or_else(|| column.to_owned())
}

/// Returns the columns that identify the samples of a dependency after its lineage is applied.
fn input_ids(spec: &FeatureSpec, dep: &FeatureDep, upstream: &Feature) -> Vec<String> {
    match &dep.lineage {
        Lineage::Identity => upstream.spec.id_columns.iter().map(|id| renamed(dep, id)).collect(),
        Lineage::Aggregation { on: None } => spec.id_columns.clone(),
        Lineage::Aggregation { on: Some(on) } | Lineage::Expansion { on, .. } => on.clone(),
    }
}

/// Returns the columns that are kept: all, or the selected and the always needed ones.
fn kept_columns(
    dep: &FeatureDep,
    upstream: &Feature,
    input_ids: &[String],
    all: &BTreeSet<String>,
) -> Result<BTreeSet<String>, String> {
    let needed: Vec<String> = match &dep.lineage {
        Lineage::Identity | Lineage::Aggregation { on: None } => {
            upstream.spec.id_columns.iter().map(|id| renamed(dep, id)).collect()
        }
        Lineage::Aggregation { .. } | Lineage::Expansion { .. } => input_ids.to_vec(),
    };
    let selected: Vec<String> = match &dep.select {
        None => all.iter().cloned().collect(),
        Some(select) => select.iter().filter(|name| !columns::is_system(name)).cloned().collect(),
    };
    let kept: BTreeSet<String> = needed.into_iter().chain(selected).collect();
    match kept.iter().find(|name| !all.contains(*name)) {
        None => Ok(kept),
        Some(name) => Err(format!("`{}` has no column `{name}`", dep.feature())),
    }
}
