// What the snippets of the guide share; each includes this file in a hidden line.

#[allow(dead_code, unused_imports)]
mod snippets {
    pub use futures::TryStreamExt;
    pub use metaxy_core::filter::col;
    pub use metaxy_core::*;
    pub use metaxy_sqlite::SqliteBackend;
    pub use serde::{Deserialize, Serialize};

    #[derive(Serialize)]
    pub struct Video {
        pub video_id: i64,
        pub audio: &'static str,
        pub frames: &'static str,
    }

    #[derive(Deserialize)]
    pub struct Sample {
        pub video_id: i64,
    }

    #[derive(Serialize)]
    pub struct Transcript {
        pub video_id: i64,
        pub text: String,
    }

    /// Returns the features of the guide, with a code version of the text.
    pub fn graph(code_version: &str) -> Result<FeatureGraph> {
        FeatureGraph::new([
            FeatureSpec::builder("raw/video").id_columns(["video_id"]).fields(["audio", "frames"]).build()?,
            FeatureSpec::builder("processed/transcript")
                .id_columns(["video_id"])
                .dep("raw/video")
                .field(FieldSpec::new("text").code_version(code_version).depends_on("raw/video", ["audio"]))
                .build()?,
        ])
    }

    pub async fn store_of(graph: FeatureGraph) -> Result<MetadataStore> {
        MetadataStore::builder(SqliteBackend::in_memory(), graph).open(AccessMode::ReadWrite).await
    }

    pub async fn write_videos(store: &MetadataStore, videos: &[(i64, &'static str, &'static str)]) -> Result<u64> {
        let video = |&(video_id, audio, frames): &_| Video { video_id, audio, frames };
        let videos: Vec<Video> = videos.iter().map(video).collect();
        store.write_rows("raw/video", structs(&videos).versions_in([("audio", "audio"), ("frames", "frames")])).await
    }

    /// Returns a store with two videos.
    pub async fn films() -> Result<MetadataStore> {
        let store = store_of(graph("1")?).await?;
        write_videos(&store, &[(1, "a1", "f1"), (2, "a2", "f2")]).await?;
        Ok(store)
    }

    /// Processes an increment of transcripts.
    pub async fn transcribe(store: &MetadataStore, increment: &Increment) -> Result<u64> {
        let text = |sample: Sample| Transcript { video_id: sample.video_id, text: "...".to_owned() };
        let transcripts: Vec<Transcript> = increment.to_process_as::<Sample>()?.into_iter().map(text).collect();
        store.write_rows("processed/transcript", &transcripts).made_from(increment).await
    }

    /// Returns a store in which both videos are transcribed.
    pub async fn transcribed() -> Result<MetadataStore> {
        let store = films().await?;
        transcribe(&store, &store.resolve_update("processed/transcript").await?).await?;
        Ok(store)
    }
}
#[allow(unused_imports)]
use snippets::*;
