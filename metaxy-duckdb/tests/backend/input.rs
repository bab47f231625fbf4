//! A DuckDB file is input: nothing in it makes DuckDB read other files or changes the meaning of statements.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StructArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use futures::TryStreamExt;
use metaxy_core::filter::{Filter, Predicate};
use metaxy_core::{AccessMode, Error, ScanRequest, ScanStage, StoreBackend};
use metaxy_duckdb::{DuckDbBackend, DuckDbConfig};

use super::{append, batch, ints, key, open, read, texts};

/// Creates a store with a table `t` of one row, and runs some SQL on it as another program.
async fn prepared(path: &Path, sql: &str) {
    let store = open(path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", batch(vec![("id", ints([1])), ("name", texts(&["a"]))])).await.unwrap();
    store.close().await.unwrap();
    duckdb::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

async fn predicate(store: &DuckDbBackend, table: &str, filter: &str) -> Predicate {
    let schema = store.schema(&key(table)).await.unwrap().unwrap();
    Filter::parse(filter).unwrap().bind(&schema).unwrap()
}

/// Returns the ids of the rows of `t` that a request selects, in order.
async fn ids(store: &DuckDbBackend, request: ScanRequest) -> Vec<i64> {
    let scan = store.scan(&key("t"), &request).await.unwrap();
    assert_eq!(scan.applied, ScanStage::Filter);
    let batches: Vec<RecordBatch> = scan.stream.try_collect().await.unwrap();
    let ids = batches.iter().flat_map(|batch| batch["id"].as_primitive::<Int64Type>().values().to_vec());
    let mut ids: Vec<i64> = ids.collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_view_is_not_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let (path, secret) = (dir.path().join("store.duckdb"), dir.path().join("secret.csv"));
    std::fs::write(&secret, "id,name\n7,hunter2\n").unwrap();
    prepared(&path, &format!("CREATE VIEW leak AS SELECT * FROM read_csv('{}')", secret.display())).await;
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    assert_eq!(store.tables().await.unwrap(), ["t"]);
    let scan = store.scan(&key("leak"), &ScanRequest::default()).await.map(drop);
    let append = append(&store, "leak", batch(vec![("id", ints([1]))])).await;
    for error in [scan.unwrap_err(), append.unwrap_err(), store.schema(&key("leak")).await.unwrap_err()] {
        assert!(matches!(&error, Error::Unsupported { what, .. } if what.contains("leak")), "{error:?}");
    }
}

#[tokio::test]
async fn a_database_cannot_read_other_files() {
    let dir = tempfile::tempdir().unwrap();
    let (path, secret) = (dir.path().join("store.duckdb"), dir.path().join("secret.csv"));
    std::fs::write(&secret, "hunter2\n").unwrap();
    let peek = format!("CREATE MACRO peek(x) AS (SELECT content FROM read_text('{}'))", secret.display());
    prepared(&path, &format!("{peek}; CREATE MACRO max(x) AS peek(x)")).await;
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    let (rows, newest) = (read(&store, "t").await.unwrap(), store.newest_stamp(&key("t")).await);
    assert_eq!((rows.num_rows(), newest.unwrap()), (1, None));
    assert!(!format!("{rows:?}").contains("hunter2"), "{rows:?}");
}

/// DuckDB would use a file's own function of the same name.
#[tokio::test]
async fn macros_do_not_replace_functions() {
    let macros = [
        "CREATE MACRO struct_extract(a, b) AS 'x'",
        "CREATE MACRO coalesce(a, b) AS 'x'",
        "CREATE MACRO \"||\"(a, b) AS 'x'",
        "CREATE MACRO \"Isfinite\"(a) AS false",
        "CREATE MACRO max(a) AS 'x'",
        "CREATE MACRO epoch_us(a) AS 7",
        "CREATE MACRO greatest(a, b) AS 7",
        "CREATE MACRO current_database() AS 'x'",
        "CREATE MACRO current_schema() AS 'x'",
        "CREATE MACRO duckdb_tables() AS TABLE SELECT 1",
        "CREATE MACRO duckdb_columns() AS TABLE SELECT 1",
        "CREATE MACRO duckdb_functions() AS TABLE SELECT 1",
        "CREATE MACRO metaxy_xxhash32_8(a) AS 'x'",
        "CREATE MACRO \"METAXY_batches\"(a) AS TABLE SELECT 1",
        "CREATE VIEW duckdb_tables AS SELECT 1 AS table_name",
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    prepared(&path, &macros.join(";")).await;
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    assert_eq!(store.tables().await.unwrap(), ["t"]);
    let nested = StructArray::from(vec![(Arc::new(Field::new("a", DataType::Int64, true)), ints([5]))]);
    let stamp = Arc::new(TimestampMicrosecondArray::from(vec![3]).with_timezone("UTC"));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", ints([2])),
        ("nested", Arc::new(nested)),
        ("metaxy_updated_at", stamp.clone()),
        ("metaxy_deleted_at", stamp),
    ];
    append(&store, "t", batch(columns)).await.unwrap();
    assert_eq!(store.newest_stamp(&key("t")).await.unwrap(), Some(3));
    let request = ScanRequest { filter: Some(predicate(&store, "t", "nested.a = 5").await), ..ScanRequest::default() };
    assert_eq!(ids(&store, request).await, [2]);
    let latest = ScanRequest { keep_latest: Some(vec!["id".to_owned()]), ..ScanRequest::default() };
    assert_eq!(ids(&store, latest).await, [1, 2]);
    store.close().await.unwrap();
    // They are still there for other programs.
    let replaced = "SELECT max(3)";
    let other = duckdb::Connection::open(&path).unwrap().query_row(replaced, [], |row| row.get::<_, String>(0));
    assert_eq!(other.unwrap(), "x");
}

/// Feature keys can be the names of DuckDB's own views.
#[tokio::test]
async fn tables_may_have_the_names_of_system_views() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["store.duckdb", "system.duckdb", "main.duckdb", "a \"b\", c.d.duckdb", "temp.duckdb"] {
        let path = dir.path().join(file);
        for name in ["duckdb_tables", "sqlite_master", "pg_class"] {
            let store = open(&path, AccessMode::ReadWrite).await.unwrap();
            append(&store, name, batch(vec![("id", ints([7]))])).await.unwrap();
            append(&store, name, batch(vec![("id", ints([8])), ("name", texts(&["a"]))])).await.unwrap();
            assert_eq!(read(&store, name).await.unwrap().num_rows(), 2, "{file}: {name}");
            assert_eq!(store.delete(&key(name), &predicate(&store, name, "id = 7").await).await.unwrap(), 1);
            store.close().await.unwrap();
            let store = open(&path, AccessMode::ReadOnly).await.unwrap();
            assert_eq!(read(&store, name).await.unwrap().num_rows(), 1, "{file}: {name}");
            store.drop_table(&key(name)).await.unwrap_err();
        }
    }
}

#[tokio::test]
async fn settings_do_not_change_the_meaning_of_statements() {
    for (name, value) in [
        ("default_order", "DESC"),
        ("DEFAULT_NULL_ORDER", "NULLS_FIRST"),
        ("enable_external_access", "true"),
        ("autoload_known_extensions", "true"),
        ("integer_division", "true"),
        ("preserve_identifier_case", "false"),
        ("debug_checkpoint_abort", "before_header"),
    ] {
        let error = DuckDbBackend::new(DuckDbConfig::new(":memory:").setting(name, value)).unwrap_err();
        assert!(matches!(&error, Error::Config { key, .. } if key.contains(name)), "{name}: {error:?}");
    }
    let config = DuckDbConfig::new(":memory:").setting("enable_external_access", false);
    DuckDbBackend::new(config).unwrap().open(AccessMode::ReadWrite).await.unwrap();
}

/// A trigger on one table deletes rows of another.
#[tokio::test]
async fn triggers_are_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    // Files of earlier versions have none.
    let config = DuckDbConfig::new(path.display().to_string()).storage_version("v2.0.0");
    let store = DuckDbBackend::new(config).unwrap();
    store.open(AccessMode::ReadWrite).await.unwrap();
    for table in ["t", "other"] {
        append(&store, table, batch(vec![("id", ints([1]))])).await.unwrap();
    }
    store.close().await.unwrap();
    let trigger = "CREATE TRIGGER lose AFTER INSERT ON t FOR EACH STATEMENT DELETE FROM other";
    duckdb::Connection::open(&path).unwrap().execute_batch(trigger).unwrap();
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    let error = append(&store, "t", batch(vec![("id", ints([2]))])).await.unwrap_err();
    assert!(matches!(&error, Error::Unsupported { what, .. } if what.contains("`lose`")), "{error:?}");
    append(&store, "other", batch(vec![("id", ints([2]))])).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 1);
    assert_eq!(read(&store, "other").await.unwrap().num_rows(), 2);
}

/// The rows are larger than memory: DuckDB still writes temporary files beside its file.
#[tokio::test]
async fn spilling_works_without_external_access() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    let config = DuckDbConfig::new(path.display().to_string())
        .setting("memory_limit", "30MB")
        .setting("threads", 1)
        .setting("temp_directory", dir.path().join("spill").display().to_string());
    let store = DuckDbBackend::new(config).unwrap();
    store.open(AccessMode::ReadWrite).await.unwrap();
    for part in 0..4 {
        let ids = part * 100_000..(part + 1) * 100_000;
        let names: Vec<String> = ids.clone().map(|id| format!("s3://corpus/videos/of/some/length/{id}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        append(&store, "t", batch(vec![("id", ints(ids)), ("name", texts(&names))])).await.unwrap();
    }
    let request = ScanRequest { keep_latest: Some(vec!["name".to_owned()]), ..ScanRequest::default() };
    let mut stream = store.scan(&key("t"), &request).await.unwrap().stream;
    let mut rows = 0;
    while let Some(batch) = futures::StreamExt::next(&mut stream).await {
        rows += batch.unwrap().num_rows();
    }
    assert_eq!(rows, 400_000);
}

/// A comment with a type, or a type itself, nested so deep that reading it would overflow the stack.
#[tokio::test]
async fn types_nested_too_deep() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    let deep = format!("{}Utf8{}", "List(".repeat(100_000), ")".repeat(100_000));
    prepared(
        &path,
        &format!(
            "COMMENT ON COLUMN t.name IS 'metaxy {{\"type\":\"{deep}\"}}'; CREATE TABLE deep (id BIGINT{})",
            "[]".repeat(500)
        ),
    )
    .await;
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 1);
    let error = store.schema(&key("deep")).await.unwrap_err();
    assert!(matches!(&error, Error::LimitExceeded { what, .. } if what.contains("`id`")), "{error:?}");
}

/// Comments that would give two columns the same name.
#[tokio::test]
async fn names_in_comments_are_made_distinct() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    prepared(&path, "COMMENT ON COLUMN t.name IS 'metaxy {\"name\":\"id\"}'").await;
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    let schema = store.schema(&key("t")).await.unwrap().unwrap();
    let names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
    assert_eq!(names, ["id", "name"]);
}
