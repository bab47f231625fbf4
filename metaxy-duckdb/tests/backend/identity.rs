//! A file is identified by its device and inode number, not by its path.

use std::path::Path;

use metaxy_core::{AccessMode, Error, StoreBackend};

use super::{TARGET, append, batch, ints, open, process, read};

/// All names lead to one file: rows that are written under one name are read under the others, and none are lost.
#[cfg(unix)]
#[tokio::test]
async fn two_names_are_one_file() {
    let links: [fn(&Path, &Path) -> std::io::Result<()>; 2] =
        [|from, to| std::fs::hard_link(from, to), |from, to| std::os::unix::fs::symlink(from, to)];
    for link in links {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("store.duckdb"), dir.path().join("other.duckdb"));
        let first = open(&path, AccessMode::ReadWrite).await.unwrap();
        append(&first, "t", batch(vec![("id", ints([1]))])).await.unwrap();
        link(&path, &other).unwrap();
        let second = open(&other, AccessMode::ReadWrite).await.unwrap();
        append(&second, "t", batch(vec![("id", ints([2]))])).await.unwrap();
        append(&first, "t", batch(vec![("id", ints([3]))])).await.unwrap();
        assert_eq!(read(&second, "t").await.unwrap().num_rows(), 3);
        first.close().await.unwrap();
        append(&second, "t", batch(vec![("id", ints([4]))])).await.unwrap();
        second.close().await.unwrap();
        let reopened = open(&other, AccessMode::ReadOnly).await.unwrap();
        assert_eq!(read(&reopened, "t").await.unwrap().num_rows(), 4);
    }
}

/// Runs in the child process of the test below: writes a row, and ends without closing the file.
#[tokio::test]
async fn ends_without_closing() {
    let Some(path) = std::env::var_os(TARGET).map(std::path::PathBuf::from) else { return };
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", batch(vec![("id", ints([1]))])).await.unwrap();
    std::process::abort();
}

/// The write-ahead log has the name under which the file was opened. DuckDB does not find it under another name.
#[cfg(unix)]
#[tokio::test]
async fn rows_in_the_log_of_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("store.duckdb"), dir.path().join("other.duckdb"));
    open(&path, AccessMode::ReadWrite).await.unwrap().close().await.unwrap();
    std::fs::hard_link(&path, &other).unwrap();
    assert!(!process("identity::ends_without_closing", &path).output().unwrap().status.success());
    for mode in [AccessMode::ReadOnly, AccessMode::ReadWrite] {
        let error = open(&other, mode).await.unwrap_err();
        assert!(
            matches!(&error, Error::AccessDenied { reason, .. } if reason.contains("store.duckdb.wal")),
            "{error:?}"
        );
    }
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 1);
    store.close().await.unwrap();
    assert_eq!(read(&open(&other, AccessMode::ReadOnly).await.unwrap(), "t").await.unwrap().num_rows(), 1);
}

/// A write to a removed file is not acknowledged, and does not reach the file that has replaced it.
#[tokio::test]
async fn a_file_removed_while_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    let orphan = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&orphan, "t", batch(vec![("id", ints([1]))])).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let error = append(&orphan, "t", batch(vec![("id", ints([2]))])).await.unwrap_err();
    assert!(matches!(error, Error::LocationNotFound { .. }), "{error:?}");
    let error = read(&orphan, "t").await.unwrap_err();
    assert!(matches!(error, Error::LocationNotFound { .. }), "{error:?}");
    let _ = std::fs::remove_file(dir.path().join("store.duckdb.wal"));
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", batch(vec![("id", ints([10, 11]))])).await.unwrap();
    let error = append(&orphan, "t", batch(vec![("id", ints([3]))])).await.unwrap_err();
    assert!(matches!(error, Error::LocationNotFound { .. }), "{error:?}");
    let log = dir.path().join("store.duckdb.wal");
    let waiting = std::fs::metadata(&log).unwrap().len();
    orphan.close().await.unwrap();
    assert_eq!(std::fs::metadata(&log).unwrap().len(), waiting, "the log of the new file is left alone");
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 2);
    store.close().await.unwrap();
    assert_eq!(read(&open(&path, AccessMode::ReadOnly).await.unwrap(), "t").await.unwrap().num_rows(), 2);
}

#[tokio::test]
async fn a_file_replaced_or_renamed_while_open() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("store.duckdb"), dir.path().join("moved.duckdb"));
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", batch(vec![("id", ints([1]))])).await.unwrap();
    std::fs::rename(&path, &moved).unwrap();
    std::fs::write(&path, b"another program's").unwrap();
    let error = append(&store, "t", batch(vec![("id", ints([2]))])).await.unwrap_err();
    assert!(matches!(error, Error::LocationNotFound { .. }), "{error:?}");
    store.close().await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"another program's");
}
