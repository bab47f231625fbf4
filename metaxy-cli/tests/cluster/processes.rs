//! The processes of a cluster, on free ports of this machine.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use metaxy_testkit::servers::s3::{self, Bucket};
use tempfile::TempDir;

/// The time for anything that a process has to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process of the command, whose messages are in a file.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub fn start(arguments: &str, variables: &[(String, String)], log: PathBuf) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_metaxy"));
        command.args(arguments.split_whitespace()).stdout(Stdio::null());
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().cloned());
        Self::run(command, log)
    }

    pub fn run(mut command: Command, log: PathBuf) -> Self {
        let file = std::fs::File::create(&log).unwrap();
        let child = command.stdin(Stdio::null()).stderr(file).spawn().unwrap();
        Self { child, log }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the log has a text.
    pub fn wait_for(&self, text: &str) -> String {
        until(&format!("{text:?} in {}", self.log.display()), || {
            let log = self.log();
            log.contains(text).then_some(log)
        })
    }

    /// Ends the process as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&mut self) -> ExitStatus {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        until("the end of an interrupted process", || self.child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Calls until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A scheduler with its executors.
pub struct Cluster {
    pub scheduler: Process,
    pub executors: Vec<Process>,
    /// The host and port of the scheduler.
    pub address: String,
    /// A bucket whose server the executors know.
    pub bucket: Bucket,
    _directory: TempDir,
}

impl Cluster {
    /// Starts so many executors; `verbose` is an option of the command.
    pub fn start(executors: usize, verbose: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bucket = s3::bucket().unwrap();
        let scheduler =
            Process::start(&format!("scheduler --port 0 {verbose}"), &[], directory.path().join("scheduler.log"));
        let log = scheduler.wait_for("(Ctrl-C stops it)");
        let address = log.split("df://").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
        let variables: Vec<(String, String)> = bucket.storage_options().into_iter().collect();
        let executor = |number: usize| {
            let arguments = format!("executor --scheduler {address} --tasks 2 {verbose}");
            Process::start(&arguments, &variables, directory.path().join(format!("executor{number}.log")))
        };
        let executors = (0..executors).map(executor).collect::<Vec<_>>();
        let cluster = Self { scheduler, executors, address, bucket, _directory: directory };
        cluster.wait_for_executors(cluster.executors.len());
        cluster
    }

    /// Returns the cluster of the tests that do not harm it. It ends with the last of them.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::start(2, "-v"));
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    /// Returns the setting of stores.
    pub fn url(&self) -> String {
        format!("df://{}", self.address)
    }

    pub fn logs(&self) -> Vec<String> {
        self.executors.iter().chain([&self.scheduler]).map(Process::log).collect()
    }

    pub fn wait_for_executors(&self, count: usize) {
        wait_for_executors(&self.address, count);
    }
}

/// Waits until a scheduler has so many executors.
pub fn wait_for_executors(address: &str, count: usize) {
    let wanted = format!("{count} executors registered");
    until(&wanted, || readiness(address).contains(&wanted).then_some(()));
}

fn readiness(address: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        let _ = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let _ = stream.read_to_string(&mut answer);
    }
    if answer.contains("not ready: 0/") { "0 executors registered".to_owned() } else { answer }
}
