//! Steps that one of the programs takes, or both.

use std::collections::BTreeMap;

use metaxy_core::{FeatureKey, FeaturePlan, Lineage, columns};
use serde_json::{Value, json};

use super::{COPY, Live, Program, STORE, text};
use crate::scenario::{
    Delete, Expected, Read, Resolve, Row, Samples, Step, Write, compare, play_step, read_rows, resolve_rows,
};

impl Live<'_> {
    /// Lets a program write or delete.
    pub(super) async fn change(&mut self, by: Program, step: Step) -> Result<(), String> {
        match by {
            Program::Python => self.companion.take(&json!(["play", STORE, step])).map(drop),
            Program::Rust => {
                let store = self.take_store().await?;
                let store = play_step(store, &step, self.truncation).await?;
                self.give_back(store).await
            }
        }
    }

    /// Returns the increment that both programs find.
    pub(super) async fn resolve(&mut self, step: &Resolve) -> Result<Expected, String> {
        let store = self.take_store().await?;
        let ours = resolve_rows(&store, step).await?;
        self.give_back(store).await?;
        let theirs = self.companion.take(&json!(["play", STORE, Step::Resolve(step.clone())]))?;
        let mut theirs: Expected = serde_json::from_value(theirs).map_err(|error| error.to_string())?;
        if let Some(on) = expanded(self.plan(&step.feature)?) {
            // An orphan stands for all children of its parent; Python returns the other columns of one of them.
            let kept = |name: &String| on.contains(name) || name.starts_with(columns::PROVENANCE);
            theirs.orphaned.iter_mut().for_each(|row| row.retain(|name, _| kept(name)));
        }
        ours.compare(&theirs)
            .map_err(|difference| format!("{}, expected is what is found here: {difference}", step.feature))?;
        Ok(ours)
    }

    /// Checks that both programs read the same.
    pub(super) async fn read(&mut self, step: &Read) -> Result<(), String> {
        let store = self.take_store().await?;
        let ours = read_rows(&store, step).await?;
        self.give_back(store).await?;
        let theirs = self.companion.take(&json!(["play", STORE, Step::Read(step.clone())]))?;
        read_alike(step, &ours, theirs)
    }

    /// Checks that both programs read the same history of every feature that a store has.
    pub(super) async fn read_all(&mut self, name: &str) -> Result<(), String> {
        for key in self.graph.topological_order().to_vec() {
            let flag = Some(true);
            let step = Read {
                feature: key.to_string(),
                with_feature_history: flag,
                with_sample_history: flag,
                include_soft_deleted: flag,
                ..Read::default()
            };
            let store = self.open(name).await?;
            let exists = store.has_feature(&key).await.map_err(text)?;
            let ours = if exists { Some(read_rows(&store, &step).await?) } else { None };
            store.close().await.map_err(text)?;
            if let Some(ours) = ours {
                let theirs = self.companion.take(&json!(["play", name, Step::Read(step.clone())]))?;
                read_alike(&step, &ours, theirs)?;
            }
        }
        Ok(())
    }

    /// Lets a program do what an increment asks for: results for its new and stale samples, and none for its orphans.
    pub(super) async fn process(&mut self, by: Program, key: &FeatureKey, found: &Expected) -> Result<(), String> {
        let plan = self.plan(&key.to_string())?;
        let expanded = expanded(plan).map(<[String]>::to_vec);
        let ids = plan.spec.id_columns.clone();
        // Children of a parent that has changed are replaced, however many there were.
        let gone = found.orphaned.iter().chain(found.stale.iter().filter(|_| expanded.is_some()));
        let gone: Vec<String> = gone.map(|row| condition(row, expanded.as_ref().unwrap_or(&ids))).collect();
        if !gone.is_empty() {
            let delete = Delete { feature: key.to_string(), filters: Some(vec![gone.join(" OR ")]), soft: None };
            self.change(by, Step::Delete(delete)).await?;
        }
        let samples = results(found.new.iter().chain(&found.stale), &ids);
        if !samples.rows.is_empty() {
            self.change(by, Step::Write(Write { feature: key.to_string(), samples })).await?;
        }
        Ok(())
    }

    /// Lets a program carry rows of an old version of a feature over to the current one.
    pub(super) async fn rebase(&mut self, by: Program, key: &FeatureKey, from: &str) -> Result<(), String> {
        match by {
            Program::Python => self.companion.take(&json!(["rebase", STORE, key, from])).map(drop),
            Program::Rust => {
                let store = self.take_store().await?;
                store.rebase(key, from).await.map_err(text)?;
                self.give_back(store).await
            }
        }
    }

    /// Lets a program copy all features to the other store.
    pub(super) async fn copy(&mut self, by: Program) -> Result<(), String> {
        match by {
            Program::Python => self.companion.take(&json!(["copy", STORE, COPY])).map(drop),
            Program::Rust => {
                let (source, target) = (self.take_store().await?, self.open(COPY).await?);
                target.copy_from(&source).await.map_err(text)?;
                target.close().await.map_err(text)?;
                self.give_back(source).await
            }
        }
    }

    /// Returns whether several samples of a feature are made from one upstream sample.
    pub(super) fn expands(&self, key: &FeatureKey) -> Result<bool, String> {
        Ok(expanded(self.plan(&key.to_string())?).is_some())
    }

    fn plan(&self, feature: &str) -> Result<&FeaturePlan, String> {
        self.graph.plan(feature).map_err(text)
    }
}

fn read_alike(step: &Read, ours: &[Row], theirs: Value) -> Result<(), String> {
    let theirs: Vec<Row> = serde_json::from_value(theirs).map_err(|error| error.to_string())?;
    let what = format!("{}, expected is what is read here", step.feature);
    compare(&what, ours, &theirs)
}

/// Returns the columns that name a parent, if the feature expands.
fn expanded(plan: &FeaturePlan) -> Option<&[String]> {
    plan.spec.deps.iter().find_map(|dep| match &dep.lineage {
        Lineage::Expansion { on, .. } => Some(on.as_slice()),
        Lineage::Identity | Lineage::Aggregation { .. } => None,
    })
}

/// Returns a filter that selects the rows with these values.
fn condition(row: &Row, columns: &[String]) -> String {
    let literal = |value: &Value| match value {
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        other => other.to_string(),
    };
    let equal = |name: &String| format!("{name} = {}", row.get(name).map_or_else(|| "NULL".to_owned(), literal));
    format!("({})", columns.iter().map(equal).collect::<Vec<_>>().join(" AND "))
}

/// Returns one result for each sample of an increment: two if the id has a column that upstream does not have.
fn results<'a>(rows: impl Iterator<Item = &'a Row>, ids: &[String]) -> Samples {
    let mut results: BTreeMap<String, Row> = BTreeMap::new();
    for row in rows {
        for child in 0..if ids.iter().all(|id| row.contains_key(id)) { 1 } else { 2 } {
            let value = |id: &String| (id.clone(), row.get(id).cloned().unwrap_or_else(|| Value::from(child)));
            let mut result: Row = ids.iter().map(value).collect();
            let key = Value::from(result.clone()).to_string();
            result.insert(columns::PROVENANCE_BY_FIELD.to_owned(), row[columns::PROVENANCE_BY_FIELD].clone());
            results.insert(key, result);
        }
    }
    let rows: Vec<Row> = results.into_values().collect();
    let kind = |id: &String| if rows.iter().any(|row| row[id].is_string()) { "string" } else { "int64" };
    Samples { columns: ids.iter().map(|id| (id.clone(), kind(id).to_owned())).collect(), rows }
}
