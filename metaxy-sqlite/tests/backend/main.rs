//! The backend's own behaviour: types, schema changes, unusable files, and snapshots.

mod checkpoints;
mod filters;
mod immutable;
mod sizes;
mod storage;
mod streams;
mod types;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StructArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use futures::{StreamExt, TryStreamExt};
use metaxy_core::{AccessMode, Error, ScanRequest, ScanStage, SharedBackend, StoreBackend, columns};
use metaxy_sqlite::{SqliteBackend, SqliteConfig};
use metaxy_testkit::crash::{self, Victim};
use metaxy_testkit::fixtures::tables::{append, batch, ints, key, read, texts};

async fn open(path: &Path, mode: AccessMode) -> SqliteBackend {
    let store = SqliteBackend::file(path);
    store.open(mode).await.unwrap();
    store
}

/// Returns a store in a new directory, which is removed when the first part is dropped.
async fn fresh() -> (tempfile::TempDir, PathBuf, SqliteBackend) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = open(&path, AccessMode::ReadWrite).await;
    (dir, path, store)
}

/// Returns a file beside the database.
fn beside(path: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", path.display()))
}

#[tokio::test]
async fn columns_and_members_are_added() {
    let (_dir, _path, store) = fresh().await;
    let by_field = |members: &[&str]| -> ArrayRef {
        let fields: Fields = members.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
        let values = members.iter().map(|name| texts(&[name])).collect();
        Arc::new(StructArray::new(fields, values, None))
    };
    append(&store, "a/b", batch(vec![("id", ints([1])), ("s", by_field(&["x"]))])).await.unwrap();
    append(&store, "a/b", batch(vec![("s", by_field(&["y", "x"])), ("late", texts(&["l"])), ("id", ints([2]))]))
        .await
        .unwrap();
    append(&store, "a/b", batch(vec![("id", ints([3]))])).await.unwrap();
    let rows = read(&store, "a/b").await.unwrap();
    assert_eq!(rows.schema(), store.schema(&key("a/b")).await.unwrap().unwrap());
    let names: Vec<_> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "s", "late"]);
    assert_eq!(rows.column(0).as_ref(), ints([1, 2, 3]).as_ref());
    let members = rows.column(1).as_struct();
    assert_eq!(members.column_names(), ["x", "y"]);
    assert_eq!(members.column(0).as_ref(), &StringArray::from(vec![Some("x"), Some("x"), None]) as &dyn Array);
    assert_eq!(members.column(1).as_ref(), &StringArray::from(vec![None, Some("y"), None]) as &dyn Array);
    assert!(members.is_null(2));
    assert_eq!(rows.column(2).as_ref(), &StringArray::from(vec![None, Some("l"), None]) as &dyn Array);
}

#[tokio::test]
async fn names_that_sqlite_does_not_distinguish() {
    let (_dir, path, store) = fresh().await;
    let names =
        ["id", "Id", "ID", "rowid", "_rowid_", "say \"hi\"", "größe", "GRÖSSE", "a.b", "select", "ta\u{0}b", "id$2"];
    let values: Vec<ArrayRef> = (0..names.len() as i64).map(|value| ints([value])).collect();
    append(&store, "names", batch(names.iter().copied().zip(values))).await.unwrap();
    let rows = read(&store, "names").await.unwrap();
    for (position, name) in names.iter().enumerate() {
        let value = rows.column_by_name(name).unwrap().as_primitive::<arrow::datatypes::Int64Type>().value(0);
        assert_eq!(value, position as i64, "{name}");
    }
    let shell = rusqlite::Connection::open(path).unwrap();
    let id: i64 = shell.query_row("SELECT \"id\" FROM names", [], |row| row.get(0)).unwrap();
    assert_eq!(id, 0);
}

#[tokio::test]
async fn table_names() {
    let (_dir, path, store) = fresh().await;
    for table in ["sqlite/stat1", "metaxy/tables", "b-c/d"] {
        append(&store, table, batch(vec![("id", ints([1]))])).await.unwrap();
        assert_eq!(read(&store, table).await.unwrap().num_rows(), 1);
    }
    assert_eq!(store.tables().await.unwrap(), ["b_c__d", "metaxy__tables", "sqlite__stat1"]);
    let other = SqliteBackend::new(SqliteConfig::new(path.to_str().unwrap()).table_prefix("other_")).unwrap();
    other.open(AccessMode::ReadWrite).await.unwrap();
    assert_eq!(other.tables().await.unwrap(), Vec::<String>::new());
    append(&other, "metaxy/tables", batch(vec![("id", ints([1, 2]))])).await.unwrap();
    assert_eq!(read(&other, "metaxy/tables").await.unwrap().num_rows(), 2);
    other.drop_table(&key("metaxy/tables")).await.unwrap();
    other.drop_table(&key("metaxy/tables")).await.unwrap();
    assert_eq!(other.schema(&key("metaxy/tables")).await.unwrap(), None);
    assert_eq!(read(&store, "metaxy/tables").await.unwrap().num_rows(), 1);
}

#[tokio::test]
async fn a_table_of_another_program_is_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE Mine (x); INSERT INTO Mine VALUES (7)")
        .unwrap();
    let store = open(&path, AccessMode::ReadWrite).await;
    assert_eq!(store.schema(&key("mine")).await.unwrap(), None);
    let error = append(&store, "mine", batch(vec![("id", ints([1]))])).await.unwrap_err();
    assert!(error.to_string().contains("table_prefix"), "{error}");
    append(&store, "others", batch(vec![("id", ints([1]))])).await.unwrap();
    assert_eq!(store.tables().await.unwrap(), ["others"]);
}

#[tokio::test]
async fn unsupported_batches_are_refused_completely() {
    let (_dir, _path, store) = fresh().await;
    let interval = DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano);
    let odd = batch(vec![("id", ints([1])), ("gap", arrow::array::new_null_array(&interval, 1))]);
    let error = append(&store, "odd", odd).await.unwrap_err();
    assert!(matches!(&error, Error::UnsupportedType { column, .. } if column == "gap"), "{error}");
    assert_eq!(store.schema(&key("odd")).await.unwrap(), None);
    append(&store, "odd", batch(vec![("id", ints([1]))])).await.unwrap();
    let error = append(&store, "odd", batch(vec![("id", texts(&["one"]))])).await.unwrap_err();
    assert!(matches!(&error, Error::TypeMismatch { column, .. } if column == "id"), "{error}");
    assert_eq!(read(&store, "odd").await.unwrap().num_rows(), 1);
}

#[tokio::test]
async fn locations_that_are_not_stores() {
    let dir = tempfile::tempdir().unwrap();
    let try_open = async |path: PathBuf, mode| SqliteBackend::file(path).open(mode).await.unwrap_err();
    for mode in [AccessMode::ReadOnly, AccessMode::ReadWrite] {
        let error = try_open(dir.path().join("none/store.db"), mode).await;
        assert!(matches!(error, Error::LocationNotFound { .. }), "{error}");
        let error = try_open(dir.path().to_owned(), mode).await;
        assert!(matches!(error, Error::NotAStore { .. }), "{error}");
        let text = dir.path().join("notes.txt");
        std::fs::write(&text, "this is a text file, and has never been anything else ".repeat(100)).unwrap();
        let error = try_open(text, mode).await;
        assert!(matches!(error, Error::NotAStore { .. }), "{error}");
    }
    let error = try_open(dir.path().join("missing.db"), AccessMode::ReadOnly).await;
    assert!(matches!(error, Error::LocationNotFound { .. }), "{error}");
    assert!(!dir.path().join("missing.db").exists());
    for (database, prefix) in [("", ""), ("a\0b", ""), ("store.db", "1x"), ("store.db", "x\";")] {
        let error = SqliteBackend::new(SqliteConfig::new(database).table_prefix(prefix)).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error}");
    }
}

#[tokio::test]
async fn special_characters_in_a_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file:a b?mode=memory#100%.db");
    let store = open(&path, AccessMode::ReadWrite).await;
    append(&store, "t", batch(vec![("id", ints([1]))])).await.unwrap();
    store.close().await.unwrap();
    assert!(path.is_file());
    let store = open(&path, AccessMode::ReadOnly).await;
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 1);
}

#[tokio::test]
async fn a_store_can_be_reopened() {
    let (_dir, _path, store) = fresh().await;
    append(&store, "t", batch(vec![("id", ints([1]))])).await.unwrap();
    store.close().await.unwrap();
    store.close().await.unwrap();
    for error in [
        store.schema(&key("t")).await.unwrap_err(),
        store.scan(&key("t"), &ScanRequest::default()).await.unwrap_err(),
        append(&store, "t", batch(vec![("id", ints([1]))])).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Closed { .. }), "{error}");
    }
    store.open(AccessMode::ReadOnly).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 1);
    let error = append(&store, "t", batch(vec![("id", ints([1]))])).await.unwrap_err();
    assert!(matches!(error, Error::AccessDenied { .. }), "{error}");
    let error = store.scan(&key("nothing"), &ScanRequest::default()).await.unwrap_err();
    assert!(matches!(error, Error::FeatureNotFound { .. }), "{error}");
}

/// Not run as root, who is exempt from permissions.
#[cfg(unix)]
#[tokio::test]
async fn a_read_only_directory() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, path, store) = fresh().await;
    append(&store, "t", batch(vec![("id", ints([1, 2]))])).await.unwrap();
    store.close().await.unwrap();
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 1, "the write-ahead log is gone once the store is closed");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o444)).unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o555)).unwrap();
    let may_write = std::fs::write(dir.path().join("probe"), "").is_ok();
    let store = SqliteBackend::new(SqliteConfig::new(path.to_str().unwrap()).immutable(true)).unwrap();
    store.open(AccessMode::ReadOnly).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 2);
    if !may_write {
        let writer = SqliteBackend::file(&path);
        let error = writer.open(AccessMode::ReadWrite).await.unwrap_err();
        assert!(matches!(error, Error::AccessDenied { .. }), "{error}");
    }
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
}

/// SQLite's readers create side files and do not remove them; this backend removes them, even if several readers
/// overlap.
#[tokio::test]
async fn readers_leave_no_side_files() {
    let (dir, path, store) = fresh().await;
    append(&store, "t", batch(vec![("id", ints(0..200_000))])).await.unwrap();
    store.close().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    let (first, second) = (open(&path, AccessMode::ReadOnly).await, open(&path, AccessMode::ReadOnly).await);
    let mut stream = second.scan(&key("t"), &ScanRequest::default()).await.unwrap().stream;
    stream.next().await.unwrap().unwrap();
    first.close().await.unwrap();
    second.close().await.unwrap();
    // A stream that began before the store was closed continues.
    while let Some(batch) = stream.next().await {
        batch.unwrap();
    }
    drop(stream);
    let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["store.db"]);
    assert!(before == std::fs::read(&path).unwrap());
}

/// Rows that a crash has left in the write-ahead log belong to the store, and stay in the log.
#[tokio::test]
async fn readers_keep_the_write_ahead_log() {
    let (dir, path, store) = fresh().await;
    append(&store, "t", one_row()).await.unwrap();
    let copy = dir.path().join("copy.db");
    for end in ["", "-wal", "-shm"] {
        std::fs::copy(beside(&path, end), beside(&copy, end)).unwrap();
    }
    let bytes = || ["", "-wal"].map(|end| std::fs::read(beside(&copy, end)).unwrap());
    let before = bytes();
    assert!(!before[1].is_empty());
    let reader = open(&copy, AccessMode::ReadOnly).await;
    assert_eq!(read(&reader, "t").await.unwrap().num_rows(), 1);
    reader.close().await.unwrap();
    assert!(before == bytes());
}

#[tokio::test]
async fn a_stream_reads_one_snapshot_and_blocks_no_writer() {
    let (_dir, path, store) = fresh().await;
    let rows = 300_000;
    append(&store, "t", batch(vec![("id", ints(0..rows))])).await.unwrap();
    let mut stream = store.scan(&key("t"), &ScanRequest::default()).await.unwrap().stream;
    let mut seen = stream.next().await.unwrap().unwrap().num_rows();
    let other = open(&path, AccessMode::ReadWrite).await;
    append(&other, "t", batch(vec![("id", ints(0..10))])).await.unwrap();
    append(&store, "t", batch(vec![("id", ints(0..10)), ("more", ints(0..10))])).await.unwrap();
    while let Some(batch) = stream.next().await {
        let batch = batch.unwrap();
        assert_eq!(batch.num_columns(), 1);
        seen += batch.num_rows();
    }
    assert_eq!(seen, rows as usize);
    assert_eq!(read(&other, "t").await.unwrap().num_rows(), rows as usize + 20);
}

#[tokio::test]
async fn reads_and_writes_in_memory_alternate() {
    let store = SqliteBackend::in_memory();
    store.open(AccessMode::ReadWrite).await.unwrap();
    assert_eq!(store.tables().await.unwrap(), Vec::<String>::new());
    append(&store, "t", batch(vec![("id", ints(0..100_000))])).await.unwrap();
    let mut stream = store.scan(&key("t"), &ScanRequest::default()).await.unwrap().stream;
    let mut seen = 0;
    while let Some(batch) = stream.next().await {
        seen += batch.unwrap().num_rows();
        append(&store, "t", one_row()).await.unwrap();
    }
    assert_eq!(seen, 100_000);
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 100_002);
}

fn one_row() -> RecordBatch {
    batch(vec![("id", ints([1]))])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_lose_no_rows() {
    let (_dir, path, first) = fresh().await;
    let mut stores = vec![Arc::new(first)];
    for _ in 0..5 {
        stores.push(Arc::new(open(&path, AccessMode::ReadWrite).await));
    }
    let mut tasks = Vec::new();
    for writer in 0..8_i64 {
        let store = stores[writer as usize % stores.len()].clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..5 {
                append(store.as_ref(), "t", batch(vec![("id", ints([writer * 100 + round]))])).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(read(stores[1].as_ref(), "t").await.unwrap().num_rows(), 40);
}

#[tokio::test]
async fn an_error_names_the_locked_file() {
    let (_dir, path, store) = fresh().await;
    append(&store, "t", one_row()).await.unwrap();
    let holder = rusqlite::Connection::open(&path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let hasty = SqliteBackend::new(SqliteConfig::new(path.to_str().unwrap()).busy_timeout_ms(50)).unwrap();
    hasty.open(AccessMode::ReadWrite).await.unwrap();
    let error = append(&hasty, "t", one_row()).await.unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert!(error.is_transient());
    assert_eq!(read(&hasty, "t").await.unwrap().num_rows(), 1);
    holder.execute_batch("ROLLBACK").unwrap();
    append(&hasty, "t", one_row()).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_write_is_atomic() {
    let (_dir, _path, store) = fresh().await;
    append(&store, "t", one_row()).await.unwrap();
    for delay in [0, 1, 5, 20, 50] {
        let before = read(&store, "t").await.unwrap().num_rows();
        let write = append(&store, "t", batch(vec![("id", ints(0..50_000))]));
        let _ = tokio::time::timeout(std::time::Duration::from_millis(delay), write).await;
        append(&store, "t", one_row()).await.unwrap();
        let added = read(&store, "t").await.unwrap().num_rows() - before;
        assert!([1, 50_001].contains(&added), "{added}");
    }
}

#[tokio::test]
async fn wide_tables() {
    let (_dir, _path, store) = fresh().await;
    let names: Vec<String> = (0..300).map(|number| format!("column_{number}")).collect();
    let columns = names.iter().map(|name| (name.as_str(), ints([1, 2, 3])));
    append(&store, "wide", batch(columns)).await.unwrap();
    let rows = read(&store, "wide").await.unwrap();
    assert_eq!((rows.num_rows(), rows.num_columns()), (3, 300));
}

#[tokio::test]
async fn only_some_columns_or_none() {
    let (_dir, _path, store) = fresh().await;
    append(&store, "t", batch(vec![("id", ints([1, 2])), ("a", texts(&["x", "y"])), ("b", ints([3, 4]))]))
        .await
        .unwrap();
    let scan = async |columns: &[&str]| {
        let columns = Some(columns.iter().map(|name| (*name).to_owned()).collect());
        let scan = store.scan(&key("t"), &ScanRequest { columns, ..ScanRequest::default() }).await.unwrap();
        assert_eq!(scan.applied, ScanStage::Filter);
        let batches: Vec<RecordBatch> = scan.stream.try_collect().await.unwrap();
        concat_batches(&scan.schema, &batches).unwrap()
    };
    assert_eq!(scan(&["b", "id"]).await, batch(vec![("id", ints([1, 2])), ("b", ints([3, 4]))]));
    let none = scan(&[]).await;
    assert_eq!((none.num_rows(), none.num_columns()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_writes_are_atomic() {
    let directory = tempfile::tempdir().unwrap();
    crash::survives_kills("killed_writes_are_atomic", Victim::Store, 20, directory.path(), |location| async move {
        Ok(Arc::new(SqliteBackend::file(location.join("store.db"))) as SharedBackend)
    })
    .await;
}

/// Returns the result of `keep_latest`; in wide tables SQLite computes it.
async fn latest(store: &SqliteBackend, table: &str) -> (ScanStage, Vec<(i64, i64)>) {
    let request = ScanRequest { keep_latest: Some(vec!["id".to_owned()]), ..ScanRequest::default() };
    let scan = store.scan(&key(table), &request).await.unwrap();
    let batches: Vec<RecordBatch> = scan.stream.try_collect().await.unwrap();
    let rows = concat_batches(&scan.schema, &batches).unwrap();
    let column = |name| rows.column_by_name(name).unwrap().as_primitive::<arrow::datatypes::Int64Type>().clone();
    let (ids, marks) = (column("id"), column("mark"));
    let mut found: Vec<_> = (0..rows.num_rows()).map(|row| (ids.value(row), marks.value(row))).collect();
    found.sort_unstable();
    (scan.applied, found)
}

#[tokio::test]
async fn the_latest_row_of_each_id() {
    let (_dir, _path, store) = fresh().await;
    let times = |values: Vec<Option<i64>>| -> ArrayRef {
        Arc::new(arrow::array::TimestampMicrosecondArray::from(values).with_timezone("UTC"))
    };
    let mut wide = vec![
        ("id", ints([1, 1, 2, 2, 3, 3, 4, 4, 5])),
        ("mark", ints(0..9)),
        (columns::UPDATED_AT, times([10, 20, 9, 8, 5, 5, 0, 0, 1].map(|t| (t > 0).then_some(t)).to_vec())),
        (columns::DELETED_AT, times([0, 0, 0, 30, 0, 0, 0, 0, 0].map(|t| (t > 0).then_some(t)).to_vec())),
    ];
    let padding: Vec<String> = (0..8).map(|number| format!("padding_{number}")).collect();
    wide.extend(padding.iter().map(|name| (name.as_str(), ints(0..9))));
    append(&store, "wide", batch(wide)).await.unwrap();
    let (applied, rows) = latest(&store, "wide").await;
    assert_eq!(applied, ScanStage::Filter);
    assert_eq!(rows, [(1, 1), (2, 3), (3, 5), (4, 7), (5, 8)]);
}

#[tokio::test]
async fn timestamps_are_stored_as_integers() {
    let (_dir, path, store) = fresh().await;
    let at: ArrayRef = Arc::new(arrow::array::TimestampMillisecondArray::from(vec![1_700_000_000_000]));
    assert_eq!(at.data_type(), &DataType::Timestamp(TimeUnit::Millisecond, None));
    append(&store, "t", batch(vec![("at", at)])).await.unwrap();
    let shell = rusqlite::Connection::open(path).unwrap();
    let year: String =
        shell.query_row("SELECT strftime('%Y', at / 1000, 'unixepoch') FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(year, "2023");
}

#[tokio::test]
async fn damaged_tables_are_reported() {
    let (_dir, path, store) = fresh().await;
    append(&store, "t", batch(vec![("id", ints([1]))])).await.unwrap();
    rusqlite::Connection::open(&path).unwrap().execute("UPDATE t SET id = 'one'", []).unwrap();
    let scan = store.scan(&key("t"), &ScanRequest::default()).await.unwrap();
    let error = scan.stream.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(&error, Error::Corrupt { reason, .. } if reason.contains("`id`")), "{error}");
}

#[tokio::test]
async fn schemas_keep_their_metadata() {
    let (_dir, _path, store) = fresh().await;
    let metadata = std::collections::HashMap::from([("unit".to_owned(), "px".to_owned())]);
    let field = Field::new("width", DataType::Int64, true).with_metadata(metadata);
    let schema = Arc::new(Schema::new(vec![field]));
    let rows = RecordBatch::try_new(schema.clone(), vec![ints([1])]).unwrap();
    append(&store, "t", rows).await.unwrap();
    assert_eq!(store.schema(&key("t")).await.unwrap().unwrap(), schema);
}
