//! Deleting: softly, so that readers no longer see a sample, or permanently.

use arrow::array::{
    Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, UInt64Array,
};
use metaxy_core::filter::{Filter, Predicate, col};
use metaxy_core::{Error, FeatureGraph, FeatureSpec, MetadataStore, Result, columns};

use super::kit::{
    PASSED, ROOT, assert_error, everything, pair, read, read_ids, samples, sorted, texts, versioned_pair,
};
use super::{Bench, Outcome};
use crate::fixtures::tables::key;

/// Returns three samples with `n` of 1, 2 and null.
async fn three(bench: &Bench) -> Result<MetadataStore> {
    let store = bench.store(pair()?).await?;
    write_three(&store).await?;
    Ok(store)
}

async fn write_three(store: &MetadataStore) -> Result<()> {
    let values = Int64Array::from(vec![Some(1), Some(2), None]);
    store.write(ROOT, samples(["s1", "s2", "s3"], "v1").column("n", values).batch()).await?;
    Ok(())
}

pub(super) async fn softly_deleted_is_not_read(bench: Bench) -> Result<Outcome> {
    let store = three(&bench).await?;
    assert_eq!(store.delete(ROOT).filter("n = 1").await?, 1);
    assert_eq!(read_ids(&store, ROOT).await?, ["s2", "s3"]);
    let all = sorted(store.read(ROOT).include_soft_deleted().await?.rows().await?)?;
    assert_eq!(texts(&all, "id"), ["s1", "s2", "s3"]);
    let deleted = texts(&all, columns::DELETED_AT);
    assert!(deleted[0] != "NULL" && deleted[1] == "NULL", "{deleted:?}");
    let history = store.read(ROOT).with_sample_history().include_soft_deleted().await?.rows().await?;
    assert_eq!(history.num_rows(), 4, "a soft delete appends one row and removes none");
    PASSED
}

pub(super) async fn soft_delete_keeps_times(bench: Bench) -> Result<Outcome> {
    let store = three(&bench).await?;
    let before = read(&store, ROOT).await?;
    store.delete(ROOT).filter("id = 's1'").await?;
    let deleted = store.read(ROOT).include_soft_deleted().filter("id = 's1'").await?.rows().await?.to_batch()?;
    for name in [columns::CREATED_AT, columns::UPDATED_AT, columns::PROVENANCE, "n"] {
        assert_eq!(texts(&deleted, name)[0], texts(&before, name)[0], "{name}");
    }
    PASSED
}

pub(super) async fn deleting_everything(bench: Bench) -> Result<Outcome> {
    let store = three(&bench).await?;
    assert_eq!(store.delete(ROOT).await?, 3);
    assert_eq!(read_ids(&store, ROOT).await?, Vec::<String>::new());
    assert_eq!(store.delete(ROOT).await?, 0, "deleted samples are not deleted again");
    PASSED
}

pub(super) async fn a_deleted_sample_is_written_again(bench: Bench) -> Result<Outcome> {
    let store = three(&bench).await?;
    store.delete(ROOT).filter("id = 's1'").await?;
    store.write(ROOT, samples(["s1"], "v2").column("n", Int64Array::from(vec![10])).batch()).await?;
    let rows = read(&store, ROOT).await?;
    assert_eq!(texts(&rows, "n"), ["10", "2", "NULL"]);
    store.delete(ROOT).filter("n = 10").await?;
    assert_eq!(read_ids(&store, ROOT).await?, ["s2", "s3"]);
    PASSED
}

pub(super) async fn soft_delete_filters_the_newest_row(bench: Bench) -> Result<Outcome> {
    let store = three(&bench).await?;
    store.write(ROOT, samples(["s1"], "v2").column("n", Int64Array::from(vec![5])).batch()).await?;
    assert_eq!(store.delete(ROOT).filter("n = 1").await?, 0);
    assert_eq!(read_ids(&store, ROOT).await?, ["s1", "s2", "s3"]);
    PASSED
}

pub(super) async fn soft_delete_of_every_version(bench: Bench) -> Result<Outcome> {
    let store = three(&bench).await?;
    let other = FeatureGraph::new([FeatureSpec::builder(ROOT).id_columns(["id"]).fields(["a", "c"]).build()?])?;
    let later = store.with_graph(other)?;
    later.write(ROOT, samples(["s1"], "v2").provenance(&["a", "c"], "v2").batch()).await?;
    assert_eq!(later.delete(ROOT).with_feature_history().await?, 3);
    assert_eq!(read_ids(&later, ROOT).await?, Vec::<String>::new());
    let left = later.read(ROOT).with_feature_history().await?.rows().await?;
    assert_eq!(left.num_rows(), 0);
    let deleted = later.read(ROOT).with_feature_history().include_soft_deleted().await?.rows().await?;
    assert_eq!(texts(&sorted(deleted)?, "id"), ["s1", "s2", "s3"]);
    PASSED
}

pub(super) async fn hard_delete_removes_rows(bench: Bench) -> Result<Outcome> {
    let store = three(&bench).await?;
    store.write(ROOT, samples(["s1"], "v2").column("n", Int64Array::from(vec![1])).batch()).await?;
    assert_eq!(store.delete(ROOT).filter("n = 1").hard().await?, 2);
    let left = store.read(ROOT).with_sample_history().include_soft_deleted().await?.rows().await?;
    assert_eq!(texts(&sorted(left)?, "id"), ["s2", "s3"]);
    PASSED
}

pub(super) async fn hard_delete_keeps_unknown_rows(bench: Bench) -> Result<Outcome> {
    let store = three(&bench).await?;
    assert_eq!(store.delete(ROOT).filter("n > 0").hard().await?, 2);
    assert_eq!(read_ids(&store, ROOT).await?, ["s3"], "a row for which the filter is null is not deleted");
    assert_eq!(store.delete(ROOT).filter("NOT (n > 0)").hard().await?, 0);
    assert_eq!(read_ids(&store, ROOT).await?, ["s3"]);
    PASSED
}

pub(super) async fn hard_delete_of_one_version(bench: Bench) -> Result<Outcome> {
    let store = three(&bench).await?;
    let later = store.with_graph(versioned_pair("2")?)?;
    later.write(ROOT, samples(["s1"], "v2").column("n", Int64Array::from(vec![1])).batch()).await?;
    assert_eq!(later.delete(ROOT).hard().await?, 1);
    let history = later.read(ROOT).with_feature_history().await?.rows().await?;
    assert_eq!(texts(&sorted(history)?, "id"), ["s1", "s2", "s3"], "rows of other feature versions are kept");
    assert_eq!(later.delete(ROOT).hard().with_feature_history().await?, 3);
    PASSED
}

pub(super) async fn a_table_without_rows_is_written_again(bench: Bench) -> Result<Outcome> {
    let store = three(&bench).await?;
    assert_eq!(store.delete(ROOT).hard().await?, 3);
    assert_eq!(everything(&store, ROOT).await?, Vec::<String>::new());
    store.write(ROOT, samples(["s9"], "v1").batch()).await?;
    assert_eq!(read_ids(&store, ROOT).await?, ["s9"]);
    PASSED
}

pub(super) async fn named_samples_are_deleted(bench: Bench) -> Result<Outcome> {
    use arrow::array::{ArrayRef, BooleanArray, Date32Array, StringArray, TimestampMicrosecondArray, UInt16Array};
    let spec = FeatureSpec::builder(ROOT).id_columns(["id", "k"]).fields(["a", "b"]).build()?;
    let store = bench.store(FeatureGraph::new([spec])?).await?;
    let times = TimestampMicrosecondArray::from(vec![1, 1_767_225_600_000_001, -1]).with_timezone("UTC");
    let kinds: [ArrayRef; 5] = [
        std::sync::Arc::new(Int64Array::from(vec![i64::MIN, 0, i64::MAX])),
        std::sync::Arc::new(StringArray::from(vec!["it's", "", "a\"b"])),
        std::sync::Arc::new(Date32Array::from(vec![-1, 0, 20_000])),
        std::sync::Arc::new(times),
        std::sync::Arc::new(BooleanArray::from(vec![true, false, true])),
    ];
    for (number, kind) in kinds.into_iter().enumerate() {
        store.drop_feature(ROOT).await?;
        let rows = samples(["s1", "s2", "s3"], "v1").column("k", kind).batch();
        for hard in [false, true] {
            store.write(ROOT, rows.clone()).await?;
            let delete = |at: usize| {
                let request = store.delete_rows(ROOT, rows.slice(at, 1));
                if hard { request.hard() } else { request }
            };
            assert!(delete(1).await? >= 1, "kind {number}, hard: {hard}");
            assert_eq!(read_ids(&store, ROOT).await?, ["s1", "s3"], "kind {number}, hard: {hard}");
            assert_eq!(delete(1).await?, 0, "kind {number}, hard: {hard}");
        }
    }
    // Another width of numbers names the same samples; other columns alone name none.
    store.drop_feature(ROOT).await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").column("k", Int64Array::from(vec![1, 2])).batch()).await?;
    let narrow = samples(["s1"], "v9").column("k", UInt16Array::from(vec![1])).batch();
    assert_eq!(store.delete_rows(ROOT, narrow.slice(0, 0)).await?, 0);
    assert_eq!(store.delete_rows(ROOT, narrow).await?, 1);
    assert_error!(store.delete_rows(ROOT, samples(["s2"], "v1").batch()).await, Error::MissingColumn { .. });
    assert_eq!(read_ids(&store, ROOT).await?, ["s2"]);
    PASSED
}

pub(super) async fn deleting_nothing(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    assert_error!(store.delete(ROOT).await, Error::FeatureNotFound { .. });
    assert_error!(store.delete(ROOT).hard().await, Error::FeatureNotFound { .. });
    write_three(&store).await?;
    assert_eq!(store.delete(ROOT).filter("id = 'nobody'").await?, 0);
    assert_eq!(store.delete(ROOT).filter("id = 'nobody'").hard().await?, 0);
    assert_error!(store.delete(ROOT).filter("nothing = 1").await, Error::FilterColumn { .. });
    assert_error!(store.delete(ROOT).filter("nothing = 1").hard().await, Error::FilterColumn { .. });
    assert_eq!(read_ids(&store, ROOT).await?, ["s1", "s2", "s3"]);
    PASSED
}

pub(super) async fn deleting_from_no_table(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    for was_dropped in [false, true] {
        if was_dropped {
            write_three(&store).await?;
            store.drop_feature(ROOT).await?;
        }
        let deleted = store.backend().delete(&key(ROOT), &Predicate::Constant(Some(true))).await?;
        assert_eq!(deleted, 0);
        assert_eq!(store.backend().tables().await?, Vec::<String>::new(), "a delete has made a table");
    }
    PASSED
}

/// The samples `s1` and `s2` with values of many types, and `s3` without any.
fn many_types() -> Result<RecordBatch> {
    let decimals = Decimal128Array::from(vec![Some(150), Some(200), None]).with_precision_and_scale(20, 2)?;
    Ok(samples(["s1", "s2", "s3"], "v1")
        .column("n", Int64Array::from(vec![Some(1), Some(2), None]))
        .column("u", UInt64Array::from(vec![Some(1), Some(u64::MAX), None]))
        .column("f", Float64Array::from(vec![Some(1.0), Some(f64::NAN), None]))
        .column("d", decimals)
        .column("t", StringArray::from(vec![Some("a"), Some("b"), None]))
        .column("ms", TimestampMillisecondArray::from(vec![Some(1_000), Some(2_000), None]))
        .column("us", TimestampMicrosecondArray::from(vec![Some(1_000_000), Some(2_000_001), None]))
        .batch())
}

/// Filters that one or the other storage system cannot express, and the samples for which each is true.
fn hard_filters() -> Vec<(Filter, Vec<&'static str>)> {
    let member = |name: &str| col(format!("{}.{name}", columns::PROVENANCE_BY_FIELD));
    let many_ids = (0..40_000).map(|number| format!("none-{number}")).chain(["s1".to_owned()]);
    let part = |number: i64| col("n").eq(number) & col("t").ne(number.to_string());
    let many_parts = (2..500).fold(part(1), |parts, number| parts | part(number));
    vec![
        (col("d").gt(1.75), vec!["s2"]),
        (col("n").eq(col("d")), vec!["s2"]),
        (col("n").lt(col("u")), vec!["s2"]),
        (col("f").gt(col("n")), vec!["s2"]),
        (col("ms").eq(col("us")), vec!["s1"]),
        (member("a").ne(member("b")), vec!["s1", "s2", "s3"]),
        (member("a").eq(col("t")) | col("t").eq("b"), vec!["s2"]),
        (col("t").ne("a\0"), vec!["s1", "s2"]),
        (col("id").is_in(many_ids), vec!["s1"]),
        (many_parts & col("n").ne(2), vec!["s1"]),
    ]
}

pub(super) async fn filters_that_no_database_has(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    for (filter, expected) in hard_filters() {
        let shown = filter.to_string().chars().take(100).collect::<String>();
        let others: Vec<&str> = ["s1", "s2", "s3"].into_iter().filter(|id| !expected.contains(id)).collect();
        for hard in [false, true] {
            store.drop_feature(ROOT).await?;
            store.write(ROOT, many_types()?).await?;
            let found = sorted(store.read(ROOT).filter(filter.clone()).await?.rows().await?)?;
            assert_eq!(texts(&found, "id"), expected, "{shown}");
            let delete = store.delete(ROOT).filter(filter.clone());
            let deleted = if hard { delete.hard() } else { delete }.await?;
            assert_eq!(deleted, expected.len() as u64, "{shown}, hard: {hard}");
            assert_eq!(read_ids(&store, ROOT).await?, others, "{shown}, hard: {hard}");
        }
    }
    PASSED
}
