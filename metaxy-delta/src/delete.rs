//! Removing rows for good: files that hold some of them are written anew without them, in one commit.
//!
//! The filter itself decides, row by row, as it does everywhere else; translated for another engine it might mean
//! something slightly different, and rows that are gone do not come back. A commit stands only for the version that it
//! was worked out for; where others were faster, only what they have added is looked at again.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not, prep_null_mask_filter};
use deltalake::kernel::{Action, Add};
use deltalake::protocol::DeltaOperation;
use futures::TryStreamExt;
use metaxy_core::blocking;
use metaxy_core::error::Result;
use metaxy_core::filter::Predicate;

use crate::log::protocol::Change;
use crate::log::state::{DataFile, TableState, check_files};
use crate::log::{COMMIT_ATTEMPTS, Commit, Table};
use crate::merge;
use crate::prune::{self, Verdict};
use crate::read::{self, Filters};
use crate::sink::FileSink;

/// What has been worked out so far.
#[derive(Default)]
struct Work {
    /// Files that need not be looked at again.
    seen: HashSet<String>,
    /// Files that are taken out of the table.
    removed: Vec<Arc<DataFile>>,
    adds: Vec<Add>,
    rows: u64,
}

/// Removes the rows for which the predicate is true; returns how many.
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
        // It may have been dropped and made anew meanwhile, and the next version be one of another table.
        if !table.refresh().await?.is_some_and(|now| now.is_same_version(&state)) {
            continue;
        }
        match table.commit(Some(&state), actions, DeltaOperation::Delete { predicate: None }).await? {
            Commit::Done(version) => {
                merge::after_commit(&table, version).await;
                return Ok(work.rows);
            }
            Commit::Raced => {}
        }
    }
    Err(table.conflict())
}

impl Work {
    /// Whether all files that were written anew are still there.
    fn still_holds(&self, state: &TableState) -> bool {
        let ids = state.file_ids();
        self.removed.iter().all(|file| ids.contains(file.id.as_str()))
    }

    async fn look_at(&mut self, table: &Arc<Table>, state: &Arc<TableState>, predicate: &Predicate) -> Result<()> {
        let mut partial = Vec::new();
        for file in state.files.iter().filter(|file| !self.seen.contains(&file.id)) {
            let verdict = prune::judge(predicate, &state.schema, file.stats());
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
            self.adds.extend(rewrite(table, state, partial, predicate).await?);
        }
        self.seen.extend(state.files.iter().map(|file| file.id.clone()));
        Ok(())
    }
}

/// How many rows of a file match, and whether all do.
async fn count(
    table: &Arc<Table>,
    state: &Arc<TableState>,
    file: &Arc<DataFile>,
    predicate: &Predicate,
) -> Result<(u64, bool)> {
    let names: Vec<String> = predicate.columns().into_iter().collect();
    let mut stream = read::rows(table.clone(), state, vec![file.clone()], &names, Filters::default());
    let (mut matching, mut rows) = (0, 0);
    while let Some(batch) = stream.try_next().await? {
        matching += predicate.evaluate(&batch)?.true_count();
        rows += batch.num_rows();
    }
    Ok((matching as u64, matching == rows))
}

/// Writes what stays of some files into a new one.
async fn rewrite(
    table: &Arc<Table>,
    state: &Arc<TableState>,
    files: Vec<Arc<DataFile>>,
    predicate: &Predicate,
) -> Result<Vec<Add>> {
    let names: Vec<String> = state.schema.logical.fields().iter().map(|field| field.name().clone()).collect();
    let mut stream = read::rows(table.clone(), state, files, &names, Filters::default());
    let (table, schema, predicate) = (table.clone(), state.schema.clone(), predicate.clone());
    blocking::drive(async move {
        let mut sink = FileSink::new(&table, &schema);
        while let Some(batch) = stream.try_next().await? {
            sink.write(&without(&batch, &predicate.evaluate(&batch)?)?).await?;
        }
        sink.close().await
    })
    .await
}

/// The rows for which the mask is not true.
fn without(batch: &RecordBatch, mask: &BooleanArray) -> Result<RecordBatch> {
    let gone = if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() };
    Ok(filter_record_batch(batch, &not(&gone)?)?)
}
