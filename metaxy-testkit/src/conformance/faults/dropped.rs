//! Calls whose futures are dropped before they are done.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use arrow::array::Int64Array;
use futures::StreamExt;
use metaxy_core::{AccessMode, Error, FeatureGraph, FeatureKey, MetadataStore, Result};

use crate::conformance::kit::{LEAF, PASSED, ROOT, ids, pair, process, read, read_ids, root, samples, texts};
use crate::conformance::{Bench, Outcome};
use crate::faults::abandoned_after;

/// The number of polls after which a future must be done.
const POLLS: usize = 400;
const ROWS: usize = 30;

/// The moment at which a waiting call is dropped.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// While it waits.
    Waiting,
    /// When it has been woken, and could continue.
    Ready,
}

const MOMENTS: [Moment; 2] = [Moment::Waiting, Moment::Ready];

/// Polls a future `polls` times, then drops it. Returns its result, if it was ready by then.
async fn cut<F: Future>(future: F, polls: usize, moment: Moment) -> Option<F::Output> {
    if let Moment::Waiting = moment {
        return abandoned_after(polls, future).await;
    }
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// Drops a call when it waits for the first time, for the second time and so on, until it completes. Every attempt has
/// its own name, with which the store is prepared before it and checked after it.
async fn cut_everywhere<T, R, C, A>(
    moment: Moment,
    ready: impl Fn(String) -> R,
    call: impl Fn(String) -> C,
    after: impl Fn(String) -> A,
) -> Result<()>
where
    R: Future<Output = Result<()>>,
    C: Future<Output = Result<T>>,
    A: Future<Output = Result<()>>,
{
    for polls in 0..POLLS {
        let attempt = format!("{moment:?}{polls}-");
        ready(attempt.clone()).await?;
        let outcome = cut(call(attempt.clone()), polls, moment).await;
        after(attempt).await?;
        if let Some(answer) = outcome {
            return answer.map(|_| ());
        }
    }
    panic!("the call is not done after {POLLS} polls");
}

/// Prepares nothing, for calls that need no preparation.
async fn nothing(_: String) -> Result<()> {
    Ok(())
}

/// Returns the number of rows whose ids have a prefix: all of an attempt or none, in repeated reads.
async fn assert_whole(store: &MetadataStore, feature: &str, prefix: &str) -> Result<usize> {
    let mut count = 0;
    // Work that has begun may still be completed, outside the async threads.
    for _ in 0..3 {
        let ids = match store.read(feature).columns(["id"]).await {
            Ok(rows) => texts(&rows.rows().await?.to_batch()?, "id"),
            Err(Error::FeatureNotFound { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        count = ids.iter().filter(|id| id.starts_with(prefix)).count();
        assert!(count == 0 || count == ROWS, "a dropped call has left {count} of {ROWS} rows");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(count)
}

/// Returns the ids when they no longer change.
async fn settled(store: &MetadataStore) -> Result<Vec<String>> {
    let mut before = read_ids(store, ROOT).await?;
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = read_ids(store, ROOT).await?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
}

pub(in crate::conformance) async fn a_dropped_write_is_atomic(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let write = |attempt: String| {
        let batches: Vec<_> = ids(&attempt, ROWS).chunks(10).map(|ids| samples(ids, "v1").batch()).collect();
        store.write(ROOT, batches).into_future()
    };
    let whole = |attempt: String| {
        let store = store.clone();
        async move { assert_whole(&store, ROOT, &attempt).await.map(|_| ()) }
    };
    for moment in MOMENTS {
        cut_everywhere(moment, nothing, write, whole).await?;
    }
    // The store still works, and has the same rows after it is opened again.
    store.write(ROOT, samples(ids("after-", ROWS), "v1").batch()).await?;
    assert_eq!(assert_whole(&store, ROOT, "after-").await?, ROWS);
    let before = settled(&store).await?;
    store.close().await?;
    assert_eq!(read_ids(&bench.store(pair()?).await?, ROOT).await?, before);
    PASSED
}

pub(in crate::conformance) async fn a_dropped_delete_is_atomic(bench: Bench) -> Result<Outcome> {
    for (moment, soft) in MOMENTS.into_iter().flat_map(|moment| [(moment, true), (moment, false)]) {
        let store = bench.fresh_store().await?;
        // Every attempt has its own feature, so that each has the same number of rows to delete.
        let feature = |attempt: &str| format!("attempt/{}", attempt.trim_end_matches('-').to_lowercase());
        let store_of = |attempt: &str| store.with_graph(FeatureGraph::new([root(&feature(attempt))?])?);
        let filled = |attempt: String| async move {
            for prefix in ["keep-", "doomed-"] {
                let rows = samples(ids(prefix, ROWS), "v1").batch();
                store_of(&attempt)?.write(feature(&attempt), rows).await?;
            }
            Ok(())
        };
        let delete = |attempt: String| async move {
            let delete = store_of(&attempt)?.delete(feature(&attempt)).filter("id < 'e'");
            if soft { delete.await } else { delete.hard().await }
        };
        let whole = |attempt: String| async move {
            let store = store_of(&attempt)?;
            assert_whole(&store, &feature(&attempt), "doomed-").await?;
            let kept = assert_whole(&store, &feature(&attempt), "keep-").await?;
            assert_eq!(kept, ROWS, "a dropped deletion has removed other rows");
            Ok(())
        };
        cut_everywhere(moment, filled, delete, whole).await?;
    }
    PASSED
}

pub(in crate::conformance) async fn a_dropped_table_removal_is_atomic(bench: Bench) -> Result<Outcome> {
    for moment in MOMENTS {
        let store = bench.fresh_store().await?;
        let refilled = |_| async {
            eventually(|| store.write(ROOT, samples(ids("s", ROWS), "v1").batch()).into_future()).await.map(|_| ())
        };
        let whole = |_| async { eventually(|| assert_whole(&store, ROOT, "s")).await.map(|_| ()) };
        cut_everywhere(moment, refilled, |_| store.drop_feature(ROOT), whole).await?;
        assert!(!store.has_feature(ROOT).await?, "a dropped feature still exists");
    }
    PASSED
}

pub(in crate::conformance) async fn dropped_reads_hold_nothing(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(ids("s", ROWS), "v1").batch()).await?;
    process(&store, LEAF).await?;
    let unchanged = |_| {
        let store = store.clone();
        async move {
            assert_eq!(read_ids(&store, ROOT).await?.len(), ROWS);
            Ok(())
        }
    };
    let (backend, key): (_, FeatureKey) = (store.backend(), ROOT.parse()?);
    for moment in MOMENTS {
        let read = |_| async { store.read(ROOT).filter("id > 's'").await?.collect().await };
        cut_everywhere(moment, nothing, read, unchanged).await?;
        cut_everywhere(moment, nothing, |_| store.resolve_update(LEAF).into_future(), unchanged).await?;
        cut_everywhere(moment, nothing, |_| backend.schema(&key), unchanged).await?;
        cut_everywhere(moment, nothing, |_| backend.has_held_rows(&key), unchanged).await?;
        cut_everywhere(moment, nothing, |_| backend.tables(), unchanged).await?;
        cut_everywhere(moment, nothing, |_| backend.compact(&key), unchanged).await?;
    }
    store.write(ROOT, samples(ids("t", ROWS), "v1").batch()).await?;
    assert_eq!(read_ids(&store, ROOT).await?.len(), 2 * ROWS);
    PASSED
}

pub(in crate::conformance) async fn a_dropped_open_can_be_repeated(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1"], "v1").batch()).await?;
    store.close().await?;
    for moment in MOMENTS {
        let open = |_| async { patiently_open(&bench).await?.close().await };
        cut_everywhere(moment, nothing, open, nothing).await?;
    }
    let store = patiently_open(&bench).await?;
    assert_eq!(read_ids(&store, ROOT).await?, ["s1"]);
    store.write(ROOT, samples(["s2"], "v1").batch()).await?;
    PASSED
}

/// Repeats a call that may fail while a dropped call is completed and drops the table.
async fn eventually<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    for _ in 0..50 {
        if let Ok(answer) = call().await {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    call().await
}

/// Opens the store. A dropped opening may keep its lock until its thread notices that no caller waits.
async fn patiently_open(bench: &Bench) -> Result<MetadataStore> {
    for _ in 0..50 {
        match bench.builder(pair()?).await?.open(AccessMode::ReadWrite).await {
            Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_millis(20)).await,
            other => return other,
        }
    }
    bench.store(pair()?).await
}

pub(in crate::conformance) async fn a_stream_dropped_before_its_end(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(ids("s", 5_000), "v1").batch()).await?;
    for _ in 0..10 {
        let mut stream = store.read(ROOT).await?;
        let _ = stream.next().await.transpose()?;
        drop(stream);
    }
    store.write(ROOT, samples(["t"], "v1").column("n", Int64Array::from(vec![1])).batch()).await?;
    assert_eq!(read(&store, ROOT).await?.num_rows(), 5_001);
    store.close().await?;
    PASSED
}

pub(in crate::conformance) async fn a_store_dropped_without_closing(bench: Bench) -> Result<Outcome> {
    for round in 0..5 {
        let store = patiently_open(&bench).await?;
        store.write(ROOT, samples([format!("s{round}")], "v1").batch()).await?;
        let pending = store.read(ROOT).await?;
        drop((store, pending));
    }
    assert_eq!(read_ids(&patiently_open(&bench).await?, ROOT).await?, ["s0", "s1", "s2", "s3", "s4"]);
    PASSED
}
