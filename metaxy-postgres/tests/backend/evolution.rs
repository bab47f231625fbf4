//! Tables that grow.

use std::sync::Arc;

use arrow::array::*;
use metaxy_core::filter::col;
use metaxy_core::{Error, StoreBackend};
use metaxy_testkit::fixtures::tables::{append, batch, ints, key, read, texts};

use super::support::{database, open};

#[tokio::test(flavor = "multi_thread")]
async fn columns_and_members_are_added() {
    let database = database();
    let backend = open(database.url()).await;
    let by_field = |members: Vec<(&str, ArrayRef)>| -> ArrayRef { Arc::new(StructArray::from(batch(members))) };
    let first = batch([("id", ints([1])), ("metaxy_provenance_by_field", by_field(vec![("audio", texts(&["a"]))]))]);
    let second = batch([
        ("metaxy_provenance_by_field", by_field(vec![("frames", texts(&["f"])), ("audio", texts(&["b"]))])),
        ("Id", texts(&["another column"])),
        ("id", ints([2])),
    ]);
    append(&backend, "grown", &first).await.unwrap();
    append(&backend, "grown", &second).await.unwrap();
    append(&backend, "grown", &first).await.unwrap();
    let found = read(&backend, "grown").await.unwrap();
    assert_eq!(found.column(0), &ints([1, 2, 1]));
    let members = found.column(1).as_struct();
    assert_eq!(members.column_names(), ["audio", "frames"]);
    assert_eq!(members.column(0), &texts(&["a", "b", "a"]));
    assert_eq!(members.column(1).as_string::<i32>(), &StringArray::from(vec![None, Some("f"), None]));
    assert_eq!(found.column(2).as_string::<i32>(), &StringArray::from(vec![None, Some("another column"), None]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_another_type_is_an_error() {
    let database = database();
    let backend = open(database.url()).await;
    append(&backend, "t", &batch([("x", ints([1]))])).await.unwrap();
    let error = append(&backend, "t", &batch([("x", texts(&["1"]))])).await.unwrap_err();
    assert!(matches!(&error, Error::TypeMismatch { column, .. } if column == "x"), "{error}");
    assert_eq!(read(&backend, "t").await.unwrap().num_rows(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_postgresql_would_truncate_are_errors() {
    let database = database();
    let backend = open(database.url()).await;
    let long = "x".repeat(64);
    let error = append(&backend, &long, &batch([("x", ints([1]))])).await.unwrap_err();
    assert!(matches!(error, Error::LimitExceeded { .. }), "{error}");
    for name in [long.as_str(), "ctid", "a\0b"] {
        let error = append(&backend, "t", &batch([(name, ints([1]))])).await.unwrap_err();
        assert!(matches!(error, Error::InvalidColumn { .. }), "{error}");
    }
    append(&backend, &long[..63], &batch([(&long[..63], ints([1]))])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn never_filled_and_emptied_tables_differ() {
    let database = database();
    database
        .sql(
            "CREATE TABLE never (id bigint); CREATE TABLE made (id bigint); COMMENT ON TABLE made IS 'it''s mine'; \
             INSERT INTO made VALUES (1); CREATE VIEW seen AS SELECT * FROM never",
        )
        .unwrap();
    let backend = open(database.url()).await;
    append(&backend, "ours", &batch([("id", ints([1]))])).await.unwrap();
    let schema = backend.schema(&key("made")).await.unwrap().unwrap();
    assert_eq!(backend.delete(&key("made"), &col("id").eq(1).bind(&schema).unwrap()).await.unwrap(), 1);
    database.sql("DELETE FROM ours").unwrap();
    let held = async |table: &str| backend.has_held_rows(&key(table)).await.unwrap();
    assert_eq!((held("never").await, held("seen").await, held("there/is/none").await), (false, false, false));
    assert_eq!((held("made").await, held("ours").await), (true, true));
    let kept = database.sql("SELECT 1 / (obj_description('made'::regclass) LIKE 'it''s mine' || chr(10) || '%')::int");
    kept.unwrap();
}
