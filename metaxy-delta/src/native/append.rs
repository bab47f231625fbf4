//! An increment that a cluster appends to the table of its feature: executors write the data files, this process commits
//! them.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use deltalake::kernel::Add;
use futures::TryStreamExt;
use metaxy_core::backend::{BatchStream, Completion, NativeLimits};
use metaxy_core::plan::IncrementPlan;
use metaxy_core::{Error, Result};

use crate::config::Executors;
use crate::connection::Session;
use crate::write::Elsewhere;

use super::rows::Source;
use super::write_rows::{Write, WrittenFiles};
use super::{Declined, Part, Prepared, prepared};

/// Runs a plan on the cluster of a store, and appends its new and stale rows; returns their number. `None` if there is no
/// cluster, or if it cannot run the plan.
pub(crate) async fn append(
    session: &Arc<Session>,
    inputs: &[Arc<Session>],
    plan: &IncrementPlan,
    limits: &NativeLimits,
    completion: &Completion,
) -> Result<Option<u64>> {
    // Only our executors can write.
    if session.scheduler.is_none() || session.executors != Executors::Metaxy {
        return Ok(None);
    }
    let Ok(Prepared { query, runner, .. }) = prepared(session, inputs, plan, limits).await? else { return Ok(None) };
    let Ok((query, expected)) = query.changed() else { return Ok(None) };
    let (key, table) = (plan.feature.clone(), session.table(&plan.feature)?);
    let append = Elsewhere::new(&table, &completion.schema).await?;
    let (root, state) = (session.root.clone(), Arc::new(append.target()?));
    let target = Source::Open(Arc::new(Part { key, root, table, state, shares: 1 }));
    let write = Write { target, directory: append.directory.clone(), expected, completion: completion.clone() };
    let query = match WrittenFiles::new(query, write).query() {
        Ok(query) => query,
        Err(Declined(_)) => return Ok(None),
    };
    match files(runner.rows(query)).await {
        Ok((rows, files)) => {
            append.commit(files).await?;
            Ok(Some(rows))
        }
        Err(error) => {
            append.abandon().await;
            Err(error)
        }
    }
}

/// Returns the number of rows that tasks have written, and the files.
async fn files(mut written: BatchStream) -> Result<(u64, Vec<Add>)> {
    let (mut rows, mut files) = (0, Vec::new());
    while let Some(batch) = written.try_next().await? {
        rows += batch.column(0).as_primitive::<UInt64Type>().values().iter().sum::<u64>();
        files.extend(files_of(&batch)?);
    }
    Ok((rows, files))
}

fn files_of(batch: &RecordBatch) -> Result<Vec<Add>> {
    let of_task = |text: &str| serde_json::from_str::<Vec<Add>>(text);
    let files = batch.column(1).as_string::<i32>().iter().flatten().map(of_task).collect::<Result<Vec<_>, _>>();
    let files =
        files.map_err(|error| Error::backend(crate::KIND, "reading which files a cluster has written", error))?;
    Ok(files.concat())
}
