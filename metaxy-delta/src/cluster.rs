//! The processes of a cluster that computes increments: those of Apache Ballista, which know the functions and tables of
//! this crate. Neither asks who connects to it: keep their ports inside a trusted network.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ballista_core::error::BallistaError;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::{create_scheduler, start_grpc_service_with_listener};
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use metaxy_core::{Error, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::KIND;
use crate::native::{MESSAGE_BYTES, QueryCodec, StageCodec};

/// The seconds between two signs of life of an executor, and those after which it counts as lost.
const HEARTBEAT: u64 = 5;
const LOST: u64 = 20;
/// The seconds for which the scheduler waits for another executor after the last one was lost.
const NO_EXECUTOR: u64 = 30;
/// The seconds for which an executor keeps results whose reader has not said that it has them.
const KEPT: u64 = 6 * 3600;
/// The time in which an executor has to find the scheduler.
const CONNECT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);

/// The address at which a process listens, and by which the others reach it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The IP address at which it listens.
    pub bind: IpAddr,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// The host name or IP address by which the others reach it, if that is not `bind`.
    pub advertise: Option<String>,
}

impl Place {
    fn external(&self) -> Result<String> {
        match &self.advertise {
            Some(host) => Ok(host.clone()),
            None if self.bind.is_unspecified() => Err(Error::setting(
                "advertise",
                format!("{} is every address of this machine; name the one by which the others reach it", self.bind),
            )),
            None => Ok(self.bind.to_string()),
        }
    }

    async fn listen(&self) -> Result<(TcpListener, SocketAddr)> {
        let address = SocketAddr::new(self.bind, self.port);
        let failed = |error| Error::of_io(format!("{address}"), "be listened on", error);
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok((listener, address))
    }
}

/// A scheduler: it takes queries, divides them into stages, and gives their tasks to executors.
#[derive(Debug)]
pub struct Scheduler {
    listener: TcpListener,
    address: SocketAddr,
    host: String,
}

impl Scheduler {
    /// Takes the port.
    ///
    /// # Errors
    /// The port is in use, or not allowed.
    pub async fn bind(place: &Place) -> Result<Self> {
        let host = place.external()?;
        let (listener, address) = place.listen().await?;
        Ok(Self { listener, address, host })
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the setting `scheduler` of the stores that use it.
    pub fn url(&self) -> String {
        format!("df://{}:{}", self.host, self.port())
    }

    /// Runs until the future is dropped.
    ///
    /// # Errors
    /// The service fails.
    pub async fn run(self) -> Result<()> {
        let config = Arc::new(SchedulerConfig {
            external_host: self.host,
            bind_host: self.address.ip().to_string(),
            bind_port: self.address.port(),
            finished_job_data_clean_up_interval_seconds: KEPT,
            finished_job_state_clean_up_interval_seconds: KEPT,
            grpc_server_max_decoding_message_size: MESSAGE_BYTES,
            grpc_server_max_encoding_message_size: MESSAGE_BYTES,
            grpc_client_max_message_size: MESSAGE_BYTES,
            executor_timeout_seconds: LOST,
            expire_dead_executor_interval_seconds: HEARTBEAT,
            no_executors_grace_period_seconds: NO_EXECUTOR,
            override_logical_codec: Some(Arc::new(QueryCodec::default())),
            override_physical_codec: Some(Arc::new(StageCodec::default())),
            ..SchedulerConfig::default()
        });
        let failed = |error| Error::backend(KIND, "running a scheduler", error);
        let cluster = BallistaCluster::new_from_config(&config).await.map_err(failed)?;
        let scheduler = create_scheduler::<LogicalPlanNode, PhysicalPlanNode>(cluster, config).await.map_err(failed)?;
        start_grpc_service_with_listener(self.listener, scheduler).await.map_err(failed)
    }
}

/// An executor: it runs the tasks that a scheduler gives it, and keeps their results for the next stage or the reader.
/// It reads tables with the credentials in its own environment.
#[derive(Debug)]
pub struct Executor {
    place: Place,
    task_port: u16,
    scheduler: (String, u16),
    tasks: Option<usize>,
    memory: Option<u64>,
    directory: PathBuf,
    is_temporary: bool,
}

impl Executor {
    /// Prepares an executor of the scheduler at a host and port; it is given tasks at `task_port`.
    ///
    /// # Errors
    /// A port is in use, or not allowed.
    pub async fn new(place: &Place, task_port: u16, scheduler: (String, u16)) -> Result<Self> {
        let mut place = place.clone();
        place.advertise = Some(place.external()?);
        // Both ports are free at this moment; the process takes them when it starts.
        let (results, address) = place.listen().await?;
        place.port = address.port();
        let (tasks, task_address) = Place { port: task_port, ..place.clone() }.listen().await?;
        drop((results, tasks));
        let name = format!("metaxy-executor-{}", uuid::Uuid::new_v4());
        let directory = std::env::temp_dir().join(name);
        let task_port = task_address.port();
        Ok(Self { place, task_port, scheduler, tasks: None, memory: None, directory, is_temporary: true })
    }

    /// Sets the number of tasks that run at a time; by default that of the processors.
    #[must_use]
    pub fn tasks(mut self, tasks: usize) -> Self {
        self.tasks = Some(tasks.max(1));
        self
    }

    /// Sets the bytes of memory of all tasks together; by default most of what the machine or the container has.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes.max(1));
        self
    }

    /// Sets the directory for results and for rows that do not fit into memory; by default a temporary one. Directories
    /// in it are deleted when the executor stops.
    #[must_use]
    pub fn work_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        (self.directory, self.is_temporary) = (directory.into(), false);
        self
    }

    /// Returns the port from which others read results.
    pub fn port(&self) -> u16 {
        self.place.port
    }

    /// Runs until the process is interrupted or told to end; tasks that run are finished before.
    ///
    /// # Errors
    /// The scheduler does not answer, or the service fails.
    pub async fn run(self) -> Result<()> {
        let (directory, is_temporary) = (self.directory.clone(), self.is_temporary);
        let at = |directory: &Path| directory.display().to_string();
        make_directory(&directory).map_err(|error| Error::of_io(at(&directory), "be created", error))?;
        let scheduler = self.scheduler.clone();
        let ended = match wait_for(&scheduler.0, scheduler.1).await {
            Ok(()) => start_executor_process(Arc::new(self.config())).await.map_err(failed),
            Err(error) => Err(error),
        };
        if is_temporary {
            // What is left is in the directory for temporary files.
            let _ = tokio::fs::remove_dir_all(&directory).await;
        }
        ended
    }

    fn config(self) -> ExecutorProcessConfig {
        let usual = ExecutorProcessConfig::default();
        ExecutorProcessConfig {
            bind_host: self.place.bind.to_string(),
            external_host: self.place.advertise,
            port: self.place.port,
            grpc_port: self.task_port,
            scheduler_host: self.scheduler.0,
            scheduler_port: self.scheduler.1,
            scheduler_connect_timeout_seconds: 0,
            vcores: self.tasks.unwrap_or(usual.vcores),
            work_dir: Some(self.directory.display().to_string()),
            job_data_ttl_seconds: KEPT,
            job_data_clean_up_interval_seconds: KEPT / 6,
            grpc_max_decoding_message_size: MESSAGE_BYTES,
            grpc_max_encoding_message_size: MESSAGE_BYTES,
            executor_heartbeat_interval_seconds: HEARTBEAT,
            memory_pool_size: self.memory,
            override_logical_codec: Some(Arc::new(QueryCodec::default())),
            override_physical_codec: Some(Arc::new(StageCodec::default())),
            ..usual
        }
    }
}

fn failed(error: BallistaError) -> Error {
    Error::backend(KIND, "running an executor", error)
}

/// Waits until a scheduler takes connections. Ballista's own time limit does not end.
async fn wait_for(host: &str, port: u16) -> Result<()> {
    let start = Instant::now();
    loop {
        let reason = match timeout(CONNECT, TcpStream::connect((host, port))).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if start.elapsed() >= CONNECT {
            let reason = format!("{reason}; start it first with `metaxy scheduler`, and check `--scheduler`");
            return Err(Error::unreachable(format!("the scheduler {host}:{port}"), reason));
        }
        sleep(PAUSE).await;
    }
}

/// Makes a directory that only its owner can enter, if there is none.
fn make_directory(directory: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}
