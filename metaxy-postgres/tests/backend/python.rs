//! Tables of the Python package with data versions other than texts, and with structs of users; pushed definitions.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Int64Type};
use metaxy_core::{
    AccessMode, Error, FeatureGraph, FeatureSpec, FieldSpec, HashAlgorithm, MetadataStore, SharedBackend, StoreBackend,
    VersioningEngine, col,
};
use metaxy_postgres::PostgresBackend;
use metaxy_testkit::fixtures::tables::{batch, ints, key, texts};
use metaxy_testkit::python::{Program, Project, Pushes, Python};
use metaxy_testkit::servers::postgres::Database;

use super::support::{config, database, open};

/// Data versions in the table, and the provenance that metaxy 0.1.11 computes for the sample of a leaf.
const RECORDED: [(&str, &str); 11] = [
    ("1.0", "12566615"),
    ("0.1", "17543498"),
    ("2.5", "11731076"),
    ("0.0000001", "16106966"),
    ("10000000000000000", "10942970"),
    ("123456789.125", "11090688"),
    ("0.0", "97774838"),
    ("0.00003", "11978981"),
    ("1000000000000000.0", "10821388"),
    ("0.00001", "48658822"),
    ("1000000000000000000", "89791688"),
];

/// Creates the table of `t/root` as metaxy 0.1.11 has created it.
fn recorded(database: &Database) {
    let system = "metaxy_feature_version varchar, metaxy_project_version varchar, metaxy_provenance varchar, \
                  metaxy_created_at timestamptz(6), metaxy_updated_at timestamptz(6), \
                  metaxy_deleted_at timestamptz(6), \
                  metaxy_materialization_id varchar, metaxy_data_version_by_field jsonb, metaxy_data_version varchar";
    let mut sql = format!("CREATE TABLE t__root (id bigint, metaxy_provenance_by_field jsonb, box jsonb, {system}); ");
    for (id, (float, _)) in RECORDED.iter().enumerate() {
        let versions = format!("'{{\"b\": true, \"f\": {float}, \"i\": {id}}}'");
        sql.push_str(&format!(
            "INSERT INTO t__root VALUES ({id}, {versions}, '{{\"k\": {id}, \"n\": {{\"z\": [1.5]}}, \"s\": \"a\"}}', \
             'bd843d60', '3eba1a91', 'x', now(), now(), NULL, NULL, {versions}, 'x'); "
        ));
    }
    database.sql(&sql).unwrap();
}

fn graph() -> FeatureGraph {
    let fields = ["f", "i", "b"].map(|name| FieldSpec::new(name).code_version("1"));
    let root = FeatureSpec::builder("t/root").id_columns(["id"]).fields(fields).build().unwrap();
    let leaf = FeatureSpec::builder("t/leaf").id_columns(["id"]).dep("t/root");
    let leaf = leaf.field(FieldSpec::new("x").code_version("1")).build().unwrap();
    FeatureGraph::new([root, leaf]).unwrap()
}

async fn store(database: &Database, engine: VersioningEngine, hash: HashAlgorithm) -> MetadataStore {
    let backend: SharedBackend = Arc::new(PostgresBackend::new(config(database.url())).unwrap());
    let store = MetadataStore::builder(backend, graph()).versioning_engine(engine).hash_algorithm(hash);
    store.open(AccessMode::ReadWrite).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn data_versions_of_other_types_are_hashed_like_in_python() {
    let database = database();
    recorded(&database);
    let store = store(&database, VersioningEngine::Auto, HashAlgorithm::Xxhash64).await;
    let new = store.resolve_update("t/leaf").await.unwrap().new.to_batch().unwrap();
    let ids = new.column_by_name("id").unwrap().as_primitive::<Int64Type>();
    let provenance = new.column_by_name("metaxy_provenance").unwrap().as_string::<i32>();
    assert_eq!(new.num_rows(), RECORDED.len());
    for (id, found) in ids.values().iter().zip(provenance) {
        assert_eq!(found, Some(RECORDED[*id as usize].1), "{}", RECORDED[*id as usize].0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn types_with_other_texts_are_hashed_by_the_engine() {
    let database = database();
    recorded(&database);
    let mut found = Vec::new();
    for engine in [VersioningEngine::Auto, VersioningEngine::Arrow] {
        let store = store(&database, engine, HashAlgorithm::Md5).await;
        let new = store.resolve_update("t/leaf").await.unwrap().new.to_batch().unwrap();
        let ids = new.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec();
        let provenance = new.column_by_name("metaxy_provenance").unwrap().as_string::<i32>();
        let mut rows: Vec<_> = ids.into_iter().zip(provenance.iter().map(|text| text.unwrap().to_owned())).collect();
        rows.sort();
        found.push(rows);
    }
    assert_eq!(found[0], found[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_data_versions_are_kept_when_rows_are_added_and_deleted() {
    let database = database();
    recorded(&database);
    let store = store(&database, VersioningEngine::Auto, HashAlgorithm::Xxhash64).await;
    let versions = StructArray::from(batch([
        ("f", Arc::new(Float64Array::from(vec![7.25])) as ArrayRef),
        ("i", ints([7])),
        ("b", Arc::new(BooleanArray::from(vec![false]))),
    ]));
    let given = batch([("id", ints([77])), ("metaxy_provenance_by_field", Arc::new(versions) as ArrayRef)]);
    store.write("t/root", given).await.unwrap();
    store.delete("t/root").filter(col("id").eq(3)).await.unwrap();
    let kinds = "SELECT string_agg(DISTINCT m.key || ' ' || jsonb_typeof(m.value), ', ' ORDER BY m.key || ' ' || \
                 jsonb_typeof(m.value)) FROM t__root, jsonb_each(metaxy_data_version_by_field) AS m";
    assert_eq!(database.sql(kinds).unwrap(), "b boolean, f number, i number");
    assert_eq!(database.sql("SELECT count(*) FROM t__root WHERE metaxy_deleted_at IS NOT NULL").unwrap(), "1");
    let rows = store.read("t/root").await.unwrap().rows().await.unwrap().to_batch().unwrap();
    assert_eq!(rows.num_rows(), RECORDED.len());
    let by_field = rows.column_by_name("metaxy_provenance_by_field").unwrap().as_struct();
    let floats = by_field.column_by_name("f").unwrap().as_string::<i32>();
    assert!(["7.25", "1e+16", "0.00003"].iter().all(|text| floats.iter().flatten().any(|found| found == *text)));
}

#[tokio::test(flavor = "multi_thread")]
async fn user_structs_are_read_as_structs() {
    let database = database();
    recorded(&database);
    let backend = open(database.url()).await;
    let schema = backend.schema(&key("t/root")).await.unwrap().unwrap();
    let item = Arc::new(Field::new_list_field(DataType::Float64, true));
    let inner = DataType::Struct(vec![Field::new("z", DataType::List(item), true)].into());
    let members = vec![
        Field::new("k", DataType::Int64, true),
        Field::new("n", inner, true),
        Field::new("s", DataType::Utf8, true),
    ];
    assert_eq!(schema.field_with_name("box").unwrap().data_type(), &DataType::Struct(members.into()));
    // Rows are appended with more and with fewer members, and copied.
    let store = store(&database, VersioningEngine::Auto, HashAlgorithm::Xxhash64).await;
    let versions = |id: i64| -> ArrayRef {
        Arc::new(StructArray::from(batch([
            ("f", Arc::new(Float64Array::from(vec![0.5])) as ArrayRef),
            ("i", ints([id])),
            ("b", Arc::new(BooleanArray::from(vec![true]))),
        ])))
    };
    for (id, members) in [(50, vec![("s", texts(&["wide"])), ("extra", ints([1]))]), (51, vec![("k", ints([9]))])] {
        let given = StructArray::from(batch(members));
        let rows = batch([
            ("id", ints([id])),
            ("metaxy_provenance_by_field", versions(id)),
            ("box", Arc::new(given) as ArrayRef),
        ]);
        store.write("t/root", rows).await.unwrap();
    }
    let odd = batch([
        ("id", ints([52])),
        ("metaxy_provenance_by_field", versions(52)),
        ("box", Arc::new(StructArray::from(batch([("k", texts(&["no number"]))]))) as ArrayRef),
    ]);
    let refused = store.write("t/root", odd).await.unwrap_err();
    assert!(matches!(refused, Error::TypeMismatch { .. } | Error::InvalidValue { .. }), "{refused}");
    let target = super::support::database();
    let copy = self::store(&target, VersioningEngine::Auto, HashAlgorithm::Xxhash64).await;
    copy.copy_from(&store).await.unwrap();
    let rows = copy.read("t/root").await.unwrap().rows().await.unwrap().to_batch().unwrap();
    let boxes = rows.column_by_name("box").unwrap().as_struct();
    assert_eq!(rows.num_rows(), RECORDED.len() + 2);
    assert_eq!(boxes.column_by_name("extra").unwrap().null_count(), RECORDED.len() + 1);
}

/// Returns a configuration whose store is a database.
fn both(database: &Database) -> String {
    let store = "[stores.dev]\ntype = \"metaxy.ext.postgresql.PostgreSQLMetadataStore\"\n[stores.dev.config]";
    let top = "auto_create_tables = true\nstore = \"dev\"\nproject = \"both\"";
    format!("{top}\n{store}\nconnection_string = \"{}\"", database.url())
}

/// Returns values of the types that both programs store.
fn values(ids: &[i64]) -> RecordBatch {
    let at = || TimestampMicrosecondArray::from_iter_values(ids.iter().map(|id| id * 86_400_123_456 - 200_000_000_000));
    batch([
        ("id", ints(ids.iter().copied())),
        ("at", Arc::new(at())),
        ("utc", Arc::new(at().with_timezone("UTC"))),
        ("day", Arc::new(Date32Array::from_iter_values(ids.iter().map(|id| *id as i32 * 5_000 - 10_000)))),
        ("small", Arc::new(Int16Array::from_iter_values(ids.iter().map(|id| *id as i16)))),
        ("int", Arc::new(Int32Array::from_iter_values(ids.iter().map(|id| -*id as i32)))),
        ("single", Arc::new(Float32Array::from_iter_values(ids.iter().map(|id| *id as f32 / 3.0)))),
        ("real", Arc::new(Float64Array::from_iter_values(ids.iter().map(|id| *id as f64 / 3.0)))),
        ("flag", Arc::new(BooleanArray::from_iter(ids.iter().map(|id| Some(*id > 3))))),
        ("text", Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("é '\"\\ {id}"))))),
        ("blob", Arc::new(BinaryArray::from_iter_values(ids.iter().map(|id| [*id as u8, 0xff])))),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_of_every_type_that_both_write() {
    let Some(python) = Python::for_test(&["ibis", "psycopg"]) else { return };
    for first in [Program::Rust, Program::Python] {
        let database = database();
        Project::new(&python, &both(&database)).take_turns(first, |_, ids| values(ids)).await;
    }
}

/// The Python package adds no columns to a table of a database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_grow() {
    let Some(python) = Python::for_test(&["ibis", "psycopg"]) else { return };
    let database = database();
    Project::new(&python, &both(&database)).grow(&[Program::Rust], |_, ids| values(ids)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushed_definitions() {
    let Some(python) = Python::for_test(&["ibis", "psycopg"]) else { return };
    for first in [Program::Rust, Program::Python] {
        let database = database();
        Pushes::new(&python, &both(&database)).take_turns(first).await;
        let sql = "SELECT count(*) FROM information_schema.columns \
                   WHERE table_name = 'metaxy_system__feature_versions' AND data_type = CASE \
                   WHEN column_name IN ('recorded_at', 'deleted_at') THEN 'timestamp without time zone' \
                   ELSE 'character varying' END";
        assert_eq!(database.sql(sql).unwrap(), "11", "{first:?}");
    }
}
