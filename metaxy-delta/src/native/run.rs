//! Runs queries: on the threads of this crate, within the memory limit and the directory for temporary files of the store;
//! or on a cluster.

use std::sync::Arc;

use arrow::array::RecordBatch;
use deltalake::datafusion::error::DataFusionError;
use deltalake::datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use deltalake::datafusion::execution::memory_pool::FairSpillPool;
use deltalake::datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use deltalake::datafusion::logical_expr::LogicalPlan;
use deltalake::datafusion::physical_plan::SendableRecordBatchStream;
use deltalake::datafusion::prelude::{SessionConfig, SessionContext};
use futures::stream::{self, StreamExt, TryStreamExt};
use metaxy_core::backend::{BatchStream, NativeLimits};
use metaxy_core::{Error, Result, blocking, fence};
use tokio::sync::mpsc;

use crate::KIND;
use crate::error::ErrorContext;
#[cfg(feature = "ballista")]
use crate::scheduler::SchedulerAddress;
use crate::table::storage::runtime;

use super::Part;
#[cfg(feature = "ballista")]
use super::cluster::{Cluster, Job};
use super::rows::Failure;
#[cfg(feature = "ballista")]
use super::stock_scan::Count;

/// The share of the limit that DataFusion counts; the rest is for what it does not: rows that are being read, and the
/// batches between its operators.
const SHARE: usize = 2;
/// DataFusion needs this much to sort at all.
const LEAST_MEMORY: usize = 256 << 20;
/// The memory that a byte of a file and a row are expected to take, at least. Tables that fit are joined by hash tables,
/// which cannot be spilled; others are sorted and merged.
const BYTES_PER_FILE_BYTE: u64 = 16;
const BYTES_PER_ROW: u64 = 1 << 10;
/// The memory for each row of a batch: a sort of small memory needs small batches.
const MEMORY_PER_BATCH_ROW: usize = 64 << 10;
const BATCH_ROWS: usize = 8_192;
/// What a sort reserves to merge its spilled rows, and the share of the memory that it may be.
const MERGE_BYTES: usize = 10 << 20;
const MERGE_SHARE: usize = 32;
/// The number of batches that may wait to be read.
const WAITING: usize = 2;

/// Runs the queries of one plan.
#[derive(Clone)]
pub(super) struct Runner {
    config: SessionConfig,
    runtime: Arc<RuntimeEnv>,
    context: ErrorContext,
    table: String,
    failure: Failure,
    #[cfg(feature = "ballista")]
    cluster: Option<Cluster>,
}

impl Runner {
    pub(super) fn new(
        parts: &[Arc<Part>],
        context: &ErrorContext,
        table: String,
        limits: &NativeLimits,
        failure: Failure,
    ) -> Result<Self> {
        let memory = (limits.memory / SHARE).max(LEAST_MEMORY);
        let directory = DiskManagerMode::Directories(vec![limits.directory.clone()]);
        let disk = DiskManagerBuilder::default().with_mode(directory).with_max_temp_directory_size(u64::MAX);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(memory)))
            .with_disk_manager_builder(disk)
            .build_arc()
            .map_err(|error| Error::backend(KIND, "starting DataFusion", error))?;
        // Rows that are divided among partitions are copied, so that DataFusion counts them and not the batch they are from.
        let mut config = SessionConfig::new().with_target_partitions(blocking::cores().max(2));
        config = config.with_batch_size((memory / MEMORY_PER_BATCH_ROW).clamp(1, BATCH_ROWS));
        let is_small = expected_bytes(parts).is_some_and(|bytes| bytes <= memory as u64);
        config.options_mut().optimizer.prefer_hash_join = is_small;
        config.options_mut().execution.sort_spill_reservation_bytes = MERGE_BYTES.min(memory / MERGE_SHARE);
        Ok(Self {
            config,
            runtime,
            context: context.clone(),
            table,
            failure,
            #[cfg(feature = "ballista")]
            cluster: None,
        })
    }

    /// Lets a cluster run the queries.
    #[cfg(feature = "ballista")]
    pub(super) fn on(mut self, scheduler: &SchedulerAddress, parts: &[Arc<Part>]) -> Self {
        let bytes = expected_bytes(parts);
        self.cluster = Some(Cluster::new(scheduler.clone(), bytes, &self.context, self.table.clone()));
        self
    }

    /// Lets a cluster of plain Ballista run the queries, which have no functions of this crate.
    #[cfg(feature = "ballista")]
    pub(super) fn on_stock(self, scheduler: &SchedulerAddress, parts: &[Arc<Part>], counts: Vec<Count>) -> Self {
        let mut runner = self.on(scheduler, parts);
        runner.cluster = runner.cluster.map(|cluster| cluster.stock(counts));
        runner
    }

    /// Returns the rows of a query. It starts with the first poll, and stops when the stream is dropped.
    pub(super) fn rows(&self, query: LogicalPlan) -> BatchStream {
        let runner = self.clone();
        let start = async move {
            let (sender, batches) = mpsc::channel(WAITING);
            // It ends when nobody waits for its rows any more.
            drop(runtime::spawn(async move { runner.send(query, sender).await })?);
            Ok::<_, Error>(stream::unfold(batches, |mut batches| async move { Some((batches.recv().await?, batches)) }))
        };
        stream::once(start).try_flatten().boxed()
    }

    /// Runs a query, and sends its rows or the error that ends it.
    async fn send(self, query: LogicalPlan, sender: mpsc::Sender<Result<RecordBatch>>) {
        let run = fence::catch_async(self.run(query, &sender)).await;
        if let Err(error) = run.unwrap_or_else(|panic| Err(panic.into())) {
            // This fails if the stream was dropped, which is not an error.
            let _ = sender.send(Err(error)).await;
        }
    }

    async fn run(&self, query: LogicalPlan, sender: &mpsc::Sender<Result<RecordBatch>>) -> Result<()> {
        let mut rows = tokio::select! {
            () = sender.closed() => return Ok(()),
            rows = self.start(query) => rows?,
        };
        loop {
            let batch = tokio::select! {
                () = sender.closed() => break rows.stop().await,
                batch = rows.next() => batch,
            };
            match batch {
                Some(Ok(batch)) => {
                    // If nobody waits for it, the next round stops.
                    let _ = sender.send(Ok(batch)).await;
                }
                Some(Err(error)) => return Err(error),
                None => return rows.end().await,
            }
        }
        Ok(())
    }

    async fn start(&self, query: LogicalPlan) -> Result<Running> {
        #[cfg(feature = "ballista")]
        if let Some(cluster) = &self.cluster {
            return Ok(Running::OnCluster(Box::new(cluster.clone().start(query).await?)));
        }
        let session = SessionContext::new_with_config_rt(self.config.clone(), self.runtime.clone());
        let frame = session.execute_logical_plan(query).await.map_err(|error| self.failed(error))?;
        let rows = frame.execute_stream().await.map_err(|error| self.failed(error))?;
        Ok(Running::Here(rows, Box::new(self.clone())))
    }

    /// Converts an error of a query: that of a reader is the caller's, whatever has become of it.
    fn failed(&self, error: DataFusionError) -> Error {
        if let Some(error) = self.failure.take() {
            return error;
        }
        match error.find_root() {
            DataFusionError::ResourcesExhausted(reason) => Error::LimitExceeded {
                what: format!("the memory that DataFusion needs to resolve `{}` ({reason})", self.table),
                limit: "the store's `memory_limit`".to_owned(),
                hint: "raise it, or use versioning_engine `arrow`".to_owned(),
            },
            _ => Error::table(KIND, "resolving", &self.table, self.context.masked(&error)),
        }
    }
}

/// Returns about how much memory the rows of all tables take, if the logs state their numbers.
fn expected_bytes(parts: &[Arc<Part>]) -> Option<u64> {
    let mut files = parts.iter().flat_map(|part| part.state.files.iter());
    files.try_fold(0_u64, |sum, file| {
        let rows = file.rows()?.saturating_mul(BYTES_PER_ROW);
        Some(sum.saturating_add(rows.max(file.size.saturating_mul(BYTES_PER_FILE_BYTE))))
    })
}

/// A query that runs.
enum Running {
    Here(SendableRecordBatchStream, Box<Runner>),
    #[cfg(feature = "ballista")]
    OnCluster(Box<Job>),
}

impl Running {
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        match self {
            Self::Here(rows, runner) => Some(rows.next().await?.map_err(|error| runner.failed(error))),
            #[cfg(feature = "ballista")]
            Self::OnCluster(job) => job.next().await,
        }
    }

    /// Ends a query whose rows have all been read.
    async fn end(self) -> Result<()> {
        match self {
            Self::Here(..) => Ok(()),
            #[cfg(feature = "ballista")]
            Self::OnCluster(job) => job.end().await,
        }
    }

    /// Ends a query whose rows nobody reads.
    async fn stop(self) {
        #[cfg(feature = "ballista")]
        if let Self::OnCluster(job) = self {
            job.cancel().await;
        }
    }
}
