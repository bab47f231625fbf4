//! The samples that may have changed since a checkpoint, and the rows from which they are computed again.
//!
//! Affected are the keys of the rows of the last increment, those of rows that have come into the feature, and those of
//! rows that have come upstream. A row that replaces another of its sample may have left a group: then the keys of all
//! earlier rows of the sample are affected too.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt};

use crate::backend::{Appended, BatchStream, ScanStage, stream_of};
use crate::checkpoint::{Contents, Mark, Serving, position_in};
use crate::engine::{self, KeyList, TypedKey};
use crate::error::Result;
use crate::key::FeatureKey;
use crate::plan::{GroupOrder, IncrementPlan, InputLineage, InputPlan};
use crate::scan::{Scan, ScanRequest};

use super::super::MetadataStore;

/// The number of keys up to which they are looked up, however small the tables are.
const FEW_KEYS: u64 = 1_000;
/// The part of a table's rows beyond which reading all of them costs less.
const LARGEST_SHARE: u64 = 5;

/// The affected keys, and how each table is searched for them.
pub(super) struct Affected {
    keys: KeyList,
    /// Those of the inputs, then that of the feature's own table.
    searches: Vec<Search>,
}

/// How the rows of a table are found by the join columns.
struct Search {
    /// The names of the join columns in the table.
    join: Vec<String>,
    /// The samples that have or had affected keys, if the keys of a sample may change.
    samples: Option<(KeyList, Vec<String>)>,
}

/// A table of the plan that is searched.
pub(super) struct Searched<'a> {
    pub(super) store: &'a MetadataStore,
    pub(super) feature: &'a FeatureKey,
    pub(super) schema: &'a SchemaRef,
    pub(super) request: &'a ScanRequest,
    /// The names of the join columns in the table.
    pub(super) join: Vec<String>,
    /// The id columns of the table.
    pub(super) ids: &'a [String],
}

/// A resolve that is to be narrowed.
pub(super) struct Scope<'a> {
    pub(super) plan: &'a IncrementPlan,
    /// The tables of the inputs, of which optional ones may be missing; then the feature's own, if it is compared with.
    pub(super) tables: Vec<Option<Searched<'a>>>,
    /// The stores that serve the tables.
    pub(super) serving: Vec<Serving>,
    /// The number of keys that may be held in memory.
    pub(super) most_keys: usize,
}

/// The affected keys, or why they cannot be told.
pub(super) type Outcome = std::result::Result<Affected, String>;

impl Affected {
    /// Finds what has changed between a checkpoint and the positions `now`.
    pub(super) async fn since(scope: Scope<'_>, checkpoint: &Contents, now: &[Mark]) -> Result<Outcome> {
        if let Some(reason) = cannot_tell(&scope, checkpoint) {
            return Ok(Err(reason));
        }
        let Some(key) = shared_key(&scope) else {
            return Ok(Err("the id columns of its tables have no common type".to_owned()));
        };
        let mut keys = KeyList::new(key)?;
        if checkpoint.open.iter().any(|open| keys.add_batch(open).is_err()) {
            return Ok(Err("the id columns had other types at the checkpoint".to_owned()));
        }
        let most = scope.most_keys;
        let mut rows = 0;
        for table in scope.tables.iter().flatten() {
            match table.add_changed(checkpoint, now, most, &mut keys).await? {
                Ok(of) => rows = rows.max(of),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        if keys.has_nulls() {
            return Ok(Err("a changed row has a null in an id column".to_owned()));
        }
        if keys.len() > most || keys.len() as u64 > (rows / LARGEST_SHARE).max(FEW_KEYS) {
            return Ok(Err(too_many(keys.len())));
        }
        let mut searches = Vec::with_capacity(scope.tables.len());
        for table in scope.tables {
            searches.push(match table {
                Some(table) => table.search(&keys).await?,
                None => Search { join: Vec::new(), samples: None },
            });
        }
        Ok(Ok(Self { keys, searches }))
    }

    /// Returns the number of keys.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Begins to read the affected rows of a table, given by its position in the plan; the feature's own table comes
    /// after the inputs.
    pub(super) async fn scan(self: &Arc<Self>, table: &Searched<'_>, position: usize) -> Result<Scan> {
        if self.keys.len() == 0 {
            return empty(table);
        }
        let search = &self.searches[position];
        let (list, names) = search.samples.as_ref().map_or((&self.keys, &search.join), |(ids, names)| (ids, names));
        let request = ScanRequest { keys: list.for_scan(table.schema, names)?, ..table.request.clone() };
        let scan = table.store.begin_scan(table.feature, &request).await?;
        if search.samples.is_none() {
            return Ok(self.picked(scan, position, false));
        }
        // Of a sample whose key has changed, only the newest row counts.
        let scan = if scan.applied < ScanStage::KeepLatest { self.picked(scan, position, true) } else { scan };
        let (schema, stream) = engine::finish(scan, &request, &table.store.inner.pool).await?;
        Ok(self.picked(Scan { schema, stream, applied: ScanStage::Filter }, position, false))
    }

    /// Leaves out the rows that are not affected: by their samples, or by their keys.
    fn picked(self: &Arc<Self>, scan: Scan, position: usize, by_sample: bool) -> Scan {
        let affected = self.clone();
        let pick = move |batch: Result<RecordBatch>| {
            let search = &affected.searches[position];
            match &search.samples {
                Some((samples, names)) if by_sample => samples.pick(batch?, names),
                _ => affected.keys.pick(batch?, &search.join),
            }
        };
        Scan { stream: scan.stream.map(pick).boxed(), ..scan }
    }
}

impl Searched<'_> {
    /// Returns whether the key of a sample cannot change.
    fn ids_have_the_key(&self) -> bool {
        self.join.iter().all(|column| self.ids.contains(column))
    }

    /// Adds the keys of the rows that have come since a checkpoint. Returns the number of rows of the table, as far as it
    /// is known, or why nothing can be told.
    async fn add_changed(
        &self,
        checkpoint: &Contents,
        now: &[Mark],
        most: usize,
        keys: &mut KeyList,
    ) -> Result<std::result::Result<u64, String>> {
        let place = self.store.place();
        let Some(since) = checkpoint.position(self.feature, &place) else {
            return Ok(Err(format!("`{}` was not in {place} at the checkpoint", self.feature)));
        };
        if position_in(now, self.feature, &place) == Some(since) {
            return Ok(Ok(0));
        }
        let columns = self.key_columns();
        let (rows, of) = match self.store.inner.backend.appended(self.feature, since, &columns).await? {
            Appended::CannotTell(reason) => return Ok(Err(format!("of `{}`, {reason}", self.feature))),
            Appended::Rows { rows, of } => (rows, of),
        };
        if self.ids_have_the_key() {
            let mut stream = rows.stream;
            while let Some(batch) = stream.try_next().await? {
                keys.add(&engine::columns_of(&batch, &self.join)?)?;
                if keys.len() > most {
                    return Ok(Err(too_many(keys.len())));
                }
            }
            return Ok(Ok(of.unwrap_or(u64::MAX)));
        }
        let mut samples = KeyList::new(TypedKey::within(&rows.schema, self.ids)?)?;
        let mut stream = rows.stream;
        while let Some(batch) = stream.try_next().await? {
            samples.add_batch(&batch)?;
            if samples.len() > most {
                return Ok(Err(too_many(samples.len())));
            }
        }
        let mut history = self.history(&samples, self.ids).await?;
        while let Some(batch) = history.try_next().await? {
            let batch = samples.pick(batch, self.ids)?;
            keys.add(&engine::columns_of(&batch, &self.join)?)?;
        }
        Ok(Ok(of.unwrap_or(u64::MAX)))
    }

    /// Prepares the search for the final list of keys.
    async fn search(&self, keys: &KeyList) -> Result<Search> {
        if self.ids_have_the_key() || keys.len() == 0 {
            return Ok(Search { join: self.join.clone(), samples: None });
        }
        let mut samples = KeyList::new(TypedKey::within(self.schema, self.ids)?)?;
        let mut history = self.history(keys, &self.join).await?;
        while let Some(batch) = history.try_next().await? {
            samples.add_batch(&keys.pick(batch, &self.join)?)?;
        }
        Ok(Search { join: self.join.clone(), samples: Some((samples, self.ids.to_vec())) })
    }

    /// Reads the ids and join columns of all rows, old and new, that may have some keys.
    async fn history(&self, keys: &KeyList, names: &[String]) -> Result<BatchStream> {
        let request = ScanRequest {
            keys: keys.for_scan(self.schema, names)?,
            row_filter: self.request.row_filter.clone(),
            columns: Some(self.key_columns()),
            ..ScanRequest::default()
        };
        Ok(self.store.scan(self.feature, &request).await?.1)
    }

    /// Returns the id columns and the join columns.
    fn key_columns(&self) -> Vec<String> {
        let others = self.join.iter().filter(|column| !self.ids.contains(column));
        self.ids.iter().chain(others).cloned().collect()
    }
}

fn too_many(keys: usize) -> String {
    format!("{keys} or more keys have changed, too large a part of the rows")
}

/// Returns why a plan needs all rows, or why a checkpoint says nothing about it.
fn cannot_tell(scope: &Scope<'_>, checkpoint: &Contents) -> Option<String> {
    let depends_on_all =
        |input: &InputPlan| matches!(input.lineage, InputLineage::Groups { order: GroupOrder::Arrival { .. }, .. });
    if let Some(input) = scope.plan.inputs.iter().find(|input| depends_on_all(input)) {
        return Some(format!("the order of grouped rows of `{}` depends on all of them", input.feature));
    }
    let moved = scope.serving.iter().find(|now| !checkpoint.serving.contains(now));
    let gone = checkpoint.serving.iter().find(|then| !scope.serving.contains(then));
    moved.or(gone).map(|served| format!("the table of `{}` is another one now", served.feature))
}

/// Returns the join columns with the types in which all tables compare them.
fn shared_key(scope: &Scope<'_>) -> Option<TypedKey> {
    let tables = scope.tables.iter().flatten().map(|table| (table.schema.as_ref(), table.join.as_slice()));
    TypedKey::shared(&scope.plan.join_columns, &tables.collect::<Vec<_>>())
}

/// Returns a scan without rows.
fn empty(table: &Searched<'_>) -> Result<Scan> {
    let schema = match &table.request.columns {
        None => table.schema.clone(),
        Some(columns) => {
            let fields = columns.iter().map(|name| table.schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
            Arc::new(table.schema.project(&fields)?)
        }
    };
    Ok(Scan { schema, stream: stream_of(Vec::new()), applied: ScanStage::Filter })
}
