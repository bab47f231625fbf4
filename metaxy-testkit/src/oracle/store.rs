//! Writing, reading and deleting.

use std::collections::BTreeMap;

use metaxy_core::columns;
use serde_json::Value;

use crate::scenario::{Delete, Read, Row as JsonRow, Samples};

use super::definitions::Feature;
use super::filter::Filter;
use super::hashing::row_hash;
use super::rows::{by_field, key, member, projected, shown, text, time};
use super::{Oracle, Row, Table};

/// The rows of a table that a read uses.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scope {
    pub(super) feature_history: bool,
    pub(super) sample_history: bool,
    pub(super) deleted: bool,
}

impl Oracle {
    pub(super) fn hash(&self, text: &str) -> String {
        row_hash(self.algorithm, text, self.truncation)
    }

    pub(super) fn write(&mut self, feature: &str, samples: &Samples) -> Result<(), String> {
        let definition = self.graph.feature(feature)?;
        let mut rows = Vec::new();
        for given in &samples.rows {
            let mut row = self.completed(definition, given)?;
            row.insert(columns::FEATURE_VERSION.to_owned(), Value::from(definition.version.clone()));
            row.insert(columns::CREATED_AT.to_owned(), Value::from(self.now));
            row.insert(columns::UPDATED_AT.to_owned(), Value::from(self.now));
            rows.push(row);
        }
        let table = self.tables.entry(feature.to_owned()).or_default();
        table.columns.extend(samples.columns.keys().cloned());
        table.rows.extend(rows);
        Ok(())
    }

    /// Returns a given row with all four version columns.
    pub(super) fn completed(&self, feature: &Feature, given: &JsonRow) -> Result<Row, String> {
        let mut row: Row = given.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        if let Some(id) = feature.spec.id_columns.iter().find(|id| row.get(*id).is_none_or(Value::is_null)) {
            return Err(format!("a row has no `{id}`"));
        }
        let user_given = row.get(columns::DATA_VERSION_BY_FIELD).is_some_and(|value| !value.is_null());
        let mut provenance = Vec::new();
        let mut data_version = Vec::new();
        for struct_key in feature.struct_keys() {
            let own = member(&row, columns::PROVENANCE_BY_FIELD, &struct_key)
                .ok_or_else(|| format!("a row has no provenance of the field `{struct_key}`"))?;
            let given = member(&row, columns::DATA_VERSION_BY_FIELD, &struct_key);
            data_version.push((struct_key.clone(), given.unwrap_or_else(|| own.clone())));
            provenance.push((struct_key, own));
        }
        let given = row.get(columns::PROVENANCE).filter(|value| !value.is_null()).cloned();
        let whole = given.unwrap_or_else(|| Value::from(self.hash_of_all(&provenance)));
        row.insert(columns::PROVENANCE.to_owned(), whole);
        row.insert(columns::PROVENANCE_BY_FIELD.to_owned(), by_field(&provenance));
        let given = row.get(columns::DATA_VERSION).filter(|value| user_given && !value.is_null()).cloned();
        let version = given.unwrap_or_else(|| Value::from(self.hash_of_all(&data_version)));
        row.insert(columns::DATA_VERSION.to_owned(), version);
        row.insert(columns::DATA_VERSION_BY_FIELD.to_owned(), by_field(&data_version));
        Ok(row)
    }

    /// Returns the hash over the values of a by-field column, in the order of their struct keys.
    pub(super) fn hash_of_all(&self, values: &[(String, String)]) -> String {
        let values: Vec<&str> = values.iter().map(|(_, value)| value.as_str()).collect();
        self.hash(&values.join("|"))
    }

    /// Returns the store that serves a feature: this one if it has it, otherwise the first fallback that does.
    fn serving(&self, feature: &str) -> Option<&Self> {
        if self.has(feature) {
            return Some(self);
        }
        self.fallbacks.iter().find_map(|fallback| fallback.serving(feature))
    }

    /// Returns the table of a feature, here or in a fallback.
    pub(super) fn table(&self, feature: &str) -> Option<&Table> {
        self.serving(feature)?.tables.get(feature)
    }

    /// Returns the user's columns of a feature's table.
    pub(super) fn user_columns(&self, feature: &str) -> Vec<String> {
        self.table(feature).into_iter().flat_map(|table| table.columns.iter().cloned()).collect()
    }

    /// Returns the rows of a table that a read returns.
    pub(super) fn rows_of(
        &self,
        feature: &Feature,
        table: &Table,
        scope: Scope,
        filters: &[String],
    ) -> Result<Vec<Row>, String> {
        let filters = filters.iter().map(|filter| table.filter(filter)).collect::<Result<Vec<_>, _>>()?;
        let of_version = table
            .rows
            .iter()
            .filter(|row| scope.feature_history || text(row.get(columns::FEATURE_VERSION)) == feature.version);
        let kept: Vec<&Row> = if scope.sample_history {
            of_version.collect()
        } else {
            let mut newest: BTreeMap<Option<Vec<String>>, &Row> = BTreeMap::new();
            for row in of_version {
                let kept = newest.entry(key(row, &feature.spec.id_columns)).or_insert(row);
                if last_touched(row) >= last_touched(kept) {
                    *kept = row;
                }
            }
            newest.into_values().collect()
        };
        let living = kept.into_iter().filter(|row| scope.deleted || time(row, columns::DELETED_AT).is_none());
        Ok(living.filter(|row| filters.iter().all(|filter| filter.passes(row))).cloned().collect())
    }

    pub(super) fn answer_read(&self, read: &Read) -> Result<Vec<JsonRow>, String> {
        let feature = self.graph.feature(&read.feature)?;
        let table = self.table(&read.feature).ok_or_else(|| format!("`{}` is in no store", read.feature))?;
        let scope = Scope {
            feature_history: read.with_feature_history == Some(true),
            sample_history: read.with_sample_history == Some(true),
            deleted: read.include_soft_deleted == Some(true),
        };
        let filters: Vec<String> = read.filters.iter().flatten().cloned().collect();
        let rows = self.rows_of(feature, table, scope, &filters)?;
        let Some(names) = &read.columns else { return Ok(rows.iter().map(shown).collect()) };
        if let Some(name) = names.iter().find(|name| !table.has_column(name)) {
            return Err(format!("there is no column `{name}`"));
        }
        Ok(rows.iter().map(|row| shown(&projected(row, names))).collect())
    }

    pub(super) fn delete(&mut self, delete: &Delete) -> Result<(), String> {
        let feature = self.graph.feature(&delete.feature)?;
        let filters: Vec<String> = delete.filters.iter().flatten().cloned().collect();
        let table = self.tables.get(&delete.feature).filter(|_| self.has(&delete.feature));
        let table = table.ok_or_else(|| format!("`{}` is not in this store", delete.feature))?;
        let rows = if delete.soft == Some(false) {
            let filters = filters.iter().map(|filter| table.filter(filter)).collect::<Result<Vec<_>, _>>()?;
            let goes = |row: &Row| {
                text(row.get(columns::FEATURE_VERSION)) == feature.version
                    && filters.iter().all(|filter| filter.passes(row))
            };
            table.rows.iter().filter(|row| !goes(row)).cloned().collect()
        } else {
            let mut rows = table.rows.clone();
            for mut row in self.rows_of(feature, table, Scope::default(), &filters)? {
                row.insert(columns::DELETED_AT.to_owned(), Value::from(self.now));
                rows.push(row);
            }
            rows
        };
        self.tables.entry(delete.feature.clone()).or_default().rows = rows;
        Ok(())
    }
}

impl Table {
    pub(super) fn has_column(&self, name: &str) -> bool {
        self.columns.contains(name) || columns::is_system(name)
    }

    /// Parses a filter, and checks that the table has its columns.
    pub(super) fn filter(&self, text: &str) -> Result<Filter, String> {
        let filter = Filter::parse(text)?;
        match filter.columns().into_iter().find(|name| !self.has_column(name)) {
            None => Ok(filter),
            Some(name) => Err(format!("the filter `{text}` names `{name}`, which is not a column")),
        }
    }
}

/// Returns the time when a row was deleted or, if it was not, written.
fn last_touched(row: &Row) -> Option<i64> {
    time(row, columns::DELETED_AT).or_else(|| time(row, columns::UPDATED_AT))
}
