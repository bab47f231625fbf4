//! Faults: calls that are dropped half way leave the store as if they had not been made, or as if they had succeeded.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use arrow::array::Int64Array;
use futures::StreamExt;
use metaxy_core::{AccessMode, Error, MetadataStore, Result};

use super::kit::{LEAF, PASSED, ROOT, ids, pair, process, read, read_ids, samples, texts};
use super::{Bench, Outcome};

/// How often a future may be polled before it has to be done.
const POLLS: usize = 400;
const ROWS: usize = 30;

/// Polls a future `polls` times, then drops it; its answer, if it had one by then.
async fn cut<F: Future>(future: F, polls: usize) -> Option<F::Output> {
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

/// Drops a call after 0, 1, 2 polls and so on, until it comes to its end; looks at the store after each.
async fn cut_everywhere<T, C, A>(call: impl Fn(usize) -> C, mut after: impl FnMut(usize) -> A) -> Result<()>
where
    C: Future<Output = Result<T>>,
    A: Future<Output = Result<()>>,
{
    for polls in 0..POLLS {
        let outcome = cut(call(polls), polls).await;
        after(polls).await?;
        if let Some(answer) = outcome {
            return answer.map(|_| ());
        }
    }
    panic!("the call is not done after {POLLS} polls");
}

/// All rows of a generation, or none of them, however often it is looked at.
async fn assert_whole(store: &MetadataStore, prefix: &str) -> Result<usize> {
    let mut count = 0;
    // Work that was begun may still come to its end, off the async threads.
    for _ in 0..3 {
        let ids = match store.read(ROOT).await {
            Ok(rows) => texts(&rows.rows().await?.to_batch()?, "id"),
            Err(Error::FeatureNotFound { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        count = ids.iter().filter(|id| id.starts_with(prefix)).count();
        assert!(count == 0 || count == ROWS, "a dropped write has left {count} of its {ROWS} rows");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(count)
}

pub(super) async fn dropped_write_is_whole(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let write = |polls: usize| {
        let batches: Vec<_> =
            ids(&format!("p{polls}-"), ROWS).chunks(10).map(|ids| samples(ids, "v1").batch()).collect();
        store.write(ROOT, batches).into_future()
    };
    cut_everywhere(write, |polls| {
        let store = store.clone();
        async move { assert_whole(&store, &format!("p{polls}-")).await.map(|_| ()) }
    })
    .await?;
    // The store goes on as ever, and what it says is still so after it was opened again.
    store.write(ROOT, samples(ids("after-", ROWS), "v1").batch()).await?;
    assert_eq!(assert_whole(&store, "after-").await?, ROWS);
    let before = settled(&store).await?;
    store.close().await?;
    assert_eq!(read_ids(&bench.store(pair()?).await?, ROOT).await?, before);
    PASSED
}

/// The ids, once nothing changes them any more.
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

pub(super) async fn dropped_delete_is_whole(bench: Bench) -> Result<Outcome> {
    for soft in [true, false] {
        let store = bench.fresh_store().await?;
        store.write(ROOT, samples(ids("keep-", ROWS), "v1").batch()).await?;
        let doomed = samples(ids("doomed-", ROWS), "v1").batch();
        store.write(ROOT, doomed).await?;
        let delete = |_| store.delete(ROOT).filter("id > 'doomed' AND id < 'e'").soft(soft).into_future();
        cut_everywhere(delete, |_| {
            let store = store.clone();
            async move {
                assert_whole(&store, "doomed-").await?;
                assert_eq!(assert_whole(&store, "keep-").await?, ROWS);
                Ok(())
            }
        })
        .await?;
        assert_eq!(settled(&store).await?, ids("keep-", ROWS), "soft: {soft}");
    }
    PASSED
}

pub(super) async fn dropped_reads_leave_nothing_behind(bench: Bench) -> Result<Outcome> {
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
    cut_everywhere(|_| async { store.read(ROOT).filter("id > 's'").await?.collect().await }, unchanged).await?;
    cut_everywhere(|_| store.resolve_update(LEAF).into_future(), unchanged).await?;
    store.write(ROOT, samples(ids("t", ROWS), "v1").batch()).await?;
    assert_eq!(read_ids(&store, ROOT).await?.len(), 2 * ROWS);
    PASSED
}

pub(super) async fn dropped_open_can_be_tried_again(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1"], "v1").batch()).await?;
    store.close().await?;
    let open = |_| async { bench.builder(pair()?).await?.open(AccessMode::ReadWrite).await?.close().await };
    cut_everywhere(open, |_| async { Ok(()) }).await?;
    let store = patiently_open(&bench).await?;
    assert_eq!(read_ids(&store, ROOT).await?, ["s1"]);
    store.write(ROOT, samples(["s2"], "v1").batch()).await?;
    PASSED
}

/// An opening that was dropped may hold its lock a little longer, until its thread sees that nobody waits.
async fn patiently_open(bench: &Bench) -> Result<MetadataStore> {
    for _ in 0..50 {
        match bench.store(pair()?).await {
            Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_millis(20)).await,
            other => return other,
        }
    }
    bench.store(pair()?).await
}

pub(super) async fn half_read_stream(bench: Bench) -> Result<Outcome> {
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

pub(super) async fn a_store_that_is_dropped_open(bench: Bench) -> Result<Outcome> {
    for round in 0..5 {
        let store = patiently_open(&bench).await?;
        store.write(ROOT, samples([format!("s{round}")], "v1").batch()).await?;
        let pending = store.read(ROOT).await?;
        drop((store, pending));
    }
    assert_eq!(read_ids(&patiently_open(&bench).await?, ROOT).await?, ["s0", "s1", "s2", "s3", "s4"]);
    PASSED
}
