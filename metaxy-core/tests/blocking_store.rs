//! A store for programs without async code: every call, anywhere, without a panic.

mod support;

use metaxy_core::store::Fallback;
use metaxy_core::{
    AccessMode, BlockingStore, Error, FeatureGraph, FeatureSpec, HashAlgorithm, MetadataStore, Result, structs,
};
use tokio::runtime::{Builder, Runtime};

#[derive(serde::Serialize)]
struct Video {
    video_id: i64,
    version: String,
}

fn graph() -> FeatureGraph {
    FeatureGraph::new([
        FeatureSpec::builder("raw/video").id_columns(["video_id"]).build().unwrap(),
        FeatureSpec::builder("made/text").id_columns(["video_id"]).dep("raw/video").build().unwrap(),
    ])
    .unwrap()
}

fn open(test: &str) -> BlockingStore {
    let memory = support::Memory::at(test, HashAlgorithm::Xxhash32);
    BlockingStore::open(MetadataStore::builder(memory, graph()).open(AccessMode::ReadWrite)).unwrap()
}

/// Opens a store, and makes each kind of call.
fn pipeline(test: &str) {
    let store = open(test);
    let videos: Vec<Video> = (0..3).map(|video_id| Video { video_id, version: video_id.to_string() }).collect();
    let rows = structs(&videos).versions_in([("default", "version")]);
    assert_eq!(store.run(|store| store.write_rows("raw/video", rows)).unwrap(), 3);
    let increment = store.run(|store| store.resolve_update("made/text")).unwrap();
    assert_eq!(increment.new.num_rows(), 3);
    store.run(|store| store.write("made/text", &increment.new)).unwrap();
    assert_eq!(store.run(|store| store.delete("raw/video").filter("video_id = 1")).unwrap(), 1);
    let left = store.run(|store| store.read("raw/video").columns(["video_id"]).rows()).unwrap();
    assert_eq!(left.num_rows(), 2);
    let lazy = store.run(|store| store.resolve_update("made/text").lazy()).unwrap();
    let orphaned = store.iter(lazy.stream()).map(|rows| rows.unwrap().1.num_rows());
    assert_eq!(orphaned.sum::<usize>(), 1);
    let batches = store.run(|store| store.read("raw/video")).unwrap();
    assert_eq!(store.iter(batches).map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
    store.run(|store| store.compact("raw/video")).unwrap();
    store.run(MetadataStore::close).unwrap();
    let error = store.run(|store| store.read("raw/video")).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}

fn runtimes() -> [Runtime; 2] {
    [Builder::new_current_thread().build().unwrap(), Builder::new_multi_thread().worker_threads(1).build().unwrap()]
}

#[test]
fn calls_work_without_a_runtime() {
    pipeline("outside");
}

/// Also when the store is dropped there.
#[test]
fn calls_work_in_async_code_and_on_blocking_threads() {
    for (number, runtime) in runtimes().into_iter().enumerate() {
        runtime.block_on(async { pipeline(&format!("inside {number}")) });
        let task = runtime.spawn(async move { pipeline(&format!("task {number}")) });
        runtime.block_on(task).unwrap();
        let blocking = runtime.spawn_blocking(move || pipeline(&format!("blocking {number}")));
        runtime.block_on(blocking).unwrap();
    }
}

#[test]
fn clones_are_used_by_several_threads() {
    let store = open("threads");
    let video = |video_id: i64| [Video { video_id, version: "1".to_owned() }];
    std::thread::scope(|scope| {
        for video_id in 0..8 {
            let store = store.clone();
            scope.spawn(move || {
                let videos = video(video_id);
                let rows = structs(&videos).versions_in([("default", "version")]);
                store.run(|store| store.write_rows("raw/video", rows)).unwrap();
            });
        }
    });
    assert_eq!(store.run(|store| store.read("raw/video").rows()).unwrap().num_rows(), 8);
}

#[test]
fn errors_and_panics_are_returned() {
    let memory = support::Memory::at("errors", HashAlgorithm::Xxhash32);
    support::space("errors").broken.lock().map(|mut broken| *broken = true).unwrap();
    let error = BlockingStore::open(MetadataStore::builder(memory, graph()).open(AccessMode::ReadWrite)).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    let store = open("panics");
    let panic = || store.run(|_| async { if true { panic!("too bad") } else { Ok(()) } });
    assert!(matches!(panic(), Err(Error::Task(message)) if message.contains("too bad")));
    let inside: Result<()> = runtimes()[0].block_on(async { panic() });
    assert!(matches!(inside, Err(Error::Task(message)) if message.contains("too bad")));
}

/// A fallback that is opened by the first read uses the runtime of the store.
#[test]
fn fallbacks_are_opened_on_the_same_runtime() {
    let upstream = open("upstream");
    let videos = [Video { video_id: 1, version: "1".to_owned() }];
    let rows = structs(&videos).versions_in([("default", "version")]);
    upstream.run(|store| store.write_rows("raw/video", rows)).unwrap();
    let fallback = Fallback::lazy("upstream", || {
        let memory = support::Memory::at("upstream", HashAlgorithm::Xxhash32);
        Box::pin(async {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            MetadataStore::builder(memory, graph()).open(AccessMode::ReadOnly).await
        })
    });
    let memory = support::Memory::at("downstream", HashAlgorithm::Xxhash32);
    let builder = MetadataStore::builder(memory, graph()).fallback(fallback);
    let store = BlockingStore::open(builder.open(AccessMode::ReadWrite)).unwrap();
    assert_eq!(store.run(|store| store.read("raw/video").rows()).unwrap().num_rows(), 1);
}
