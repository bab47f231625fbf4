//! Checks everything that can be checked without the rest of the graph.

use std::collections::{BTreeMap, BTreeSet};

use crate::columns;
use crate::error::{Error, Result};
use crate::filter::IntoFilter;
use crate::key::InvalidKey;

use super::fault::{Fault, Step};
use super::{FeatureDep, FeatureSpec, Lineage};

impl FeatureSpec {
    /// Checks everything that can be checked without the rest of the graph.
    ///
    /// # Errors
    /// [`Error::InvalidKey`], [`Error::NoIdColumns`], [`Error::DuplicateField`], [`Error::InvalidRename`],
    /// [`Error::InvalidSpec`], [`Error::FilterSyntax`].
    pub fn validate(&self) -> Result<()> {
        Fault::first(self.faults())
    }

    /// Returns everything that is wrong without the rest of the graph, in the order of [`validate`](Self::validate).
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        self.check_id_columns(&mut faults);
        self.check_fields(&mut faults);
        let mut upstream = BTreeSet::new();
        for (index, dep) in self.deps.iter().enumerate() {
            match dep.feature.get().map_err(InvalidKey::clone) {
                Err(invalid) => faults.push(Fault::of_dep(index, &["feature"], invalid.into())),
                Ok(feature) if !upstream.insert(feature) => {
                    let reason = format!("it depends on `{feature}` twice; join both into one dependency");
                    faults.push(Fault::of_dep(index, &["feature"], self.invalid(reason)));
                }
                Ok(_) => self.check_dep(index, dep, &mut faults),
            }
        }
        faults
    }

    fn check_id_columns(&self, faults: &mut Vec<Fault>) {
        if self.id_columns.is_empty() {
            let error = Error::NoIdColumns { feature: self.key.to_string() };
            faults.push(Fault::new([Step::from("id_columns")], error));
        }
        let mut seen = BTreeSet::new();
        for (index, column) in self.id_columns.iter().enumerate() {
            let reason = if columns::is_system(column) {
                format!("`{column}` is a system column and cannot be an id column")
            } else if column.is_empty() || !seen.insert(column) {
                format!("the id column `{column}` is empty or named twice")
            } else {
                continue;
            };
            faults.push(Fault::new(["id_columns".into(), index.into()], self.invalid(reason)));
        }
    }

    fn check_fields(&self, faults: &mut Vec<Fault>) {
        if self.fields.is_empty() {
            let error = self.invalid("it has no fields; leave `fields` out for one field `default`");
            faults.push(Fault::new([Step::from("fields")], error));
        }
        let mut seen = BTreeMap::new();
        for (index, field) in self.fields.iter().enumerate() {
            let error = match field.key.get().map_err(InvalidKey::clone) {
                Err(invalid) => invalid.into(),
                Ok(key) => match seen.insert(key.struct_key(), key) {
                    None => continue,
                    Some(other) if other == key => {
                        Error::DuplicateField { feature: self.key.to_string(), field: key.to_string() }
                    }
                    Some(_) => self.invalid(
                        "two field keys differ only in `/` and `_` and would have the same struct key; rename one",
                    ),
                },
            };
            faults.push(Fault::new(["fields".into(), index.into(), "key".into()], error));
        }
    }

    fn check_dep(&self, index: usize, dep: &FeatureDep, faults: &mut Vec<Fault>) {
        self.check_renames(index, dep, faults);
        let on = match &dep.lineage {
            Lineage::Aggregation { on: Some(on) } => Some(on),
            Lineage::Expansion { on, .. } => Some(on),
            _ => None,
        };
        if on.is_some_and(Vec::is_empty) {
            let reason = format!("the lineage of its dependency `{}` has an empty list `on`", dep.feature());
            faults.push(Fault::of_dep(index, &["lineage", "on"], self.invalid(reason)));
        }
        for (at, filter) in dep.filters.iter().flatten().enumerate() {
            if let Err(error) = filter.into_filter() {
                let mut fault = Fault::of_dep(index, &["sql_filters"], error);
                fault.part.push(at.into());
                faults.push(fault);
            }
        }
    }

    fn check_renames(&self, index: usize, dep: &FeatureDep, faults: &mut Vec<Fault>) {
        let mut targets = BTreeSet::new();
        for (from, to) in dep.rename.iter().flatten() {
            let reason = if columns::is_system(to) {
                "that name belongs to a system column"
            } else if columns::is_system(from) {
                "system columns keep their names"
            } else if !targets.insert(to) {
                "another column gets that name too"
            } else {
                continue;
            };
            let error = Error::InvalidRename {
                feature: self.key.clone(),
                dependency: dep.feature().clone(),
                from: from.clone(),
                to: to.clone(),
                reason: reason.to_owned(),
            };
            faults.push(Fault::of_dep(index, &["rename", from], error));
        }
    }

    fn invalid(&self, reason: impl Into<String>) -> Error {
        Error::InvalidSpec { feature: self.key.to_string(), reason: reason.into() }
    }
}
