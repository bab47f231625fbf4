//! Copies from store to store: the copied rows, their columns, and the memory.

mod support;

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{AsArray, MapBuilder, StringBuilder};
use arrow::datatypes::DataType;
use metaxy_core::{AccessMode, Error, FeatureGraph, HashAlgorithm, MetadataStore, columns};
use support::films::{graph, ids, next_graph, videos};
use support::flood::{Flood, Sink};

async fn lone(test: &str, name: &str, graph: FeatureGraph) -> MetadataStore {
    let memory = support::Memory::at(format!("{test}/{name}"), HashAlgorithm::Xxhash32);
    MetadataStore::builder(memory, graph).name(name).open(AccessMode::ReadWrite).await.unwrap()
}

/// Opens a store of the next definitions with a memory limit in bytes.
async fn limited(test: &str, name: &str, limit: usize) -> MetadataStore {
    let memory = support::Memory::at(format!("{test}/{name}"), HashAlgorithm::Xxhash32);
    let builder = MetadataStore::builder(memory, next_graph()).name(name).memory_limit(limit);
    builder.open(AccessMode::ReadWrite).await.unwrap()
}

/// Returns all stored rows, with all columns that a copy keeps.
async fn everything(store: &MetadataStore, feature: &str) -> Vec<String> {
    let read = store.read(feature).with_feature_history().with_sample_history().include_soft_deleted();
    let rows = read.await.unwrap().rows().await.unwrap().to_batch().unwrap();
    let mut lines: Vec<String> = (0..rows.num_rows())
        .map(|row| {
            let cells = rows.schema_ref().fields().iter().zip(rows.columns()).map(|(field, column)| {
                let column = match column.data_type() {
                    DataType::Timestamp(..) => arrow::compute::cast(column, &DataType::Int64).unwrap(),
                    _ => column.clone(),
                };
                let cell = arrow::util::display::array_value_to_string(&column, row).unwrap();
                format!("{}={cell}", field.name())
            });
            cells.collect::<Vec<_>>().join(" ")
        })
        .collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn copies_keep_versions_and_times() {
    let source = lone("copy-all", "source", graph()).await;
    source.write("raw/video", videos(&[1, 2, 3], "")).await.unwrap();
    source.write("made/clip", source.resolve_update("made/clip").await.unwrap().new).await.unwrap();
    let target = lone("copy-all", "target", graph()).await;
    let summary = target.copy_from(&source).await.unwrap();
    let counts: Vec<_> = summary.rows.iter().map(|(key, rows)| (key.to_string(), *rows)).collect();
    assert_eq!(counts, [("made/clip".to_owned(), 3), ("raw/video".to_owned(), 3)]);
    assert_eq!(summary.total(), 6);
    for feature in ["raw/video", "made/clip"] {
        assert_eq!(everything(&target, feature).await, everything(&source, feature).await);
    }
    assert!(target.resolve_update("made/clip").await.unwrap().is_empty());
    assert!(!target.has_feature("made/text").await.unwrap());
}

#[tokio::test]
async fn copies_with_and_without_history() {
    let old = lone("copy-history", "source", graph()).await;
    old.write("raw/video", videos(&[1, 2], "")).await.unwrap();
    old.write("raw/video", videos(&[2], "b")).await.unwrap();
    let source = old.with_graph(next_graph()).unwrap();
    source.write("raw/video", videos(&[2, 3, 4], "c")).await.unwrap();
    source.delete("raw/video").filter("id = 4").await.unwrap();
    // The number of rows: 1, 2, 2, 2, 3, 4, and the deletion of 4.
    for (features, samples, expected) in [(true, false, 3), (false, false, 2), (false, true, 4), (true, true, 7)] {
        let target = lone(&format!("copy-history-{features}-{samples}"), "target", next_graph()).await;
        let mut copy = target.copy_from(&source);
        if !features {
            copy = copy.without_feature_history();
        }
        if samples {
            copy = copy.with_sample_history();
        }
        assert_eq!(copy.await.unwrap().total(), expected, "{features} {samples}");
        if features && samples {
            assert_eq!(everything(&target, "raw/video").await, everything(&source, "raw/video").await);
        }
        assert_eq!(ids(&target, "raw/video").await, [2, 3]);
    }
}

#[tokio::test]
async fn copies_of_some_features_and_rows() {
    let source = lone("copy-some", "source", graph()).await;
    source.write("raw/video", videos(&[1, 2, 3], "")).await.unwrap();
    source.write("made/clip", source.resolve_update("made/clip").await.unwrap().new).await.unwrap();
    let target = lone("copy-some", "target", graph()).await;
    let copy = target.copy_from(&source).features(["raw/video"]).filter("raw/video", "id > 1").global_filter("id < 3");
    assert_eq!(copy.await.unwrap().total(), 1);
    assert_eq!(ids(&target, "raw/video").await, [2]);
    assert!(!target.has_feature("made/clip").await.unwrap());

    for (copy, told) in [
        (
            target.copy_from(&source).features(["made/text"]),
            "feature `made/text` is not in store source; write it first, or check `fallback_stores`",
        ),
        (
            target.copy_from(&source).features(["made/tex"]),
            "feature `made/tex` is not in the graph; did you mean `made/text`?",
        ),
        (
            target.copy_from(&source).filter("raw/vide", "id = 1"),
            "feature `raw/vide` is not in the graph; did you mean `raw/video`?",
        ),
    ] {
        assert_eq!(copy.await.unwrap_err().to_string(), told);
    }
    assert!(target.copy_from(&source).global_filter("id = ").await.is_err());
    assert!(target.copy_from(&source).global_filter("idd = 1").await.is_err());
    assert_eq!(ids(&target, "raw/video").await, [2]);
}

#[tokio::test]
async fn copies_exclude_the_rows_of_fallbacks() {
    let prod = lone("copy-fallback", "prod", graph()).await;
    prod.write("raw/video", videos(&[1, 2], "")).await.unwrap();
    let memory = support::Memory::at("copy-fallback/dev", HashAlgorithm::Xxhash32);
    let dev = MetadataStore::builder(memory, graph()).name("dev").fallback(&prod);
    let dev = dev.open(AccessMode::ReadWrite).await.unwrap();
    let target = lone("copy-fallback", "target", graph()).await;
    assert_eq!(target.copy_from(&dev).await.unwrap().total(), 0);
    assert!(matches!(target.copy_from(&dev).features(["raw/video"]).await, Err(Error::FeatureNotFound { .. })));
    // A store can copy rows that it has read only through its fallback.
    assert_eq!(dev.copy_from(&prod).await.unwrap().total(), 2);
    assert_eq!(dev.store_of("raw/video").await.unwrap().as_deref(), Some("dev"));
}

#[tokio::test]
async fn a_copy_needs_one_hash_algorithm_and_a_writable_target() {
    let source = lone("copy-refused", "source", graph()).await;
    let open = async |algorithm, mode| {
        let memory = support::Memory::at("copy-refused/target", algorithm);
        MetadataStore::builder(memory, graph()).open(mode).await.unwrap()
    };
    let odd = open(HashAlgorithm::Md5, AccessMode::ReadWrite).await;
    assert!(matches!(odd.copy_from(&source).await, Err(Error::HashAlgorithmMismatch { .. })));
    let closed = open(HashAlgorithm::Xxhash32, AccessMode::ReadOnly).await;
    assert!(matches!(closed.copy_from(&source).await, Err(Error::ReadOnly { .. })));
}

/// Copies again and again, with and without the history, give the same rows whether or not they fit into memory.
#[tokio::test]
async fn copies_beyond_memory_are_the_same() {
    let old = lone("copy-limits", "source", graph()).await;
    let all: Vec<i64> = (0..4_000).collect();
    old.write("raw/video", videos(&all, "")).await.unwrap();
    let source = lone("copy-limits", "source", next_graph()).await;
    source.write("raw/video", videos(&all[1_000..], "next")).await.unwrap();
    source.delete("raw/video").filter("id < 1100").await.unwrap();
    for history in [false, true] {
        let mut copied = Vec::new();
        for limit in [1, 1 << 30] {
            let source = limited("copy-limits", "source", limit).await;
            let target = limited("copy-limits", &format!("target-{history}-{limit}"), limit).await;
            let copy = || match history {
                true => target.copy_from(&source).features(["raw/video"]).with_sample_history(),
                false => target.copy_from(&source).features(["raw/video"]),
            };
            let first = copy().await.unwrap();
            let again = copy().await.unwrap();
            assert_eq!(again.total(), 0, "history {history}, {limit} bytes");
            let skipped: u64 = again.skipped.values().sum();
            assert!(skipped >= first.total(), "history {history}, {limit} bytes: {skipped} rows are skipped");
            copied.push((first, skipped, everything(&target, "raw/video").await));
        }
        assert!(copied[0] == copied[1], "history {history}: {:?} and {:?}", copied[0].0, copied[1].0);
    }
}

/// A rebase gives the same rows whether or not they fit into memory.
#[tokio::test]
async fn rebases_beyond_memory_are_the_same() {
    let mut rebased = Vec::new();
    for limit in [1, 1 << 30] {
        let name = format!("store-{limit}");
        let old = lone("rebase-limits", &name, graph()).await;
        let all: Vec<i64> = (0..4_000).collect();
        old.write("raw/video", videos(&all, "")).await.unwrap();
        old.write("made/clip", old.resolve_update("made/clip").await.unwrap().new).await.unwrap();
        let version = old.graph().feature_version("made/clip").unwrap().to_owned();
        let next = limited("rebase-limits", &name, limit).await;
        next.write("raw/video", videos(&all[500..], "next")).await.unwrap();
        assert_eq!(next.rebase("made/clip", &version).await.unwrap(), 3_500, "{limit} bytes");
        assert!(next.resolve_update("made/clip").await.unwrap().is_empty(), "{limit} bytes");
        let columns = ["id", columns::PROVENANCE, columns::DATA_VERSION, columns::FEATURE_VERSION];
        let rows = next.read("made/clip").columns(columns).await.unwrap().rows().await.unwrap().to_batch().unwrap();
        let line = |row: usize| {
            let cell =
                |column: &arrow::array::ArrayRef| arrow::util::display::array_value_to_string(column, row).unwrap();
            rows.columns().iter().map(cell).collect::<Vec<_>>().join(" ")
        };
        let mut lines: Vec<String> = (0..rows.num_rows()).map(line).collect();
        lines.sort();
        rebased.push(lines);
    }
    assert!(rebased[0] == rebased[1], "{:?} and {:?}", rebased[0].first(), rebased[1].first());
}

/// Of several rows of a sample with the same time, one is copied, as one is read.
#[tokio::test]
async fn rows_with_equal_times_are_copied_once() {
    let source = lone("copy-ties", "source", graph()).await;
    let twice = arrow::compute::concat_batches(&videos(&[1], "").schema(), &[videos(&[1, 2], "a"), videos(&[1], "b")]);
    // No write of this crate creates two rows of a sample, but other programs do; rows with preserved versions are not
    // checked.
    source.write("raw/video", twice.unwrap()).preserve_versions().await.unwrap();
    source.write("raw/video", videos(&[3], "")).await.unwrap();
    source.delete("raw/video").filter("id = 3").await.unwrap();
    let target = lone("copy-ties", "target", graph()).await;
    assert_eq!(target.copy_from(&source).await.unwrap().total(), 2);
    assert_eq!(ids(&target, "raw/video").await, [1, 2]);
}

#[tokio::test]
async fn large_copies_are_written_in_parts() {
    let source = lone("copy-large", "source", graph()).await;
    for part in 0..30_i64 {
        let ids: Vec<i64> = (part * 10_000..(part + 1) * 10_000).collect();
        source.write("raw/video", videos(&ids, "")).await.unwrap();
    }
    let target = lone("copy-large", "target", graph()).await;
    let (calls, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let copy = target.copy_from(&source).with_sample_history().on_progress({
        let (calls, seen) = (calls.clone(), seen.clone());
        move |progress| {
            calls.fetch_add(1, Ordering::SeqCst);
            seen.lock().unwrap().push((progress.feature.to_string(), progress.rows, progress.done));
        }
    });
    assert_eq!(copy.await.unwrap().total(), 300_000);
    let seen = seen.lock().unwrap().clone();
    assert!(calls.load(Ordering::SeqCst) >= 3 && seen.is_sorted_by_key(|(_, rows, _)| *rows), "{seen:?}");
    assert_eq!(seen.last(), Some(&("raw/video".to_owned(), 300_000, true)));
    assert_eq!(ids(&target, "raw/video").await.len(), 300_000);
}

/// 300,000 rows of a kilobyte each, from a source that creates them while they are read, to a target that counts and
/// drops them, in a separate process with a memory limit below these 300 MB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_copy_needs_little_memory() {
    const CHILD: &str = "METAXY_COPY_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return copy_a_flood().await;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["a_large_copy_needs_little_memory", "--exact", "--nocapture"]).env(CHILD, "1");
    let output = child.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    println!("{text}");
}

async fn copy_a_flood() {
    const SAMPLES: usize = 150_000;
    // Every sample exists twice: the newest row of each, then all rows.
    for (history, expected) in [(false, SAMPLES), (true, 2 * SAMPLES)] {
        let source = MetadataStore::builder(Flood::new(SAMPLES, 2), graph()).memory_limit(32 << 20);
        let source = source.open(AccessMode::ReadOnly).await.unwrap();
        let sink = Arc::new(Sink::default());
        let target = MetadataStore::builder(sink.clone(), graph()).open(AccessMode::ReadWrite).await.unwrap();
        let copy = target.copy_from(&source).features(["raw/video"]);
        let copy = if history { copy.with_sample_history() } else { copy };
        assert_eq!(copy.await.unwrap().total(), expected as u64);
        assert_eq!(sink.rows(), expected);
        assert!(sink.largest_write() < 80 << 20, "{} bytes in one write", sink.largest_write());
    }
    // Only Linux reports the peak memory of a process.
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim_end_matches("kB").trim();
        let peak: usize = peak.parse().unwrap();
        println!("peak {} MiB", peak >> 10);
        assert!(peak < 260 << 10, "{peak} kB");
    }
}

/// Copies the rows of a store to another one, with by-field columns as maps, as the Python package stores them on
/// request.
async fn as_maps(source: &MetadataStore, target: &MetadataStore) {
    let read = source.read("raw/video").with_feature_history();
    let mut rows = read.await.unwrap().rows().await.unwrap().to_batch().unwrap();
    for name in [columns::PROVENANCE_BY_FIELD, columns::DATA_VERSION_BY_FIELD] {
        let members = rows.column_by_name(name).unwrap().as_struct().clone();
        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for row in 0..rows.num_rows() {
            for (key, values) in members.column_names().into_iter().zip(members.columns()) {
                map.keys().append_value(key);
                map.values().append_value(values.as_string::<i32>().value(row));
            }
            map.append(true).unwrap();
        }
        rows = columns::with_column(&rows, name, Arc::new(map.finish())).unwrap();
    }
    let order = columns::ALL.map(|name| rows.schema_ref().index_of(name).unwrap());
    let rows = rows.project(&[&[0, 1], order.as_slice()].concat()).unwrap();
    let key = "raw/video".parse().unwrap();
    target.backend().append(&key, rows.schema(), vec![rows]).await.unwrap();
}

#[tokio::test]
async fn by_field_maps_and_structs_are_converted_into_each_other() {
    let plain = lone("copy-maps", "plain", graph()).await;
    plain.write("raw/video", videos(&[1, 2], "")).await.unwrap();
    let maps = lone("copy-maps", "maps", graph()).await;
    as_maps(&plain, &maps).await;
    let target = lone("copy-maps", "target", graph()).await;
    target.write("raw/video", videos(&[3], "")).await.unwrap();
    // Maps into structs.
    assert_eq!(target.copy_from(&maps).await.unwrap().total(), 2);
    assert_eq!(ids(&target, "raw/video").await, [1, 2, 3]);
    let samples = videos(&[1, 2, 3], "");
    assert!(target.resolve_update("raw/video").samples(&samples).await.unwrap().is_empty());
    // Structs into maps: the third one.
    assert_eq!(maps.copy_from(&target).await.unwrap().total(), 1);
    assert!(maps.resolve_update("raw/video").samples(&samples).await.unwrap().is_empty());
}
