//! Reading: the newest row of each sample that is not deleted, then filters, then columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use metaxy_core::backend::ScanKeys;
use metaxy_core::{
    Error, FeatureGraph, FeatureKey, FeatureSpec, Filter, MetadataStore, Result, Scan, ScanRequest, ScanStage, col,
    columns,
};

use super::kit::{
    LEAF, PASSED, ROOT, assert_error, ids, increment, pair, process, read, read_ids, samples, sorted, texts,
};
use super::{Bench, Outcome};

fn numbers(ids: &[&str], values: Vec<Option<i64>>) -> RecordBatch {
    samples(ids, "v1").column("n", Int64Array::from(values)).batch()
}

/// Returns the ids of the rows for which a filter is true, sorted.
async fn filtered(store: &MetadataStore, filter: &str) -> Result<Vec<String>> {
    Ok(texts(&sorted(store.read(ROOT).filter(filter).await?.rows().await?)?, "id"))
}

pub(super) async fn one_row_for_each_sample(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    for value in 0..5 {
        store.write(ROOT, numbers(&["s1", "s2"], vec![Some(value), Some(value * 10)])).await?;
    }
    let rows = read(&store, ROOT).await?;
    assert_eq!(texts(&rows, "id"), ["s1", "s2"]);
    assert_eq!(texts(&rows, "n"), ["4", "40"]);
    PASSED
}

pub(super) async fn one_of_several_rows_with_equal_times(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    // Rows as another program may have written them; this crate refuses two rows of one sample in a write.
    let rows = numbers(&["s1", "s1", "s2"], vec![Some(1), Some(2), Some(3)]);
    store.write(ROOT, rows).preserve_versions().await?;
    assert_eq!(read_ids(&store, ROOT).await?, ["s1", "s2"]);
    PASSED
}

pub(super) async fn the_same_one_of_rows_with_equal_times(bench: Bench) -> Result<Outcome> {
    const SAMPLES: usize = 60_000;
    let half = |version: &str, n: i64| {
        samples(ids("s", SAMPLES), version).column("n", Int64Array::from(vec![n; SAMPLES])).batch()
    };
    // One write of another program, large enough to be divided into files, row groups and portions of threads; the greater
    // version comes last, and first.
    let mut store = bench.store(pair()?).await?;
    for both in [vec![half("v1", 1), half("v2", 2)], vec![half("v2", 2), half("v1", 1)]] {
        store.write(ROOT, both).preserve_versions().await?;
        store = reads_the_same(&bench, store, SAMPLES).await?;
        store.drop_feature(ROOT).await?;
        store.drop_feature(LEAF).await?;
    }
    PASSED
}

/// Reads and resolves samples, of which each has two rows with equal times; returns a store that was opened again.
async fn reads_the_same(bench: &Bench, mut store: MetadataStore, number: usize) -> Result<MetadataStore> {
    let first = texts(&read(&store, ROOT).await?, "n");
    assert_eq!(first.len(), number);
    process(&store, LEAF).await?;
    for _ in 0..3 {
        assert!(texts(&read(&store, ROOT).await?, "n") == first, "another read returns other rows");
        assert_eq!(increment(&store, LEAF).await?.concat(), Vec::<String>::new(), "an increment does not become empty");
        store.close().await?;
        store = bench.store(pair()?).await?;
    }
    Ok(store)
}

pub(super) async fn newest_by_update_not_by_creation(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, numbers(&["s1"], vec![Some(1)])).await?;
    // The second row has an earlier time of creation; it was still written later.
    let long_ago = TimestampMicrosecondArray::from(vec![1_000_000]).with_timezone("UTC");
    let later = samples(["s1"], "v1").column("n", Int64Array::from(vec![2])).column(columns::CREATED_AT, long_ago);
    store.write(ROOT, later.batch()).await?;
    assert_eq!(texts(&read(&store, ROOT).await?, "n"), ["2"]);
    PASSED
}

pub(super) async fn filters_see_the_newest_row_only(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, numbers(&["s1", "s2"], vec![Some(1), Some(1)])).await?;
    store.write(ROOT, numbers(&["s1"], vec![Some(2)])).await?;
    assert_eq!(filtered(&store, "n = 1").await?, ["s2"]);
    assert_eq!(filtered(&store, "n = 2").await?, ["s1"]);
    PASSED
}

pub(super) async fn requested_columns_in_order(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let batch = samples(["s1"], "v1")
        .column("n", Int64Array::from(vec![1]))
        .column("t", StringArray::from(vec!["text"]))
        .batch();
    store.write(ROOT, batch).await?;
    let rows = store.read(ROOT).columns(["t", "id"]).await?.rows().await?;
    let names: Vec<&str> = rows.schema().fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["t", "id"]);
    assert_eq!(texts(&rows.to_batch()?, "t"), ["text"]);
    // A filter may use a column that is not requested.
    let rows = store.read(ROOT).columns(["t"]).filter("n = 1").await?.rows().await?;
    assert_eq!((rows.num_rows(), rows.schema().fields().len()), (1, 1));
    assert_error!(store.read(ROOT).columns(["nothing"]).await, Error::MissingColumn { .. });
    PASSED
}

pub(super) async fn no_columns_at_all(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1", "s2", "s3"], "v1").batch()).await?;
    store.write(ROOT, samples(["s1"], "v2").batch()).await?;
    let rows = store.read(ROOT).columns(Vec::<String>::new()).await?.rows().await?;
    assert_eq!((rows.num_rows(), rows.schema().fields().len()), (3, 0));
    PASSED
}

pub(super) async fn empty_results_have_a_schema(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, numbers(&["s1"], vec![Some(1)])).await?;
    let rows = store.read(ROOT).filter("n = 99").await?.rows().await?;
    assert_eq!(rows.num_rows(), 0);
    for name in ["id", "n", columns::PROVENANCE_BY_FIELD] {
        assert!(rows.schema().column_with_name(name).is_some(), "an empty answer has no column `{name}`");
    }
    PASSED
}

pub(super) async fn filters_have_three_values(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let batch = samples(["s1", "s2", "s3"], "v1")
        .column("n", Int64Array::from(vec![Some(1), Some(2), None]))
        .column("ok", BooleanArray::from(vec![Some(true), Some(false), None]))
        .batch();
    store.write(ROOT, batch).await?;
    let cases: &[(&str, &[&str])] = &[
        ("n = 1", &["s1"]),
        ("n != 1", &["s2"]),
        ("n <> 1", &["s2"]),
        ("NOT n = 1", &["s2"]),
        ("n > 1", &["s2"]),
        ("n <= 2", &["s1", "s2"]),
        ("n IN (1, 5)", &["s1"]),
        ("n NOT IN (1)", &["s2"]),
        ("n IS NULL", &["s3"]),
        ("n IS NOT NULL", &["s1", "s2"]),
        ("n = NULL", &["s3"]),
        ("n != NULL", &["s1", "s2"]),
        ("ok", &["s1"]),
        ("NOT ok", &["s2"]),
        ("ok = TRUE OR n IS NULL", &["s1", "s3"]),
        ("n = 1 AND ok = FALSE", &[]),
        ("(n = 1 OR n = 2) AND NOT (id = 's1')", &["s2"]),
        ("n > 1 OR n <= 1", &["s1", "s2"]),
        ("TRUE", &["s1", "s2", "s3"]),
        ("FALSE", &[]),
    ];
    for (filter, expected) in cases {
        assert_eq!(filtered(&store, filter).await?, *expected, "{filter}");
    }
    PASSED
}

pub(super) async fn filters_on_every_kind_of_literal(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let batch = samples(["s1", "s2"], "v1")
        .column("t", StringArray::from(vec!["it's", "Straße \u{1F3AC} % _"]))
        .column("f", Float64Array::from(vec![0.5, -1e10]))
        .column("at", TimestampMicrosecondArray::from(vec![1_767_225_600_000_000, 0]).with_timezone("UTC"))
        .batch();
    store.write(ROOT, batch).await?;
    let cases: &[(&str, &[&str])] = &[
        ("t = 'it''s'", &["s1"]),
        ("t = 'Straße \u{1F3AC} % _'", &["s2"]),
        ("t = 'STRASSE'", &[]),
        ("t > 'T'", &["s1"]),
        ("f = 0.5", &["s1"]),
        ("f < 0", &["s2"]),
        ("f >= -10000000000", &["s1", "s2"]),
        ("at = '2026-01-01'", &["s1"]),
        ("at < '2026-01-01T00:00:00Z'", &["s2"]),
        ("metaxy_deleted_at IS NULL", &["s1", "s2"]),
        ("metaxy_updated_at > '1999-12-31'", &["s1", "s2"]),
    ];
    for (filter, expected) in cases {
        assert_eq!(filtered(&store, filter).await?, *expected, "{filter}");
    }
    PASSED
}

pub(super) async fn filters_inside_structs(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1"], "v1").batch()).await?;
    store.write(ROOT, samples(["s2"], "v2").batch()).await?;
    assert_eq!(filtered(&store, "metaxy_provenance_by_field.a = 'v2-a'").await?, ["s2"]);
    PASSED
}

pub(super) async fn scans_apply_what_they_report(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, numbers(&["s1", "s2", "s3"], vec![Some(1), Some(2), None])).await?;
    store.write(ROOT, numbers(&["s1", "s2"], vec![Some(10), Some(20)])).await?;
    let (table, backend) = (ROOT.parse::<FeatureKey>()?, store.backend());
    let schema = backend.schema(&table).await?.expect("the table has been written");
    let bound = |filter: Filter| filter.bind(&schema).map(Some);
    let row_filters = [None, bound(col("n").is_not_null())?];
    let filters = [None, bound(col("n").lt(20))?];
    let id = || Some(vec!["id".to_owned()]);
    let parts = [(None, None), (None, Some(Vec::new())), (None, id()), (id(), None), (id(), id())];
    let mut requests = Vec::new();
    for row_filter in &row_filters {
        for filter in &filters {
            requests.extend(parts.iter().cloned().map(|(keep_latest, columns)| ScanRequest {
                keys: None,
                row_filter: row_filter.clone(),
                keep_latest,
                filter: filter.clone(),
                columns,
            }));
        }
    }
    for request in requests {
        check_scan(backend.scan(&table, &request).await?, &request, &schema).await?;
    }
    PASSED
}

/// Returns the texts of some columns, joined row by row.
fn joined_texts(rows: &RecordBatch, columns: &[&str]) -> Vec<String> {
    let columns: Vec<Vec<String>> = columns.iter().map(|column| texts(rows, column)).collect();
    (0..rows.num_rows())
        .map(|row| columns.iter().map(|column| column[row].as_str()).collect::<Vec<_>>().join("|"))
        .collect()
}

/// Checks the rows and columns of a scan against the steps that it reports.
async fn check_scan(scan: Scan, request: &ScanRequest, table: &SchemaRef) -> Result<()> {
    let stage = scan.applied;
    for name in request.columns_needed(table, stage) {
        let found = scan.schema.column_with_name(&name).is_some();
        assert!(found, "a scan that has done {stage:?} of {request:?} lacks the column `{name}`");
    }
    let batches: Vec<RecordBatch> = scan.stream.try_collect().await?;
    assert!(batches.iter().all(|batch| batch.schema() == scan.schema), "a batch has another schema than its scan");
    // Five rows: 1, 2, NULL, then 10 for the first sample and 20 for the second.
    let passes_first = |n: Option<i64>| request.row_filter.is_none() || n.is_some();
    let passes = |n: Option<i64>| request.filter.is_none() || n.is_some_and(|n| n < 20);
    let mut rows: Vec<Option<i64>> = vec![Some(1), Some(2), None, Some(10), Some(20)];
    if stage >= ScanStage::RowFilter {
        rows.retain(|n| passes_first(*n));
    }
    if stage >= ScanStage::KeepLatest && request.keep_latest.is_some() {
        rows.retain(|n| !matches!(n, Some(1 | 2)));
    }
    if stage >= ScanStage::Filter {
        rows.retain(|n| passes(*n));
    }
    // Rows may be missing that a later step would remove.
    let all_decide = stage < ScanStage::KeepLatest && request.keep_latest.is_some();
    let least = rows.iter().filter(|n| passes_first(**n) && (all_decide || passes(**n))).count();
    let found: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let what = format!("a scan that reports {stage:?} of {request:?} has {found} rows");
    assert!((least..=rows.len()).contains(&found), "{what} instead of {least} to {}", rows.len());
    Ok(())
}

pub(super) async fn scans_by_keys(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let names = ["s1", "it's", "\u{e9}\u{1f600}", "S1", " s1", "s1 ", ""];
    for n in 0..3_i64 {
        store.write(ROOT, samples(names, "v1").column("n", Int64Array::from(vec![n; names.len()])).batch()).await?;
    }
    let (table, backend) = (ROOT.parse::<FeatureKey>()?, store.backend());
    let text = |values: &[&str]| ("id", Arc::new(StringArray::from(values.to_vec())) as ArrayRef);
    let number = |values: &[i64]| ("n", Arc::new(Int64Array::from(values.to_vec())) as ArrayRef);
    for (keys, columns, expected) in [
        (vec![text(&["s1", "it's", "gone"])], ["id", "n"], 6),
        (vec![text(&names)], ["id", "n"], 21),
        (vec![text(&[])], ["id", "n"], 0),
        (vec![number(&[1, 7, i64::MIN])], ["n", "id"], 7),
        (vec![text(&["s1", "s1", "\u{e9}\u{1f600}"]), number(&[0, 2, 5])], ["id", "n"], 2),
    ] {
        let rows = RecordBatch::try_from_iter(keys.clone()).expect("columns of one length");
        let by = &columns[..keys.len()];
        let wanted = joined_texts(&rows, by);
        let keys = Some(Arc::new(ScanKeys::new(rows)));
        let request =
            ScanRequest { keys, columns: Some(columns.map(str::to_owned).to_vec()), ..ScanRequest::default() };
        let batches: Vec<RecordBatch> = backend.scan(&table, &request).await?.stream.try_collect().await?;
        let found: Vec<String> = batches.iter().flat_map(|batch| joined_texts(batch, by)).collect();
        let found = found.iter().filter(|key| wanted.contains(key)).count();
        assert_eq!(found, expected, "rows with the keys {wanted:?}");
    }
    PASSED
}

pub(super) async fn several_filters_are_combined(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, numbers(&["s1", "s2", "s3"], vec![Some(1), Some(2), Some(3)])).await?;
    let rows = store.read(ROOT).filter("n > 1").filter("n < 3").await?.rows().await?;
    assert_eq!(texts(&rows.to_batch()?, "id"), ["s2"]);
    PASSED
}

pub(super) async fn unknown_filter_column(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, numbers(&["s1"], vec![Some(1)])).await?;
    assert_error!(store.read(ROOT).filter("m = 1").await, Error::FilterColumn { column, .. } if column == "m");
    assert_error!(store.read(ROOT).filter("n = = 1").await, Error::FilterSyntax { .. });
    PASSED
}

pub(super) async fn several_id_columns(bench: Bench) -> Result<Outcome> {
    let spec = FeatureSpec::builder("pairs").id_columns(["id", "frame"]).fields(["a"]).build()?;
    let store = bench.store(FeatureGraph::new([spec])?).await?;
    let batch = |ids: [&str; 4], value: i64| {
        samples(ids, "v1")
            .provenance(&["a"], "v1")
            .column("frame", Int64Array::from(vec![1, 2, 1, 2]))
            .column("n", Int64Array::from(vec![value; 4]))
            .batch()
    };
    store.write("pairs", batch(["s1", "s1", "s2", "s2"], 1)).await?;
    store.write("pairs", batch(["s1", "s1", "s3", "s3"], 2)).await?;
    let rows = store.read("pairs").await?.rows().await?;
    let mut shown = texts(&rows.to_batch()?, "n");
    shown.sort();
    assert_eq!(shown, ["1", "1", "2", "2", "2", "2"]);
    PASSED
}

pub(super) async fn many_rows_in_many_writes(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    for round in 0..10 {
        let ids = ids("s", 1_000);
        let values = Int64Array::from(vec![round; 1_000]);
        store.write(ROOT, samples(ids, "v1").column("n", values).batch()).await?;
    }
    let rows = read(&store, ROOT).await?;
    assert_eq!(rows.num_rows(), 1_000);
    assert!(texts(&rows, "n").iter().all(|value| value == "9"), "an older row was read");
    PASSED
}
