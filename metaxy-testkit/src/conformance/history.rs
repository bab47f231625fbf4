//! History: earlier rows of a sample, rows of earlier definitions, and clocks.

use std::sync::Arc;

use arrow::array::Int64Array;
use metaxy_core::{AccessMode, BufferedMetadataWriter, FeatureGraph, FeatureSpec, Result, columns};

use super::kit::{LEAF, PASSED, ROOT, counts, pair, read, read_ids, samples, sorted, texts, versioned_pair};
use super::{Bench, Outcome};
use crate::clock::ManualClock;

pub(super) async fn sample_history(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    for version in ["v1", "v2", "v3"] {
        store.write(ROOT, samples(["s1", "s2"], version).batch()).await?;
    }
    store.delete(ROOT).filter("id = 's1'").await?;
    let read = || store.read(ROOT).with_sample_history();
    let living = counts(&sorted(read().await?.rows().await?)?);
    assert_eq!((living["s1"], living["s2"]), (3, 3));
    let all = counts(&sorted(read().include_soft_deleted().await?.rows().await?)?);
    assert_eq!((all["s1"], all["s2"]), (4, 3));
    let filtered = read().filter("metaxy_provenance_by_field.a = 'v2-a'").await?.rows().await?;
    assert_eq!(filtered.num_rows(), 2);
    PASSED
}

pub(super) async fn feature_history(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    let later = store.with_graph(versioned_pair("2")?)?;
    assert_eq!(read_ids(&later, ROOT).await?, Vec::<String>::new(), "rows of another feature version are history");
    later.write(ROOT, samples(["s1"], "v2").batch()).await?;
    assert_eq!(read_ids(&later, ROOT).await?, ["s1"]);
    assert_eq!(read_ids(&store, ROOT).await?, ["s1", "s2"]);
    let history = sorted(later.read(ROOT).with_feature_history().await?.rows().await?)?;
    assert_eq!(texts(&history, "id"), ["s1", "s2"], "one row for each sample, of any feature version");
    let all = later.read(ROOT).with_feature_history().with_sample_history().await?.rows().await?;
    assert_eq!(all.num_rows(), 3);
    PASSED
}

pub(super) async fn a_given_feature_version(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    let later = store.with_graph(versioned_pair("2")?)?;
    later.write(ROOT, samples(["s1", "s3"], "v2").batch()).await?;
    let ids = async |version: &str| -> Result<Vec<String>> {
        Ok(texts(&sorted(later.read(ROOT).of_version(version).await?.rows().await?)?, "id"))
    };
    assert_eq!(ids(store.graph().feature_version(ROOT)?).await?, ["s1", "s2"]);
    assert_eq!(ids(later.graph().feature_version(ROOT)?).await?, ["s1", "s3"]);
    assert_eq!(ids("00000000").await?, Vec::<String>::new());
    PASSED
}

pub(super) async fn fields_of_other_definitions(bench: Bench) -> Result<Outcome> {
    let graph = |fields: &[&str]| -> Result<FeatureGraph> {
        FeatureGraph::new([FeatureSpec::builder(ROOT).id_columns(["id"]).fields(fields.iter().copied()).build()?])
    };
    let store = bench.store(graph(&["a", "b"])?).await?;
    store.write(ROOT, samples(["s1"], "v1").batch()).await?;
    let later = store.with_graph(graph(&["b", "c"])?)?;
    later.write(ROOT, samples(["s2"], "v2").provenance(&["b", "c"], "v2").batch()).await?;
    for (store, fields) in [(&later, ["b", "c"]), (&store, ["a", "b"])] {
        let rows = read(store, ROOT).await?;
        let by_field = rows.column_by_name(columns::PROVENANCE_BY_FIELD).expect("the column is there");
        let members = arrow::array::AsArray::as_struct(by_field).column_names();
        assert_eq!(members, fields, "a read shows the fields of its own definition");
        assert_eq!(rows.num_rows(), 1);
    }
    let history = later.read(ROOT).with_feature_history().await?.rows().await?;
    assert_eq!(history.num_rows(), 2);
    PASSED
}

pub(super) async fn a_clock_that_is_set_back(bench: Bench) -> Result<Outcome> {
    let clock = ManualClock::new();
    let store = bench.builder(pair()?).await?.clock(Arc::clone(&clock) as _).open(AccessMode::ReadWrite).await?;
    for value in 0..4 {
        store.write(ROOT, samples(["s1"], "v1").column("n", Int64Array::from(vec![value])).batch()).await?;
        clock.advance(-3600);
    }
    assert_eq!(texts(&read(&store, ROOT).await?, "n"), ["3"], "the later write counts, whatever the clock says");
    store.delete(ROOT).await?;
    assert_eq!(read_ids(&store, ROOT).await?, Vec::<String>::new());
    store.write(ROOT, samples(["s1"], "v1").column("n", Int64Array::from(vec![9])).batch()).await?;
    assert_eq!(texts(&read(&store, ROOT).await?, "n"), ["9"]);
    PASSED
}

pub(super) async fn a_clock_that_stands_still(bench: Bench) -> Result<Outcome> {
    let store = bench.builder(pair()?).await?.clock(ManualClock::new()).open(AccessMode::ReadWrite).await?;
    for value in 0..5 {
        store.write(ROOT, samples(["s1"], "v1").column("n", Int64Array::from(vec![value])).batch()).await?;
    }
    assert_eq!(texts(&read(&store, ROOT).await?, "n"), ["4"]);
    PASSED
}

pub(super) async fn rows_of_two_clocks(bench: Bench) -> Result<Outcome> {
    // Each store has its own clock, like programs on two machines; some clocks are an hour behind.
    let hours = [1, 0, 2, 1];
    for (number, hour) in hours.into_iter().enumerate() {
        let clock = ManualClock::new();
        clock.advance(hour * 3600 + number as i64);
        let store = bench.builder(pair()?).await?.clock(clock).open(AccessMode::ReadWrite).await?;
        let batch = samples(["s1"], "v1").column("n", Int64Array::from(vec![number as i64])).batch();
        store.write(ROOT, batch).await?;
        assert_eq!(texts(&read(&store, ROOT).await?, "n"), [number.to_string()], "after write {number}");
        store.close().await?;
    }
    PASSED
}

pub(super) async fn deletions_of_two_clocks(bench: Bench) -> Result<Outcome> {
    let open = async |hour: i64| {
        let clock = ManualClock::new();
        clock.advance(hour * 3600);
        bench.builder(pair()?).await?.clock(clock).open(AccessMode::ReadWrite).await
    };
    let ahead = open(24 * 365 * 1000).await?;
    ahead.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    ahead.delete(ROOT).filter("id = 's1'").await?;
    ahead.close().await?;
    let behind = open(0).await?;
    behind.write(ROOT, samples(["s1"], "v2").batch()).await?;
    assert_eq!(read_ids(&behind, ROOT).await?, ["s1", "s2"], "a write after a deletion of another clock");
    assert_eq!(behind.delete(ROOT).filter("id = 's2'").await?, 1);
    assert_eq!(read_ids(&behind, ROOT).await?, ["s1"], "a deletion after a write of another clock");
    behind.write(ROOT, samples(["s2"], "v3").batch()).await?;
    assert_eq!(read_ids(&behind, ROOT).await?, ["s1", "s2"]);
    // Other tables are not affected.
    behind.write(LEAF, behind.resolve_update(LEAF).await?.new).await?;
    let times = texts(&read(&behind, LEAF).await?, columns::UPDATED_AT);
    assert!(times.iter().all(|time| time.starts_with("2026-")), "{times:?}");
    // Copied rows keep their times.
    let kept = read(&behind, ROOT).await?;
    behind.write(ROOT, kept.clone()).preserve_versions().await?;
    assert_eq!(texts(&read(&behind, ROOT).await?, columns::UPDATED_AT), texts(&kept, columns::UPDATED_AT));
    PASSED
}

pub(super) async fn a_writer_of_a_late_clock(bench: Bench) -> Result<Outcome> {
    let ahead = ManualClock::new();
    ahead.advance(3600);
    let store = bench.builder(pair()?).await?.clock(ahead).open(AccessMode::ReadWrite).await?;
    store.write(ROOT, samples(["s1"], "v1").column("n", Int64Array::from(vec![1])).batch()).await?;
    store.close().await?;
    let store = bench.builder(pair()?).await?.clock(ManualClock::new()).open(AccessMode::ReadWrite).await?;
    let writer = BufferedMetadataWriter::builder(store.clone()).start().await?;
    for number in 2..4 {
        let batch = samples(["s1"], "v1").column("n", Int64Array::from(vec![number])).batch();
        writer.put(ROOT, batch).await.expect("a put");
        writer.flush().await.expect("a flush");
    }
    writer.close().await.expect("a close");
    assert_eq!(texts(&read(&store, ROOT).await?, "n"), ["3"]);
    PASSED
}
