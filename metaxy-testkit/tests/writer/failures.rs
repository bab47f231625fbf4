//! A failed flush loses no rows.

use std::time::Duration;

use metaxy_core::writer::{RetryPolicy, WriterError};
use metaxy_core::{AccessMode, BufferedMetadataWriter, Error, MetadataStore, RecordBatch};
use metaxy_testkit::faults::{Fault, FaultyBackend, Operation};
use metaxy_testkit::memory::MemoryBackend;

use super::support::{Fixture, TEXT, VIDEO, eventually, graph, ids, in_time, texts, videos};

/// Returns a failure of appends at each moment.
fn moments() -> [(&'static str, Fault); 3] {
    let fault = || Fault::fail(Operation::Append);
    [("before", fault().before()), ("during", fault().during(0)), ("after", fault().after())]
}

fn rows_of(error: &WriterError) -> usize {
    error.unwritten.iter().map(|(_, batch): &(_, RecordBatch)| batch.num_rows()).sum()
}

#[tokio::test]
async fn a_transient_failure_is_retried() {
    for (moment, fault) in moments() {
        for times in [1, 3] {
            let what = format!("{times} failure(s) {moment} the append");
            let fixture = Fixture::failing(fault.clone().times(times).transient()).await;
            let writer = fixture.writer().await;
            writer.put(VIDEO, videos(0..10)).await.expect("a put");
            writer.put(TEXT, texts(0..4)).await.expect("a put");
            writer.flush().await.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(fixture.ids(VIDEO).await, (0..10).collect::<Vec<_>>(), "{what}: each id once");
            assert_eq!(fixture.ids(TEXT).await, (0..4).collect::<Vec<_>>(), "{what}: each id once");
            assert_eq!(fixture.appends(), times + 2, "{what}: what is written is not written again");
            assert!(writer.last_error().is_none(), "{what}");
            assert_eq!(writer.close().await.expect("a close").values().sum::<u64>(), 14, "{what}");
        }
    }
}

#[tokio::test]
async fn a_permanent_failure_gives_every_row_back() {
    for (moment, fault) in moments() {
        for (transient, attempts) in [(true, 4), (false, 1)] {
            let what = format!("failures {moment} the append, transient: {transient}");
            let fault = fault.clone().forever();
            let fixture = Fixture::failing(if transient { fault.transient() } else { fault }).await;
            let writer = fixture.writer().await;
            writer.put(VIDEO, videos(0..10)).await.expect("a put");
            writer.put(TEXT, texts(0..4)).await.expect("a put");
            let error = writer.flush().await.expect_err("a flush that cannot succeed");
            assert_eq!(fixture.appends(), attempts, "{what}: only errors that can pass are worth another attempt");
            assert_eq!(rows_of(&error), 14, "{what}");
            assert!(error.to_string().starts_with("14 row(s) could not be written: faulty: append failed"), "{error}");
            assert!(writer.last_error().is_some(), "{what}");
            assert_eq!(writer.pending_rows(), 0, "{what}: what is given back is the caller's");
            fixture.backend.heal();
            for (feature, batch) in error.unwritten {
                writer.put(feature, batch).await.expect("the writer goes on");
            }
            writer.close().await.expect("a close");
            assert_eq!((fixture.ids(VIDEO).await.len(), fixture.ids(TEXT).await.len()), (10, 4), "{what}");
        }
    }
}

#[tokio::test]
async fn closing_gives_every_row_back_too() {
    for (moment, fault) in moments() {
        let fixture = Fixture::failing(fault.forever()).await;
        let writer = fixture.writer().await;
        writer.put(VIDEO, videos(0..10)).await.expect("a put");
        let error = writer.close().await.expect_err("a close that cannot succeed");
        assert_eq!(rows_of(&error), 10, "{moment}");
    }
}

#[tokio::test]
async fn written_rows_are_not_given_back() {
    let fixture = Fixture::failing(Fault::fail(Operation::Append).at(2).forever()).await;
    let writer = fixture.writer().await;
    writer.put_multi([(VIDEO, videos(0..10)), (TEXT, texts(0..4))]).await.expect("a put");
    let error = writer.flush().await.expect_err("the second append fails");
    assert_eq!(rows_of(&error), 10);
    assert_eq!(fixture.ids(TEXT).await, [0, 1, 2, 3]);
    let progress = writer.progress();
    assert_eq!((progress.values().map(|one| one.written).sum::<u64>(), writer.pending_rows()), (4, 0));
}

#[tokio::test]
async fn the_state_is_visible_during_failures() {
    let fixture = Fixture::failing(Fault::fail(Operation::Append).forever().transient()).await;
    let pause = Duration::from_millis(1);
    let policy = RetryPolicy { attempts: usize::MAX, initial_pause: pause, max_pause: pause };
    let writer = fixture.builder().retry(policy).flush_rows(10).start().await.expect("it starts");
    writer.put(VIDEO, videos(0..10)).await.expect("a put");
    eventually("some attempts", || fixture.appends() > 3).await;
    let error = writer.last_error().expect("the last attempt failed");
    assert!(error.to_string().contains("a fault was injected"), "{error}");
    assert_eq!(writer.pending_rows(), 10);
    writer.put(VIDEO, videos(10..20)).await.expect("a put while the store is away");
    assert_eq!(writer.pending_rows(), 20);
    fixture.backend.heal();
    eventually("the writer goes on by itself", || writer.pending_rows() == 0).await;
    assert!(writer.last_error().is_none());
    assert_eq!(fixture.ids(VIDEO).await, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn pauses_grow() {
    let fixture = Fixture::failing(Fault::fail(Operation::Append).forever().transient()).await;
    let policy =
        RetryPolicy { attempts: 6, initial_pause: Duration::from_millis(20), max_pause: Duration::from_millis(100) };
    let writer = fixture.builder().retry(policy).start().await.expect("it starts");
    writer.put(VIDEO, videos(0..1)).await.expect("a put");
    writer.flush().await.expect_err("a flush that cannot succeed");
    let times = fixture.backend.times(Operation::Append);
    let pauses: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // Up to half of the pause may be taken off.
    let least = [10, 20, 40, 50, 50].map(Duration::from_millis);
    assert_eq!(pauses.len(), least.len());
    assert!(pauses.iter().zip(&least).all(|(pause, least)| pause >= least), "{pauses:?}");
}

#[tokio::test]
async fn pauses_are_random() {
    let fixture = Fixture::failing(Fault::fail(Operation::Append).forever().transient()).await;
    let full = Duration::from_millis(30);
    let policy = RetryPolicy { attempts: 41, initial_pause: full, max_pause: full };
    let writer = fixture.builder().retry(policy).start().await.expect("it starts");
    writer.put(VIDEO, videos(0..1)).await.expect("a put");
    writer.flush().await.expect_err("a flush that cannot succeed");
    let times = fixture.backend.times(Operation::Append);
    let pauses: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| *pause >= full / 2), "{pauses:?}");
    assert!(pauses.iter().any(|pause| *pause < full), "none of 40 pauses is shorter than without jitter: {pauses:?}");
}

#[tokio::test]
async fn after_giving_up_nothing_is_accepted_until_it_is_reported() {
    let fixture = Fixture::failing(Fault::fail(Operation::Append).forever()).await;
    let writer = fixture.builder().flush_rows(10).start().await.expect("it starts");
    writer.put(VIDEO, videos(0..10)).await.expect("a put");
    eventually("the writer gives up", || writer.last_error().is_some()).await;
    let refused = writer.put(VIDEO, videos(10..11)).await.expect_err("a put after giving up");
    assert!(matches!(&refused, Error::WriterFailed { source, .. } if source.to_string().contains("append failed")));
    assert!(refused.to_string().contains("call `flush`, which returns the unwritten rows"), "{refused}");
    let error = writer.close().await.expect_err("a close that cannot succeed");
    assert_eq!(rows_of(&error), 10);
}

/// Rows that are put while a flush fails may depend on the failed ones.
#[tokio::test]
async fn later_rows_are_given_back_too() {
    let fixture = Fixture::failing(Fault::delay(Operation::Schema, Duration::from_millis(50)).at(2)).await;
    fixture.backend.inject(Fault::fail(Operation::Append).forever());
    let writer = fixture.builder().flush_rows(10).start().await.expect("it starts");
    writer.put(VIDEO, videos(0..10)).await.expect("a put");
    eventually("a flush is under way", || fixture.backend.calls(Operation::Schema) == 2).await;
    writer.put(VIDEO, videos(10..13)).await.expect("a put");
    let error = writer.flush().await.expect_err("a flush that cannot succeed");
    assert_eq!(rows_of(&error), 13);
}

/// No caller may assume that its rows are in the store.
#[tokio::test]
async fn every_waiting_caller_gets_the_failure() {
    let fixture = Fixture::failing(Fault::fail(Operation::Append).forever()).await;
    let writer = fixture.writer().await;
    writer.put(VIDEO, videos(0..10)).await.expect("a put");
    let (first, second, third) = tokio::join!(writer.flush(), writer.flush(), writer.clone().close());
    for error in [first.expect_err("a flush"), second.expect_err("a flush"), third.expect_err("a close")] {
        assert_eq!(rows_of(&error), 10);
    }
    writer.flush().await.expect("all that was put since is in the store: nothing");
}

#[tokio::test]
async fn a_flush_succeeds_if_only_later_rows_fail() {
    let fixture = Fixture::failing(Fault::fail(Operation::Append).at(2).forever()).await;
    let writer = fixture.builder().flush_rows(10).start().await.expect("it starts");
    writer.put(VIDEO, videos(0..10)).await.expect("a put");
    let first = writer.flush();
    let second = async {
        writer.put(VIDEO, videos(10..20)).await.expect("a put");
        writer.flush().await
    };
    let (first, second) = tokio::join!(first, second);
    first.expect("its rows are in the store");
    assert_eq!(rows_of(&second.expect_err("the second append fails")), 10);
}

#[test]
fn rows_are_given_back_after_their_runtime_has_ended() {
    let start = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let runtime = start();
    let writer = runtime.block_on(async {
        let fixture = Fixture::new().await;
        let writer = fixture.writer().await;
        writer.put(VIDEO, videos(0..10)).await.expect("a put");
        writer
    });
    drop(runtime);
    let error = start().block_on(in_time("a flush", writer.flush())).expect_err("the runtime has ended");
    assert_eq!(rows_of(&error), 10);
    start().block_on(in_time("a put", writer.put(VIDEO, videos(0..1)))).expect_err("the runtime has ended");
}

/// All kinds of failures during continuous puts: readers find each id once, or it is given back.
#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_in_the_store_or_given_back() {
    for (moment, fault) in moments() {
        for transient in [true, false] {
            let backend = std::sync::Arc::new(FaultyBackend::new(MemoryBackend::new()));
            let store = MetadataStore::builder(backend.clone(), graph("1")).open(AccessMode::ReadWrite).await;
            let store = store.expect("the store opens");
            let pause = Duration::from_millis(1);
            let writer = BufferedMetadataWriter::builder(store.clone())
                .flush_rows(20)
                .interval(Duration::from_millis(2))
                .retry(RetryPolicy { attempts: 3, initial_pause: pause, max_pause: pause })
                .start()
                .await
                .expect("it starts");
            let mut given_back = Vec::new();
            for number in 0..60 {
                if number % 10 == 3 {
                    let fault = fault.clone().at(2).times(1 + number as usize % 4);
                    backend.inject(if transient { fault.transient() } else { fault });
                }
                if writer.put(VIDEO, videos(number * 10..(number + 1) * 10)).await.is_err() {
                    given_back.extend((number * 10)..(number + 1) * 10);
                    let error = writer.flush().await.expect_err("the reason of the refusal");
                    given_back.extend(ids_of(&error));
                }
            }
            given_back.extend(writer.close().await.err().iter().flat_map(ids_of));
            let mut seen = ids(&store, VIDEO).await;
            let unique = seen.len();
            seen.dedup();
            assert_eq!(seen.len(), unique, "{moment}: readers see each id once");
            seen.extend(&given_back);
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen, (0..600).collect::<Vec<_>>(), "{moment}, transient: {transient}");
        }
    }
}

fn ids_of(error: &WriterError) -> Vec<i64> {
    use arrow::array::AsArray;
    let ids =
        |(_, batch): &(_, RecordBatch)| batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec();
    error.unwritten.iter().flat_map(ids).collect()
}
