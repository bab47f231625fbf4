//! A pipeline as a service: a feature is watched, and what is new is processed as it comes.
//!
//! `cargo run -p metaxy-sqlite --example watch`
//!
//! A second task writes clips, as a camera would. The service sees each of them within a moment, and reads no more than it.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::TryStreamExt;
use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, MetadataStore, Result, columns};
use metaxy_sqlite::SqliteBackend;

const CLIPS: i64 = 5;

#[tokio::main]
async fn main() -> Result<()> {
    let graph = FeatureGraph::new([
        FeatureSpec::builder("raw/clip").id_columns(["clip"]).field("frames").build()?,
        FeatureSpec::builder("caption").id_columns(["clip"]).dep("raw/clip").build()?,
    ])?;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let backend = SqliteBackend::file(directory.path().join("clips.db"));
    let store = MetadataStore::builder(backend, graph).open(AccessMode::ReadWrite).await?;
    store.write("raw/clip", clip(0)?).await?;
    let camera = tokio::spawn(record(store.clone()));

    let mut left = CLIPS;
    let mut increments = store.watch("caption")?;
    while left > 0
        && let Some(increment) = increments.try_next().await?
    {
        println!("{} clips to caption, found in {}", increment.new.num_rows(), increment.basis());
        left -= increment.new.num_rows() as i64;
        let captions = increment.to_process().map(caption).collect::<Result<Vec<_>>>()?;
        store.write("caption", captions).await?;
    }
    camera.await??;
    store.close().await
}

/// Writes the other clips, one after the other.
async fn record(store: MetadataStore) -> Result<()> {
    for number in 1..CLIPS {
        tokio::time::sleep(Duration::from_millis(300)).await;
        store.write("raw/clip", clip(number)?).await?;
    }
    Ok(())
}

fn clip(number: i64) -> Result<RecordBatch> {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![number]));
    let frames: ArrayRef = Arc::new(StringArray::from(vec![format!("frames of clip {number}")]));
    let versions = RecordBatch::try_from_iter([("frames", frames)])?;
    let versions: ArrayRef = Arc::new(arrow::array::StructArray::from(versions));
    Ok(RecordBatch::try_from_iter([("clip", ids), (columns::PROVENANCE_BY_FIELD, versions)])?)
}

fn caption(clips: &RecordBatch) -> Result<RecordBatch> {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a caption"; clips.num_rows()]));
    columns::result(clips, ["clip"], [("caption", texts)])
}
