//! Kills a writing process at random times, and checks the rows that it has written.
//!
//! The process is the test binary itself: [`survives_kills`] starts it again with the name of the running test as its
//! filter, so the same call is first the parent and, in the child, the victim.
//!
//! ```ignore
//! #[tokio::test(flavor = "multi_thread")]
//! async fn killed_writes_are_atomic() {
//!     let directory = tempfile::tempdir().unwrap();
//!     crash::survives_kills("killed_writes_are_atomic", Victim::Store, 50, directory.path(), |location| async move {
//!         Ok(Arc::new(SqliteBackend::file(location.join("db"))) as SharedBackend)
//!     })
//!     .await;
//! }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use metaxy_core::{
    AccessMode, BufferedMetadataWriter, FeatureGraph, FeatureSpec, MetadataStore, Result, SharedBackend, columns,
};

use crate::long_runs::{KILLS, number};
use crate::process;

const LOCATION: &str = "METAXY_CRASH_LOCATION";
const FIRST_BATCH: &str = "METAXY_CRASH_FIRST_BATCH";
const FEATURE: &str = "crash/sample";
const ROWS_PER_BATCH: i64 = 20;
/// Coprime to the periods of the rounds, so that each location gets rounds of every kind.
const LANES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(120);
/// The words of a process for batches that must not be lost.
const SAFE: &[&str] = &["written", "flushed"];

/// The writer in the killed process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// A loop of [`MetadataStore::write`]: completed writes must be stored.
    Store,
    /// A loop of `put` and `flush`: batches that were put before a completed flush must be stored.
    Writer,
    /// The same with a spool directory: in addition, after a restart all completed puts must be stored.
    SpoolingWriter,
}

/// Starts and kills a writing process `rounds` times, or as often as the variable [`KILLS`] says. After each time all
/// batches that it has reported as safe must be stored, every batch completely or not at all, and every sample once.
/// `backend` creates the backend of a location, in this process and in the killed one. The rounds are distributed over
/// several locations, which are directories in `directory`, so that one can be checked while another one is written.
///
/// # Panics
/// If rows are lost, duplicated or incomplete.
pub async fn survives_kills<F>(
    test: &str,
    victim: Victim,
    rounds: usize,
    directory: &Path,
    backend: impl Fn(PathBuf) -> F,
) where
    F: Future<Output = Result<SharedBackend>>,
{
    if let Some(location) = std::env::var_os(LOCATION) {
        let location = PathBuf::from(location);
        write_until_killed(victim, &location, backend(location.clone())).await;
    }
    let rounds = number(KILLS, rounds);
    let lanes = (0..LANES).map(|lane| {
        let location = directory.join(lane.to_string());
        std::fs::create_dir_all(&location).expect("a directory for a store");
        let rounds = (lane..rounds).step_by(LANES).collect();
        Lane { test: test.to_owned(), victim, location, backend: &backend, said: Said::default() }.run(rounds)
    });
    let safe: usize = futures::future::join_all(lanes).await.into_iter().sum();
    let late = (0..rounds).filter(|round| moment(*round).0 == SAFE).count();
    assert!(safe >= late, "the processes wrote {safe} batches before they died: too few to show anything");
}

/// Generates two tests of a [`BufferedMetadataWriter`] on a backend, which kill its process repeatedly: with and
/// without a spool directory. `backend` is an `async fn(PathBuf) -> Result<SharedBackend>` that creates the backend of
/// a location. A second argument sets up what all locations share, once, in the parent process: a `fn(&Path)` with the
/// directory of the locations, whose result is kept while the test runs.
///
/// ```ignore
/// metaxy_testkit::writer_survives_kills!(backend);
/// ```
#[macro_export]
macro_rules! writer_survives_kills {
    ($backend:path) => {
        fn nothing_to_set_up(_: &std::path::Path) {}
        $crate::writer_survives_kills!($backend, nothing_to_set_up);
    };
    ($backend:path, $set_up:path) => {
        #[test]
        fn spooled_batches_survive_kills() {
            use $crate::crash::{Victim, writer_survives_kills};
            writer_survives_kills("spooled_batches_survive_kills", Victim::SpoolingWriter, 100, $set_up, $backend);
        }

        #[test]
        fn flushed_batches_survive_kills() {
            use $crate::crash::{Victim, writer_survives_kills};
            writer_survives_kills("flushed_batches_survive_kills", Victim::Writer, 40, $set_up, $backend);
        }
    };
}

#[doc(hidden)]
pub fn writer_survives_kills<F, K>(
    test: &str,
    victim: Victim,
    rounds: usize,
    set_up: impl FnOnce(&Path) -> K,
    backend: impl Fn(PathBuf) -> F,
) where
    F: Future<Output = Result<SharedBackend>>,
{
    let directory = tempfile::tempdir().expect("a temporary directory");
    let is_victim = std::env::var_os(LOCATION).is_some();
    let kept = (!is_victim).then(|| set_up(directory.path()));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(survives_kills(test, victim, rounds, directory.path(), backend));
    drop(kept);
}

/// A location, and the reports of its processes.
struct Lane<'a, B> {
    test: String,
    victim: Victim,
    location: PathBuf,
    backend: &'a B,
    said: Said,
}

impl<B, F> Lane<'_, B>
where
    B: Fn(PathBuf) -> F,
    F: Future<Output = Result<SharedBackend>>,
{
    /// Returns the number of batches that were safe in the end.
    async fn run(mut self, rounds: Vec<usize>) -> usize {
        let last = rounds.last().copied();
        for round in rounds {
            let command = self.victim_command();
            let said = tokio::task::spawn_blocking(move || kill_one(command, round)).await;
            self.said.add(said.expect("a process is started and killed"));
            let made = (self.backend)(self.location.clone()).await.expect("the backend is made");
            let store = open(made).await.expect("the store opens after a kill");
            check(&store, &self.said.safe, round).await;
            // Otherwise the next process reads the spool, and may be killed while it writes those batches.
            if self.victim == Victim::SpoolingWriter && (round % 5 == 0 || Some(round) == last) {
                let writer = BufferedMetadataWriter::builder(store.clone()).spool(self.location.join("spool"));
                let writer = writer.start().await.expect("the writer starts again");
                writer.close().await.expect("what was spooled is written");
                self.said.safe.extend(&self.said.put);
                check(&store, &self.said.safe, round).await;
            }
            store.close().await.expect("the store closes");
        }
        self.said.safe.len()
    }

    fn victim_command(&self) -> Command {
        let mut command = process::command(&self.test);
        command.env(LOCATION, &self.location).env(FIRST_BATCH, self.said.first_unused.to_string());
        // Temporary files of a killed process are removed with the location.
        command.env("TMPDIR", &self.location);
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        command
    }
}

/// Distributes the kills over the life of the process: one in four happens while it opens the store and writes the
/// batches of its spool, one in four soon after it begins to write, and the others after it has reported batches that
/// must not be lost, however slow the store is.
fn moment(round: usize) -> (&'static [&'static str], Duration) {
    let scattered = (round as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    match round % 4 {
        0 => (&["start"], Duration::from_micros(20_000 + scattered % 180_000)),
        1 => (&["begin"], Duration::from_micros(20_000 + scattered % 180_000)),
        _ => (SAFE, Duration::from_micros(scattered % 100_000)),
    }
}

/// The batches that a process has reported before it was killed.
#[derive(Default)]
struct Said {
    put: BTreeSet<i64>,
    safe: BTreeSet<i64>,
    first_unused: i64,
}

fn kill_one(mut command: Command, round: usize) -> Said {
    let mut child = command.spawn().expect("the test binary starts");
    let output = child.stdout.take().expect("its output is piped");
    let (send, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        BufReader::new(output).lines().map_while(std::result::Result::ok).for_each(|line| {
            let _ = send.send(line);
        });
    });
    let mut said = Said::default();
    let (since, pause) = moment(round);
    while let Ok(line) = lines.recv_timeout(PATIENCE) {
        if said.hear(&line).is_some_and(|word| since.contains(&word)) {
            break;
        }
    }
    std::thread::sleep(pause);
    child.kill().expect("the process is killed");
    let status = child.wait().expect("the process ends");
    assert_eq!(status.code(), None, "round {round}: the process ended by itself");
    reader.join().expect("its output is read");
    lines.try_iter().for_each(|line| {
        said.hear(&line);
    });
    said
}

impl Said {
    /// Records a line, and returns its first word.
    fn hear<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        let (word, number) = line.split_once(' ')?;
        let number = number.parse::<i64>().ok()?;
        match word {
            "start" => {}
            "begin" => self.first_unused = number + 1,
            "put" => {
                self.put.insert(number);
            }
            // Batches that this process has put before.
            "flushed" => self.safe.extend(self.put.range(..=number)),
            "written" => {
                self.safe.insert(number);
            }
            _ => return None,
        }
        Some(word)
    }

    fn add(&mut self, other: Self) {
        self.put.extend(other.put);
        self.safe.extend(other.safe);
        self.first_unused = self.first_unused.max(other.first_unused);
    }
}

fn say(word: &str, number: i64) {
    let mut output = std::io::stdout().lock();
    // The parent may have closed the pipe, because it is about to kill this process.
    let _ = writeln!(output, "{word} {number}").and_then(|()| output.flush());
}

async fn write_until_killed(
    victim: Victim,
    location: &Path,
    backend: impl Future<Output = Result<SharedBackend>>,
) -> ! {
    let first: i64 = std::env::var(FIRST_BATCH).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    // The harness prints the name of the test without a line end.
    println!();
    say("start", first);
    let store = open(backend.await.expect("the backend is made")).await.expect("the store opens");
    if victim == Victim::Store {
        for number in first.. {
            say("begin", number);
            store.write(FEATURE, batch(number)).await.expect("a write");
            say("written", number);
        }
    }
    let mut builder = BufferedMetadataWriter::builder(store).flush_rows(100).interval(Duration::from_millis(50));
    if victim == Victim::SpoolingWriter {
        builder = builder.spool(location.join("spool"));
    }
    let writer = builder.start().await.expect("the writer starts");
    for number in first.. {
        say("begin", number);
        writer.put(FEATURE, batch(number)).await.expect("a put");
        say("put", number);
        if number % 7 == 6 {
            writer.flush().await.expect("a flush");
            say("flushed", number);
        }
    }
    unreachable!("the loop ends with the process")
}

fn graph() -> Result<FeatureGraph> {
    FeatureGraph::new([FeatureSpec::builder(FEATURE).id_columns(["id"]).field("value").build()?])
}

async fn open(backend: SharedBackend) -> Result<MetadataStore> {
    MetadataStore::builder(backend, graph()?).auto_create_tables(true).open(AccessMode::ReadWrite).await
}

/// Returns a batch whose rows follow from its number, and the values of a row from its id.
fn batch(number: i64) -> RecordBatch {
    let ids: Vec<i64> = (number * ROWS_PER_BATCH..(number + 1) * ROWS_PER_BATCH).collect();
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(|id| text_of(*id))));
    let provenance = columns::by_field([("value", texts.clone())]).expect("texts");
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(ids)) as ArrayRef),
        ("text", texts),
        (columns::PROVENANCE_BY_FIELD, provenance),
    ])
    .expect("the columns have one length")
}

fn text_of(id: i64) -> String {
    format!("sample {id}")
}

async fn check(store: &MetadataStore, safe: &BTreeSet<i64>, round: usize) {
    let mut found: BTreeMap<i64, usize> = BTreeMap::new();
    if store.has_feature(FEATURE).await.expect("the store answers") {
        let rows = store.read(FEATURE).columns(["id", "text"]).await.expect("the feature is read");
        let mut ids = BTreeSet::new();
        for batch in rows.collect().await.expect("all rows are read") {
            let texts = arrow::compute::cast(batch.column(1), &arrow::datatypes::DataType::Utf8).expect("texts");
            for (id, text) in batch.column(0).as_primitive::<Int64Type>().values().iter().zip(texts.as_string::<i32>())
            {
                assert!(ids.insert(*id), "round {round}: sample {id} is stored twice");
                assert_eq!(text, Some(text_of(*id).as_str()), "round {round}: a row is torn");
                *found.entry(id / ROWS_PER_BATCH).or_default() += 1;
            }
        }
    }
    for (number, rows) in &found {
        assert_eq!(*rows as i64, ROWS_PER_BATCH, "round {round}: batch {number} is incomplete");
    }
    let lost: Vec<_> = safe.iter().filter(|number| !found.contains_key(number)).collect();
    assert!(lost.is_empty(), "round {round}: these batches were safe and are lost: {lost:?}");
}
