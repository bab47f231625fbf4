//! The spans of a store's calls, on SQLite and in memory: their names and fields, also of calls that fail and of rows
//! that nobody reads to the end.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::TryStreamExt;
use metaxy_core::{AccessMode, BufferedMetadataWriter, MetadataStore, SharedBackend};
use metaxy_sqlite::SqliteBackend;
use metaxy_testkit::faults::{Fault, FaultyBackend, Operation};
use metaxy_testkit::fixtures::configured::{graph, videos};
use metaxy_testkit::memory::MemoryBackend;
use metaxy_testkit::spans::{Ended, Spans, collect};

const TEXT: &str = "made/transcript";

fn backends() -> [SharedBackend; 2] {
    [std::sync::Arc::new(SqliteBackend::in_memory()), std::sync::Arc::new(MemoryBackend::new())]
}

async fn open(backend: SharedBackend) -> MetadataStore {
    MetadataStore::builder(backend, graph()).name("films").open(AccessMode::ReadWrite).await.unwrap()
}

/// Returns the only span of a name among those that have ended.
fn only(spans: &Spans, name: &str) -> Ended {
    let ended = spans.take();
    let mut found: Vec<&Ended> = ended.iter().filter(|span| span.name == name).collect();
    let span = found.pop().unwrap_or_else(|| panic!("no span `{name}` in {ended:?}")).clone();
    assert!(found.is_empty() && span.number("elapsed_ms").is_some_and(|time| time >= 0.0), "{name}: {ended:?}");
    span
}

/// Checks fields of a span, and that it has no error.
fn has(span: &Ended, fields: &[(&str, &str)]) {
    for (name, value) in fields.iter().chain(&[("error", "")]) {
        assert_eq!(span.field(name), *value, "{name} of {span:?}");
    }
}

fn has_bytes(span: &Ended) {
    assert!(span.number("bytes").is_some_and(|bytes| bytes > 0.0), "{span:?}");
}

#[tokio::test]
async fn each_call_is_a_span_with_its_feature_and_its_rows() {
    for backend in backends() {
        let (spans, _guard) = collect();
        let store = open(backend).await;
        has(&only(&spans, "open"), &[("store", "films"), ("mode", "ReadWrite"), ("kind", store.backend().info().kind)]);

        store.write("raw/video", videos(0..5)).await.unwrap();
        let write = only(&spans, "write");
        has(&write, &[("feature", "raw/video"), ("store", "films"), ("rows", "5")]);
        has_bytes(&write);

        let increment = store.resolve_update(TEXT).await.unwrap();
        let resolve = only(&spans, "resolve");
        has(&resolve, &[("feature", TEXT), ("rows", "5"), ("new", "5"), ("stale", "0"), ("orphaned", "0")]);
        has(&resolve, &[("lazy", "false"), ("basis", "all rows")]);
        has_bytes(&resolve);

        store.write(TEXT, increment.new).await.unwrap();
        store.resolve_update(TEXT).await.unwrap();
        store.resolve_update(TEXT).await.unwrap();
        let basis = spans.take().into_iter().rfind(|span| span.name == "resolve").unwrap();
        has(&basis, &[("rows", "0"), ("basis", "no row, because no table has changed")]);

        let rows = store.read("raw/video").filter("video_id < 3").rows().await.unwrap();
        let read = only(&spans, "read");
        has(&read, &[("feature", "raw/video"), ("rows", "3"), ("complete", "true")]);
        has_bytes(&read);
        assert_eq!(rows.num_rows(), 3);

        store.delete("raw/video").filter("video_id = 4").await.unwrap();
        let ended = spans.take();
        let parents = |name: &str| ended.iter().find(|span| span.name == name).and_then(|span| span.parent);
        assert_eq!([parents("read"), parents("append"), parents("delete")], [Some("delete"), Some("delete"), None]);
        has(ended.last().unwrap(), &[("feature", "raw/video"), ("rows", "1"), ("hard", "false")]);
        store.delete(TEXT).filter("video_id = 4").hard().await.unwrap();
        has(&only(&spans, "delete"), &[("feature", TEXT), ("rows", "1"), ("hard", "true")]);

        store.compact("raw/video").await.unwrap();
        has(&only(&spans, "compact"), &[("feature", "raw/video"), ("store", "films"), ("rows", "")]);
        store.vacuum("raw/video", Duration::ZERO).await.unwrap();
        has(&only(&spans, "vacuum"), &[("feature", "raw/video"), ("files", "0")]);
        store.drop_feature(TEXT).await.unwrap();
        has(&only(&spans, "drop"), &[("feature", TEXT)]);
    }
}

#[tokio::test]
async fn copies_rebases_and_the_writer_are_spans_too() {
    for backend in backends() {
        let store = open(backend).await;
        store.write("raw/video", videos(0..4)).await.unwrap();
        store.write(TEXT, store.resolve_update(TEXT).await.unwrap().new).await.unwrap();

        let (spans, _guard) = collect();
        let target = MetadataStore::builder(MemoryBackend::new(), graph()).name("copy").open(AccessMode::ReadWrite);
        let target = target.await.unwrap();
        target.copy_from(&store).features(["raw/video"]).await.unwrap();
        let ended = spans.take();
        let of = |name: &str| ended.iter().find(|span| span.name == name).unwrap();
        has(of("copy"), &[("source", "films"), ("target", "copy"), ("rows", "4")]);
        has(of("copy_feature"), &[("feature", "raw/video"), ("rows", "4"), ("skipped", "0"), ("deleted", "0")]);
        assert_eq!(of("copy_feature").parent, Some("copy"));

        let version = store.graph().plan(TEXT).unwrap().feature_version.clone();
        store.rebase(TEXT, &version).await.unwrap();
        has(&only(&spans, "rebase"), &[("feature", TEXT), ("from_version", &version), ("rows", "0")]);

        let writer = BufferedMetadataWriter::builder(store).start().await.unwrap();
        writer.put("raw/video", videos(4..6)).await.unwrap();
        writer.close().await.unwrap();
        let append = only(&spans, "append");
        has(&append, &[("feature", "raw/video"), ("rows", "2")]);
        has_bytes(&append);
    }
}

#[tokio::test]
async fn a_lazy_increment_tells_how_many_rows_went_out() {
    const ROWS: i64 = 100_000;
    for backend in backends() {
        let store = open(backend).await;
        store.write("raw/video", videos(0..ROWS)).await.unwrap();
        let (spans, _guard) = collect();
        let lazy = store.resolve_update(TEXT).lazy().await.unwrap();
        has(&only(&spans, "resolve"), &[("feature", TEXT), ("lazy", "true"), ("new", "")]);
        assert_eq!(lazy.counts().await.unwrap().new, 100_000);
        has(&only(&spans, "count"), &[("feature", TEXT), ("new", "100000"), ("stale", "0"), ("orphaned", "0")]);

        let mut rows = lazy.stream();
        let (_, first) = rows.try_next().await.unwrap().unwrap();
        assert!((1..100_000).contains(&first.num_rows()) && spans.take().iter().all(|span| span.name != "increment"));
        drop(rows);
        let dropped = only(&spans, "increment");
        let out = first.num_rows().to_string();
        has(&dropped, &[("feature", TEXT), ("rows", &out), ("new", &out), ("complete", "false")]);
        has_bytes(&dropped);

        // It ends with its last row, although the stream is still there.
        let mut rows = lazy.clone().limit(40_000).stream();
        while rows.try_next().await.unwrap().is_some() {}
        has(&only(&spans, "increment"), &[("rows", "40000"), ("new", "40000"), ("complete", "true")]);
        drop(rows);
        assert_eq!(spans.take(), []);

        drop(lazy.new_rows());
        has(&only(&spans, "increment"), &[("rows", "0"), ("complete", "false")]);
    }
}

#[tokio::test]
async fn a_call_that_fails_has_its_error() {
    for backend in backends() {
        let (spans, _guard) = collect();
        let faulty = std::sync::Arc::new(FaultyBackend::new(backend));
        let store = open(faulty.clone()).await;
        store.read("raw/video").await.unwrap_err();
        let read = only(&spans, "read");
        assert!(read.field("error").starts_with("feature `raw/video` is not in"), "{read:?}");

        store.write("raw/video", videos(0..3)).await.unwrap();
        spans.take();
        faulty.inject(Fault::fail(Operation::Append));
        let error = store.write("raw/video", videos(0..3)).await.unwrap_err();
        let write = only(&spans, "write");
        assert_eq!((write.field("error"), write.field("rows")), (error.to_string().as_str(), ""), "{write:?}");

        faulty.inject(Fault::fail(Operation::Scan).after());
        // SQLite's rows fail on the way; those in memory have to be collected first.
        let error = store.read("raw/video").rows().await.unwrap_err();
        let read = only(&spans, "read");
        assert_eq!(read.field("error"), error.to_string(), "{read:?}");
        assert_ne!(read.field("complete"), "true", "{read:?}");

        store.resolve_update("raw/video").await.unwrap_err();
        assert!(only(&spans, "resolve").field("error").contains("has no dependencies"));
        store.write("no feature!", videos(0..1)).await.unwrap_err();
        let write = only(&spans, "write");
        assert!(write.field("feature").is_empty() && !write.field("error").is_empty(), "{write:?}");
    }
}

/// However many rows there are, the spans are the same, and no value of a row or a filter is among their fields.
#[tokio::test]
async fn spans_are_of_calls_not_of_rows() {
    for backend in backends() {
        let (spans, _guard) = collect();
        let store = open(backend).await;
        let mut names = Vec::new();
        for count in [1, 1_000] {
            spans.take();
            store.write("raw/video", videos(0..count)).await.unwrap();
            store.resolve_update(TEXT).from_all_rows().await.unwrap();
            store.read("raw/video").filter("path <> 's3://corpus/7'").rows().await.unwrap();
            let ended = spans.take();
            assert!(ended.iter().all(|span| !format!("{span:?}").contains("s3://")), "{ended:?}");
            names.push(ended.iter().map(|span| span.name).collect::<Vec<_>>());
        }
        assert_eq!(names[0], names[1]);
        assert_eq!(BTreeSet::from_iter(&names[0]), BTreeSet::from([&"append", &"read", &"resolve", &"write"]));
    }
}
