//! Filters in SQLite give the same rows as in the core.

use std::sync::Arc;

use arrow::array::*;
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::*;
use futures::TryStreamExt;
use metaxy_core::{Filter, ScanRequest, ScanStage, StoreBackend, col};
use metaxy_sqlite::SqliteBackend;

use super::{append, batch, fresh, ints, key, read, texts};

fn rows() -> RecordBatch {
    batch(columns())
}

fn columns() -> Vec<(&'static str, ArrayRef)> {
    let member: ArrayRef = ints([1, 2, 3, 4, 5]);
    let inner = StructArray::from(vec![(Arc::new(Field::new("n", DataType::Int64, true)), member)]);
    let words = vec![Some("a"), Some("Ä"), None, Some("B"), Some("a\0")];
    let dictionary: DictionaryArray<Int32Type> = words.iter().copied().collect();
    let times = [1_700_000_000_000_000, 0, -1, 1_767_225_600_000_000, 5];
    vec![
        ("id", ints([1, 2, 3, 4, 5])),
        ("small", Arc::new(Int8Array::from(vec![Some(-128), Some(127), None, Some(0), Some(3)]))),
        ("big", Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(1 << 63), None, Some(0), Some(i64::MAX as u64)]))),
        ("x", Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(-0.0), None, Some(2.5), Some(f64::INFINITY)]))),
        ("y", Arc::new(Float32Array::from(vec![Some(0.1), Some(f32::NAN), None, Some(2.5), Some(-1.0)]))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true), Some(false)]))),
        ("word", Arc::new(StringArray::from(words))),
        ("dict", Arc::new(dictionary)),
        ("number", texts(&["1", "10", "9", "2", "01"])),
        ("bytes", Arc::new(BinaryArray::from_vec(vec![b"a", b"\xff", b"", b"B", b"a\0"]))),
        ("price", Arc::new(Decimal128Array::from(vec![5, 100, -3, 0, 25]).with_precision_and_scale(10, 1).unwrap())),
        ("at", Arc::new(TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC"))),
        ("local", Arc::new(TimestampSecondArray::from(vec![0, 1, 2, 1_700_000_000, 1_800_000_000]))),
        ("day", Arc::new(Date32Array::from(vec![0, 19_000, -1, 20_454, 5]))),
        ("day64", Arc::new(Date64Array::from(vec![0, 86_400_000, -86_400_000, 1_767_225_600_000, 5]))),
        ("hour", Arc::new(Time64MicrosecondArray::from(vec![0, 43_200_000_000, 1, 2, 3]))),
        ("inner", Arc::new(inner)),
    ]
}

/// Returns the rows as they are stored: dictionaries are decoded.
fn stored() -> RecordBatch {
    let plain = |(name, array): (&'static str, ArrayRef)| match array.data_type() {
        DataType::Dictionary(_, values) => (name, arrow::compute::cast(&array, values).unwrap()),
        _ => (name, array),
    };
    batch(columns().into_iter().map(plain))
}

const FILTERS: &[&str] = &[
    "id > 2",
    "id = 2.5",
    "id != 2 AND NOT id = 4",
    "id IN (1, 3, 99)",
    "id NOT IN (1, NULL)",
    "small < 0 OR small IS NULL",
    "small >= 127",
    "big > 9223372036854775807",
    "big = 18446744073709551615",
    "big >= 9223372036854775808",
    "big < 1",
    "big IN (0, 18446744073709551615)",
    "big > id",
    "x > 1",
    "x = 0",
    "x < 0",
    "x >= 2.5",
    "x != 2.5",
    "x IN (0, 2.5)",
    "y = 0.1",
    "y <= 0.1",
    "x = y",
    "x > y",
    "x > id",
    "flag",
    "NOT flag",
    "flag = TRUE",
    "flag != TRUE",
    "flag IS NULL OR flag",
    "word = 'a'",
    "word > 'B'",
    "word < 'a'",
    "word IN ('a', 'Ä')",
    "word NOT IN ('a')",
    "word IS NOT NULL",
    "dict = 'a'",
    "dict >= 'a'",
    "dict = word",
    "word != number",
    "number < '2'",
    "number = '1'",
    "price > 0.4",
    "price = 10",
    "price IN (0.5, 2.5)",
    "at > '2026-01-01'",
    "at >= '2026-01-01'",
    "at < '1970-01-01'",
    "local > '2023-01-01'",
    "day = '1970-01-01'",
    "day >= '2026-01-01'",
    "day64 = '1970-01-02'",
    "day64 > '1970-01-01'",
    "hour = '12:00'",
    "hour < '00:00:01'",
    "inner.n > 3",
    "inner IS NULL",
    "inner.n IS NULL",
    "inner.n = 2 OR id = 1",
    "TRUE",
    "FALSE",
    "id = NULL",
    "NOT (id = 1 OR word = 'a')",
    "NOT (small > 0 AND flag)",
];

/// Returns the filters above, and some that have no text form.
fn filters() -> Vec<Filter> {
    let nan = f64::NAN;
    let mut filters: Vec<Filter> = FILTERS.iter().map(|text| Filter::parse(text).unwrap()).collect();
    filters.extend([
        col("x").eq(nan),
        col("x").lt(nan),
        col("y").ge(nan),
        col("x").ne(nan),
        col("y").gt(f64::INFINITY),
    ]);
    filters
}

fn expected(rows: &RecordBatch, filter: &Filter) -> RecordBatch {
    let predicate = filter.bind(&rows.schema()).unwrap();
    filter_record_batch(rows, &predicate.evaluate(rows).unwrap()).unwrap()
}

async fn scanned(store: &SqliteBackend, request: ScanRequest) -> (ScanStage, RecordBatch) {
    let scan = store.scan(&key("t"), &request).await.unwrap();
    let batches: Vec<RecordBatch> = scan.stream.try_collect().await.unwrap();
    (scan.applied, concat_batches(&scan.schema, &batches).unwrap())
}

#[tokio::test]
async fn scans_equal_those_of_the_core() {
    let (_dir, _path, store) = fresh().await;
    let all = stored();
    append(&store, "t", rows()).await.unwrap();
    let mut in_sql = 0;
    for filter in filters() {
        let text = filter.to_string();
        let filter_only = ScanRequest { filter: Some(filter.bind(&all.schema()).unwrap()), ..ScanRequest::default() };
        let first = ScanRequest { row_filter: filter_only.filter.clone(), ..ScanRequest::default() };
        for (request, stage) in [(filter_only, ScanStage::KeepLatest), (first, ScanStage::Nothing)] {
            let (applied, found) = scanned(&store, request).await;
            if applied == ScanStage::Filter {
                assert_eq!(found, expected(&all, &filter), "{text}");
                in_sql += 1;
            } else {
                assert_eq!(applied, stage, "{text}");
                assert_eq!(found, all, "{text}");
            }
        }
    }
    assert!(in_sql > FILTERS.len() * 3 / 2, "only {in_sql} ran in SQL");
}

#[tokio::test]
async fn deletes_equal_those_of_the_core() {
    for filter in filters() {
        let text = filter.to_string();
        let (_dir, _path, store) = fresh().await;
        let all = stored();
        append(&store, "t", rows()).await.unwrap();
        let removed = store.delete(&key("t"), &filter.bind(&all.schema()).unwrap()).await.unwrap();
        assert_eq!(removed as usize, expected(&all, &filter).num_rows(), "{text}");
        let left = read(&store, "t").await.unwrap();
        let kept = Filter::all([filter]).bind(&all.schema()).unwrap().evaluate(&all).unwrap();
        let kept: BooleanArray = kept.iter().map(|hit| Some(hit != Some(true))).collect();
        assert_eq!(left, filter_record_batch(&all, &kept).unwrap(), "{text}");
    }
}

#[tokio::test]
async fn filters_too_large_for_sqlite_are_evaluated_by_the_core() {
    let (_dir, _path, store) = fresh().await;
    let all = stored();
    append(&store, "t", rows()).await.unwrap();
    let many: Vec<String> = (0..40_000).map(|number| number.to_string()).collect();
    let long = format!("id IN ({})", many.join(", "));
    let deep = (0..3000).map(|number| format!("id != {}", number + 10)).collect::<Vec<_>>().join(" AND ");
    for text in [long, deep] {
        let filter = Filter::parse(&text).unwrap();
        let request = ScanRequest { filter: Some(filter.bind(&all.schema()).unwrap()), ..ScanRequest::default() };
        let (applied, found) = scanned(&store, request).await;
        assert_eq!((applied, found.num_rows()), (ScanStage::KeepLatest, 5));
        let predicate = filter.bind(&all.schema()).unwrap();
        assert_eq!(store.delete(&key("t"), &predicate).await.unwrap(), 5);
        append(&store, "t", rows()).await.unwrap();
    }
}
