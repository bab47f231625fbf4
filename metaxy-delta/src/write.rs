//! Appending rows: data files first, then one commit that names them all.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use deltalake::kernel::{Action, Add, MetadataExt, Protocol, contains_timestampntz, new_metadata};
use deltalake::protocol::{DeltaOperation, SaveMode};
use futures::{StreamExt, TryStreamExt};
use metaxy_core::blocking;
use metaxy_core::error::{Error, Result};
use serde_json::json;

use crate::KIND;
use crate::constraints::Constraint;
use crate::log::protocol::Change;
use crate::log::state::{TableState, check_files};
use crate::log::{COMMIT_ATTEMPTS, Commit, Table};
use crate::merge;
use crate::runtime::parallelism;
use crate::sink::{FileSink, ROW_GROUP_ROWS};
use crate::types::{TableSchema, stored_form, with_signed_integers};

/// From this many rows on, a write is cut into one file for each hand.
const PARALLEL_ROWS: usize = 100_000;
/// No file gets more rows than this.
const FILE_ROWS: usize = 2 << 20;

/// Appends rows, all in one commit.
pub(crate) async fn append(table: Arc<Table>, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
    if batches.iter().all(|batch| batch.num_rows() == 0) {
        return Ok(());
    }
    let schema = with_signed_integers(&schema, &batches);
    let batches = Arc::new(batches);
    // Outside of the turn, so that the writers of one process write their files side by side.
    let mut written = Written::new(&table, &schema, &batches).await;
    let _turn = table.turn.lock().await;
    for attempt in 0..COMMIT_ATTEMPTS {
        if attempt > 0 {
            table.back_off(attempt).await;
        }
        let files = match &written {
            Ok(files) => files,
            // The table was dropped; while it is our turn no one in this process does that.
            Err(Error::Conflict { .. }) if attempt + 1 < COMMIT_ATTEMPTS => {
                written = Written::new(&table, &schema, &batches).await;
                continue;
            }
            Err(_) => break,
        };
        // Other writers may have come in between.
        let state = table.refresh().await?;
        let plan = Plan::new(&table, state.as_ref(), &schema)?;
        plan.check(&table, &batches)?;
        if !files.still_fit(&table, state.as_deref(), &plan).await? {
            written = Written::new(&table, &schema, &batches).await;
            continue;
        }
        let mut actions = plan.schema_actions(&table, state.as_deref())?;
        actions.extend(files.files.iter().cloned().map(Action::Add));
        let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
        match table.commit(state.as_ref(), actions, operation).await? {
            Commit::Done(version) => {
                merge::after_commit(&table, version).await;
                return Ok(());
            }
            Commit::Raced => {}
        }
    }
    written.and_then(|_| Err(table.conflict()))
}

/// Data files that no commit names yet.
struct Written {
    files: Vec<Add>,
    /// How their columns are stored.
    form: Vec<(String, DataType, bool)>,
    /// The table that they were written for, where there was one.
    table: Option<Target>,
}

/// The table that files are written for.
#[derive(PartialEq)]
struct Target {
    id: String,
    /// Its settings, constraints among them.
    settings: HashMap<String, String>,
}

impl Target {
    fn of(state: &TableState) -> Self {
        Self { id: state.id().to_owned(), settings: state.metadata.configuration().clone() }
    }
}

impl Written {
    /// Writes them for the table as it was when it was last looked at: whether they fit is seen before the commit.
    async fn new(table: &Arc<Table>, schema: &Schema, batches: &Arc<Vec<RecordBatch>>) -> Result<Self> {
        let known = table.known_state().map(Some);
        let planned =
            known.and_then(|state| Some((Plan::checked(table, state.as_ref(), schema, batches).ok()?, state)));
        let (plan, state) = match planned {
            Some(planned) => planned,
            None => {
                let state = table.refresh().await?;
                (Plan::checked(table, state.as_ref(), schema, batches)?, state)
            }
        };
        let files = write_files(table, &plan, batches).await?;
        Ok(Self { files, form: plan.form, table: state.as_deref().map(Target::of) })
    }

    /// Whether the files can go into the table as it is now. Whoever has dropped it meanwhile has removed them too.
    async fn still_fit(&self, table: &Table, state: Option<&TableState>, plan: &Plan) -> Result<bool> {
        Ok(plan.form == self.form
            && match (&self.table, state.map(Target::of)) {
                (Some(then), now) => now.as_ref() == Some(then),
                (None, _) => table.has_files(&self.files).await?,
            })
    }
}

/// What a write does to the schema of the table that it was planned for.
struct Plan {
    schema: TableSchema,
    changes_schema: bool,
    constraints: Vec<Constraint>,
    /// How the written columns are stored; files fit any table that stores them so.
    form: Vec<(String, DataType, bool)>,
}

impl Plan {
    /// A plan for rows that the table takes.
    fn checked(
        table: &Table,
        state: Option<&Arc<TableState>>,
        given: &Schema,
        batches: &[RecordBatch],
    ) -> Result<Self> {
        let plan = Self::new(table, state, given)?;
        plan.check(table, batches)?;
        Ok(plan)
    }

    fn new(table: &Table, state: Option<&Arc<TableState>>, given: &Schema) -> Result<Self> {
        if let Some(state) = state {
            state.check_writable(&table.name, Change::Append)?;
            // Rows are not added to what cannot be read back.
            check_files(&table.name, &state.files)?;
        }
        let existing = state.map(|state| state.schema.as_ref());
        let (mut schema, changes_schema) = TableSchema::merge(&table.name, existing, given)?;
        if existing.is_none() {
            schema.partition_by(&table.partition_by)?;
        }
        let constraints = state.map_or_else(|| Ok(Vec::new()), |state| Constraint::all(&table.name, state))?;
        let form = stored_form(&schema, given);
        Ok(Self { schema, changes_schema, constraints, form })
    }

    /// Refuses rows that the table's own conditions forbid.
    fn check(&self, table: &Table, batches: &[RecordBatch]) -> Result<()> {
        let check = |constraint: &Constraint, rows: &RecordBatch| constraint.check(&table.key, &self.schema, rows);
        batches.iter().try_for_each(|rows| self.constraints.iter().try_for_each(|constraint| check(constraint, rows)))
    }

    /// The actions that bring the table's schema to that of the plan.
    fn schema_actions(&self, table: &Table, state: Option<&TableState>) -> Result<Vec<Action>> {
        if !self.changes_schema {
            return Ok(Vec::new());
        }
        let failed = |error: String| Error::table(KIND, "writing the schema", &table.name, error);
        let zoneless = contains_timestampntz(self.schema.delta.fields());
        let Some(state) = state else {
            let none: [(&str, &str); 0] = [];
            let metadata = new_metadata(&self.schema.delta, self.schema.partition_columns(), none)
                .map_err(|error| failed(error.to_string()))?;
            let protocol = protocol(zoneless, &["timestampNtz"]).map_err(failed)?;
            return Ok(vec![Action::Protocol(protocol), Action::Metadata(metadata)]);
        };
        let metadata =
            state.metadata.clone().with_schema(&self.schema.delta).map_err(|error| failed(error.to_string()))?;
        let mut actions = vec![Action::Metadata(metadata)];
        if zoneless && !contains_timestampntz(state.schema.delta.fields()) {
            actions.extend(upgraded(&state.protocol).map_err(failed)?.map(Action::Protocol));
        }
        Ok(actions)
    }
}

/// The protocol of a new table: the oldest that holds what is in it, so that as many programs as may be can read it.
fn protocol(zoneless: bool, writer_features: &[&str]) -> Result<Protocol, String> {
    let value = if zoneless {
        json!({
            "minReaderVersion": 3, "minWriterVersion": 7,
            "readerFeatures": ["timestampNtz"], "writerFeatures": writer_features,
        })
    } else {
        json!({ "minReaderVersion": 1, "minWriterVersion": 2 })
    };
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// A protocol with timestamps without a zone beside what it had; `None` where it has them.
fn upgraded(old: &Protocol) -> Result<Option<Protocol>, String> {
    let mut value = serde_json::to_value(old).map_err(|error| error.to_string())?;
    let has = |value: &serde_json::Value, list: &str| {
        value[list].as_array().is_some_and(|list| list.iter().any(|feature| feature == "timestampNtz"))
    };
    if has(&value, "readerFeatures") && has(&value, "writerFeatures") {
        return Ok(None);
    }
    let writer = value["minWriterVersion"].as_i64().unwrap_or_default();
    if writer < 7 {
        // What older versions imply has to be named once features are named at all.
        let implied: &[&str] = match writer {
            ..=2 => &["appendOnly", "invariants"],
            3 => &["appendOnly", "invariants", "checkConstraints"],
            4 => &["appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns"],
            _ => return Err("its protocol cannot be upgraded to hold timestamps without a zone".to_owned()),
        };
        value["writerFeatures"] = json!(implied);
    }
    for (list, version, least) in [("readerFeatures", "minReaderVersion", 3), ("writerFeatures", "minWriterVersion", 7)]
    {
        let mut features = value[list].as_array().cloned().unwrap_or_default();
        if !features.iter().any(|feature| feature == "timestampNtz") {
            features.push(json!("timestampNtz"));
        }
        value[list] = json!(features);
        value[version] = json!(least);
    }
    serde_json::from_value(value).map(Some).map_err(|error| error.to_string())
}

/// Writes rows into data files that no commit names yet.
async fn write_files(table: &Arc<Table>, plan: &Plan, batches: &Arc<Vec<RecordBatch>>) -> Result<Vec<Add>> {
    let schema = Arc::new(plan.schema.clone());
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let hands = parallelism();
    let least = if rows < PARALLEL_ROWS { 1 } else { hands };
    let share = rows.div_ceil(rows.div_ceil(FILE_ROWS).max(least)).max(1);
    let adds: Vec<Vec<Add>> = futures::stream::iter((0..rows).step_by(share))
        .map(|start| {
            let (table, schema, batches) = (table.clone(), schema.clone(), batches.clone());
            async move {
                let end = (start + share).min(rows);
                blocking::drive(async move {
                    let mut sink = FileSink::new(&table, &schema);
                    for batch in slices(&batches, start, end) {
                        sink.write(&batch).await?;
                    }
                    sink.close().await
                })
                .await
            }
        })
        .buffered(hands)
        .try_collect()
        .await?;
    Ok(adds.into_iter().flatten().collect())
}

/// The rows from `start` to `end`, in pieces of at most a row group.
fn slices(batches: &[RecordBatch], start: usize, end: usize) -> impl Iterator<Item = RecordBatch> {
    let mut offset = 0;
    batches.iter().flat_map(move |batch| {
        let (first, last) = (offset, offset + batch.num_rows());
        offset = last;
        let (from, to) = (start.clamp(first, last), end.clamp(first, last));
        (from..to)
            .step_by(ROW_GROUP_ROWS)
            .map(move |at| batch.slice(at - first, ROW_GROUP_ROWS.min(to - at)))
            .collect::<Vec<_>>()
    })
}
