//! Deleting rows: files with deleted rows are rewritten without them, in one commit.
//!
//! The filter is evaluated row by row, as everywhere else; translated for another engine it might select other rows,
//! and deleted rows cannot be recovered. A commit is valid only for the version for which it was computed; if other
//! writers were faster, only their additions are read again.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use deltalake::kernel::{Action, Add};
use deltalake::protocol::DeltaOperation;
use futures::TryStreamExt;
use metaxy_core::error::Result;
use metaxy_core::filter::Predicate;

use crate::table::compact;
use crate::table::files::prune::{Verdict, judge};
use crate::table::files::{self, Filters};
use crate::table::log::protocol::Change;
use crate::table::log::state::{DataFile, TableState, check_files};
use crate::table::log::{COMMIT_ATTEMPTS, Commit, Table};

/// The result so far.
#[derive(Default)]
struct Work {
    /// Files that need not be read again.
    seen: HashSet<String>,
    /// Files that are removed from the table.
    removed: Vec<Arc<DataFile>>,
    adds: Vec<Add>,
    rows: u64,
}

/// Removes the rows for which the predicate is true, and returns their number.
pub(crate) async fn delete(table: Arc<Table>, predicate: &Predicate) -> Result<u64> {
    let mut work = Work::default();
    for attempt in 0..COMMIT_ATTEMPTS {
        if attempt > 0 {
            table.back_off(attempt).await;
        }
        let Some(state) = table.refresh().await? else { return Ok(0) };
        state.check_writable(&table.name, Change::Remove)?;
        check_files(&table.name, &state.files)?;
        if !work.still_holds(&state) {
            work = Work::default();
        }
        work.look_at(&table, &state, predicate).await?;
        if work.removed.is_empty() {
            return Ok(0);
        }
        let removes = work.removed.iter().map(|file| Action::Remove(file.remove(true)));
        let actions = removes.chain(work.adds.iter().cloned().map(Action::Add)).collect();
        let _turn = table.turn.lock().await;
        // The table may have been dropped and written again, so that the next version belongs to another table.
        if !table.refresh().await?.is_some_and(|now| now.is_same_version(&state)) {
            continue;
        }
        match table.commit(Some(&state), actions, DeltaOperation::Delete { predicate: None }).await? {
            Commit::Done(version) => {
                compact::after_commit(&table, version).await;
                return Ok(work.rows);
            }
            Commit::Raced => {}
        }
    }
    Err(table.conflict())
}

impl Work {
    /// Returns whether all files that were rewritten still exist.
    fn still_holds(&self, state: &TableState) -> bool {
        let ids = state.file_ids();
        self.removed.iter().all(|file| ids.contains(file.id.as_str()))
    }

    async fn look_at(&mut self, table: &Arc<Table>, state: &Arc<TableState>, predicate: &Predicate) -> Result<()> {
        let mut partial = Vec::new();
        for file in state.files.iter().filter(|file| !self.seen.contains(&file.id)) {
            let verdict = judge(predicate, &state.schema, file.stats());
            let (matching, all) = match (verdict, file.rows()) {
                (Verdict::None, _) => (0, false),
                (Verdict::All, Some(rows)) => (rows, true),
                _ => count(table, state, file, predicate).await?,
            };
            if matching > 0 {
                self.rows += matching;
                self.removed.push(file.clone());
                if !all {
                    partial.push(file.clone());
                }
            }
        }
        if !partial.is_empty() {
            let predicate = predicate.clone();
            let keep = move |batch: RecordBatch| predicate.remove_from(&batch);
            self.adds.extend(files::rewrite(table, state, partial, keep).await?);
        }
        self.seen.extend(state.files.iter().map(|file| file.id.clone()));
        Ok(())
    }
}

/// Returns the number of matching rows in a file, and whether all rows match.
async fn count(
    table: &Arc<Table>,
    state: &Arc<TableState>,
    file: &Arc<DataFile>,
    predicate: &Predicate,
) -> Result<(u64, bool)> {
    let names: Vec<String> = predicate.columns().into_iter().collect();
    let mut stream = files::rows(table.clone(), state, vec![file.clone()], &names, Filters::default());
    let (mut matching, mut rows) = (0, 0);
    while let Some(batch) = stream.try_next().await? {
        matching += predicate.evaluate(&batch)?.true_count();
        rows += batch.num_rows();
    }
    Ok((matching as u64, matching == rows))
}
