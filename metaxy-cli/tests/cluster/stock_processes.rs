//! The processes of a cluster of plain Ballista: this program once more, with Ballista's own scheduler or executor and
//! none of our functions.

use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::start_server;
use tempfile::TempDir;

use crate::processes::{Process, free_port, wait_for_executors};

/// What a process is: "scheduler PORT", or "executor PORT of PORT below DIRECTORY".
const ROLE: &str = "METAXY_STOCK_ROLE";

/// Runs a process of the cluster.
#[test]
#[ignore = "a process that other tests start"]
fn stock_process() {
    let role = std::env::var(ROLE).unwrap_or_default();
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    // As large as those of Ballista's own program.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(32 << 20).build().unwrap();
    match role.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["scheduler", port] => runtime.block_on(scheduler(port.parse().unwrap())),
        ["executor", port, "of", scheduler, "below", directory] => {
            runtime.block_on(executor(port.parse().unwrap(), scheduler.parse().unwrap(), directory));
        }
        _ => {}
    }
}

async fn scheduler(port: u16) {
    let config = SchedulerConfig { bind_port: port, external_host: "127.0.0.1".to_owned(), ..Default::default() };
    let cluster = BallistaCluster::new_from_config(&config).await.unwrap();
    start_server(cluster, format!("127.0.0.1:{port}").parse().unwrap(), Arc::new(config)).await.unwrap();
}

async fn executor(port: u16, scheduler: u16, directory: &str) {
    let config = ExecutorProcessConfig {
        port,
        grpc_port: free_port(),
        scheduler_host: "127.0.0.1".to_owned(),
        scheduler_port: scheduler,
        vcores: 2,
        work_dir: Some(directory.to_owned()),
        ..Default::default()
    };
    start_executor_process(Arc::new(config)).await.unwrap();
}

/// A scheduler with two executors.
pub struct StockCluster {
    pub scheduler: Process,
    _executors: Vec<Process>,
    /// The host and port of the scheduler.
    pub address: String,
    _directory: TempDir,
}

impl StockCluster {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let start = |name: &str, role: String| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "stock_processes::stock_process", "--ignored", "--nocapture"]).env(ROLE, role);
            Process::run(command, directory.path().join(format!("{name}.log")))
        };
        let port = free_port();
        let scheduler = start("scheduler", format!("scheduler {port}"));
        scheduler.wait_for("listening on");
        let executor = |number: usize| {
            let below = directory.path().join(format!("work{number}"));
            std::fs::create_dir(&below).unwrap();
            let role = format!("executor {} of {port} below {}", free_port(), below.display());
            start(&format!("executor{number}"), role)
        };
        let executors = (0..2).map(executor).collect();
        let address = format!("127.0.0.1:{port}");
        wait_for_executors(&address, 2);
        Self { scheduler, _executors: executors, address, _directory: directory }
    }

    /// Returns the cluster of all tests.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<StockCluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::start());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    /// Returns the setting of stores.
    pub fn url(&self) -> String {
        format!("df://{}", self.address)
    }
}
