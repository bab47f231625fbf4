//! A small video corpus: which samples have to be processed when an input changes?
//!
//! `cargo run -p metaxy-sqlite --example quickstart`

use std::io::IsTerminal;

use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, FieldSpec, Increment, MetadataStore, Result, Rows, structs};
use metaxy_sqlite::SqliteBackend;
use serde::{Deserialize, Serialize};

/// A video file, with fingerprints of its sound and its frames.
#[derive(Serialize)]
struct Video {
    video_id: &'static str,
    audio: &'static str,
    frames: &'static str,
}

/// A sample to process, with the columns that the work needs.
#[derive(Deserialize)]
struct Sample {
    video_id: String,
}

#[derive(Serialize)]
struct Transcript {
    video_id: String,
    text: String,
}

#[derive(Serialize)]
struct Faces {
    video_id: String,
    people: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let backend = SqliteBackend::file(directory.path().join("corpus.db"));
    let store = MetadataStore::builder(backend, features()?).open(AccessMode::ReadWrite).await?;
    println!("\n   raw/video ─┬─ audio ───▶ processed/transcript");
    println!("              └─ frames ──▶ processed/faces\n");

    chapter(1, "Three videos arrive");
    let videos =
        [video("intro", "a-101", "f-101"), video("interview", "a-102", "f-102"), video("outro", "a-103", "f-103")];
    write_videos(&store, &videos).await?;
    println!("What has to be processed?\n");
    let (texts, faces) = ask(&store).await?;

    chapter(2, "We process what is new");
    transcribe(&store, &texts).await?;
    find_faces(&store, &faces).await?;
    println!("{}\n\n{}\n", rows(&store, "processed/transcript").await?, rows(&store, "processed/faces").await?);
    println!("After that:\n");
    ask(&store).await?;

    chapter(3, "The sound of the interview is recorded again; its frames do not change");
    write_videos(&store, &[video("interview", "a-202", "f-102")]).await?;
    println!("Faces are made from frames alone, so only the transcript has to be made again:\n");
    let (texts, _) = ask(&store).await?;

    chapter(4, "We transcribe that one video, and drop the outro");
    transcribe(&store, &texts).await?;
    store.delete("raw/video").filter("video_id = 'outro'").await?;
    println!("What was made from the outro has lost its source: it is orphaned.\n");
    let (texts, _) = ask(&store).await?;
    println!("{}\n", texts.orphaned);

    println!("In short: declare the dependencies, and resolve what has to be processed.\n");
    store.close().await?;
    Ok(())
}

/// Returns the graph: two fields of a video, and a feature that is made from each of them.
fn features() -> Result<FeatureGraph> {
    FeatureGraph::new([
        FeatureSpec::builder("raw/video").id_columns(["video_id"]).fields(["audio", "frames"]).build()?,
        FeatureSpec::builder("processed/transcript")
            .id_columns(["video_id"])
            .dep("raw/video")
            .field(FieldSpec::new("text").depends_on("raw/video", ["audio"]))
            .build()?,
        FeatureSpec::builder("processed/faces")
            .id_columns(["video_id"])
            .dep("raw/video")
            .field(FieldSpec::new("people").depends_on("raw/video", ["frames"]))
            .build()?,
    ])
}

fn video(video_id: &'static str, audio: &'static str, frames: &'static str) -> Video {
    Video { video_id, audio, frames }
}

/// Writes videos with the versions of their fields, which only the samples of a root have.
async fn write_videos(store: &MetadataStore, videos: &[Video]) -> Result<u64> {
    let rows = structs(videos).versions(|video| [("audio", video.audio), ("frames", video.frames)]);
    store.write_rows("raw/video", rows).await
}

/// Simulates a speech model.
async fn transcribe(store: &MetadataStore, todo: &Increment) -> Result<u64> {
    let text = |sample: Sample| {
        let text = match sample.video_id.as_str() {
            "intro" => "Welcome!".to_owned(),
            "outro" => "Good-bye!".to_owned(),
            other => format!("(two people talk: {other})"),
        };
        Transcript { video_id: sample.video_id, text }
    };
    let transcripts: Vec<Transcript> = todo.to_process_as::<Sample>()?.into_iter().map(text).collect();
    store.write_rows("processed/transcript", &transcripts).made_from(todo).await
}

/// Simulates a vision model.
async fn find_faces(store: &MetadataStore, todo: &Increment) -> Result<u64> {
    let people = |sample: Sample| {
        let people = if sample.video_id == "interview" { "Ada, Grace" } else { "Ada" };
        Faces { video_id: sample.video_id, people: people.to_owned() }
    };
    let faces: Vec<Faces> = todo.to_process_as::<Sample>()?.into_iter().map(people).collect();
    store.write_rows("processed/faces", &faces).made_from(todo).await
}

/// Resolves both features.
async fn ask(store: &MetadataStore) -> Result<(Increment, Increment)> {
    let texts = store.resolve_update("processed/transcript").await?;
    let faces = store.resolve_update("processed/faces").await?;
    for (feature, increment) in [("processed/transcript", &texts), ("processed/faces", &faces)] {
        let counts = [&increment.new, &increment.stale, &increment.orphaned].map(Rows::num_rows);
        println!("   {feature:<22} {} new, {} stale, {} orphaned", counts[0], counts[1], counts[2]);
    }
    println!();
    Ok((texts, faces))
}

async fn rows(store: &MetadataStore, feature: &str) -> Result<Rows> {
    store.read(feature).await?.rows().await
}

fn chapter(number: usize, title: &str) {
    let (bold, plain) = if std::io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    println!("{bold}{number}. {title}{plain}\n");
}
