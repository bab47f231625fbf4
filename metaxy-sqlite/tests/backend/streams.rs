//! Streams that are not read: they hold no thread, and few files.

use futures::future::{join_all, try_join_all};
use futures::{StreamExt, TryStreamExt};
use metaxy_core::{AccessMode, ScanRequest, StoreBackend};

use super::{append, batch, fresh, in_child, ints, key, one_row, open, read};

/// Returns a runtime on which a single call may block.
fn narrow_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).max_blocking_threads(1).enable_all().build().unwrap()
}

/// More rows than a batch has.
const ROWS: usize = 66_000;

#[cfg(unix)]
#[test]
fn held_streams_take_neither_threads_nor_files() {
    if !in_child("streams::held_streams_take_neither_threads_nor_files", 256) {
        return;
    }
    narrow_runtime().block_on(async {
        let hold = tokio::time::timeout(std::time::Duration::from_secs(240), hold_many_streams());
        hold.await.expect("no stream waits for another");
    });
}

async fn hold_many_streams() {
    const TABLES: [(&str, usize); 2] = [("small", ROWS), ("large", 5 * ROWS)];
    let (_dir, path, store) = fresh().await;
    for (table, rows) in TABLES {
        append(&store, table, batch(vec![("id", ints(0..rows as i64))])).await.unwrap();
    }
    let mut held = Vec::new();
    for number in 0..600 {
        let (table, rows) = TABLES[usize::from(number % 10 == 0)];
        // Rows without columns are read faster.
        let request = ScanRequest { columns: (number % 20 != 0).then(Vec::new), ..ScanRequest::default() };
        held.push((store.scan(&key(table), &request).await.unwrap().stream, rows));
    }
    append(&store, "large", one_row()).await.unwrap();
    for (stream, left) in held.iter_mut().step_by(35) {
        *left -= stream.next().await.unwrap().unwrap().num_rows();
    }
    let other = open(&path, AccessMode::ReadWrite).await;
    append(&other, "large", one_row()).await.unwrap();
    assert_eq!(read(&other, "large").await.unwrap().num_rows(), 5 * ROWS + 2);
    // Each stream sees its table as it was when it began, wherever its rows waited.
    for (stream, left) in held.into_iter().step_by(5) {
        let rest: Vec<_> = stream.try_collect().await.unwrap();
        assert_eq!(rest.iter().map(|batch| batch.num_rows()).sum::<usize>(), left);
    }
}

#[cfg(unix)]
#[test]
fn thousands_of_features_in_a_process_with_few_handles() {
    if !in_child("streams::thousands_of_features_in_a_process_with_few_handles", 1024) {
        return;
    }
    const FEATURES: usize = 3000;
    narrow_runtime().block_on(async {
        let (_dir, path, store) = fresh().await;
        append(&store, "first", one_row()).await.unwrap();
        let shell = rusqlite::Connection::open(&path).unwrap();
        let mut tables = String::from("BEGIN;");
        for number in 0..FEATURES {
            tables += &format!(
                "CREATE TABLE f{number} AS SELECT * FROM first;
                 INSERT INTO metaxy$tables SELECT prefix, 'f{number}', 'f{number}', sql_columns, schema, format
                 FROM metaxy$tables WHERE feature = 'first';"
            );
        }
        shell.execute_batch(&(tables + "COMMIT")).unwrap();
        let keys: Vec<_> = (0..FEATURES).map(|number| key(&format!("f{number}"))).collect();
        let request = ScanRequest::default();
        let scans = try_join_all(keys.iter().map(|key| store.scan(key, &request))).await.unwrap();
        let writes = join_all((0..100).map(|number| {
            let store = &store;
            async move { append(store, &format!("f{number}"), one_row()).await }
        }));
        assert!(writes.await.iter().all(Result::is_ok));
        for scan in scans {
            let rows: Vec<_> = scan.stream.try_collect().await.unwrap();
            assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1);
        }
        assert_eq!(store.tables().await.unwrap().len(), FEATURES + 1);
    });
}

/// A dropped stream stops the statement that runs for it, gives its connection back, and disturbs no other read.
#[tokio::test]
async fn dropped_streams_stop_their_reads() {
    let (_dir, _path, store) = fresh().await;
    append(&store, "t", batch(vec![("id", ints(0..ROWS as i64))])).await.unwrap();
    for round in 0..60 {
        let mut stream = store.scan(&key("t"), &ScanRequest::default()).await.unwrap().stream;
        if round % 2 == 0 {
            stream.next().await.unwrap().unwrap();
        }
        drop(stream);
        assert!(store.has_held_rows(&key("t")).await.unwrap());
    }
    for delay in [0, 1, 3, 10] {
        let scan = read(&store, "t");
        let _ = tokio::time::timeout(std::time::Duration::from_millis(delay), scan).await;
    }
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), ROWS);
}
