//! A feature as a table of DataFusion: its rows, and what of a query the store answers.

mod support;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use metaxy_core::datafusion::prelude::{SessionContext, col, lit};
use metaxy_core::{AccessMode, Error, FeatureGraph, FeatureSpec, HashAlgorithm, MetadataStore, columns};

/// Returns a store with ten videos, of which the first is deleted and the second was written twice.
async fn films(test: &str) -> MetadataStore {
    let spec = FeatureSpec::builder("raw/video").id_columns(["video_id"]).build().unwrap();
    let memory = support::Memory::at(test, HashAlgorithm::Xxhash32);
    let graph = FeatureGraph::new([spec]).unwrap();
    let store = MetadataStore::builder(memory, graph).open(AccessMode::ReadWrite).await.unwrap();
    store.write("raw/video", videos()).await.unwrap();
    store.write("raw/video", videos().slice(1, 1)).await.unwrap();
    store.delete("raw/video").filter("video_id = 0").await.unwrap();
    store
}

fn videos() -> RecordBatch {
    let ids = 0..10_i64;
    let some = |id: i64| (id % 5 != 4).then_some(id);
    let versions: ArrayRef = Arc::new(StringArray::from_iter_values(ids.clone().map(|id| id.to_string())));
    RecordBatch::try_from_iter_with_nullable([
        ("video_id", Arc::new(Int64Array::from_iter_values(ids.clone())) as ArrayRef, true),
        ("seconds", Arc::new(Int64Array::from_iter(ids.clone().map(some))), true),
        (
            "score",
            Arc::new(Float64Array::from_iter_values(ids.clone().map(|id| if id == 3 { f64::NAN } else { -0.0 }))),
            true,
        ),
        ("path", Arc::new(StringArray::from_iter(ids.clone().map(|id| some(id).map(|id| format!("{id}.mp4"))))), true),
        ("a.b", Arc::new(BooleanArray::from_iter(ids.clone().map(|id| Some(id % 2 == 0)))), true),
        ("day", Arc::new(Date32Array::from_iter_values(ids.map(|id| 20_000 + id as i32))), true),
        (columns::PROVENANCE_BY_FIELD, columns::by_field([("default", versions)]).unwrap(), true),
    ])
    .unwrap()
}

async fn context(store: &MetadataStore) -> SessionContext {
    let context = SessionContext::new();
    context.register_table("videos", store.table("raw/video").await.unwrap()).unwrap();
    context
}

/// Returns the ids of the videos for which a condition is true, sorted.
async fn ids(context: &SessionContext, condition: &str) -> Vec<i64> {
    let query = format!("SELECT video_id FROM videos WHERE {condition} ORDER BY video_id");
    let batches = context.sql(&query).await.unwrap().collect().await.unwrap();
    let column = |batch: &RecordBatch| batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec();
    batches.iter().flat_map(column).collect()
}

async fn plan(context: &SessionContext, query: &str) -> String {
    let explained = context.sql(&format!("EXPLAIN FORMAT INDENT {query}")).await.unwrap();
    explained.to_string().await.unwrap()
}

#[tokio::test]
async fn a_table_has_the_current_rows() {
    let store = films("current").await;
    let context = context(&store).await;
    assert_eq!(ids(&context, "true").await, (1..10).collect::<Vec<_>>());
    store.write("raw/video", videos().slice(0, 1)).await.unwrap();
    assert_eq!(ids(&context, "true").await, (0..10).collect::<Vec<_>>());
    let count = context.sql("SELECT count(*), count(path) FROM videos").await.unwrap().to_string().await.unwrap();
    assert!(count.contains("| 10       | 8"), "{count}");
    let error = store.table("raw/vidoe").await.unwrap_err();
    assert!(matches!(error, Error::UnknownFeature { .. }), "{error}");
}

/// Conditions that the store evaluates have the answers of those that DataFusion evaluates on the same rows in memory.
#[tokio::test]
async fn conditions_are_pushed_down_where_both_agree() {
    let store = films("conditions").await;
    let context = context(&store).await;
    let rows = store.read("raw/video").rows().await.unwrap();
    let in_memory = SessionContext::new();
    in_memory.register_batch("videos", rows.to_batch().unwrap()).unwrap();
    for (condition, is_pushed) in [
        ("seconds > 3", true),
        ("3 >= seconds", true),
        ("seconds <> 7 AND path < '8'", true),
        ("NOT (seconds < 3 OR path = '6.mp4')", true),
        ("seconds IN (1, 2, 40)", true),
        ("seconds NOT IN (1, 2)", true),
        ("path IS NULL", true),
        ("path IS NOT NULL AND \"a.b\"", true),
        ("NOT \"a.b\"", true),
        ("day >= DATE '2024-10-10'", true),
        ("metaxy_updated_at > TIMESTAMP '2020-01-01T00:00:00Z'", true),
        ("seconds BETWEEN 2 AND 5", true),
        ("score = 0.0", false),
        ("score > 1.0", false),
        ("seconds + 1 > 5", false),
        ("path LIKE '%3%'", false),
        ("seconds > video_id - 1", false),
        ("seconds > 3 OR path LIKE '%1%'", false),
    ] {
        let plan = plan(&context, &format!("SELECT video_id FROM videos WHERE {condition}")).await;
        assert_eq!(!plan.contains("FilterExec"), is_pushed, "{condition}:\n{plan}");
        assert_eq!(ids(&context, condition).await, ids(&in_memory, condition).await, "{condition}");
    }
}

#[tokio::test]
async fn only_the_columns_and_rows_of_a_query_are_read() {
    let store = films("columns").await;
    let context = context(&store).await;
    let plan = plan(&context, "SELECT path FROM videos WHERE seconds > 3 LIMIT 2").await;
    assert!(plan.contains("projection=[path], fetch=2"), "{plan}");
    let limited =
        context.sql("SELECT path FROM videos WHERE seconds > 3 LIMIT 2").await.unwrap().collect().await.unwrap();
    assert_eq!(limited.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
}

/// More levels than a filter may have.
#[tokio::test]
async fn deep_conditions_are_left_to_datafusion() {
    let store = films("deep").await;
    let deep = (0..150_i64).fold(col("seconds").eq(lit(1_i64)), |inner, level| match level % 2 {
        0 => col("seconds").gt(lit(-level)).and(inner),
        _ => col("seconds").eq(lit(level)).or(inner),
    });
    let videos = context(&store).await.table("videos").await.unwrap().filter(deep).unwrap();
    let rows = videos.collect().await.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>();
    // 1, and the odd numbers.
    assert_eq!(rows, 4);
}

#[tokio::test]
async fn errors_of_the_store_reach_the_query() {
    let store = films("errors").await;
    let context = context(&store).await;
    store.close().await.unwrap();
    let error = context.sql("SELECT * FROM videos").await.unwrap().collect().await.unwrap_err();
    assert!(error.to_string().contains("is closed"), "{error}");
}
