//! This program and the Python package write to one file in turns.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, RecordBatch, StructArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, UInt8Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field};
use metaxy_testkit::fixtures::tables::{batch, ints};
use metaxy_testkit::python::{Program, Project, Pushes, Python};

const MODULES: [&str; 2] = ["duckdb", "ibis"];

/// Returns a configuration whose store is a file.
fn config(top: &str) -> String {
    let store = "[stores.dev]\ntype = \"metaxy.ext.duckdb.DuckDBMetadataStore\"\n[stores.dev.config]";
    let file = "database = \"${HOME}/store.duckdb\"\nhash_algorithm = \"md5\"";
    format!("{top}\nauto_create_tables = true\nstore = \"dev\"\nproject = \"both\"\n{store}\n{file}")
}

/// Returns a project whose store is a file.
fn project(python: &Python, top: &str) -> Project {
    Project::new(python, &config(top))
}

/// Returns the type of a by-field column in the file.
fn by_field(project: &Project) -> String {
    let connection = duckdb::Connection::open(project.directory().join("store.duckdb")).unwrap();
    let sql = "SELECT data_type FROM duckdb_columns() WHERE table_name = 'raw__video' \
               AND column_name = 'metaxy_provenance_by_field'";
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Returns a column that is null for every third id.
fn column<A: Array + From<Vec<Option<T>>> + 'static, T>(ids: &[i64], value: impl Fn(i64) -> T) -> ArrayRef {
    Arc::new(A::from(ids.iter().map(|id| (id % 3 != 0).then(|| value(*id))).collect::<Vec<_>>()))
}

fn values(numbers: &[i64]) -> RecordBatch {
    let member = Field::new("m", DataType::UInt64, true);
    let member = StructArray::new(vec![member].into(), vec![column::<UInt64Array, _>(numbers, |id| id as u64)], None);
    let at = |id: i64| id * 86_400_123_456 - 200_000_000_000;
    let utc = TimestampMicrosecondArray::from_iter_values(numbers.iter().map(|id| at(*id))).with_timezone("UTC");
    batch([
        ("id", ints(numbers.iter().copied())),
        ("at", column::<TimestampMicrosecondArray, _>(numbers, at)),
        ("utc", Arc::new(utc)),
        ("day", column::<Date32Array, _>(numbers, |id| id as i32 * 5_000 - 10_000)),
        ("time", column::<Time64MicrosecondArray, _>(numbers, |id| id * 2_400_000_001)),
        ("u8", column::<UInt8Array, _>(numbers, |id| id as u8 + 200)),
        ("u64", column::<UInt64Array, _>(numbers, |id| u64::MAX - id as u64)),
        ("real", column::<Float64Array, _>(numbers, |id| id as f64 / 3.0)),
        ("flag", column::<BooleanArray, _>(numbers, |id| id > 3)),
        ("blob", Arc::new(BinaryArray::from_iter_values(numbers.iter().map(|id| [*id as u8, 0xff])))),
        ("struct", Arc::new(member)),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_of_every_type_that_both_write() {
    let Some(python) = Python::for_test(&MODULES) else { return };
    for first in [Program::Rust, Program::Python] {
        let project = project(&python, "");
        project.take_turns(first, |_, ids| values(ids)).await;
        assert_eq!(by_field(&project), "STRUCT(audio VARCHAR, frames VARCHAR)", "{first:?}");
    }
}

/// The Python package adds no columns to a table of a database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_grow() {
    let Some(python) = Python::for_test(&MODULES) else { return };
    project(&python, "").grow(&[Program::Rust], |_, ids| values(ids)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maps() {
    let modules = [MODULES.as_slice(), &["polars_map", "narwhals_map"]].concat();
    let Some(python) = Python::for_test(&modules) else { return };
    for first in [Program::Rust, Program::Python] {
        let project = project(&python, "enable_map_datatype = true");
        project.take_turns(first, |_, ids| batch([("id", ints(ids.iter().copied()))])).await;
        assert_eq!(by_field(&project), "MAP(VARCHAR, VARCHAR)", "{first:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushed_definitions() {
    let Some(python) = Python::for_test(&MODULES) else { return };
    for first in [Program::Rust, Program::Python] {
        let pushes = Pushes::new(&python, &config(""));
        pushes.take_turns(first).await;
        let connection = duckdb::Connection::open(pushes.directory().join("store.duckdb")).unwrap();
        let sql = "SELECT count(*) FROM duckdb_columns() WHERE table_name = 'metaxy_system__feature_versions' AND \
                   data_type = if(column_name IN ('recorded_at', 'deleted_at'), 'TIMESTAMP', 'VARCHAR')";
        let fitting: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(fitting, 11, "{first:?}");
    }
}
