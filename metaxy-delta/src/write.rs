//! Appending rows: first data files, then one commit that adds them all.

#[cfg(feature = "ballista")]
mod elsewhere;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use deltalake::kernel::{Action, Add, MetadataExt, contains_timestampntz, new_metadata};
use deltalake::protocol::{DeltaOperation, SaveMode};
use futures::{StreamExt, TryStreamExt};
use metaxy_core::backend::BatchStream;
use metaxy_core::blocking;
use metaxy_core::error::{Error, Result};

use crate::KIND;
use crate::table::compact;
use crate::table::files::{FileSink, ROW_GROUP_ROWS};
use crate::table::log::constraints::Constraint;
use crate::table::log::protocol::{self, Change};
use crate::table::log::state::{TableState, check_files};
use crate::table::log::{COMMIT_ATTEMPTS, Commit, Table};
use crate::types::{StoredForm, TableSchema, stored_forms, with_signed_integers};

#[cfg(feature = "ballista")]
pub(crate) use elsewhere::{Elsewhere, write_below};

/// A write with this number of rows or more is divided into one file for each core.
const PARALLEL_ROWS: usize = 100_000;
/// The maximum number of rows of a file.
const FILE_ROWS: usize = 2 << 20;

/// Appends rows in one commit.
pub(crate) async fn append(table: Arc<Table>, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
    if batches.iter().all(|batch| batch.num_rows() == 0) {
        return Ok(());
    }
    let schema = with_signed_integers(&schema, &batches);
    let batches = Arc::new(batches);
    // Before the turn begins, so that the writers of one process write their files concurrently.
    let written = Written::new(&table, &schema, &batches).await;
    commit(&table, &schema, written, Some(&batches)).await
}

/// Appends the rows of a stream, all in one commit. If the table changes in between, that is a conflict: the rows cannot
/// be read again.
pub(crate) async fn append_stream(table: Arc<Table>, schema: SchemaRef, batches: BatchStream) -> Result<()> {
    let schema = with_signed_integers(&schema, &[]);
    let written = Written::of_stream(&table, &schema, batches).await?;
    commit(&table, &schema, Ok(written), None).await
}

/// Commits data files. If they no longer fit the table, they are written again from `batches`.
async fn commit(
    table: &Arc<Table>,
    schema: &Schema,
    mut written: Result<Written>,
    batches: Option<&Arc<Vec<RecordBatch>>>,
) -> Result<()> {
    let again = async || match batches {
        Some(batches) => Written::new(table, schema, batches).await,
        None => Err(table.conflict()),
    };
    let _turn = table.turn.lock().await;
    for attempt in 0..COMMIT_ATTEMPTS {
        if attempt > 0 {
            table.back_off(attempt).await;
        }
        let files = match &written {
            Ok(files) => files,
            // The table was dropped by another process, because calls of this one wait for their turn.
            Err(Error::Conflict { .. }) if attempt + 1 < COMMIT_ATTEMPTS && batches.is_some() => {
                written = again().await;
                continue;
            }
            Err(_) => break,
        };
        // Other writers may have committed since.
        let state = table.refresh().await?;
        let plan = Plan::new(table, state.as_ref(), schema)?;
        plan.check(table, batches.map_or(&[], |batches| batches.as_slice()))?;
        if !files.still_fit(table, state.as_deref(), &plan).await? {
            written = again().await;
            continue;
        }
        let mut actions = plan.schema_actions(table, state.as_deref())?;
        actions.extend(files.files.iter().cloned().map(Action::Add));
        let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
        match table.commit(state.as_ref(), actions, operation).await? {
            Commit::Done(version) => {
                compact::after_commit(table, version).await;
                return Ok(());
            }
            Commit::Raced => {}
        }
    }
    written.and_then(|_| Err(table.conflict()))
}

/// Data files without a commit.
struct Written {
    files: Vec<Add>,
    /// The stored forms of their columns.
    forms: Vec<StoredForm>,
    /// The table for which they were written; `None` if there was none.
    table: Option<Target>,
}

/// The table for which files are written.
#[derive(PartialEq)]
struct Target {
    id: String,
    /// Its properties, including constraints.
    settings: HashMap<String, String>,
}

impl Target {
    fn of(state: &TableState) -> Self {
        Self { id: state.id().to_owned(), settings: state.metadata.configuration().clone() }
    }
}

impl Written {
    /// Writes files for the last known state of the table: whether they fit is checked before the commit.
    async fn new(table: &Arc<Table>, schema: &Schema, batches: &Arc<Vec<RecordBatch>>) -> Result<Self> {
        let (plan, state) = Plan::of_known(table, schema, batches).await?;
        let files = write_files(table, &plan, batches).await?;
        Ok(Self { files, forms: plan.forms, table: state.as_deref().map(Target::of) })
    }

    /// Writes them from a stream.
    async fn of_stream(table: &Arc<Table>, schema: &Schema, batches: BatchStream) -> Result<Self> {
        let (plan, state) = Plan::of_known(table, schema, &[]).await?;
        let plan = Arc::new(plan);
        let files = blocking::drive(write_stream(table.clone(), plan.clone(), String::new(), batches)).await?;
        Ok(Self { files, forms: plan.forms.clone(), table: state.as_deref().map(Target::of) })
    }

    /// Returns whether the files can go into the table as it is now. A drop in between has removed them too.
    async fn still_fit(&self, table: &Table, state: Option<&TableState>, plan: &Plan) -> Result<bool> {
        Ok(plan.forms == self.forms
            && match (&self.table, state.map(Target::of)) {
                (Some(then), now) => now.as_ref() == Some(then),
                (None, _) => table.has_files(&self.files).await?,
            })
    }
}

/// The changes of a write to the schema of the table for which it was planned.
struct Plan {
    schema: TableSchema,
    changes_schema: bool,
    constraints: Vec<Constraint>,
    /// The stored forms of the written columns; files fit any table with the same forms.
    forms: Vec<StoredForm>,
}

impl Plan {
    /// Plans the write of rows for the last known state of the table or, if that does not accept them, for its present
    /// state.
    async fn of_known(
        table: &Arc<Table>,
        schema: &Schema,
        batches: &[RecordBatch],
    ) -> Result<(Self, Option<Arc<TableState>>)> {
        if let Some(state) = table.known_state().map(Some)
            && let Ok(plan) = Self::checked(table, state.as_ref(), schema, batches)
        {
            return Ok((plan, state));
        }
        let state = table.refresh().await?;
        Ok((Self::checked(table, state.as_ref(), schema, batches)?, state))
    }

    /// Plans the write of rows, if the table accepts them.
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
            // Rows are not added to a table that cannot be read.
            check_files(&table.name, &state.files)?;
        }
        let existing = state.map(|state| state.schema.as_ref());
        let (mut schema, changes_schema) = TableSchema::merge(&table.key, existing, given)?;
        if existing.is_none() {
            schema.partition_by(&table.partition_by)?;
        }
        let constraints = state.map_or_else(|| Ok(Vec::new()), |state| Constraint::all(&table.name, state))?;
        let forms = stored_forms(&schema, given);
        Ok(Self { schema, changes_schema, constraints, forms })
    }

    /// Checks the rows against the table's constraints.
    fn check(&self, table: &Table, batches: &[RecordBatch]) -> Result<()> {
        let check = |constraint: &Constraint, rows: &RecordBatch| constraint.check(&table.key, &self.schema, rows);
        batches.iter().try_for_each(|rows| self.constraints.iter().try_for_each(|constraint| check(constraint, rows)))
    }

    /// Returns the actions that change the table's schema to that of the plan.
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
            let protocol = protocol::of_new_table(zoneless).map_err(failed)?;
            return Ok(vec![Action::Protocol(protocol), Action::Metadata(metadata)]);
        };
        let metadata =
            state.metadata.clone().with_schema(&self.schema.delta).map_err(|error| failed(error.to_string()))?;
        let mut actions = vec![Action::Metadata(metadata)];
        if zoneless && !contains_timestampntz(state.schema.delta.fields()) {
            actions.extend(protocol::with_zoneless(&state.protocol).map_err(failed)?.map(Action::Protocol));
        }
        Ok(actions)
    }
}

/// Writes rows into data files without a commit.
async fn write_files(table: &Arc<Table>, plan: &Plan, batches: &Arc<Vec<RecordBatch>>) -> Result<Vec<Add>> {
    let schema = Arc::new(plan.schema.clone());
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let parallel = blocking::cores();
    let least = if rows < PARALLEL_ROWS { 1 } else { parallel };
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
        .buffered(parallel)
        .try_collect()
        .await?;
    Ok(adds.into_iter().flatten().collect())
}

/// Writes the rows of a stream into data files in a directory of the table. No commit names them yet.
async fn write_stream(
    table: Arc<Table>,
    plan: Arc<Plan>,
    directory: String,
    mut batches: BatchStream,
) -> Result<Vec<Add>> {
    let schema = Arc::new(plan.schema.clone());
    let new_sink = || FileSink::below(&table, &schema, &directory);
    let (mut adds, mut sink, mut rows) = (Vec::new(), new_sink(), 0);
    while let Some(batch) = batches.try_next().await? {
        plan.check(&table, std::slice::from_ref(&batch))?;
        for piece in slices(std::slice::from_ref(&batch), 0, batch.num_rows()) {
            rows += piece.num_rows();
            sink.write(&piece).await?;
        }
        if rows >= FILE_ROWS {
            adds.extend(std::mem::replace(&mut sink, new_sink()).close().await?);
            rows = 0;
        }
    }
    adds.extend(sink.close().await?);
    Ok(adds)
}

/// Returns the rows from `start` to `end`, in slices of at most one row group.
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
