//! Files that are read where no files can be created beside them: only if a setting asks for it, and only unchanged.

use std::path::Path;

use futures::{StreamExt, TryStreamExt};
use metaxy_core::{AccessMode, Error, Result, ScanRequest, StoreBackend};
use metaxy_sqlite::{SqliteBackend, SqliteConfig};

use super::{append, batch, beside, fresh, ints, key, one_row, open, read};

/// Makes a place in which SQLite can create no index of a log, also where root runs this test.
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
async fn immutable_only_by_the_setting() {
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

/// A journal or a log says that the file alone is not the whole of it.
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

/// Another writer of the same file, which leaves no log behind.
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
    // What was begun cannot be finished: the rest may be of the other state. At most one batch was read ahead.
    let error = stream.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error:?}");
    assert!(error.is_transient());
    assert_eq!(read(&reader, "t").await.unwrap().num_rows(), 150_005);
}
