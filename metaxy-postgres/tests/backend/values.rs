//! Values and types of other programs, and of writers of other comments.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Int8Type, TimestampMicrosecondType};
use futures::StreamExt;
use metaxy_core::{
    AccessMode, Error, FeatureGraph, FeatureSpec, MetadataStore, ScanRequest, SharedBackend, StoreBackend, col,
};
use metaxy_postgres::PostgresBackend;
use metaxy_testkit::fixtures::tables::{append, batch, ints, key, read, texts};
use metaxy_testkit::servers::postgres::Database;

use super::support::{config, database, open};

fn structs(members: Vec<(&str, ArrayRef)>) -> ArrayRef {
    Arc::new(StructArray::from(batch(members)))
}

fn list_of(items: ArrayRef) -> ArrayRef {
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([items.len()]);
    Arc::new(ListArray::new(field, offsets, items, None))
}

/// Columns whose PostgreSQL types do not determine their Arrow types.
fn columns() -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("tiny", Arc::new(Int8Array::from(vec![7])) as ArrayRef),
        ("large", Arc::new(UInt64Array::from(vec![u64::MAX]))),
        ("nanos", Arc::new(TimestampNanosecondArray::from(vec![1_704_164_645_123_456_789]))),
        ("span", Arc::new(DurationMillisecondArray::from(vec![5]))),
        ("zoned", Arc::new(TimestampSecondArray::from(vec![9]).with_timezone("Europe/Berlin"))),
        ("texts", Arc::new(LargeStringArray::from(vec!["a"]))),
        ("bytes", Arc::new(FixedSizeBinaryArray::try_from_iter([b"abcd"].into_iter()).unwrap())),
        ("box", structs(vec![("x", Arc::new(Int8Array::from(vec![1])) as ArrayRef), ("t", texts(&["b"]))])),
        ("boxes", list_of(structs(vec![("x", ints([1, 2]))]))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn types_are_read_despite_lost_and_foreign_comments() {
    let database = database();
    let backend = open(database.url()).await;
    let rows = batch(columns());
    for (table, comment) in [("lost", "NULL"), ("others", "'{\"owner\": \"vision\"}'")] {
        append(&backend, table, &rows).await.unwrap();
        database.sql(&format!("COMMENT ON TABLE {table} IS NULL")).unwrap();
        append(&backend, table, &batch([("later", Arc::new(UInt16Array::from(vec![3])) as ArrayRef)])).await.unwrap();
        database.sql(&format!("DROP TABLE {table}")).unwrap();
        append(&backend, table, &rows).await.unwrap();
        for column in rows.schema().fields() {
            database.sql(&format!("COMMENT ON COLUMN {table}.{} IS {comment}", column.name())).unwrap();
        }
        append(&backend, table, &rows).await.unwrap();
        let found = read(&backend, table).await.unwrap();
        assert_eq!(found.schema(), rows.schema());
        assert_eq!(found, arrow::compute::concat_batches(&rows.schema(), [&rows, &rows]).unwrap());
        if table == "others" {
            let comment = database.sql("SELECT col_description('others'::regclass, 1)").unwrap();
            assert_eq!(comment, "{\"owner\": \"vision\"}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn structs_are_appended_without_a_comment() {
    let database = database();
    let backend = open(database.url()).await;
    let first = batch([("box", structs(vec![("x", ints([1])), ("t", texts(&["a"]))]))]);
    append(&backend, "t", &first).await.unwrap();
    database.sql("COMMENT ON TABLE t IS NULL; COMMENT ON COLUMN t.box IS NULL").unwrap();
    let second = batch([("box", structs(vec![("t", texts(&["b"])), ("y", ints([2]))]))]);
    append(&backend, "t", &second).await.unwrap();
    let found = read(&backend, "t").await.unwrap();
    let members = found.column(0).as_struct();
    assert_eq!(members.column_by_name("t").unwrap(), &texts(&["a", "b"]));
    assert_eq!(members.column_by_name("x").unwrap().null_count(), 1);
    // Values that do not fit the existing ones are refused, and nothing changes.
    database.sql("COMMENT ON TABLE t IS NULL; COMMENT ON COLUMN t.box IS NULL").unwrap();
    let other = batch([("box", structs(vec![("t", ints([1]))]))]);
    assert!(matches!(append(&backend, "t", &other).await, Err(Error::TypeMismatch { .. })));
    assert_eq!(read(&backend, "t").await.unwrap().num_rows(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn comments_with_impossible_types_are_ignored() {
    let database = database();
    database.sql("CREATE TABLE t AS SELECT '\\x61'::bytea AS a, 1.5::numeric AS b, ARRAY[1.5::real] AS c").unwrap();
    for (column, arrow) in [
        ("a", r#"{"fixed_size_binary": -1}"#),
        ("b", r#"{"decimal128": [200, 0]}"#),
        ("c", r#"{"fixed_size_list": [{"name": "item", "type": "float32"}, -3]}"#),
    ] {
        database.sql(&format!("COMMENT ON COLUMN t.{column} IS '{{\"arrow\": {arrow}}}'")).unwrap();
    }
    let found = read(&open(database.url()).await, "t").await.unwrap();
    assert_eq!(found.column(0).as_binary::<i32>().value(0), b"a");
    assert_eq!(found.column(1), &texts(&["1.5"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_infinite_value_is_an_error_of_its_row() {
    let database = database();
    database
        .sql(
            "CREATE TABLE t AS SELECT 'v' || n AS id, '2024-01-01'::timestamptz AS at, n::numeric(10,2) AS price, \
             '2024-01-01'::date AS day, ARRAY['2024-01-01'::timestamp] AS times FROM generate_series(1, 9) AS n; \
             UPDATE t SET at = 'infinity' WHERE id = 'v2'; UPDATE t SET price = 'NaN' WHERE id = 'v4'; \
             UPDATE t SET day = '-infinity' WHERE id = 'v6'; \
             UPDATE t SET times = ARRAY['2024-01-01'::timestamp, 'infinity'] WHERE id = 'v8'",
        )
        .unwrap();
    let backend = open(database.url()).await;
    let mut stream = backend.scan(&key("t"), &ScanRequest::default()).await.unwrap().stream;
    let (mut rows, mut bad) = (Vec::new(), Vec::new());
    while let Some(batch) = stream.next().await {
        match batch {
            Ok(batch) => rows.extend(batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned)),
            Err(Error::InvalidValue { column, reason, .. }) => bad.push((column, reason)),
            Err(error) => panic!("{error}"),
        }
    }
    rows.sort();
    assert_eq!(rows, ["v1", "v3", "v5", "v7", "v9"]);
    for (column, id) in [("at", "id=v2"), ("price", "id=v4"), ("day", "id=v6"), ("times", "id=v8")] {
        assert!(bad.iter().any(|(name, reason)| name == column && reason.contains(id)), "{column}: {bad:?}");
    }
    // Other columns can be read, and the rows can be deleted by their ids.
    let request = ScanRequest { columns: Some(vec!["id".to_owned()]), ..ScanRequest::default() };
    let mut ids = backend.scan(&key("t"), &request).await.unwrap().stream;
    assert_eq!(ids.next().await.unwrap().unwrap().num_rows(), 9);
}

fn graph() -> FeatureGraph {
    FeatureGraph::new([FeatureSpec::builder("raw/video").id_columns(["id"]).build().unwrap()]).unwrap()
}

async fn store(database: &Database) -> MetadataStore {
    let backend: SharedBackend = Arc::new(PostgresBackend::new(config(database.url())).unwrap());
    MetadataStore::builder(backend, graph()).open(AccessMode::ReadWrite).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_infinite_value_is_reported_with_its_sample() {
    let database = database();
    let store = store(&database).await;
    let times = TimestampMicrosecondArray::from(vec![1, 2, 3]);
    let ids = texts(&["a", "b", "c"]);
    let provenance = structs(vec![("default", texts(&["1", "2", "3"]))]);
    let rows = batch([("id", ids), ("metaxy_provenance_by_field", provenance), ("at", Arc::new(times) as ArrayRef)]);
    store.write("raw/video", rows).await.unwrap();
    database.sql("UPDATE raw__video SET at = 'infinity' WHERE id = 'b'").unwrap();
    let error = store.read("raw/video").await.unwrap().rows().await.unwrap_err();
    assert!(matches!(&error, Error::InvalidValue { reason, .. } if reason.contains("id=b")), "{error}");
    let others = store.read("raw/video").filter(col("id").ne("b")).await.unwrap().rows().await.unwrap();
    assert_eq!(others.num_rows(), 2);
    let found = others.to_batch().unwrap();
    assert_eq!(found.column_by_name("at").unwrap().as_primitive::<TimestampMicrosecondType>().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_structs_grow_and_shrink() {
    let database = database();
    let backend = open(database.url()).await;
    let lists: Vec<ArrayRef> = vec![
        list_of(structs(vec![("x", ints([1, 2])), ("t", texts(&["a", "b"]))])),
        list_of(structs(vec![("t", texts(&["c"])), ("y", ints([3])), ("x", ints([4]))])),
        list_of(structs(vec![("y", ints([5]))])),
        arrow::compute::cast(
            &list_of(structs(vec![("x", ints([6])), ("t", texts(&["d"]))])),
            &DataType::LargeList(Arc::new(Field::new_list_field(
                DataType::Struct(
                    vec![Field::new("x", DataType::Int64, true), Field::new("t", DataType::LargeUtf8, true)].into(),
                ),
                true,
            ))),
        )
        .unwrap(),
    ];
    for list in &lists {
        append(&backend, "t", &batch([("boxes", list.clone())])).await.unwrap();
    }
    let found = read(&backend, "t").await.unwrap();
    let items = found.column(0).as_list::<i32>().values().as_struct();
    assert_eq!(items.column_names(), ["x", "t", "y"]);
    assert_eq!(items.column(0).as_ref(), &Int64Array::from(vec![Some(1), Some(2), Some(4), None, Some(6)]));
    assert_eq!(items.column(1).as_ref(), &StringArray::from(vec![Some("a"), Some("b"), Some("c"), None, Some("d")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn text_and_dictionaries_are_appended_to_each_other() {
    let database = database();
    let backend = open(database.url()).await;
    let values: DictionaryArray<Int8Type> = vec![Some("a"), None].into_iter().collect();
    append(&backend, "t", &batch([("x", Arc::new(values) as ArrayRef)])).await.unwrap();
    append(&backend, "t", &batch([("x", texts(&["b"]))])).await.unwrap();
    let found = read(&backend, "t").await.unwrap();
    assert_eq!(found.column(0).as_ref(), &StringArray::from(vec![Some("a"), None, Some("b")]));
}
