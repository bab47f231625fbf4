//! The cost of the buffered writer: many producers put small batches, compared with direct writes of the same rows in
//! batches of the size of its flushes.
//!
//! Each measurement runs in a separate process. Time is measured with rows in memory and default settings of glibc;
//! memory with rows that are created when they are needed, so that buffered rows are visible, and with the settings of
//! glibc as in [`run`](super::run).

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use metaxy_core::error::BoxError;
use metaxy_core::{AccessMode, BufferedMetadataWriter, FeatureGraph, FeatureSpec, MetadataStore, columns};
use serde::{Deserialize, Serialize};

use super::measure::peak_memory;
use super::options::Options;
use super::process;
use super::report::grouped;
use super::subject::Subject;

const FEATURE: &str = "bench/sample";
const PRODUCERS: i64 = 16;
const ROWS_PER_PUT: i64 = 100;
const ROWS_PER_FLUSH: i64 = 50_000;
const BOUND: usize = 64 << 20;

/// The variable with a [`Task`].
const TASK: &str = "METAXY_BENCH_WRITER_TASK";

/// The measurement of a process.
#[derive(Serialize, Deserialize)]
struct Task {
    subject: usize,
    rows: i64,
    directory: PathBuf,
    through_writer: bool,
    rows_made_before: bool,
}

/// Seconds, and megabytes in addition to the memory in use before.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Measured {
    time: f64,
    memory: f64,
}

/// Measures the cost of the writer for each subject and prints a table. It is called by the `main` of a
/// `benches/writer.rs`. The options are those of [`run`](super::run); a size is a number of rows.
pub fn run_writer(subjects: impl IntoIterator<Item = Subject>) -> ExitCode {
    let subjects: Vec<Subject> = subjects.into_iter().collect();
    let done = match std::env::var(TASK) {
        Ok(task) => answer(&subjects, &task),
        Err(_) => report(&subjects),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether this process runs a task of another one.
pub(super) fn is_child() -> bool {
    std::env::var_os(TASK).is_some()
}

fn report(subjects: &[Subject]) -> Result<(), BoxError> {
    let Some(options) = Options::read()? else { return Ok(()) };
    let rows = if options.smoke { 3_200 } else { options.sizes.last().copied().unwrap_or(1_000_000) as i64 };
    println!(
        "{} rows: {PRODUCERS} producers put batches of {ROWS_PER_PUT}, flushed by {}; beside it the same rows written \
         directly, {1} at once.\nMemory is above what was in use before; the writer may hold {} MB of it.\n",
        grouped(rows as f64),
        grouped(ROWS_PER_FLUSH as f64),
        BOUND >> 20,
    );
    println!(
        "{:16} {:>13} {:>13} {:>6} {:>14} {:>14}",
        "store", "direct rows/s", "writer rows/s", "share", "direct memory", "writer memory"
    );
    for (index, subject) in subjects.iter().enumerate().filter(|(_, subject)| options.wants(&subject.name)) {
        let measure =
            |through_writer, rows_made_before| measure(index, subject, rows, through_writer, rows_made_before);
        let (mut direct, mut writer) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            direct.push(measure(false, true)?.time);
            writer.push(measure(true, true)?.time);
        }
        let (direct, writer) = (median(direct), median(writer));
        let memory = [measure(false, false)?.memory, measure(true, false)?.memory];
        println!(
            "{:16} {:>13} {:>13} {:>5.0}% {:>11} MB {:>11} MB",
            subject.name,
            grouped(rows as f64 / direct),
            grouped(rows as f64 / writer),
            100.0 * direct / writer,
            grouped(memory[0]),
            grouped(memory[1]),
        );
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures in a separate process.
fn measure(
    index: usize,
    subject: &Subject,
    rows: i64,
    through_writer: bool,
    rows_made_before: bool,
) -> Result<Measured, BoxError> {
    let directory = tempfile::tempdir()?;
    let task = Task { subject: index, rows, directory: directory.path().to_owned(), through_writer, rows_made_before };
    process::ask(subject, TASK, &task, if rows_made_before { &[] } else { &process::ALLOCATOR })
}

/// Runs a task and prints the result.
fn answer(subjects: &[Subject], task: &str) -> Result<(), BoxError> {
    let task: Task = serde_json::from_str(task)?;
    let subject = subjects.get(task.subject).ok_or("the process that measures has other subjects")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = runtime.block_on(async {
        let store = open(subject, &task.directory).await?;
        let measured = if task.through_writer {
            write_through_writer(&store, &task).await?
        } else {
            write_directly(&store, &task).await?
        };
        store.close().await?;
        Ok::<_, BoxError>(measured)
    })?;
    if let Some(clean) = &subject.cleanup {
        clean(&task.directory)?;
    }
    process::tell(&measured)
}

/// Measures the time and the increase of memory until it is read.
struct Watch {
    started: Instant,
    memory: f64,
}

impl Watch {
    fn start() -> Self {
        Self { memory: peak_memory().unwrap_or(f64::NAN), started: Instant::now() }
    }

    fn stop(&self) -> Measured {
        let time = self.started.elapsed().as_secs_f64();
        Measured { time, memory: peak_memory().unwrap_or(f64::NAN) - self.memory }
    }
}

type Batches = Box<dyn Iterator<Item = metaxy_core::Result<RecordBatch>> + Send>;

/// Batches of consecutive rows, created in advance or when they are needed.
fn batches(rows: std::ops::Range<i64>, size: i64, now: bool) -> metaxy_core::Result<Batches> {
    let end = rows.end;
    let made = rows.step_by(size as usize).map(move |start| samples(start, size.min(end - start)));
    if now { Ok(Box::new(made.collect::<Result<Vec<_>, _>>()?.into_iter().map(Ok))) } else { Ok(Box::new(made)) }
}

async fn open(subject: &Subject, directory: &Path) -> Result<MetadataStore, BoxError> {
    let graph =
        FeatureGraph::new([FeatureSpec::builder(FEATURE).id_columns(["id"]).fields(["audio", "frames"]).build()?])?;
    let builder = MetadataStore::builder((subject.factory)(directory)?, graph).auto_create_tables(true);
    Ok(builder.open(AccessMode::ReadWrite).await?)
}

/// Returns the rows of each flush in one batch, with equally many of each producer.
fn flushes(rows: i64, now: bool) -> metaxy_core::Result<Batches> {
    let (share, count) = (rows / PRODUCERS, (rows + ROWS_PER_FLUSH - 1) / ROWS_PER_FLUSH);
    let part = (share + count - 1) / count;
    let made = (0..share).step_by(part as usize).map(move |start| {
        let parts = (0..PRODUCERS).map(|producer| samples(producer * share + start, part.min(share - start)));
        let parts = parts.collect::<metaxy_core::Result<Vec<_>>>()?;
        Ok(concat_batches(parts[0].schema_ref(), &parts)?)
    });
    if now { Ok(Box::new(made.collect::<Vec<_>>().into_iter())) } else { Ok(Box::new(made)) }
}

async fn write_directly(store: &MetadataStore, task: &Task) -> Result<Measured, BoxError> {
    let batches = flushes(task.rows, task.rows_made_before)?;
    let watch = Watch::start();
    for batch in batches {
        store.write(FEATURE, batch?).await?;
    }
    Ok(watch.stop())
}

async fn write_through_writer(store: &MetadataStore, task: &Task) -> Result<Measured, BoxError> {
    let share = task.rows / PRODUCERS;
    let ranges = (0..PRODUCERS).map(|producer| producer * share..(producer + 1) * share);
    let producers =
        ranges.map(|rows| batches(rows, ROWS_PER_PUT, task.rows_made_before)).collect::<Result<Vec<_>, _>>()?;
    let watch = Watch::start();
    let writer = BufferedMetadataWriter::builder(store.clone())
        .flush_rows(ROWS_PER_FLUSH as usize)
        .max_pending_bytes(BOUND)
        .start()
        .await?;
    let puts = producers.into_iter().map(|batches| tokio::spawn(put_all(writer.clone(), batches)));
    for put in puts.collect::<Vec<_>>() {
        put.await??;
    }
    let written: u64 = writer.close().await?.values().sum();
    let measured = watch.stop();
    if written == (share * PRODUCERS) as u64 {
        Ok(measured)
    } else {
        Err(format!("only {written} rows were written").into())
    }
}

async fn put_all(writer: BufferedMetadataWriter, batches: Batches) -> metaxy_core::Result<()> {
    for batch in batches {
        writer.put(FEATURE, batch?).await?;
    }
    Ok(())
}

fn samples(start: i64, rows: i64) -> metaxy_core::Result<RecordBatch> {
    let ids = start..start + rows;
    let versions = |field: char| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(
            ids.clone().map(|id| format!("{field}{}", id.wrapping_mul(2_654_435_761) >> 7)),
        ))
    };
    let by_field = columns::by_field([("audio", versions('a')), ("frames", versions('f'))])?;
    Ok(RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(ids.clone())) as ArrayRef),
        ("path", versions('p')),
        (columns::PROVENANCE_BY_FIELD, by_field),
    ])?)
}
