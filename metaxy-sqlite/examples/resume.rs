//! A pipeline that crashes during its work, and continues after a restart.
//!
//! `cargo run -p metaxy-sqlite --example resume`
//!
//! The pipeline puts every processed sample into a [`BufferedMetadataWriter`] with a spool directory. Its first process
//! is aborted after 37 of 100 samples, before the writer would have flushed them; the second process finds them in the
//! spool, resolves what is left to do, and does only that.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use metaxy_core::{AccessMode, BufferedMetadataWriter, FeatureGraph, FeatureSpec, MetadataStore, Result, columns};
use metaxy_sqlite::SqliteBackend;

const SAMPLES: i64 = 100;
const CRASH_AFTER: usize = 37;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, directory, crash] = arguments.as_slice() {
        return work(Path::new(directory), crash == "crash").await;
    }
    let directory = tempfile::tempdir()?;
    let store = open(directory.path()).await?;
    store.write("raw/clip", clips()?).await?;
    println!("{SAMPLES} clips are waiting.\n");
    store.close().await?;

    for (title, crash) in [("The first process", "crash"), ("The second process", "finish")] {
        println!("{title}:");
        let status = Command::new(&arguments[0]).arg(directory.path()).arg(crash).status()?;
        println!("  it ended with: {status}\n");
    }
    let store = open(directory.path()).await?;
    let captions = store.read("caption").await?.rows().await?;
    println!("In the store: {} captions, each clip once.", captions.num_rows());
    Ok(())
}

/// Runs the pipeline: resolves what is left to do, and puts each sample when it is processed.
async fn work(directory: &Path, crash: bool) -> Result<(), Box<dyn std::error::Error>> {
    let store = open(directory).await?;
    let writer = BufferedMetadataWriter::builder(store.clone())
        .interval(Duration::from_secs(60))
        .spool(directory.join("spool"))
        .start()
        .await?;
    // Rows that an earlier process has left in the spool count as done.
    writer.flush().await?;

    let todo = store.resolve_update("caption").await?.new.to_batch()?;
    println!("  {} clips are left to do", todo.num_rows());
    for sample in 0..todo.num_rows() {
        writer.put("caption", caption(&todo.slice(sample, 1))?).await?;
        if crash && sample + 1 == CRASH_AFTER {
            println!(
                "  {CRASH_AFTER} are done, {} rows are not flushed yet, and the machine dies",
                writer.pending_rows()
            );
            std::process::abort();
        }
    }
    let written = writer.close().await?;
    println!("  {} captions were written by this process", written.values().sum::<u64>());
    Ok(())
}

async fn open(directory: &Path) -> Result<MetadataStore> {
    let graph = FeatureGraph::new([
        FeatureSpec::builder("raw/clip").id_columns(["clip"]).field("frames").build()?,
        FeatureSpec::builder("caption").id_columns(["clip"]).dep("raw/clip").field("text").build()?,
    ])?;
    let backend = SqliteBackend::file(directory.join("metadata.db"));
    MetadataStore::builder(backend, graph).open(AccessMode::ReadWrite).await
}

fn clips() -> Result<RecordBatch> {
    let versions = StringArray::from_iter_values((0..SAMPLES).map(|clip| format!("frames of {clip}")));
    Ok(RecordBatch::try_from_iter([
        ("clip", Arc::new(Int64Array::from_iter_values(0..SAMPLES)) as ArrayRef),
        (columns::PROVENANCE_BY_FIELD, columns::by_field([("frames", Arc::new(versions) as ArrayRef)])?),
    ])?)
}

/// Simulates an expensive model.
fn caption(sample: &RecordBatch) -> Result<RecordBatch> {
    let column = |name: &str| Ok::<_, arrow::error::ArrowError>(sample.column(sample.schema().index_of(name)?).clone());
    Ok(RecordBatch::try_from_iter([
        ("clip", column("clip")?),
        (columns::PROVENANCE_BY_FIELD, column(columns::PROVENANCE_BY_FIELD)?),
        ("text", Arc::new(StringArray::from(vec!["A dog runs over a meadow."])) as ArrayRef),
    ])?)
}
