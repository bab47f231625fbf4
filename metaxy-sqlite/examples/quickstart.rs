//! The story of a small video corpus: what has to be processed again when one thing changes?
//!
//! `cargo run -p metaxy-sqlite --example quickstart`

use std::io::IsTerminal;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, FieldSpec, Increment, MetadataStore, Result, Rows, columns};
use metaxy_sqlite::SqliteBackend;

/// A video file: its name, and fingerprints of its sound and of its pictures.
type Video = (&'static str, &'static str, &'static str);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let backend = SqliteBackend::file(directory.path().join("corpus.db"));
    let store = MetadataStore::builder(backend, features()?).open(AccessMode::ReadWrite).await?;
    introduce();

    chapter(1, "Three videos arrive");
    let videos = [("intro", "a-101", "f-101"), ("interview", "a-102", "f-102"), ("outro", "a-103", "f-103")];
    show_videos(&videos);
    store.write("raw/video", video_rows(&videos)?).await?;
    say("What is there to do?");
    let todo = ask(&store).await?;

    chapter(2, "We process what is new");
    store.write("processed/transcript", transcribe(&todo.transcript.new)?).await?;
    store.write("processed/faces", find_faces(&todo.faces.new)?).await?;
    show_rows(&store.read("processed/transcript").await?.rows().await?, &["video_id", "text"])?;
    show_rows(&store.read("processed/faces").await?.rows().await?, &["video_id", "people"])?;
    say("And now?");
    ask(&store).await?;

    chapter(3, "The sound of the interview is recorded again; its pictures stay");
    let changed = [("interview", "a-202", "f-102")];
    show_videos(&changed);
    store.write("raw/video", video_rows(&changed)?).await?;
    say("Faces are made from frames alone, so only the transcript has to be made again:");
    let todo = ask(&store).await?;
    show_rows(&todo.transcript.stale, &["video_id", columns::PROVENANCE])?;

    chapter(4, "We transcribe that one video, and drop the outro");
    store.write("processed/transcript", transcribe(&todo.transcript.stale)?).await?;
    store.delete("raw/video").filter("video_id = 'outro'").await?;
    say("What was made from the outro has lost its source: it is orphaned.");
    let todo = ask(&store).await?;
    show_rows(&todo.transcript.orphaned, &["video_id", "text"])?;

    println!("That is all: declare what is made from what, and ask what is left to do.\n");
    store.close().await?;
    Ok(())
}

/// Two fields of a video, and for each of them a feature that is made from it.
fn features() -> Result<FeatureGraph> {
    FeatureGraph::new([
        FeatureSpec::builder("raw/video")
            .id_columns(["video_id"])
            .fields([FieldSpec::new("audio"), FieldSpec::new("frames")])
            .build()?,
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

/// Rows of the root feature: only they say by hand what each field was made from.
fn video_rows(videos: &[Video]) -> Result<RecordBatch> {
    let texts =
        |pick: fn(&Video) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(videos.iter().map(pick))) };
    let versions = columns::by_field([("audio", texts(|video| video.1)), ("frames", texts(|video| video.2))])?;
    Ok(RecordBatch::try_from_iter([("video_id", texts(|video| video.0)), (columns::PROVENANCE_BY_FIELD, versions)])?)
}

/// Stands for a speech model.
fn transcribe(todo: &Rows) -> Result<RecordBatch> {
    result(todo, "text", |video| match video {
        "intro" => "Welcome!".to_owned(),
        "outro" => "Good-bye!".to_owned(),
        other => format!("(two people talk: {other})"),
    })
}

/// Stands for a vision model.
fn find_faces(todo: &Rows) -> Result<RecordBatch> {
    result(todo, "people", |video| match video {
        "interview" => "Ada, Grace".to_owned(),
        _ => "Ada".to_owned(),
    })
}

/// What was computed for the rows of an increment, with their ids and the versions that they were made from.
fn result(todo: &Rows, name: &str, compute: impl Fn(&str) -> String) -> Result<RecordBatch> {
    let rows = todo.to_batch()?;
    let values = StringArray::from_iter_values(texts(&rows, "video_id")?.iter().flatten().map(compute));
    columns::result(&rows, ["video_id"], [(name, Arc::new(values) as ArrayRef)])
}

fn texts(rows: &RecordBatch, column: &str) -> Result<StringArray> {
    let array = rows.column(rows.schema().index_of(column)?);
    Ok(arrow::compute::cast(array, &arrow::datatypes::DataType::Utf8)?.as_string::<i32>().clone())
}

/// What both features have to do.
struct ToDo {
    transcript: Increment,
    faces: Increment,
}

async fn ask(store: &MetadataStore) -> Result<ToDo> {
    let todo = ToDo {
        transcript: store.resolve_update("processed/transcript").await?,
        faces: store.resolve_update("processed/faces").await?,
    };
    let line = |name: &str, increment: &Increment| {
        let count = |rows: &Rows| if rows.is_empty() { "·".to_owned() } else { rows.num_rows().to_string() };
        vec![name.to_owned(), count(&increment.new), count(&increment.stale), count(&increment.orphaned)]
    };
    let lines = vec![line("processed/transcript", &todo.transcript), line("processed/faces", &todo.faces)];
    table(&["feature", "new", "stale", "orphaned"], lines);
    Ok(todo)
}

// ---- printing ----

fn introduce() {
    println!("\n   raw/video ─┬─ audio ───▶ processed/transcript");
    println!("              └─ frames ──▶ processed/faces\n");
}

fn chapter(number: usize, title: &str) {
    let (bold, plain) = if std::io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    println!("{bold}{number}. {title}{plain}\n");
}

fn say(text: &str) {
    println!("   {text}\n");
}

fn show_videos(videos: &[Video]) {
    let lines = videos.iter().map(|video| vec![video.0.to_owned(), video.1.to_owned(), video.2.to_owned()]);
    table(&["video_id", "audio", "frames"], lines.collect());
}

/// Some columns of some rows, sorted by the first.
fn show_rows(rows: &Rows, columns: &[&str]) -> Result<()> {
    let batch = concat_batches(rows.schema(), rows.batches())?;
    let values = columns.iter().map(|column| texts(&batch, column)).collect::<Result<Vec<_>>>()?;
    let cell = |column: &StringArray, row: usize| {
        if column.is_valid(row) { column.value(row).to_owned() } else { String::new() }
    };
    let mut lines: Vec<Vec<String>> =
        (0..batch.num_rows()).map(|row| values.iter().map(|column| cell(column, row)).collect()).collect();
    lines.sort();
    table(columns, lines);
    Ok(())
}

fn table(header: &[&str], lines: Vec<Vec<String>>) {
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count());
        cells.chain(header.iter().skip(column).take(1).map(|name| name.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let parts: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        println!("   {left}{}{right}", parts.join(middle));
    };
    let row = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!(" {cell:width$} ")).collect::<Vec<_>>();
        println!("   │{}│", padded.join("│"));
    };
    rule("┌", "┬", "┐");
    row(header.to_vec());
    rule("├", "┼", "┤");
    lines.iter().for_each(|line| row(line.iter().map(String::as_str).collect()));
    rule("└", "┴", "┘");
    println!();
}
