//! The Python package and this store on the same files, and a comparison of both engines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use metaxy_core::{HashAlgorithm, SharedBackend};
use metaxy_duckdb::DuckDbBackend;
use metaxy_testkit::fixtures::stores;
use metaxy_testkit::python::Python;
use metaxy_testkit::scenario::{self, Scenario};

/// Returns a copy of the store that the Python package wrote.
fn copied(dir: &Path) -> PathBuf {
    let path = dir.join("store.duckdb");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/store.duckdb"), &path).unwrap();
    path
}

fn backend(path: &Path) -> SharedBackend {
    Arc::new(DuckDbBackend::file(path).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_python_package_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = copied(dir.path());
    // DuckDB's engine takes part; the Arrow engine must return the same results.
    let recorded = stores::recording();
    let hash = recorded.hash_algorithm;
    let resolved = scenario::compare_engines(&recorded, "expected.json", backend(&path), hash).await;
    assert_eq!(resolved.unwrap_or_else(|failure| panic!("{failure}")), 4);
    let answers = async {
        stores::answers_as_recorded(backend(&path)).await?;
        stores::can_be_appended_to(backend(&path)).await
    };
    answers.await.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Runs both engines, step by step, on every scenario, with all hash algorithms in turn.
#[tokio::test(flavor = "multi_thread")]
async fn both_engines_agree() {
    let mut resolved = 0;
    let mut failures = Vec::new();
    for (scenario, hash) in Scenario::bundled().into_iter().zip(HashAlgorithm::ALL.into_iter().cycle()) {
        let backend = Arc::new(DuckDbBackend::in_memory());
        match scenario::compare_engines(&scenario, &scenario.name, backend, hash).await {
            Ok(count) => resolved += count,
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(resolved > 60, "only {resolved} resolves ran in DuckDB");
}

/// Tables by name: their columns with types, and their numbers of rows.
type Tables = BTreeMap<String, (BTreeMap<String, String>, i64)>;

const COLUMNS: &str = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal";

/// Returns the tables of a file as the DuckDB of this program reads them.
fn tables(path: &Path) -> Tables {
    let connection = duckdb::Connection::open(path).unwrap();
    let mut statement = connection.prepare(COLUMNS).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    let mut tables = Tables::new();
    for (table, column, kind) in rows.map(Result::<(String, String, String), _>::unwrap) {
        tables.entry(table).or_default().0.insert(column, kind);
    }
    for (table, (_, count)) in &mut tables {
        *count = connection.query_row(&format!("SELECT count(*) FROM \"{table}\""), [], |row| row.get(0)).unwrap();
    }
    tables
}

const SCRIPT: &str = r#"
import duckdb, json, sys
connection = duckdb.connect(sys.argv[1], read_only=True)
tables = {}
for table, column, kind in connection.execute(sys.argv[2]).fetchall():
    tables.setdefault(table, ({}, []))[0][column] = kind
for table, (columns, count) in tables.items():
    count.append(connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0])
    connection.execute(f'CREATE TEMP TABLE copied AS SELECT * FROM "{table}"')
    connection.execute('DROP TABLE copied')
print(json.dumps({table: (columns, count[0]) for table, (columns, count) in tables.items()}))
"#;

/// The features of the package's store, written by this program: the same columns in the same types, readable by the
/// Python package's DuckDB.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_package_reads_what_is_written_here() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ours.duckdb");
    let mut ours = stores::appended();
    ours.steps.retain(|step| step.op() == "write");
    scenario::run(&ours, "appended.json", backend(&path)).await.unwrap_or_else(|failure| panic!("{failure}"));
    let written = tables(&path);
    let theirs = tables(&copied(dir.path()));
    assert_eq!(written.keys().collect::<Vec<_>>(), ["processed__transcript", "raw__video"]);
    for (table, (columns, rows)) in &written {
        assert_eq!(columns, &theirs[table].0, "{table}");
        assert_eq!(*rows, 2, "{table}");
    }
    let Some(python) = Python::for_test(&["duckdb"]) else { return };
    let seen = python.run(dir.path(), SCRIPT, &["ours.duckdb", COLUMNS]);
    let seen: Tables = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen, written);
}
