//! What the buffered writer costs: many producers of small batches through it, beside the same rows written directly in
//! batches as large as its flushes.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray};
use metaxy_core::error::BoxError;
use metaxy_core::{AccessMode, BufferedMetadataWriter, FeatureGraph, FeatureSpec, MetadataStore, columns};

use super::measure::peak_memory;
use super::options::Options;
use super::report::grouped;
use super::subject::Subject;

const FEATURE: &str = "bench/sample";
const PRODUCERS: i64 = 16;
const ROWS_PER_PUT: i64 = 100;
const ROWS_PER_FLUSH: i64 = 50_000;
const BOUND: usize = 64 << 20;

/// Measures what the writer adds to each subject and prints a table: what the `main` of a `benches/writer.rs` calls. The
/// options are those of [`run`](super::run); a size counts rows.
pub fn run_writer(subjects: impl IntoIterator<Item = Subject>) -> ExitCode {
    let run = || -> Result<(), BoxError> {
        let Some(options) = Options::read()? else { return Ok(()) };
        let rows = if options.smoke { 3_200 } else { options.sizes.last().copied().unwrap_or(1_000_000) as i64 };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        println!("{PRODUCERS} producers, batches of {ROWS_PER_PUT} rows, {} rows in all\n", grouped(rows as f64));
        println!(
            "{:16} {:>12} {:>12} {:>8} {:>14}",
            "store", "direct rows/s", "writer rows/s", "share", "memory above"
        );
        for subject in subjects.into_iter().filter(|subject| options.wants(&subject.name)) {
            let mut shares = Vec::new();
            for _ in 0..options.rounds {
                shares.push(runtime.block_on(measure(&subject, rows))?);
            }
            shares.sort_by(|a, b| a.share().total_cmp(&b.share()));
            shares[shares.len() / 2].print(&subject.name, rows);
        }
        Ok(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Measured {
    direct: Duration,
    writer: Duration,
    /// Peak memory while the writer ran, less what was in use before, in MB.
    memory: f64,
}

impl Measured {
    /// The writer's throughput as a share of the direct one's.
    fn share(&self) -> f64 {
        self.direct.as_secs_f64() / self.writer.as_secs_f64()
    }

    fn print(&self, name: &str, rows: i64) {
        let rate = |time: Duration| grouped(rows as f64 / time.as_secs_f64());
        println!(
            "{name:16} {:>12} {:>12} {:>7.0}% {:>11} MB",
            rate(self.direct),
            rate(self.writer),
            100.0 * self.share(),
            grouped(self.memory),
        );
    }
}

async fn measure(subject: &Subject, rows: i64) -> Result<Measured, BoxError> {
    let (direct, writer) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let directly = write_directly(subject, direct.path(), rows).await?;
    let reset = reset_peak_memory();
    let (through, memory) = write_through_writer(subject, writer.path(), rows).await?;
    for directory in [&direct, &writer] {
        if let Some(clean) = &subject.cleanup {
            clean(directory.path())?;
        }
    }
    Ok(Measured { direct: directly, writer: through, memory: (memory - reset).max(0.0) })
}

/// Forgets the peak memory so far; returns what is in use now, in MB. Where the system has no such switch, the peak so
/// far counts.
fn reset_peak_memory() -> f64 {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    peak_memory().unwrap_or(f64::NAN)
}

async fn open(subject: &Subject, directory: &Path) -> Result<MetadataStore, BoxError> {
    let graph =
        FeatureGraph::new([FeatureSpec::builder(FEATURE).id_columns(["id"]).fields(["audio", "frames"]).build()?])?;
    let builder = MetadataStore::builder((subject.factory)(directory)?, graph).auto_create_tables(true);
    Ok(builder.open(AccessMode::ReadWrite).await?)
}

async fn write_directly(subject: &Subject, directory: &Path, rows: i64) -> Result<Duration, BoxError> {
    let store = open(subject, directory).await?;
    let starts = (0..rows).step_by(ROWS_PER_FLUSH as usize);
    let batches: Vec<RecordBatch> =
        starts.map(|start| samples(start, ROWS_PER_FLUSH.min(rows - start))).collect::<Result<_, _>>()?;
    let started = Instant::now();
    for batch in batches {
        store.write(FEATURE, batch).await?;
    }
    let time = started.elapsed();
    store.close().await?;
    Ok(time)
}

async fn write_through_writer(subject: &Subject, directory: &Path, rows: i64) -> Result<(Duration, f64), BoxError> {
    let store = open(subject, directory).await?;
    let started = Instant::now();
    let writer = BufferedMetadataWriter::builder(store.clone())
        .flush_rows(ROWS_PER_FLUSH as usize)
        .max_pending_bytes(BOUND)
        .start()
        .await?;
    let share = rows / PRODUCERS;
    let producers: Vec<tokio::task::JoinHandle<metaxy_core::Result<()>>> = (0..PRODUCERS)
        .map(|producer| {
            let writer = writer.clone();
            tokio::spawn(async move {
                let (first, end) = (producer * share, (producer + 1) * share);
                for start in (first..end).step_by(ROWS_PER_PUT as usize) {
                    writer.put(FEATURE, samples(start, ROWS_PER_PUT.min(end - start))?).await?;
                }
                Ok(())
            })
        })
        .collect();
    for producer in producers {
        producer.await??;
    }
    let written = writer.close().await?;
    let time = started.elapsed();
    assert_eq!(written.values().sum::<u64>(), (share * PRODUCERS) as u64, "rows were lost");
    let memory = peak_memory().unwrap_or(f64::NAN);
    store.close().await?;
    Ok((time, memory))
}

fn samples(start: i64, rows: i64) -> metaxy_core::Result<RecordBatch> {
    let ids = start..start + rows;
    let versions = |field: char| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(
            ids.clone().map(|id| format!("{field}{}", id.wrapping_mul(2_654_435_761) >> 7)),
        ))
    };
    let by_field =
        StructArray::try_new(columns::by_field_fields(["audio", "frames"]), vec![versions('a'), versions('f')], None)?;
    Ok(RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(ids.clone())) as ArrayRef),
        ("path", versions('p')),
        (columns::PROVENANCE_BY_FIELD, Arc::new(by_field)),
    ])?)
}
