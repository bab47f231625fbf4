//! Concurrent processes that write, delete, compact and read, some of which are stopped and killed.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use fastrand::Rng;
use metaxy_core::backend::Writers;
use metaxy_core::key::IntoFeatureKey;
use metaxy_core::{AccessMode, Error, MetadataStore, Result};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::conformance::kit::{LEAF, PASSED, ROOT, ids, pair, samples, texts};
use crate::conformance::second_process::{as_child, child};
use crate::conformance::{Bench, Outcome};
use crate::ledger::{Ledger, Progress};
use crate::long_runs::{MIXED_SECONDS, number};

/// The variable with the number of a process, which distinguishes its rows.
const NUMBER: &str = "METAXY_CONFORMANCE_NUMBER";
/// The prefix of the lines that a process prints, to distinguish them from those of the test harness.
const SAID: &str = "mixed: ";
const PROCESSES: usize = 3;
/// The number of rows of a write, in two batches.
const ROWS: usize = 10;
/// Older than anything that a process still reads or commits.
const RETENTION: Duration = Duration::from_secs(3600);
/// The maximum time to wait for processes that have written too little.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub(in crate::conformance) async fn mixed_processes(bench: Bench) -> Result<Outcome> {
    if let Some(store) = as_child(&bench, AccessMode::ReadWrite).await? {
        return work_until_killed(&store).await;
    }
    if bench.capabilities().await?.writers != Writers::AnyProcess {
        return Ok(Outcome::Refused("only one process may write at a time".to_owned()));
    }
    bench.store(pair()?).await?.close().await?;
    let claims = disturb(&bench).await;
    let store = bench.store(pair()?).await?;
    claims.check(&count(&store).await?);
    assert!(claims.ledger.written() > PROCESSES, "the processes wrote too little to show anything");
    PASSED
}

/// Runs processes, stops and kills some of them at random times, and starts others instead. Returns what all of them
/// have reported.
async fn disturb(bench: &Bench) -> Claims {
    let seconds = number(MIXED_SECONDS, 4);
    let (begun, random) = (Instant::now(), &mut Rng::with_seed(seconds));
    let claims = Arc::<Mutex<Claims>>::default();
    let mut numbers = 0..;
    let mut start = || Worker::start(child(bench), numbers.next().unwrap_or_default(), &claims);
    let mut workers: Vec<Worker> = (0..PROCESSES).map(|_| start()).collect();
    while begun.elapsed() < Duration::from_secs(seconds) {
        tokio::time::sleep(Duration::from_millis(random.u64(50..400))).await;
        let at = random.usize(0..PROCESSES);
        if random.bool() {
            workers[at].stop_for(Duration::from_millis(random.u64(20..300))).await;
        } else {
            std::mem::replace(&mut workers[at], start()).kill().await;
        }
    }
    // On a busy machine little was started in that time: the remaining processes then work undisturbed.
    let written = || claims.lock().unwrap_or_else(PoisonError::into_inner).ledger.written();
    while written() <= PROCESSES && begun.elapsed() < Duration::from_secs(seconds) + LONGEST_WAIT {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for worker in workers {
        worker.kill().await;
    }
    let mut claims = claims.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut claims)
}

/// A process that uses the location.
struct Worker {
    process: Child,
    listener: JoinHandle<()>,
}

impl Worker {
    fn start(mut command: Command, number: usize, claims: &Arc<Mutex<Claims>>) -> Self {
        let mut process = command.env(NUMBER, number.to_string()).spawn().expect("the process starts");
        let mut lines = BufReader::new(process.stdout.take().expect("its output is piped")).lines();
        let claims = Arc::clone(claims);
        let listener = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(said) = line.strip_prefix(SAID) {
                    claims.lock().unwrap_or_else(PoisonError::into_inner).hear(said);
                }
            }
        });
        Self { process, listener }
    }

    /// Suspends the process for some time, while the others continue.
    async fn stop_for(&self, time: Duration) {
        let Some(id) = self.process.id() else { return };
        for signal in ["-STOP", "-CONT"] {
            let _ = Command::new("kill").args([signal, &id.to_string()]).status().await;
            tokio::time::sleep(if signal == "-STOP" { time } else { Duration::ZERO }).await;
        }
    }

    async fn kill(mut self) {
        self.process.kill().await.expect("the process is killed");
        self.listener.await.expect("its output is read");
    }
}

/// The reports of processes on their writes and deletions, by the write's name.
#[derive(Default)]
struct Claims {
    ledger: Ledger,
    failures: Vec<String>,
}

impl Claims {
    /// Records a report: `begin write p1-7-`, `done delete p1-3-`, `failed read: ...`.
    fn hear(&mut self, said: &str) {
        let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
        let progress = if word == "done" { Progress::Done } else { Progress::Begun };
        match rest.split_once(' ') {
            Some(("write", name)) if word != "failed" => self.ledger.write(name, progress),
            Some(("delete", name)) if word != "failed" => self.ledger.delete(name, progress),
            _ => self.failures.push(rest.to_owned()),
        }
    }

    /// Checks that the expected rows were found, and that no call failed permanently. [`Error::Task`] counts as
    /// permanent.
    fn check(&self, found: &BTreeMap<String, usize>) {
        assert!(self.failures.is_empty(), "calls failed for good:\n{}", self.failures.join("\n"));
        self.ledger.check(found, ROWS);
    }
}

/// Returns the number of rows of each write that are not deleted.
async fn count(store: &MetadataStore) -> Result<BTreeMap<String, usize>> {
    let rows = match store.read(ROOT).columns(["id"]).await {
        Ok(rows) => texts(&rows.rows().await?.to_batch()?, "id"),
        Err(Error::FeatureNotFound { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut counts = BTreeMap::new();
    for id in rows {
        let end = id.rfind('-').map_or(0, |dash| dash + 1);
        *counts.entry(id[..end].to_owned()).or_default() += 1;
    }
    Ok(counts)
}

fn say(what: &str) {
    let mut output = std::io::stdout().lock();
    // The harness prints the name of the test without a line end. If the parent has ended, it is about to kill this
    // process.
    let _ = writeln!(output, "\n{SAID}{what}").and_then(|()| output.flush());
}

/// Makes random calls until the process is killed; a permanent failure ends it.
async fn work_until_killed(store: &MetadataStore) -> Result<Outcome> {
    let number: u64 = std::env::var(NUMBER).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    let mut work = Work { store, number, random: Rng::with_seed(number), writes: 0, living: Vec::new() };
    loop {
        let name =
            work.random.choice(["write", "write", "write", "hard", "soft", "compact", "vacuum", "read", "resolve"]);
        let name = name.unwrap_or("read");
        if let Err(error) = work.step(name).await {
            say(&format!("failed {name}: {error} ({error:?})"));
            return Err(error);
        }
    }
}

struct Work<'a> {
    store: &'a MetadataStore,
    number: u64,
    random: Rng,
    writes: usize,
    /// Completed writes that no deletion has begun to remove.
    living: Vec<String>,
}

impl Work<'_> {
    async fn step(&mut self, name: &str) -> Result<()> {
        let (store, key) = (self.store, ROOT.into_feature_key()?);
        match name {
            "write" => self.write().await,
            "hard" => self.delete(false).await,
            "soft" => self.delete(true).await,
            "compact" => passing(|| store.backend().compact(&key)).await,
            "vacuum" => passing(|| store.backend().vacuum(&key, RETENTION)).await.map(|_| ()),
            "resolve" => match passing(|| store.resolve_update(LEAF)).await {
                Err(Error::FeatureNotFound { .. }) => Ok(()),
                other => other.map(|_| ()),
            },
            _ => self.read().await,
        }
    }

    async fn write(&mut self) -> Result<()> {
        let name = format!("p{}-{}-", self.number, self.writes);
        self.writes += 1;
        let half = |ids: &[String]| samples(ids, "v1").batch();
        let batches: Vec<RecordBatch> = ids(&name, ROWS).chunks(ROWS / 2).map(half).collect();
        say(&format!("begin write {name}"));
        passing(|| self.store.write(ROOT, batches.clone())).await?;
        say(&format!("done write {name}"));
        self.living.push(name);
        Ok(())
    }

    async fn delete(&mut self, soft: bool) -> Result<()> {
        if self.living.is_empty() {
            return Ok(());
        }
        let name = self.living.swap_remove(self.random.usize(0..self.living.len()));
        say(&format!("begin delete {name}"));
        let doomed = || self.store.delete(ROOT).filter(format!("id >= '{name}' AND id < '{name}9'"));
        passing(|| if soft { doomed() } else { doomed().hard() }).await?;
        say(&format!("done delete {name}"));
        Ok(())
    }

    /// Checks that every write is read as a whole, including all completed writes that this process has not deleted.
    async fn read(&mut self) -> Result<()> {
        let counts = passing(|| count(self.store)).await?;
        if let Some((name, rows)) = counts.iter().find(|(_, rows)| **rows != ROWS) {
            say(&format!("failed read: {rows} of {ROWS} rows of write {name}"));
        }
        if let Some(name) = self.living.iter().find(|name| !counts.contains_key(*name)) {
            say(&format!("failed read: write {name}, which had returned in this process, is missing"));
        }
        Ok(())
    }
}

/// Repeats a call while its error is transient.
async fn passing<T, F: IntoFuture<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    for _ in 0..200 {
        match call().await {
            Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_millis(10)).await,
            other => return other,
        }
    }
    call().await
}
