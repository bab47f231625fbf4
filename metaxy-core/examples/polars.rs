//! Data frames of Polars as the rows of a store.
//!
//! `cargo run -p metaxy-core --features polars --example polars`

use metaxy_core::polars_core::df;
use metaxy_core::polars_core::prelude::{
    Column, DataFrame, IntoSeries, NamedFrom, PolarsResult, Series, StructChunked,
};
use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, MetadataStore, Result, columns};
use metaxy_sqlite::SqliteBackend;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let graph = FeatureGraph::new([
        FeatureSpec::builder("raw/video").id_columns(["video_id"]).fields(["audio", "frames"]).build()?,
        FeatureSpec::builder("processed/transcript").id_columns(["video_id"]).dep("raw/video").build()?,
    ])?;
    let store = MetadataStore::builder(SqliteBackend::in_memory(), graph).open(AccessMode::ReadWrite).await?;

    store.write("raw/video", videos()?).await?;
    let increment = store.resolve_update("processed/transcript").await?;
    let todo = increment.to_process_frame()?;
    println!("{} videos to transcribe, in {} columns", todo.height(), todo.width());

    let transcripts = transcribe(&todo)?;
    store.write("processed/transcript", &transcripts).made_from(&increment).await?;
    let texts = store.read("processed/transcript").rows().await?.to_data_frame()?;
    println!("{:?}", texts.column("text")?);
    assert!(store.resolve_update("processed/transcript").await?.is_empty());
    Ok(())
}

/// Returns two videos, with the versions of their fields.
fn videos() -> PolarsResult<DataFrame> {
    let mut videos = df!("video_id" => [1_i64, 2], "path" => ["1.mp4", "2.mp4"])?;
    let versions = [Series::new("audio".into(), ["a1", "a2"]), Series::new("frames".into(), ["f1", "f2"])];
    let versions = StructChunked::from_series(columns::PROVENANCE_BY_FIELD.into(), 2, versions.iter())?;
    videos.with_column(versions.into_series().into())?;
    Ok(videos)
}

/// Simulates a speech model.
fn transcribe(todo: &DataFrame) -> PolarsResult<DataFrame> {
    let texts: Vec<String> =
        todo.column("path")?.str()?.iter().flatten().map(|path| format!("text of {path}")).collect();
    DataFrame::new(todo.height(), vec![todo.column("video_id")?.clone(), Column::new("text".into(), texts)])
}

#[test]
fn the_example_runs() {
    main().unwrap();
}
