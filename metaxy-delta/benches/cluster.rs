//! The paper's workload on Delta tables in a directory, computed in this process and on clusters of 1, 2 and 4 executors, all
//! on this machine: what a cluster costs, not what it gains.
//!
//! `cargo bench -p metaxy-delta --features ballista --bench cluster -- --sizes 100k --reference off`. On Linux, a
//! meter shows how many bytes the executors have written in each phase: files between stages, and what they sent. The stages
//! of a query are in the log of the client at DEBUG (`metaxy -vv resolve`).

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;

use metaxy_core::error::BoxError;
use metaxy_core::{SharedBackend, VersioningEngine};
use metaxy_delta::cluster::{Executor, Place, Scheduler};
use metaxy_delta::{DeltaBackend, DeltaConfig};
use metaxy_testkit::workload::{self, Subject};

/// What a process of a cluster is; the others measure.
const ROLE: &str = "METAXY_BENCH_ROLE";
const EXECUTORS: [usize; 3] = [1, 2, 4];

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(ROLE) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return match runtime.block_on(serve(&role)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        };
    }
    // A test runner only lists the tests, and a child measures on the clusters of its parent.
    let starts = !workload::is_child() && !std::env::args().any(|argument| argument == "--list");
    let clusters: Vec<Cluster> = if starts { EXECUTORS.map(Cluster::start).into() } else { Vec::new() };
    let mut subjects = vec![
        Subject::new("delta arrow", |dir| open(dir, None)),
        Subject::new("delta native (DataFusion)", |dir| open(dir, None)).versioning_engine(VersioningEngine::Native),
    ];
    for (at, executors) in EXECUTORS.into_iter().enumerate() {
        let variable = format!("METAXY_BENCH_SCHEDULER_{executors}");
        let cluster = clusters.get(at);
        let address = cluster.map(|cluster| cluster.address.clone()).unwrap_or_default();
        let pids: Vec<String> = cluster.iter().flat_map(|cluster| cluster.executor_ids()).collect();
        let (known, processes) = (variable.clone(), format!("METAXY_BENCH_EXECUTORS_{executors}"));
        let subject = Subject::new(format!("delta ballista, executors: {executors}"), move |dir| {
            open(dir, Some(std::env::var(&known)?))
        });
        let subject = subject.versioning_engine(VersioningEngine::Native).child_env(variable, address);
        let subject = subject.child_env(processes.clone(), pids.join(" "));
        subjects.push(match cfg!(target_os = "linux") {
            true => subject.meter("bytes written by executors", move |_| written(&std::env::var(&processes)?)),
            false => subject,
        });
    }
    workload::run(subjects)
}

fn open(dir: &Path, scheduler: Option<String>) -> Result<SharedBackend, BoxError> {
    let config = DeltaConfig::new(dir.display().to_string());
    Ok(Arc::new(DeltaBackend::new(scheduler.into_iter().fold(config, DeltaConfig::scheduler))?))
}

/// Returns how many bytes some processes have written, to files and to others.
fn written(processes: &str) -> Result<u64, BoxError> {
    let of_one = |process: &str| -> Result<u64, BoxError> {
        let counters = std::fs::read_to_string(format!("/proc/{process}/io"))?;
        let written = counters.lines().find_map(|line| line.strip_prefix("wchar: "));
        Ok(written.ok_or("no counter of written bytes")?.parse()?)
    };
    processes.split_whitespace().map(of_one).sum()
}

async fn serve(role: &str) -> metaxy_core::Result<()> {
    let place = Place { bind: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 0, advertise: None };
    match role.strip_prefix("executor of ").and_then(|port| port.parse().ok()) {
        Some(port) => Executor::new(&place, 0, (place.bind.to_string(), port)).await?.tasks(2).run().await,
        None => {
            let scheduler = Scheduler::bind(&place).await?;
            println!("{}", scheduler.port());
            scheduler.run().await
        }
    }
}

struct Cluster {
    processes: Vec<Child>,
    address: String,
}

impl Cluster {
    fn start(executors: usize) -> Self {
        let start = |role: &str| {
            let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
            command.env(ROLE, role).stdout(Stdio::piped()).spawn().expect("a process")
        };
        let mut scheduler = start("scheduler");
        let mut port = String::new();
        let output = scheduler.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut port).expect("its port");
        let role = format!("executor of {}", port.trim());
        let executors = (0..executors).map(|_| start(&role));
        let processes = executors.chain([scheduler]).collect();
        Self { processes, address: format!("df://127.0.0.1:{}", port.trim()) }
    }

    fn executor_ids(&self) -> impl Iterator<Item = String> + '_ {
        // The scheduler comes last.
        self.processes[..self.processes.len() - 1].iter().map(|process| process.id().to_string())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
