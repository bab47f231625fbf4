//! Kills a process that writes, at random moments, and looks at what it has left behind.
//!
//! The process is the test binary itself: [`survives_kills`] starts it again with the name of the running test as its
//! filter, so the same call first plays the parent and, in the child, the victim.
//!
//! ```ignore
//! #[tokio::test(flavor = "multi_thread")]
//! async fn killed_writes_are_whole() {
//!     let directory = tempfile::tempdir().unwrap();
//!     crash::survives_kills("killed_writes_are_whole", Victim::Store, 50, directory.path(), |location| async move {
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

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::Int64Type;
use metaxy_core::{
    AccessMode, BufferedMetadataWriter, FeatureGraph, FeatureSpec, MetadataStore, Result, SharedBackend, columns,
};

const LOCATION: &str = "METAXY_CRASH_LOCATION";
const FIRST_BATCH: &str = "METAXY_CRASH_FIRST_BATCH";
const FEATURE: &str = "crash/sample";
const ROWS_PER_BATCH: i64 = 20;

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// A loop of [`MetadataStore::write`]: a write that has returned is there.
    Store,
    /// A loop of `put` and `flush`: what was put before a flush that has returned is there.
    Writer,
    /// The same with a spool directory: after a restart every put that has returned is there.
    SpoolingWriter,
}

/// Starts and kills a writing process `rounds` times. After each time everything that it had said was safe has to be
/// there, every batch whole or not at all, and every sample once. `backend` makes the backend of a location: it is
/// called in this process and in the one that is killed.
///
/// # Panics
/// Where a promise is broken; this is a test.
pub async fn survives_kills<F>(
    test: &str,
    victim: Victim,
    rounds: usize,
    location: &Path,
    backend: impl Fn(PathBuf) -> F,
) where
    F: Future<Output = Result<SharedBackend>>,
{
    if let Some(location) = std::env::var_os(LOCATION) {
        let location = PathBuf::from(location);
        let made = backend(location.clone()).await.expect("the backend is made");
        write_until_killed(victim, &location, made).await;
    }
    let mut safe = BTreeSet::new();
    let mut first = 0;
    for round in 0..rounds {
        let said = kill_one(test, location, first, pause(round));
        first = said.first_unused.max(first);
        safe.extend(if victim == Victim::SpoolingWriter { said.put } else { said.safe });
        let made = backend(location.to_owned()).await.expect("the backend is made");
        let store = open(made).await.expect("the store opens after a kill");
        if victim == Victim::SpoolingWriter {
            let writer = BufferedMetadataWriter::builder(store.clone()).spool(location.join("spool")).start().await;
            writer.expect("the writer starts again").close().await.expect("what was spooled is written");
        }
        check(&store, &safe, round).await;
        store.close().await.expect("the store closes");
    }
    assert!(!safe.is_empty(), "no process lived long enough to write anything: the kills show nothing");
}

/// Spreads the kills over the life of the process, from right after the first sign of life on.
fn pause(round: usize) -> Duration {
    let scattered = (round as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    Duration::from_micros(scattered % 250_000)
}

/// What a process said before it died: numbers of batches.
#[derive(Default)]
struct Said {
    put: BTreeSet<i64>,
    safe: BTreeSet<i64>,
    first_unused: i64,
}

fn kill_one(test: &str, location: &Path, first: i64, pause: Duration) -> Said {
    let mut child = Command::new(std::env::current_exe().expect("the test binary has a path"))
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(LOCATION, location)
        .env(FIRST_BATCH, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the test binary starts");
    let output = child.stdout.take().expect("its output is piped");
    let (send, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        BufReader::new(output).lines().map_while(std::result::Result::ok).for_each(|line| {
            let _ = send.send(line);
        });
    });
    let mut said = Said { first_unused: first, ..Said::default() };
    let patience = Duration::from_secs(120);
    while let Ok(line) = lines.recv_timeout(patience) {
        if said.hear(&line) {
            break;
        }
    }
    std::thread::sleep(pause);
    child.kill().expect("the process is killed");
    child.wait().expect("the process ends");
    reader.join().expect("its output is read");
    lines.try_iter().for_each(|line| {
        said.hear(&line);
    });
    said
}

impl Said {
    /// Takes in a line; answers whether it says that something was written.
    fn hear(&mut self, line: &str) -> bool {
        let Some((word, number)) = line.split_once(' ') else { return false };
        let Ok(number) = number.parse::<i64>() else { return false };
        match word {
            "put" => {
                self.put.insert(number);
            }
            "safe" => {
                self.safe.extend(self.first_unsafe()..=number);
            }
            "begin" => self.first_unused = number + 1,
            _ => return false,
        }
        matches!(word, "put" | "safe")
    }

    fn first_unsafe(&self) -> i64 {
        let first = self.put.first().or(self.safe.first()).copied().unwrap_or(self.first_unused - 1);
        self.safe.last().map_or(first, |last| last + 1)
    }
}

fn say(word: &str, number: i64) {
    let mut output = std::io::stdout().lock();
    // A parent that has gone away is no reason to panic: the kill is on its way.
    let _ = writeln!(output, "{word} {number}").and_then(|()| output.flush());
}

async fn write_until_killed(victim: Victim, location: &Path, backend: SharedBackend) -> ! {
    let first: i64 = std::env::var(FIRST_BATCH).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let store = open(backend).await.expect("the store opens");
    // The harness prints the name of the test without a line end.
    println!();
    if victim == Victim::Store {
        for number in first.. {
            say("begin", number);
            store.write(FEATURE, batch(number)).await.expect("a write");
            say("safe", number);
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
            say("safe", number);
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

/// The rows of a batch can be told from its number, and each row's values from its id.
fn batch(number: i64) -> RecordBatch {
    let ids: Vec<i64> = (number * ROWS_PER_BATCH..(number + 1) * ROWS_PER_BATCH).collect();
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(|id| text_of(*id))));
    let provenance = StructArray::new(columns::by_field_fields(["value"]), vec![texts.clone()], None);
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(ids)) as ArrayRef),
        ("text", texts),
        (columns::PROVENANCE_BY_FIELD, Arc::new(provenance)),
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
                assert!(ids.insert(*id), "round {round}: sample {id} is there twice");
                assert_eq!(text, Some(text_of(*id).as_str()), "round {round}: a row is torn");
                *found.entry(id / ROWS_PER_BATCH).or_default() += 1;
            }
        }
    }
    for (number, rows) in &found {
        assert_eq!(*rows as i64, ROWS_PER_BATCH, "round {round}: batch {number} is there in part");
    }
    let lost: Vec<_> = safe.iter().filter(|number| !found.contains_key(number)).collect();
    assert!(lost.is_empty(), "round {round}: these batches were safe and are lost: {lost:?}");
}
