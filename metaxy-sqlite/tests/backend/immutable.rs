//! Files in directories where SQLite cannot create files: read only if a setting requires it, and only if unchanged.

use std::path::Path;

use futures::{StreamExt, TryStreamExt};
use metaxy_core::{AccessMode, Error, Result, ScanRequest, StoreBackend};
use metaxy_sqlite::{SqliteBackend, SqliteConfig};
use metaxy_testkit::process;

use super::{append, batch, beside, fresh, ints, key, one_row, open, read};

/// Prevents SQLite from creating the index of a log, even if the test runs as root.
fn block(path: &Path) {
    std::os::unix::fs::symlink("/nowhere", beside(path, "-shm")).unwrap();
}

fn unblock(path: &Path) {
    std::fs::remove_file(beside(path, "-shm")).unwrap();
}

async fn open_immutable(path: &Path, mode: AccessMode) -> Result<SqliteBackend> {
    let store = SqliteBackend::new(SqliteConfig::new(path.to_str().unwrap()).immutable(true))?;
    store.open(mode).await.map(|()| store)
}

#[tokio::test]
async fn immutable_reads_need_the_setting() {
    let (_dir, path, store) = fresh().await;
    append(&store, "t", one_row()).await.unwrap();
    store.close().await.unwrap();
    block(&path);
    let error = SqliteBackend::file(&path).open(AccessMode::ReadOnly).await.unwrap_err();
    assert!(matches!(&error, Error::AccessDenied { reason, .. } if reason.contains("`immutable = true`")), "{error:?}");
    let store = open_immutable(&path, AccessMode::ReadOnly).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 1);
    assert_eq!(store.tables().await.unwrap(), ["t"]);
    let error = open_immutable(&path, AccessMode::ReadWrite).await.unwrap_err();
    assert!(matches!(&error, Error::AccessDenied { .. }), "{error:?}");
    let error = SqliteBackend::new(SqliteConfig::new(":memory:").immutable(true)).unwrap_err();
    assert!(matches!(&error, Error::Config { key, .. } if key == "immutable"), "{error:?}");
}

/// A journal or a log means that the file alone is incomplete.
#[tokio::test]
async fn immutable_is_refused_beside_a_journal_or_a_log() {
    for ending in ["-journal", "-wal"] {
        let (_dir, path, store) = fresh().await;
        append(&store, "t", one_row()).await.unwrap();
        store.close().await.unwrap();
        let store = open_immutable(&path, AccessMode::ReadOnly).await.unwrap();
        std::fs::write(beside(&path, ending), "rows that are not in the file yet").unwrap();
        for error in [
            open_immutable(&path, AccessMode::ReadOnly).await.unwrap_err(),
            store.tables().await.unwrap_err(),
            read(&store, "t").await.unwrap_err(),
        ] {
            assert!(matches!(&error, Error::Locked { holder, .. } if holder.contains(ending)), "{error:?}");
        }
        std::fs::remove_file(beside(&path, ending)).unwrap();
        assert_eq!(read(&store, "t").await.unwrap().num_rows(), 1);
    }
}

/// Writes to the same file as another writer, which leaves no log.
async fn write_beside(path: &Path, rows: std::ops::Range<i64>) {
    let writer = open(path, AccessMode::ReadWrite).await;
    append(&writer, "t", batch(vec![("id", ints(rows))])).await.unwrap();
    writer.close().await.unwrap();
}

#[tokio::test]
async fn immutable_reads_see_every_change() {
    let (_dir, path, store) = fresh().await;
    store.close().await.unwrap();
    write_beside(&path, 0..150_000).await;
    block(&path);
    let reader = open_immutable(&path, AccessMode::ReadOnly).await.unwrap();
    assert_eq!(read(&reader, "t").await.unwrap().num_rows(), 150_000);
    let mut stream = reader.scan(&key("t"), &ScanRequest::default()).await.unwrap().stream;
    stream.next().await.unwrap().unwrap();
    unblock(&path);
    write_beside(&path, 0..5).await;
    block(&path);
    // The rest may belong to another snapshot, so the stream cannot be completed. At most one batch was read ahead.
    let error = stream.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error:?}");
    assert!(error.is_transient());
    assert_eq!(read(&reader, "t").await.unwrap().num_rows(), 150_005);
}

/// A crash has left a file in the middle of a change: only its journal has the earlier rows.
#[tokio::test]
async fn an_incomplete_change_is_never_read() {
    const ROWS: i64 = 20_000;
    let (dir, path, store) = fresh().await;
    append(&store, "t", batch(vec![("id", ints((0..ROWS).map(|_| 1)))])).await.unwrap();
    store.close().await.unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA cache_size = 5; BEGIN; UPDATE t SET id = 2").unwrap();
    let torn = dir.path().join("torn.db");
    for ending in ["", "-journal"] {
        std::fs::copy(beside(&path, ending), beside(&torn, ending)).unwrap();
    }
    let copied = || ["", "-journal"].map(|ending| std::fs::read(beside(&torn, ending)).unwrap());
    let before = copied();
    let error = open_immutable(&torn, AccessMode::ReadOnly).await.unwrap_err();
    assert!(matches!(&error, Error::Locked { holder, .. } if holder.contains("-journal")), "{error:?}");
    let error = SqliteBackend::file(&torn).open(AccessMode::ReadOnly).await.unwrap_err();
    assert!(matches!(&error, Error::AccessDenied { .. }), "{error:?}");
    assert!(before == copied(), "a reader has changed a file");
    let writer = open(&torn, AccessMode::ReadWrite).await;
    let rows = read(&writer, "t").await.unwrap();
    assert_eq!(rows, batch(vec![("id", ints((0..ROWS).map(|_| 1)))]));
}

/// Counts the rows of a store whenever a line with their number is read from the input.
#[cfg(target_os = "linux")]
async fn count_rows(path: &Path) {
    let store = open(path, AccessMode::ReadOnly).await;
    for line in std::io::stdin().lines() {
        assert_eq!(read(&store, "t").await.unwrap().num_rows().to_string(), line.unwrap());
        println!("counted");
    }
}

/// Such a reader shares the writer's log and does not treat the file as immutable.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_reader_without_write_permission_reads_new_rows() {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    use std::process::Stdio;

    if let Some(path) = process::told() {
        return count_rows(Path::new(&path)).await;
    }
    let (dir, path, store) = fresh().await;
    append(&store, "t", one_row()).await.unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o555)).unwrap();
    let mut reader = process::second("immutable::a_reader_without_write_permission_reads_new_rows", &path);
    reader.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
    if std::fs::write(dir.path().join("probe"), "").is_ok() {
        // A user who is not exempt from permissions.
        reader.uid(65_534).gid(65_534);
    }
    let mut reader = reader.spawn().unwrap();
    let (mut ask, answers) = (reader.stdin.take().unwrap(), reader.stdout.take().unwrap());
    let mut answers = BufReader::new(answers).lines();
    for rows in 1..5 {
        writeln!(ask, "{rows}").unwrap();
        assert!(answers.any(|line| line.unwrap().ends_with("counted")), "the reader of {rows} rows has failed");
        append(&store, "t", one_row()).await.unwrap();
    }
    drop(ask);
    assert!(reader.wait().unwrap().success());
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
}
