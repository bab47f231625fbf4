//! Random faults of requests to S3: no acknowledged row is lost or duplicated, no deleted row is read again, and every
//! error is transient or a refusal.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use fastrand::Rng;
use futures::future::join_all;
use metaxy_core::filter::Filter;
use metaxy_core::{Error, Result, StoreBackend};
use metaxy_delta::{DeltaBackend, DeltaConfig};
use metaxy_testkit::fixtures::tables::{self, batch, texts};
use metaxy_testkit::ledger::{Ledger, Progress};
use metaxy_testkit::long_runs::{S3_FAULTS, number};
use metaxy_testkit::servers::s3::{self, Bucket};

use crate::{TABLE, append, key, on_s3, opened};

/// The number of faults in a default run.
const FAULTS: usize = 300;
/// The number of faults after which another table is used.
const FAULTS_OF_ONE: usize = 100;
/// One of this number of requests has a fault.
const ONE_IN: usize = 8;
/// The number of backends that use the table concurrently.
const WORKERS: u64 = 4;
/// The number of calls of a worker before the table is checked without faults.
const CALLS: usize = 12;
/// Older than anything that a worker still reads or commits.
const RETENTION: Duration = Duration::from_secs(3600);
/// The number of rows of a write.
const ROWS: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_lose_nothing() {
    let (wanted, mut struck, mut failed, mut written) = (number(S3_FAULTS, FAULTS), 0, 0, 0);
    for seed in 0.. {
        let bucket = s3::bucket().unwrap();
        let run = faults_on(&bucket, seed).await;
        struck += bucket.struck();
        failed += run.failed;
        written += run.ledger.written();
        if struck >= wanted {
            break;
        }
    }
    println!("{struck} faults, of which {failed} reached a caller; {written} writes were acknowledged");
    assert!(failed > wanted / 10 && written > wanted / 10, "too few faults or writes to prove anything");
}

/// Returns settings with which each request is tried twice, with a short pause.
fn impatient(bucket: &Bucket) -> DeltaConfig {
    let options = [
        ("max_retries", "1"),
        ("retry_timeout", "5s"),
        ("timeout", "1s"),
        ("backoff_config.init_backoff", "1ms"),
        ("backoff_config.max_backoff", "5ms"),
    ];
    options.into_iter().fold(on_s3(bucket), |settings, (name, value)| settings.storage_option(name, value))
}

#[derive(Default)]
struct Run {
    ledger: Ledger,
    /// The number of calls with an error.
    failed: usize,
}

/// Uses a table until enough faults have occurred, and checks it after each round.
async fn faults_on(bucket: &Bucket, seed: u64) -> Run {
    let settings = impatient(bucket);
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        let random = Rng::with_seed(seed * WORKERS + number);
        workers.push(Worker { number, random, backend: opened(&settings).await, writes: 0, living: Vec::new() });
    }
    let mut run = Run::default();
    for round in 0.. {
        bucket.break_at_random(seed << 32 | round, ONE_IN);
        let works = workers.into_iter().map(|worker| tokio::spawn(worker.work()));
        let (worked, said): (Vec<_>, Vec<_>) = join_all(works).await.into_iter().map(Result::unwrap).unzip();
        workers = worked;
        bucket.mend();
        said.into_iter().flatten().for_each(|said| run.take(said));
        // Neither the state in memory nor the stored table is damaged.
        for backend in [&workers[0].backend, &opened(&settings).await] {
            run.ledger.check(&counted(backend).await.unwrap(), ROWS);
        }
        if bucket.struck() >= FAULTS_OF_ONE {
            break;
        }
    }
    run
}

/// The outcome of a call.
struct Said {
    call: Call,
    outcome: Result<()>,
}

enum Call {
    Write(String),
    Delete(String),
    Other,
}

fn other(outcome: Result<()>) -> Said {
    Said { call: Call::Other, outcome }
}

impl Run {
    fn take(&mut self, Said { call, outcome }: Said) {
        let progress = if outcome.is_ok() { Progress::Done } else { Progress::Begun };
        match call {
            Call::Write(name) => self.ledger.write(&name, progress),
            Call::Delete(name) => self.ledger.delete(&name, progress),
            Call::Other => {}
        }
        let Err(error) = outcome else { return };
        self.failed += 1;
        assert!(error.is_transient() || matches!(error, Error::AccessDenied { .. }), "{error:?}");
    }
}

/// A simulated process that uses the table.
struct Worker {
    number: u64,
    random: Rng,
    backend: DeltaBackend,
    writes: usize,
    /// Completed writes that no deletion has begun to remove.
    living: Vec<String>,
}

impl Worker {
    async fn work(mut self) -> (Self, Vec<Said>) {
        let mut said = Vec::new();
        for _ in 0..CALLS {
            said.push(self.step().await);
        }
        (self, said)
    }

    async fn step(&mut self) -> Said {
        let call = self.random.choice(["write", "write", "write", "read", "read", "delete", "compact", "vacuum"]);
        match call.unwrap_or("read") {
            "write" => self.write().await,
            "delete" if !self.living.is_empty() => self.delete().await,
            "compact" => other(self.backend.compact(&key(TABLE)).await),
            "vacuum" => other(self.backend.vacuum(&key(TABLE), RETENTION).await.map(drop)),
            _ => other(self.read().await),
        }
    }

    async fn write(&mut self) -> Said {
        let name = format!("w{}-{}-", self.number, self.writes);
        self.writes += 1;
        let outcome = append(&self.backend, rows_of(&name)).await;
        if outcome.is_ok() {
            self.living.push(name.clone());
        }
        Said { call: Call::Write(name), outcome }
    }

    async fn delete(&mut self) -> Said {
        let name = self.living.swap_remove(self.random.usize(..self.living.len()));
        let outcome = async {
            let schema = self.backend.schema(&key(TABLE)).await?.expect("the table has rows of this worker");
            let predicate = Filter::parse(&format!("id >= '{name}' AND id < '{name}9'"))?.bind(&schema)?;
            assert_eq!(self.backend.delete(&key(TABLE), &predicate).await?, ROWS as u64);
            Ok(())
        };
        Said { outcome: outcome.await, call: Call::Delete(name) }
    }

    /// Checks that every write is read as a whole, including all completed writes that this worker has not deleted.
    async fn read(&self) -> Result<()> {
        let found = counted(&self.backend).await?;
        for (name, count) in &found {
            assert_eq!(*count, ROWS, "write {name} is seen in part, or more than once");
        }
        let lost: Vec<_> = self.living.iter().filter(|name| !found.contains_key(*name)).collect();
        assert!(lost.is_empty(), "these writes had returned, but are missing: {lost:?}");
        Ok(())
    }
}

fn rows_of(name: &str) -> RecordBatch {
    let ids: Vec<String> = (0..ROWS).map(|row| format!("{name}{row}")).collect();
    batch([("id", texts(&ids.iter().map(String::as_str).collect::<Vec<_>>()))])
}

/// Returns the number of rows of each write.
async fn counted(backend: &DeltaBackend) -> Result<BTreeMap<String, usize>> {
    let rows = match tables::read(backend, TABLE).await {
        // No write has succeeded yet.
        Err(Error::FeatureNotFound { .. }) => return Ok(BTreeMap::new()),
        rows => rows?,
    };
    let ids = arrow::compute::cast(&rows["id"], &arrow::datatypes::DataType::Utf8)?;
    let names = ids.as_string::<i32>().iter().flatten().map(|id| id[..=id.rfind('-').unwrap()].to_owned());
    Ok(names.fold(BTreeMap::new(), |mut counts, name| {
        *counts.entry(name).or_default() += 1;
        counts
    }))
}
