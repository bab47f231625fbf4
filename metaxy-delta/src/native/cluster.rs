//! Runs queries on a cluster of Apache Ballista: the scheduler divides a query into stages, and its executors run them.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use ballista_core::execution_plans::DistributedQueryExec;
use ballista_core::extension::SessionConfigExt;
use ballista_core::serde::BallistaLogicalExtensionCodec;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{CancelJobParams, CleanJobDataParams, GetJobMetricsParams};
use datafusion_proto::logical_plan::LogicalExtensionCodec;
use datafusion_proto::protobuf::LogicalPlanNode;
use deltalake::datafusion::error::DataFusionError;
use deltalake::datafusion::execution::SendableRecordBatchStream;
use deltalake::datafusion::logical_expr::LogicalPlan;
use deltalake::datafusion::physical_plan::ExecutionPlan;
use deltalake::datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use metaxy_core::{Error, Result};
use tokio::time::{Duration, sleep, timeout};

use crate::KIND;
use crate::error::ErrorContext;
use crate::scheduler::SchedulerAddress;

use super::codec::QueryCodec;
use super::ready;
use super::sent::MISMATCH;
use super::stock_scan::Count;

/// The size of a message: a query names all files of its tables.
pub(crate) const MESSAGE_BYTES: u32 = 1 << 30;
/// About how many bytes of memory the rows of a partition take.
const PARTITION_BYTES: u64 = 256 << 20;
/// The bounds of the number of partitions.
const PARTITIONS: [u64; 2] = [2, 1_024];
/// The number of partitions if the logs do not state the numbers of rows.
const USUAL_PARTITIONS: u64 = 16;
/// The bytes of files that are read by one task.
const SHARE_BYTES: u64 = 64 << 20;
/// The time for a job to be given its name, before it is cancelled: the scheduler tells it when the query is planned.
const NAMED: Duration = Duration::from_secs(60);

/// Returns into how many shares the files of a table are divided.
pub(super) fn shares(files: &[Arc<crate::table::log::state::DataFile>]) -> usize {
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    let shares = (bytes / SHARE_BYTES).clamp(PARTITIONS[0], PARTITIONS[1]);
    usize::try_from(shares).unwrap_or(1).min(files.len()).max(1)
}

/// A cluster, as a query uses it.
#[derive(Clone)]
pub(super) struct Cluster {
    address: SchedulerAddress,
    config: SessionConfig,
    context: ErrorContext,
    table: String,
    /// If its executors are those of plain Ballista: what they have to see.
    counts: Option<Arc<[Count]>>,
}

impl Cluster {
    /// `bytes` is the memory that the rows of all tables are expected to take.
    pub(super) fn new(address: SchedulerAddress, bytes: Option<u64>, context: &ErrorContext, table: String) -> Self {
        let partitions = bytes.map_or(USUAL_PARTITIONS, |bytes| bytes / PARTITION_BYTES);
        let partitions = usize::try_from(partitions.clamp(PARTITIONS[0], PARTITIONS[1])).unwrap_or(1);
        // The adaptive planner of Ballista 55 adds stages to some of our queries without end.
        let config = SessionConfig::new_with_ballista()
            .with_ballista_adaptive_query_planner(false)
            .with_target_partitions(partitions)
            .with_ballista_grpc_client_max_message_size(MESSAGE_BYTES as usize)
            .with_ballista_job_name(&format!("metaxy resolve {table}"));
        Self { address, config, context: context.clone(), table, counts: None }
    }

    /// Makes it one of plain Ballista.
    pub(super) fn stock(self, counts: Vec<Count>) -> Self {
        Self { counts: Some(counts.into()), ..self }
    }

    /// Sends a query, if the cluster is ready.
    pub(super) async fn start(self, query: LogicalPlan) -> Result<Job> {
        ready::wait(&self.address).await?;
        self.check_files().await?;
        self.send(query)
    }

    fn send(self, query: LogicalPlan) -> Result<Job> {
        let codec: Arc<dyn LogicalExtensionCodec> = match self.counts {
            Some(_) => Arc::new(BallistaLogicalExtensionCodec::default()),
            None => Arc::new(QueryCodec::default()),
        };
        let session = SessionContext::new_with_config(self.config.clone());
        let query = DistributedQueryExec::<LogicalPlanNode>::with_extension(
            self.address.url(),
            self.config.ballista_config(),
            query,
            codec,
            session.session_id(),
        );
        let rows = query.execute(0, session.task_ctx()).map_err(|error| self.failed(&error))?;
        Ok(Job { cluster: self, query, rows })
    }

    /// Checks that the cluster sees all files of a query in which it reads them itself.
    async fn check_files(&self) -> Result<()> {
        for count in self.counts.iter().flat_map(|counts| counts.iter()) {
            let mut job = self.clone().send(count.query.clone())?;
            let mut rows = 0;
            while let Some(batch) = job.next().await {
                rows += batch?.column(0).as_primitive::<Int64Type>().values().iter().sum::<i64>().cast_unsigned();
            }
            job.clean().await;
            if rows != count.rows {
                return Err(self.lacks_files(rows, count.rows));
            }
        }
        Ok(())
    }

    fn lacks_files(&self, found: u64, rows: u64) -> Error {
        let (table, address) = (&self.table, &self.address);
        Error::Unsupported {
            what: format!(
                "resolving `{table}` on the cluster of {address}, which finds {found} of {rows} rows in the files"
            ),
            hint: "its scheduler and executors need all files of the store, at the same place".to_owned(),
        }
    }

    /// Converts an error of the cluster, which is only a text.
    fn failed(&self, error: &DataFusionError) -> Error {
        let text = error.to_string();
        let what = || format!("resolving `{}` on the cluster of {}", self.table, self.address);
        if let Some(at) = text.find(MISMATCH) {
            let reason = text[at..].split(';').next().unwrap_or(MISMATCH);
            let hint = "run the same version of metaxy in all processes".to_owned();
            return Error::Unsupported { what: format!("{}: {reason}", what()), hint };
        }
        if text.contains("Resources exhausted") {
            return Error::LimitExceeded {
                what: format!("{}: {}", what(), self.context.redact(&text)),
                limit: "the memory of its executors".to_owned(),
                hint: "start them with more `--memory`, or with fewer `--tasks`".to_owned(),
            };
        }
        Error::table(KIND, "resolving on a cluster", &self.table, self.context.masked(error))
    }
}

/// A query that the cluster runs.
pub(super) struct Job {
    cluster: Cluster,
    query: DistributedQueryExec<LogicalPlanNode>,
    rows: SendableRecordBatchStream,
}

impl Job {
    /// Returns the next rows.
    pub(super) async fn next(&mut self) -> Option<Result<RecordBatch>> {
        let batch = self.rows.next().await?;
        Some(batch.map_err(|error| self.cluster.failed(&error)))
    }

    /// Ends the query, whose rows have been read.
    ///
    /// # Errors
    /// Files may have been missing while it ran: deleted files do not return.
    pub(super) async fn end(self) -> Result<()> {
        let cluster = self.cluster.clone();
        self.clean().await;
        cluster.check_files().await
    }

    /// Lets the cluster delete the result, which has been read.
    async fn clean(self) {
        let Some(job_id) = self.job_id() else { return };
        let Ok(mut scheduler) = SchedulerGrpcClient::connect(self.cluster.address.url()).await else { return };
        if tracing::enabled!(tracing::Level::DEBUG)
            && let Ok(metrics) = scheduler.get_job_metrics(GetJobMetricsParams { job_id: job_id.clone() }).await
        {
            let stages = metrics.into_inner().stages.len();
            tracing::debug!(feature = %self.cluster.table, job_id, stages, "the cluster has run a query");
        }
        if let Err(error) = scheduler.clean_job_data(CleanJobDataParams { job_id, remove_stage_ids: Vec::new() }).await
        {
            tracing::debug!(%error, "the result of a query stays on the executors until they delete it themselves");
        }
    }

    /// Stops the query.
    pub(super) async fn cancel(mut self) {
        let named = async {
            while self.job_id().is_none() {
                tokio::select! {
                    next = self.rows.next() => if next.is_none() { break },
                    () = sleep(Duration::from_millis(20)) => {}
                }
            }
        };
        // A job that the scheduler has not named in this time runs to its end.
        let _ = timeout(NAMED, named).await;
        let Some(job_id) = self.job_id() else { return };
        let Ok(mut scheduler) = SchedulerGrpcClient::connect(self.cluster.address.url()).await else { return };
        match scheduler.cancel_job(CancelJobParams { job_id }).await {
            Ok(_) => self.clean().await,
            Err(error) => tracing::debug!(%error, "a query whose rows nobody reads could not be stopped"),
        }
    }

    fn job_id(&self) -> Option<String> {
        self.query.job_id().map(Into::into)
    }
}
