//! Tables with additions of other programs: indexes, foreign types, maps.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array, RecordBatch, TimestampSecondArray};
use metaxy_core::{
    AccessMode, Error, FeatureGraph, FeatureSpec, FieldSpec, HashAlgorithm, MetadataStore, StoreBackend,
    VersioningEngine, columns,
};
use metaxy_duckdb::DuckDbBackend;

use super::tables::by_field;
use super::{append, batch, ints, key, open, read, texts};

fn run(path: &Path, sql: &str) {
    duckdb::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

fn query(path: &Path, sql: &str) -> Vec<String> {
    let connection = duckdb::Connection::open(path).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

const INDEXES: &str = "SELECT sql FROM duckdb_indexes() ORDER BY index_name ASC";

fn row(id: i64, members: &[(&str, &str)]) -> RecordBatch {
    batch(vec![("id", ints([id])), ("s", by_field(members))])
}

/// A feature gains a field, and a list of structs a member, on a table with indexes, which exist afterwards.
#[tokio::test]
async fn a_table_with_indexes_can_grow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", row(1, &[("x", "a")])).await.unwrap();
    store.close().await.unwrap();
    run(
        &path,
        "CREATE INDEX plain ON t(id); CREATE UNIQUE INDEX one ON t(id, s.x); CREATE INDEX \"of \"\"s\" ON t((s.x)); \
         COMMENT ON TABLE t IS 'mine'",
    );
    let before = query(&path, INDEXES);
    assert_eq!(before.len(), 3);
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", row(2, &[("x", "b"), ("y", "c")])).await.unwrap();
    append(&store, "t", row(3, &[("z", "d")])).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 3);
    // The unique index is still enforced, and a refused row has no effect.
    let error = append(&store, "t", row(2, &[("x", "b"), ("w", "c")])).await.unwrap_err();
    assert!(error.to_string().contains("onstraint"), "{error}");
    append(&store, "t", row(4, &[("w", "d")])).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(query(&path, INDEXES), before);
    assert_eq!(query(&path, "SELECT comment FROM duckdb_tables() WHERE table_name = 't'"), ["mine"]);
    assert_eq!(query(&path, "SELECT s.y FROM t WHERE id = 2"), ["c"]);
}

/// A table with constraints can grow. One with foreign keys of other tables cannot, and the error names them.
#[tokio::test]
async fn a_table_with_constraints_can_grow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    run(&path, "CREATE TABLE t (id BIGINT PRIMARY KEY, s STRUCT(x VARCHAR) NOT NULL, CHECK (id > 0))");
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", row(1, &[("x", "a")])).await.unwrap();
    append(&store, "t", row(2, &[("x", "b"), ("y", "c")])).await.unwrap();
    store.close().await.unwrap();
    run(&path, "CREATE TABLE notes (video BIGINT REFERENCES t (id), note VARCHAR)");
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    let error = append(&store, "t", row(3, &[("z", "d")])).await.unwrap_err();
    assert!(matches!(&error, Error::Unsupported { what, .. } if what.contains("`t`")), "{error:?}");
    let column = batch(vec![("id", ints([3])), ("s", by_field(&[("x", "d")])), ("z", texts(&["d"]))]);
    append(&store, "t", column).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 3);
}

/// A process that ends while indexes are dropped leaves their definitions in the table's comment.
#[tokio::test]
async fn dropped_indexes_are_created_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", row(1, &[("x", "a")])).await.unwrap();
    store.close().await.unwrap();
    run(&path, "COMMENT ON TABLE t IS 'metaxy {\"indexes\":[\"CREATE INDEX i ON t(id);\"],\"comment\":\"mine\"}'");
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", row(2, &[("x", "b")])).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(query(&path, INDEXES), ["CREATE INDEX i ON t(id);"]);
    assert_eq!(query(&path, "SELECT comment FROM duckdb_tables() WHERE table_name = 't'"), ["mine"]);
    // A comment is input: no other statement in it is run.
    run(&path, "COMMENT ON TABLE t IS 'metaxy {\"indexes\":[\"CREATE INDEX j ON t(id); DROP TABLE t\"]}'");
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", row(3, &[("x", "b")])).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 3);
}

#[tokio::test]
async fn a_list_of_structs_gains_members() {
    let list = |members: &[(&str, &str)]| -> ArrayRef {
        let values = by_field(members);
        let item = arrow::datatypes::Field::new_list_field(values.data_type().clone(), true);
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([values.len()]);
        Arc::new(arrow::array::ListArray::new(Arc::new(item), offsets, values, None))
    };
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store.duckdb"), AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", batch(vec![("id", ints([1])), ("l", list(&[("x", "a")]))])).await.unwrap();
    append(&store, "t", batch(vec![("id", ints([2])), ("l", list(&[("y", "b"), ("X", "c")]))])).await.unwrap();
    let rows = read(&store, "t").await.unwrap();
    let at = rows.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().iter().position(|id| *id == 2);
    let second = rows.column(1).as_list::<i32>().value(at.unwrap());
    let second = second.as_struct();
    let value = |name: &str| second.column_by_name(name).unwrap().as_string::<i32>().iter().next().unwrap();
    assert_eq!((value("x"), value("y"), value("X")), (None, Some("b"), Some("c")));
}

/// Earlier versions recorded the key type of dictionaries, which limited the number of values.
#[tokio::test]
async fn dictionaries_of_earlier_versions_are_plain() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    run(
        &path,
        "CREATE TABLE t (id BIGINT, name VARCHAR); INSERT INTO t VALUES (1, 'a'); \
         COMMENT ON COLUMN t.name IS 'metaxy {\"type\":\"Dictionary(Int8, Utf8)\"}'",
    );
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    let names: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    append(&store, "t", batch(vec![("id", ints(0..300)), ("name", texts(&names))])).await.unwrap();
    let rows = read(&store, "t").await.unwrap();
    assert_eq!((rows.num_rows(), rows.column(1).data_type()), (301, &arrow::datatypes::DataType::Utf8));
}

/// Foreign types accept values that they can represent; for others the error names the value, its column and its row.
#[tokio::test]
async fn values_outside_a_foreign_type() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    run(
        &path,
        "CREATE TYPE mood AS ENUM ('calm', 'cross'); \
         CREATE TABLE t (id BIGINT, m mood, e ENUM('x', 'y'), u UUID, l ENUM('x')[], s STRUCT(e ENUM('x')))",
    );
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    let uuid = "0f0e0d0c-0b0a-4000-8000-00000000abcd";
    let rows = |column: &'static str, values: &[&str]| {
        batch(vec![("id", ints(0..values.len() as i64)), (column, texts(values))])
    };
    append(&store, "t", rows("m", &["calm", "cross"])).await.unwrap();
    append(&store, "t", rows("e", &["x", "y"])).await.unwrap();
    append(&store, "t", rows("u", &[uuid])).await.unwrap();
    let cases = [
        ("m", vec!["calm", "cross", "glad"], "glad"),
        ("e", vec!["z"], "z"),
        ("u", vec![uuid, "no uuid"], "no uuid"),
        // It would be read in lower case.
        ("u", vec![uuid, "0F0E0D0C-0B0A-4000-8000-00000000ABCD"], "0F0E"),
    ];
    for (column, values, wrong) in cases {
        let error = append(&store, "t", rows(column, &values)).await.unwrap_err();
        let Error::InvalidValue { column: named, row, reason, .. } = &error else { panic!("{error:?}") };
        assert_eq!((named.as_str(), *row), (column, values.len() - 1), "{error}");
        assert!(reason.contains(wrong), "{error}");
    }
    let member: ArrayRef = by_field(&[("e", "z")]);
    let error = append(&store, "t", batch(vec![("id", ints([9])), ("s", member)])).await.unwrap_err();
    assert!(matches!(&error, Error::InvalidValue { column, .. } if column == "s"), "{error:?}");
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 5);
}

/// Values that do not fit the unit in which DuckDB stores them, or have more digits than their type.
#[tokio::test]
async fn values_that_do_not_fit_are_named_by_row() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store.duckdb"), AccessMode::ReadWrite).await.unwrap();
    let last = i64::MAX / 1_000_000;
    let seconds = |values: Vec<i64>| -> ArrayRef { Arc::new(TimestampSecondArray::from(values).with_timezone("UTC")) };
    let digits = |values: Vec<i128>| -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_data_type(arrow::datatypes::DataType::Decimal128(4, 1)))
    };
    for (name, good, bad) in [
        ("seconds", seconds(vec![0, last, -last]), seconds(vec![0, 1, last + 1])),
        ("digits", digits(vec![0, 9999, -9999]), digits(vec![0, 1, 1_000_000])),
    ] {
        let rows = |values: ArrayRef| batch(vec![("id", ints(0..3)), ("value", values)]);
        append(&store, name, rows(good.clone())).await.unwrap();
        let stored = read(&store, name).await.unwrap();
        let order = stored.column(0).as_primitive::<arrow::datatypes::Int64Type>().clone();
        let order = arrow::compute::sort_to_indices(&order, None, None).unwrap();
        assert_eq!(&arrow::compute::take(stored.column(1), &order, None).unwrap(), &good, "{name}");
        let error = append(&store, name, rows(bad.clone())).await.unwrap_err();
        assert!(matches!(&error, Error::InvalidValue { column, row: 2, .. } if column == "value"), "{name}: {error:?}");
        let error = store.check(&key(name), &rows(bad)).unwrap_err();
        assert!(matches!(&error, Error::InvalidValue { column, row: 2, .. } if column == "value"), "{name}: {error:?}");
        assert_eq!(read(&store, name).await.unwrap().num_rows(), 3, "{name}");
    }
}

/// A column of seconds, which DuckDB stores as microseconds, and to which another program has appended microseconds.
#[tokio::test]
async fn values_finer_than_their_type_are_not_truncated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(vec![0, 1]).with_timezone("UTC"));
    append(&store, "t", batch(vec![("id", ints(0..2)), ("at", seconds.clone())])).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap().column(1), &seconds);
    store.close().await.unwrap();
    run(&path, "INSERT INTO t VALUES (2, '2026-11-26 12:00:00.25+00')");
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    let error = read(&store, "t").await.unwrap_err();
    assert!(
        matches!(&error, Error::Corrupt { table, reason, .. } if table == "t" && reason.contains("`at`")),
        "{error:?}"
    );
    store.close().await.unwrap();
    run(&path, "COMMENT ON COLUMN t.at IS NULL");
    assert_eq!(read(&open(&path, AccessMode::ReadOnly).await.unwrap(), "t").await.unwrap().num_rows(), 3);
}

/// The columns that the Python package creates if `enable_map_datatype` is on.
const MAPS: &str = "metaxy_provenance_by_field MAP(VARCHAR, VARCHAR), metaxy_feature_version VARCHAR, \
    metaxy_project_version VARCHAR, metaxy_provenance VARCHAR, metaxy_created_at TIMESTAMP WITH TIME ZONE, \
    metaxy_updated_at TIMESTAMP WITH TIME ZONE, metaxy_deleted_at TIMESTAMP WITH TIME ZONE, \
    metaxy_materialization_id VARCHAR, metaxy_data_version_by_field MAP(VARCHAR, VARCHAR), metaxy_data_version VARCHAR";

/// Its results on such tables, with MD5: a child of two fields after a write of `a`, and a later one of `b`.
#[tokio::test]
async fn maps_of_the_python_package() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    run(&path, &format!("CREATE TABLE raw__video (id BIGINT, {MAPS}); CREATE TABLE made__text (id BIGINT, {MAPS})"));
    let field = |name: &str| FieldSpec::new(name).code_version("1");
    let video = FeatureSpec::builder("raw/video").id_columns(["id"]).field(field("audio")).field(field("frames"));
    let made = FeatureSpec::builder("made/text").id_columns(["id"]).dep("raw/video").field(field("default"));
    let graph = FeatureGraph::new([video.build().unwrap(), made.build().unwrap()]).unwrap();
    let builder = MetadataStore::builder(DuckDbBackend::file(&path).unwrap(), graph);
    let store = builder.hash_algorithm(HashAlgorithm::Md5).open(AccessMode::ReadWrite).await.unwrap();
    for (ids, audio, recorded) in [([1, 2], "a", ["98af5be1"; 2].as_slice()), ([2, 3], "b", &["a6fe3bed"])] {
        let provenance = columns::by_field([("audio", texts(&[audio; 2])), ("frames", texts(&["f"; 2]))]).unwrap();
        let rows = batch(vec![("id", ints(ids)), (columns::PROVENANCE_BY_FIELD, provenance)]);
        store.write("raw/video", rows).await.unwrap();
        for engine in [VersioningEngine::Native, VersioningEngine::Arrow] {
            let found = store.resolve_update("made/text").versioning_engine(engine).await.unwrap();
            let mut versions = Vec::new();
            for rows in found.new.batches() {
                let column = rows.column_by_name(columns::PROVENANCE).unwrap().as_string::<i32>().clone();
                versions.extend(column.iter().flatten().map(str::to_owned));
            }
            assert_eq!(
                (versions, found.stale.num_rows()),
                (recorded.iter().map(|v| (*v).to_owned()).collect(), 2 - recorded.len())
            );
        }
        let found = store.resolve_update("made/text").await.unwrap();
        for rows in found.new.batches() {
            store.write("made/text", rows.clone()).await.unwrap();
        }
    }
    store.close().await.unwrap();
    let stored = query(&path, "SELECT DISTINCT metaxy_data_version_by_field::VARCHAR FROM raw__video ORDER BY 1 ASC");
    assert_eq!(stored, ["{audio=a, frames=f}", "{audio=b, frames=f}"]);
}
