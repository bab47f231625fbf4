//! SQL over the features of a store.
//!
//! `cargo run -p metaxy-core --features datafusion --example datafusion`

use metaxy_core::datafusion::error::DataFusionError;
use metaxy_core::datafusion::prelude::SessionContext;
use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, MetadataStore, Result, structs};
use metaxy_sqlite::SqliteBackend;
use serde::Serialize;

#[derive(Serialize)]
struct Video {
    video_id: i64,
    path: String,
    seconds: i64,
}

#[derive(Serialize)]
struct Transcript {
    video_id: i64,
    language: &'static str,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = films().await?;
    let context = SessionContext::new();
    context.register_table("videos", store.table("raw/video").await?)?;
    context.register_table("transcripts", store.table("processed/transcript").await?)?;
    for query in [
        "SELECT path, seconds FROM videos WHERE seconds > 60 AND path LIKE '%.mp4' ORDER BY seconds",
        "SELECT language, count(*) AS videos, sum(seconds) AS seconds
         FROM transcripts JOIN videos USING (video_id) GROUP BY language ORDER BY language",
    ] {
        println!("{query}\n{}\n", answer(&context, query).await?);
    }
    Ok(())
}

/// Returns a store with three videos and their transcripts.
async fn films() -> Result<MetadataStore> {
    let graph = FeatureGraph::new([
        FeatureSpec::builder("raw/video").id_columns(["video_id"]).build()?,
        FeatureSpec::builder("processed/transcript").id_columns(["video_id"]).dep("raw/video").build()?,
    ])?;
    let store = MetadataStore::builder(SqliteBackend::in_memory(), graph).open(AccessMode::ReadWrite).await?;
    let video = |video_id: i64| Video { video_id, path: format!("{video_id}.mp4"), seconds: 50 * video_id };
    let videos: Vec<Video> = (1..=3).map(video).collect();
    let rows = structs(&videos).versions(|video| [("default", video.path.clone())]);
    store.write_rows("raw/video", rows).await?;
    let increment = store.resolve_update("processed/transcript").await?;
    let language = |video_id| if video_id == 2 { "de" } else { "en" };
    let transcripts: Vec<Transcript> =
        (1..=3).map(|video_id| Transcript { video_id, language: language(video_id) }).collect();
    store.write_rows("processed/transcript", &transcripts).made_from(&increment).await?;
    Ok(store)
}

async fn answer(context: &SessionContext, query: &str) -> Result<String, DataFusionError> {
    context.sql(query).await?.to_string().await
}

#[test]
fn the_example_runs() {
    main().unwrap();
}
