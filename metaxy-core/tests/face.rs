//! Other methods for users: structs as rows, results of increments, maintenance, reserved tables.

mod support;

use std::time::Duration;

use metaxy_core::{
    AccessMode, Error, FeatureGraph, FeatureSpec, FieldSpec, HashAlgorithm, Lineage, MetadataStore, columns,
};
use metaxy_core::{FeatureDep, Increment, structs};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Video {
    video_id: i64,
    path: String,
    seconds: Option<f64>,
    tags: Vec<String>,
    audio_hash: String,
    frames: u32,
}

#[derive(Debug, Serialize)]
struct Transcript {
    video_id: i64,
    text: String,
}

fn video(video_id: i64, audio: &str) -> Video {
    Video {
        video_id,
        path: format!("{video_id}.mp4"),
        seconds: (video_id % 2 == 0).then_some(1.5),
        tags: vec!["a".to_owned(); video_id as usize],
        audio_hash: audio.to_owned(),
        frames: 7,
    }
}

fn graph() -> FeatureGraph {
    let scene = FeatureDep::new("raw/video").lineage(Lineage::expansion(["video_id"]));
    FeatureGraph::new([
        FeatureSpec::builder("raw/video").id_columns(["video_id"]).fields(["audio", "frames"]).build().unwrap(),
        FeatureSpec::builder("made/text")
            .id_columns(["video_id"])
            .dep("raw/video")
            .field(FieldSpec::new("text").depends_on("raw/video", ["audio"]))
            .build()
            .unwrap(),
        FeatureSpec::builder("made/scene").id_columns(["video_id", "scene"]).dep(scene).build().unwrap(),
    ])
    .unwrap()
}

async fn store(test: &str, mode: AccessMode) -> MetadataStore {
    let memory = support::Memory::at(test, HashAlgorithm::Xxhash32);
    MetadataStore::builder(memory, graph()).open(mode).await.unwrap()
}

async fn with_videos(test: &str) -> MetadataStore {
    let store = store(test, AccessMode::ReadWrite).await;
    let videos = [video(1, "a1"), video(2, "a2")];
    let rows =
        structs(&videos).versions(|video| [("audio", video.audio_hash.clone()), ("frames", video.frames.to_string())]);
    assert_eq!(store.write_rows("raw/video", rows).await.unwrap(), 2);
    store
}

fn counts(increment: &Increment) -> [usize; 3] {
    [&increment.new, &increment.stale, &increment.orphaned].map(metaxy_core::Rows::num_rows)
}

#[tokio::test]
async fn structs_are_read_as_they_were_written() {
    let store = with_videos("structs").await;
    let rows = store.read("raw/video").await.unwrap().rows().await.unwrap();
    let mut videos: Vec<Video> = rows.to_structs().unwrap();
    videos.sort_by_key(|video| video.video_id);
    assert_eq!(videos, [video(1, "a1"), video(2, "a2")]);
    assert_eq!(store.write_rows("raw/video", &Vec::<Video>::new()).await.unwrap(), 0);
    let error = rows.to_structs::<(String, String)>().unwrap_err();
    assert!(matches!(error, Error::Structs { .. }), "{error}");
}

#[tokio::test]
async fn versions_of_structs_come_from_a_closure_or_from_columns() {
    let one = with_videos("versions-closure").await;
    let other = store("versions-columns", AccessMode::ReadWrite).await;
    let videos = vec![video(1, "a1"), video(2, "a2")];
    let rows = structs(&videos).versions_in([("audio", "audio_hash"), ("frames", "frames")]);
    other.write_rows("raw/video", rows).await.unwrap();
    let mut versions = Vec::new();
    for store in [one, other] {
        let rows =
            store.read("raw/video").columns(["video_id", columns::PROVENANCE]).await.unwrap().rows().await.unwrap();
        versions.push(format!("{:?}", rows.to_batch().unwrap().columns()));
    }
    assert_eq!(versions[0], versions[1]);
    let third = store("versions-missing", AccessMode::ReadWrite).await;
    let some = structs(&videos)
        .versions(|video| (video.video_id == 1).then_some(("audio", "x")).into_iter().chain([("frames", "y")]));
    let error = third.write_rows("raw/video", some).await.unwrap_err();
    assert!(error.to_string().contains("1 row(s) have no value for the field `audio`"), "{error}");
}

#[tokio::test]
async fn results_get_the_versions_of_their_samples() {
    let store = with_videos("made-from").await;
    let increment = store.resolve_update("made/text").await.unwrap();
    // In another order, without the columns of the sample, and at first only one of the two.
    let text = |video_id: i64| Transcript { video_id, text: format!("text of {video_id}") };
    assert_eq!(store.write_rows("made/text", &[text(2)]).made_from(&increment).await.unwrap(), 1);
    let rest = store.resolve_update("made/text").await.unwrap();
    assert_eq!(counts(&rest), [1, 0, 0]);
    let error = store.write_rows("made/text", &[text(1), text(9)]).made_from(&rest).await.unwrap_err();
    assert!(error.to_string().contains("video_id=9"), "{error}");
    store.write_rows("made/text", &[text(1)]).made_from(&rest).await.unwrap();
    assert!(store.resolve_update("made/text").await.unwrap().is_empty());

    let changed = [video(2, "another")];
    let rows = structs(&changed).versions_in([("audio", "audio_hash"), ("frames", "frames")]);
    store.write_rows("raw/video", rows).await.unwrap();
    let increment = store.resolve_update("made/text").await.unwrap();
    assert_eq!(counts(&increment), [0, 1, 0]);
    assert_eq!(increment.to_process().map(metaxy_core::RecordBatch::num_rows).sum::<usize>(), 1);
    store.write_rows("made/text", &[text(2)]).made_from(&increment).await.unwrap();
    assert!(store.resolve_update("made/text").await.unwrap().is_empty());
}

#[tokio::test]
async fn children_get_the_versions_of_their_parent() {
    #[derive(Serialize)]
    struct Scene {
        video_id: i64,
        scene: i32,
    }
    let store = with_videos("made-from-parents").await;
    let increment = store.resolve_update("made/scene").await.unwrap();
    let scenes: Vec<Scene> =
        [1, 2].into_iter().flat_map(|video_id| (0..3).map(move |scene| Scene { video_id, scene })).collect();
    store.write_rows("made/scene", &scenes).made_from(&increment).await.unwrap();
    assert!(store.resolve_update("made/scene").await.unwrap().is_empty());
}

#[tokio::test]
async fn increments_and_rows_are_displayed_as_tables() {
    let store = with_videos("display").await;
    let increment = store.resolve_update("made/text").await.unwrap();
    let shown = increment.to_string();
    assert!(shown.starts_with("2 new, 0 stale, 0 orphaned\nnew:\n+"), "{shown}");
    assert!(shown.contains("| video_id |") && shown.ends_with("2 rows"), "{shown}");
    let many: Vec<Video> = (0..50).map(|id| video(id, "a")).collect();
    let rows = structs(&many).versions_in([("audio", "audio_hash"), ("frames", "frames")]);
    store.write_rows("raw/video", rows).await.unwrap();
    let shown = store.read("raw/video").await.unwrap().rows().await.unwrap().to_string();
    assert!(shown.ends_with("50 rows, of which 20 are shown") && !shown.contains("metaxy_"), "{shown}");
}

#[tokio::test]
async fn long_values_are_cut_and_stay_on_one_line() {
    let store = store("long-values", AccessMode::ReadWrite).await;
    let mut long = [video(1, "a"), video(2, "a"), video(3, "a")];
    long[0].path = "é".repeat(41);
    long[1].path = "é".repeat(40);
    long[2].path = "two\nlines\u{1b}[31m".to_owned();
    long[0].tags = vec!["tag".to_owned(); 1_000];
    let rows = structs(&long).versions_in([("audio", "audio_hash"), ("frames", "frames")]);
    store.write_rows("raw/video", rows).await.unwrap();
    let shown = store.read("raw/video").rows().await.unwrap().to_string();
    assert!(shown.contains(&format!("| {}… |", "é".repeat(39))), "{shown}");
    assert!(shown.contains(&format!("| {} |", "é".repeat(40))), "{shown}");
    assert!(shown.contains("| two lines [31m") && shown.contains("| [tag, tag, "), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() < 200), "{shown}");
}

#[tokio::test]
async fn debug_of_an_error_is_its_message_with_its_causes() {
    let error =
        Error::corrupt("raw__video", "its file ends early").with_source(Error::table("disk", "read", "x", "EOF"));
    let expected =
        "table `raw__video` is damaged: its file ends early\n  caused by: disk: read failed on table `x`: EOF";
    assert_eq!(format!("{error:?}"), expected);
    assert_eq!(format!("{:?}", Error::setting("project", "it is empty")), "`project`: it is empty");
}

/// `?` on a writer in a function that returns the result of a store keeps the rows.
#[tokio::test]
async fn errors_of_a_writer_are_errors() {
    async fn put(store: &MetadataStore, samples: metaxy_core::RecordBatch) -> metaxy_core::Result<()> {
        let writer = metaxy_core::BufferedMetadataWriter::builder(store.clone()).start().await?;
        writer.put("made/text", samples).await?;
        store.close().await?;
        writer.close().await?;
        Ok(())
    }
    let store = with_videos("writer-error").await;
    let samples = store.resolve_update("made/text").await.unwrap().new.to_batch().unwrap();
    let error = put(&store, samples).await.unwrap_err();
    assert!(error.to_string().starts_with("2 row(s) could not be written: store"), "{error}");
    let Error::Unwritten { source } = error else { panic!("{error}") };
    let error = source.downcast_ref::<metaxy_core::writer::WriterError>().expect("the error of the writer");
    assert_eq!(error.unwritten.iter().map(|(_, batch)| batch.num_rows()).sum::<usize>(), 2);
}

#[tokio::test]
async fn tables_and_locations_of_a_store() {
    let store = with_videos("maintenance").await;
    store.write("made/text", store.resolve_update("made/text").await.unwrap().new).await.unwrap();
    assert_eq!(store.tables().await.unwrap(), ["made__text", "raw__video"]);
    let location = store.location_of("raw/video").await.unwrap().expect("the feature has rows");
    assert_eq!((location.store.as_str(), location.table.as_str()), (store.name(), "raw__video"));
    assert_eq!(store.location_of("made/scene").await.unwrap(), None);
    store.compact("raw/video").await.unwrap();
    assert_eq!(store.vacuum("raw/video", Duration::ZERO).await.unwrap(), 0);
}

#[tokio::test]
async fn maintenance_needs_a_store_that_is_open_for_writing() {
    let store = store("read-only", AccessMode::ReadOnly).await;
    let errors = [
        store.compact("raw/video").await.unwrap_err(),
        store.vacuum("raw/video", Duration::ZERO).await.unwrap_err(),
        store.drop_feature("raw/video").await.unwrap_err(),
    ];
    assert!(errors.iter().all(|error| matches!(error, Error::ReadOnly { .. })), "{errors:?}");
}

#[tokio::test]
async fn reserved_tables_cannot_be_changed() {
    let key = "metaxy-system/feature_versions";
    let spec = FeatureSpec::builder(key).id_columns(["video_id"]).fields(["audio", "frames"]).build().unwrap();
    let store = store("reserved", AccessMode::ReadWrite).await.with_graph(FeatureGraph::new([spec]).unwrap()).unwrap();
    let videos = [video(1, "a")];
    let rows = || structs(&videos).versions_in([("audio", "audio_hash"), ("frames", "frames")]);
    let errors = [
        store.drop_feature(key).await.unwrap_err(),
        store.write_rows(key, rows()).await.unwrap_err(),
        store.delete(key).hard().await.unwrap_err(),
    ];
    assert!(errors.iter().all(|error| matches!(error, Error::ReservedFeature { .. })), "{errors:?}");
    let writer = metaxy_core::BufferedMetadataWriter::builder(store.clone()).start().await.unwrap();
    let batches = metaxy_core::IntoBatches::into_batches(rows()).unwrap();
    assert!(writer.put(key, batches[0].clone()).await.is_err());
    writer.close().await.unwrap();
}
