//! Blocking work on the library's own threads: bounded, without deadlock, whatever the runtime's limits are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use futures::future::join_all;
use metaxy_core::{Error, Result, blocking};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Barrier;
use tokio::time::timeout;

/// Returns a runtime that has a single thread for blocking work.
fn narrow_runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).max_blocking_threads(1).enable_all().build().unwrap()
}

fn in_time<T>(runtime: &Runtime, work: impl Future<Output = T>) -> T {
    runtime.block_on(async { timeout(Duration::from_secs(60), work).await.expect("it hangs") })
}

#[test]
fn nested_work_does_not_wait_for_a_thread() {
    let runtime = narrow_runtime();
    let nested = |number: usize| {
        blocking::run(move || {
            Handle::current().block_on(async move {
                let inner = blocking::run(move || Ok(number)).await?;
                let driven = blocking::drive(async move { Ok(number) }).await?;
                Ok(inner + driven)
            })
        })
    };
    let answers = in_time(&runtime, join_all((0..2_000).map(nested)));
    let answers: Vec<usize> = answers.into_iter().collect::<Result<_>>().unwrap();
    assert_eq!(answers, (0..2_000).map(|number| 2 * number).collect::<Vec<_>>());
}

#[test]
fn the_number_of_threads_is_limited() {
    let runtime = narrow_runtime();
    let (running, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let jobs = (0..1_000).map(|_| {
        let (running, most) = (running.clone(), most.clone());
        blocking::run(move || {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(1));
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        })
    });
    in_time(&runtime, join_all(jobs)).into_iter().collect::<Result<()>>().unwrap();
    let most = most.load(Ordering::SeqCst);
    assert!((2..=blocking::MAX_THREADS).contains(&most), "{most} at a time");
}

#[test]
fn waiting_futures_occupy_no_thread() {
    const FUTURES: usize = 5 * blocking::MAX_THREADS;
    let runtime = narrow_runtime();
    let all_there = Arc::new(Barrier::new(FUTURES));
    let futures = (0..FUTURES).map(|number| {
        let all_there = all_there.clone();
        async move {
            blocking::drive(async move {
                // Each waits for all others, for the runtime's timer, and for other blocking work, including that of
                // another task.
                all_there.wait().await;
                tokio::time::sleep(Duration::from_millis(1)).await;
                tokio::spawn(blocking::run(move || Ok(number))).await?
            })
            .await
        }
    });
    let answers = in_time(&runtime, join_all(futures));
    let answers: Vec<usize> = answers.into_iter().collect::<Result<_>>().unwrap();
    assert_eq!(answers, (0..FUTURES).collect::<Vec<_>>());
}

#[test]
fn a_panic_is_an_error_and_the_thread_continues() {
    let runtime = narrow_runtime();
    for _ in 0..3 * blocking::MAX_THREADS {
        let error = in_time(&runtime, blocking::run(|| -> Result<()> { panic!("cut at {}", 7) })).unwrap_err();
        assert!(
            matches!(&error, Error::Task(text) if text.contains("cut at 7") && text.contains("blocking.rs")),
            "{error}"
        );
        let error =
            in_time(&runtime, async { blocking::drive(async { None::<()>.map(Ok).unwrap() }).await }).unwrap_err();
        assert!(matches!(&error, Error::Task(_)), "{error}");
    }
    assert_eq!(in_time(&runtime, blocking::run(|| Ok(1))).unwrap(), 1);
}

#[test]
fn dropped_work_continues_and_needs_no_runtime() {
    let done = Arc::<AtomicUsize>::default();
    for _ in 0..10 {
        let counted = done.clone();
        drop(blocking::spawn(move || Ok(counted.fetch_add(1, Ordering::SeqCst))));
        let counted = done.clone();
        drop(blocking::drive(async move { Ok(counted.fetch_add(1, Ordering::SeqCst)) }));
    }
    let answer = futures::executor::block_on(blocking::run(|| Ok("done")));
    assert_eq!(answer.unwrap(), "done");
    for _ in 0..6_000 {
        if done.load(Ordering::SeqCst) == 20 {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{} of 20 were done", done.load(Ordering::SeqCst));
}
