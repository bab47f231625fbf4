//! Concurrent writers, cancelled writers, and servers that stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::*;
use arrow::datatypes::Int64Type;
use futures::StreamExt;
use metaxy_core::{AccessMode, Error, ScanRequest, StoreBackend};
use metaxy_postgres::PostgresBackend;
use metaxy_testkit::fixtures::tables::{append, batch, key, read};
use metaxy_testkit::servers::postgres::{Database, Server};

use super::support::{config, database, open};

/// Closes all connections of a store.
const CUT: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE application_name = 'metaxy' AND datname = current_database()";

/// Makes the write of a certain row wait forever.
const WAIT: &str = "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql \
                    AS 'BEGIN PERFORM pg_sleep(600); RETURN NEW; END'; \
                    CREATE TRIGGER wait BEFORE INSERT ON t FOR EACH ROW WHEN (NEW.text = 'wait') \
                    EXECUTE FUNCTION wait()";

/// Returns rows of one write, each with its number.
fn write_of(number: i64, rows: usize) -> RecordBatch {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["some text to make the row longer"; rows]));
    batch([("write", Arc::new(Int64Array::from(vec![number; rows])) as ArrayRef), ("text", text)])
}

/// Returns the number of rows of each write.
async fn counted(backend: &PostgresBackend) -> BTreeMap<i64, usize> {
    let found = read(backend, "t").await.unwrap();
    let mut counts = BTreeMap::new();
    for number in found.column(0).as_primitive::<Int64Type>().values() {
        *counts.entry(*number).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_writers_lose_and_duplicate_no_rows() {
    let database = database();
    let tasks = (0..16_i64).map(|writer| {
        let url = database.url().to_owned();
        tokio::spawn(async move {
            let backend = open(&url).await;
            for write in 0..5 {
                let mut rows = write_of(writer * 5 + write, 40);
                if write > 0 {
                    // All of them add columns during the test.
                    let extra: ArrayRef = Arc::new(Int64Array::from(vec![writer; 40]));
                    let name = format!("extra_{write}");
                    let columns = rows.schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
                    let pairs = columns.iter().map(String::as_str).zip(rows.columns().iter().cloned());
                    rows = batch(pairs.chain([(name.as_str(), extra)]));
                }
                append(&backend, "t", &rows).await.unwrap();
            }
            backend.close().await.unwrap();
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let backend = open(database.url()).await;
    assert_eq!(counted(&backend).await, (0..80).map(|write| (write, 40)).collect());
    assert_eq!(backend.schema(&key("t")).await.unwrap().unwrap().fields().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_write_is_atomic() {
    let database = database();
    let backend = Arc::new(open(database.url()).await);
    append(&*backend, "t", &write_of(-1, 1)).await.unwrap();
    let rows = 40_000;
    for number in 0..12_i64 {
        let write = write_of(number, rows);
        let backend = backend.clone();
        let limit = Duration::from_millis(5 * number as u64);
        let _ = tokio::time::timeout(limit, append(&*backend, "t", &write)).await;
    }
    append(&*backend, "t", &write_of(99, rows)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let counts = counted(&backend).await;
    assert_eq!(counts.get(&99), Some(&rows));
    assert!(counts.iter().all(|(number, count)| *number == -1 || *count == rows), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_reader_frees_its_connection() {
    let database = database();
    let mut config = config(database.url());
    config.pool_size = Some(1);
    config.connect_timeout = Some(60.0);
    let backend = PostgresBackend::new(config).unwrap();
    backend.open(AccessMode::ReadWrite).await.unwrap();
    append(&backend, "t", &write_of(1, 200_000)).await.unwrap();
    for _ in 0..5 {
        let mut stream = backend.scan(&key("t"), &ScanRequest::default()).await.unwrap().stream;
        assert!(stream.next().await.unwrap().unwrap().num_rows() > 0);
    }
    assert_eq!(read(&backend, "t").await.unwrap().num_rows(), 200_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_replaced() {
    let database = database();
    let backend = open(database.url()).await;
    append(&backend, "t", &write_of(1, 10)).await.unwrap();
    for _ in 0..3 {
        database.sql(CUT).unwrap();
        assert_eq!(read(&backend, "t").await.unwrap().num_rows(), 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_leaves_no_partial_write() {
    let database = Arc::new(database());
    let backend = Arc::new(open(database.url()).await);
    append(&*backend, "t", &write_of(-1, 1)).await.unwrap();
    // This write has sent all rows except the last when its connection is closed.
    database.sql(WAIT).unwrap();
    let mut columns = write_of(0, 10_000).columns().to_vec();
    columns[1] = Arc::new(StringArray::from_iter_values((0..10_000).map(|row| if row == 9_999 { "wait" } else { "" })));
    let stuck = batch(["write", "text"].into_iter().zip(columns));
    let error = cut_while(&database, append(&*backend, "t", &stuck)).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert_eq!(counted(&backend).await, BTreeMap::from([(-1, 1)]));
    // The connections of these writes are closed at any time.
    let mut returned = Vec::new();
    for number in 1..8_i64 {
        match cut_while(&database, append(&*backend, "t", &write_of(number, 60_000))).await {
            Ok(()) => returned.push(number),
            Err(error) => assert!(matches!(error, Error::Unreachable { .. }), "{error:?}"),
        }
        append(&*backend, "t", &write_of(100 + number, 10)).await.unwrap();
    }
    assert_whole(&backend, &returned, 60_000).await;
}

/// Checks that every stored write is complete, and that those that have returned are stored. The first has one row,
/// those from 100 on have ten, and the others have `rows`.
async fn assert_whole(backend: &PostgresBackend, returned: &[i64], rows: usize) -> BTreeMap<i64, usize> {
    let counts = counted(backend).await;
    for (number, count) in &counts {
        let whole = match number {
            -1 => 1,
            100.. => 10,
            _ => rows,
        };
        assert_eq!(*count, whole, "{counts:?}");
    }
    assert!(returned.iter().all(|number| counts.contains_key(number)), "{returned:?} {counts:?}");
    counts
}

/// Closes a store's connections repeatedly during the work.
async fn cut_while<T>(database: &Arc<Database>, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        let cutting = database.clone();
        let mut cut = tokio::task::spawn_blocking(move || cutting.sql(CUT));
        tokio::select! {
            done = &mut work => {
                cut.await.unwrap().unwrap();
                return done;
            }
            cut = &mut cut => cut.unwrap().unwrap(),
        };
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_crash_leaves_no_partial_write() {
    let server = Arc::new(Server::start().unwrap_or_else(|reason| panic!("{reason}")));
    let database = server.database().unwrap();
    let backend = Arc::new(open(database.url()).await);
    append(&*backend, "t", &write_of(-1, 1)).await.unwrap();
    let rows = 60_000;
    let mut returned = Vec::new();
    for number in 0..4_i64 {
        let writing = tokio::spawn({
            let backend = backend.clone();
            async move { append(&*backend, "t", &write_of(number, rows)).await }
        });
        tokio::time::sleep(Duration::from_millis(15 * number as u64)).await;
        let crashing = server.clone();
        tokio::task::spawn_blocking(move || crashing.crash()).await.unwrap().unwrap();
        match writing.await.unwrap() {
            Ok(()) => returned.push(number),
            Err(error) => assert!(matches!(error, Error::Unreachable { .. }), "{error:?}"),
        }
        let starting = server.clone();
        tokio::task::spawn_blocking(move || starting.resume()).await.unwrap().unwrap();
        // The same store continues.
        append(&*backend, "t", &write_of(100 + number, 10)).await.unwrap();
    }
    let counts = assert_whole(&backend, &returned, rows).await;
    assert_eq!(counts.keys().filter(|number| **number >= 100).count(), 4);
}
