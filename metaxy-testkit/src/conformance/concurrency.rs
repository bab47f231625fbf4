//! Concurrency: tasks, stores, streams, and readers that see complete writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};
use metaxy_core::backend::Writers;
use metaxy_core::key::IntoFeatureKey;
use metaxy_core::{Error, MetadataStore, Result, ScanRequest, VersioningEngine};

use super::kit::{
    GENERATION, LEAF, PASSED, ROOT, generation, ids, only_generation, pair, read, read_ids, samples, sorted, texts,
};
use super::{Bench, Outcome};

/// The number of rows in a write of a task.
pub(super) const ROWS_OF_ONE: usize = 4;

/// The time limit of calls that do not wait for a stream.
const HELD_LIMIT: Duration = Duration::from_secs(60);

/// Writes rows that only this task writes, [`ROWS_OF_ONE`] in each write.
pub(super) async fn write_own(store: &MetadataStore, task: usize, writes: usize) -> Result<()> {
    for write in 0..writes {
        write_patiently(store, [samples(ids(&format!("t{task}-w{write}-"), ROWS_OF_ONE), "v1").batch()]).await?;
    }
    Ok(())
}

/// Repeats a write while its error is transient.
async fn write_patiently(store: &MetadataStore, batches: impl Into<Vec<RecordBatch>>) -> Result<()> {
    let batches = batches.into();
    for _ in 0..50 {
        match store.write(ROOT, batches.clone()).await {
            Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_millis(20)).await,
            other => return other.map(|_| ()),
        }
    }
    store.write(ROOT, batches).await.map(|_| ())
}

pub(super) async fn concurrent_tasks(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let tasks = (0..8).map(|task| {
        let store = store.clone();
        tokio::spawn(async move { write_own(&store, task, 5).await })
    });
    for outcome in try_join_all(tasks).await? {
        outcome?;
    }
    assert_eq!(read_ids(&store, ROOT).await?.len(), 8 * 5 * ROWS_OF_ONE);
    PASSED
}

pub(super) async fn concurrent_tasks_add_columns(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let tasks = (0..6).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            let batch = samples([format!("s{task}")], "v1")
                .column(&format!("column_{task}"), Int64Array::from(vec![task]))
                .batch();
            write_patiently(&store, [batch]).await
        })
    });
    for outcome in try_join_all(tasks).await? {
        outcome?;
    }
    let rows = read(&store, ROOT).await?;
    assert_eq!(rows.num_rows(), 6);
    for task in 0..6 {
        let values = texts(&rows, &format!("column_{task}"));
        assert_eq!(values.iter().filter(|value| **value == task.to_string()).count(), 1, "{values:?}");
    }
    PASSED
}

/// Deletes permanently, and repeats the call while its error is transient.
async fn delete_patiently(store: &MetadataStore, filter: &str) -> Result<()> {
    for _ in 0..50 {
        match store.delete(ROOT).filter(filter).hard().await {
            Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_millis(20)).await,
            other => return other.map(|_| ()),
        }
    }
    store.delete(ROOT).filter(filter).hard().await.map(|_| ())
}

pub(super) async fn concurrent_writes_and_deletes(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    for round in 0..5 {
        store.write(ROOT, samples(ids(&format!("doomed{round}-"), 10), "v1").batch()).await?;
    }
    let deletes = async {
        for round in 0..5 {
            delete_patiently(&store, &format!("id >= 'doomed{round}-' AND id < 'doomed{round}-9'")).await?;
        }
        Ok::<_, Error>(())
    };
    futures::try_join!(write_own(&store, 1, 10), write_own(&store, 2, 10), deletes)?;
    let left = read_ids(&store, ROOT).await?;
    assert!(left.iter().all(|id| !id.starts_with("doomed")), "deleted rows are read again: {left:?}");
    assert_eq!(left.len(), 2 * 10 * ROWS_OF_ONE, "rows that were written while others were deleted are lost");
    PASSED
}

pub(super) async fn concurrent_stores(bench: Bench) -> Result<Outcome> {
    let first = bench.store(pair()?).await?;
    if bench.capabilities().await?.writers == Writers::OneStore {
        return refuses_a_second_writer(&bench, first).await;
    }
    let second = bench.store(pair()?).await?;
    futures::try_join!(write_own(&first, 1, 10), write_own(&second, 2, 10))?;
    for store in [&first, &second] {
        assert_eq!(read_ids(store, ROOT).await?.len(), 2 * 10 * ROWS_OF_ONE);
    }
    PASSED
}

/// Checks that, if there can be only one writer, a second one works or gets an error, and that no row is lost.
async fn refuses_a_second_writer(bench: &Bench, first: MetadataStore) -> Result<Outcome> {
    first.write(ROOT, samples(["s1"], "v1").batch()).await?;
    let second = match bench.store(pair()?).await {
        Ok(second) => second.write(ROOT, samples(["s2"], "v1").batch()).await.map(|_| 2),
        Err(error) => Err(error),
    };
    let (rows, outcome) = match second {
        Ok(rows) => (rows, Outcome::Passed),
        Err(error @ (Error::Locked { .. } | Error::Conflict { .. })) => (1, Outcome::Refused(error.to_string())),
        Err(error) => return Err(error),
    };
    assert_eq!(read_ids(&first, ROOT).await?.len(), rows);
    Ok(outcome)
}

pub(super) async fn readers_see_complete_writes(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, generation(0)).await?;
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (store, done) = (store.clone(), Arc::clone(&done));
        async move {
            let mut reads = 0;
            while reads == 0 || !done.load(Ordering::SeqCst) {
                only_generation(&read(&store, ROOT).await?);
                reads += 1;
            }
            Ok::<_, Error>(())
        }
    });
    for number in 1..20 {
        store.write(ROOT, generation(number)).await?;
    }
    done.store(true, Ordering::SeqCst);
    reader.await??;
    assert_eq!(only_generation(&read(&store, ROOT).await?), 19);
    PASSED
}

pub(super) async fn a_stream_returns_one_snapshot(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, generation(0)).await?;
    let stream = store.read(ROOT).await?;
    store.write(ROOT, generation(1)).await?;
    let rows = stream.rows().await?.to_batch()?;
    only_generation(&rows);
    let stream = store.read(ROOT).await?;
    store.delete(ROOT).hard().await?;
    let rows = stream.rows().await?.to_batch()?;
    assert!([0, GENERATION].contains(&rows.num_rows()), "a reader sees a part of a deletion");
    PASSED
}

/// Returns rows from which a stream makes several batches, with any batch size.
fn many(number: i64) -> RecordBatch {
    const MANY: usize = 100_000;
    samples(ids("s", MANY), "v1").column("n", Int64Array::from(vec![number; MANY])).batch()
}

pub(super) async fn a_partly_read_stream_keeps_its_snapshot(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, many(0)).await?;
    let backend = store.backend().clone();
    let key = ROOT.into_feature_key()?;
    // A request as the core makes it, without the steps of the core: one batch, then the change, then the rest.
    let request = ScanRequest { columns: Some(vec!["n".to_owned()]), ..ScanRequest::default() };
    for change in ["write", "delete", "compact", "delete everything"] {
        let mut stream = backend.scan(&key, &request).await?.stream;
        let mut batches: Vec<RecordBatch> = stream.next().await.into_iter().collect::<Result<_>>()?;
        let before = backend.scan(&key, &request).await?.stream.try_collect::<Vec<_>>().await?;
        match change {
            "write" => write_patiently(&store, [many(1)]).await?,
            "delete" => delete_patiently(&store, "n = 0").await?,
            "compact" => backend.compact(&key).await?,
            _ => delete_patiently(&store, "n >= 0").await?,
        }
        batches.extend(stream.try_collect::<Vec<_>>().await?);
        assert_eq!(tally(&batches), tally(&before), "a partly read stream sees a later {change}");
    }
    PASSED
}

pub(super) async fn many_unread_streams(bench: Bench) -> Result<Outcome> {
    const STREAMS: usize = 100;
    let store = bench.store(pair()?).await?;
    let rows = |n: i64| many(n).slice(0, 20_000);
    store.write(ROOT, rows(0)).await?;
    let backend = store.backend().clone();
    let key = ROOT.into_feature_key()?;
    let request = ScanRequest { columns: Some(vec!["n".to_owned()]), ..ScanRequest::default() };
    let expected = tally(&backend.scan(&key, &request).await?.stream.try_collect::<Vec<_>>().await?);
    let mut held = Vec::with_capacity(STREAMS);
    for number in 0..STREAMS {
        let first = async {
            let mut stream = backend.scan(&key, &request).await?.stream;
            let first: Vec<RecordBatch> = stream.next().await.into_iter().collect::<Result<_>>()?;
            Ok::<_, Error>((first, stream))
        };
        let first = tokio::time::timeout(HELD_LIMIT, first).await;
        held.push(first.unwrap_or_else(|_| panic!("no stream starts while {number} are open"))?);
    }
    // Other calls work: a write, and a read of all rows.
    let others = async {
        write_patiently(&store, [rows(1)]).await?;
        backend.scan(&key, &request).await?.stream.try_collect::<Vec<_>>().await
    };
    let all = tokio::time::timeout(HELD_LIMIT, others).await;
    let all = tally(&all.unwrap_or_else(|_| panic!("a write and a read wait for {STREAMS} open streams"))?);
    assert_eq!(all.len(), expected.len() + 1);
    for (mut batches, stream) in held {
        batches.extend(stream.try_collect::<Vec<_>>().await?);
        assert_eq!(tally(&batches), expected, "an open stream has lost rows, or its snapshot");
    }
    PASSED
}

pub(super) async fn a_stream_outlives_its_store(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, many(0)).await?;
    let request = ScanRequest { columns: Some(vec!["n".to_owned()]), ..ScanRequest::default() };
    let mut stream = store.backend().scan(&ROOT.into_feature_key()?, &request).await?.stream;
    let mut batches: Vec<RecordBatch> = stream.next().await.into_iter().collect::<Result<_>>()?;
    store.close().await?;
    let expected = BTreeMap::from([(Some(0), many(0).num_rows())]);
    match stream.try_collect::<Vec<_>>().await {
        Ok(rest) => {
            batches.extend(rest);
            assert_eq!(tally(&batches), expected, "a stream ends too early, without an error");
        }
        Err(Error::Closed { .. }) => {}
        Err(error) => return Err(error),
    }
    let store = bench.store(pair()?).await?;
    let batches =
        store.backend().scan(&ROOT.into_feature_key()?, &request).await?.stream.try_collect::<Vec<_>>().await?;
    assert_eq!(tally(&batches), expected);
    PASSED
}

/// Returns the number of rows with each value of `n`.
fn tally(batches: &[RecordBatch]) -> BTreeMap<Option<i64>, usize> {
    let numbers = batches.iter().flat_map(|batch| {
        let column = batch.column_by_name("n").expect("it was asked for");
        column.as_primitive::<Int64Type>().iter().collect::<Vec<_>>()
    });
    numbers.fold(BTreeMap::new(), |mut tally, number| {
        *tally.entry(number).or_default() += 1;
        tally
    })
}

pub(super) async fn an_open_stream_blocks_nothing(bench: Bench) -> Result<Outcome> {
    const PATIENCE: Duration = Duration::from_secs(120);
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(ids("s", 70_000), "v1").column("n", Int64Array::from(vec![0; 70_000])).batch()).await?;
    let mut streams = Vec::new();
    for _ in 0..12 {
        streams.push(store.read(ROOT).await?);
    }
    let write = store.write(ROOT, generation(1)).into_future();
    tokio::time::timeout(PATIENCE, write).await.expect("streams that are not read block a write")?;
    let read = async { store.read(ROOT).filter("n = 1").await?.rows().await };
    let rows = tokio::time::timeout(PATIENCE, read).await.expect("streams that are not read block a read")?;
    assert_eq!(only_generation(&sorted(rows)?), 1);
    streams.truncate(1);
    tokio::time::timeout(PATIENCE, store.close()).await.expect("a stream that is not read blocks closing")?;
    PASSED
}

/// Repeats a call until the writes are done. The table may be missing, or be dropped during a call.
async fn look<T, F: IntoFuture<Output = Result<T>>>(done: &AtomicBool, call: impl Fn() -> F) -> Result<()> {
    while !done.load(Ordering::SeqCst) {
        match call().await {
            Ok(_) | Err(Error::FeatureNotFound { .. }) => {}
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error),
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn whole_rows(store: &MetadataStore) -> Result<()> {
    let rows = read(store, ROOT).await?;
    if rows.num_rows() > 0 {
        only_generation(&rows);
    }
    Ok(())
}

async fn whole_increment(store: &MetadataStore, engine: VersioningEngine) -> Result<()> {
    let increment = store.resolve_update(LEAF).versioning_engine(engine).await?;
    assert!([0, GENERATION].contains(&increment.new.num_rows()), "a resolve sees a part of a write");
    Ok(())
}

pub(super) async fn a_table_that_is_dropped_repeatedly(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let done = AtomicBool::new(false);
    let writes = async {
        for number in 0..30 {
            write_patiently(&store, generation(number)).await?;
        }
        done.store(true, Ordering::SeqCst);
        Ok(())
    };
    futures::try_join!(
        writes,
        look(&done, || store.drop_feature(ROOT)),
        look(&done, || whole_rows(&store)),
        look(&done, || store.has_feature(ROOT)),
        look(&done, || store.delete(ROOT).filter("n = 1").hard()),
        look(&done, || store.delete(ROOT).filter("n = 2")),
        look(&done, || whole_increment(&store, VersioningEngine::Auto)),
        look(&done, || whole_increment(&store, VersioningEngine::Arrow)),
    )?;
    store.drop_feature(ROOT).await?;
    assert!(!store.has_feature(ROOT).await?, "a dropped table still exists");
    PASSED
}
