//! A commit belongs to the table that it was worked out for, also where that is dropped and written again under its
//! name.

use std::time::{Duration, Instant};

use metaxy_core::{AccessMode, Error, Result, StoreBackend, col};
use metaxy_delta::DeltaBackend;
use metaxy_testkit::servers::s3::{self, Bucket, Held};

use crate::{TABLE, append, key, local, on_s3, opened, read_ids, rows};

/// The request that makes the fourth commit of a table.
const COMMIT: (&str, &str) = ("PUT", "00000000000000000003.json");

/// Two stores that know one table of three commits, with the ids 0, 1 and 2: a call of the first one is stopped.
struct Race {
    bucket: Bucket,
    stopped: DeltaBackend,
    other: DeltaBackend,
}

impl Race {
    async fn new() -> Self {
        let bucket = s3::bucket().unwrap();
        let (stopped, other) = (opened(&on_s3(&bucket)).await, opened(&on_s3(&bucket)).await);
        for id in 0..3 {
            append(&stopped, rows([id])).await.unwrap();
        }
        read_ids(&stopped).await.unwrap();
        read_ids(&other).await.unwrap();
        Self { bucket, stopped, other }
    }

    /// Stops a call at its first request of a kind, until what happens in between is done or lets it go on.
    async fn stop<T>(
        &self,
        (verb, ending): (&'static str, &str),
        call: impl Future<Output = Result<T>>,
        between: impl AsyncFnOnce(&Held),
    ) -> T {
        let held = self.bucket.hold(verb, ending);
        let between = async {
            held.arrived().await;
            between(&held).await;
            held.release();
        };
        let (outcome, ()) = futures::join!(call, between);
        outcome.unwrap()
    }

    /// Drops the table, and writes another one of as many commits, with the ids 10, 11 and 12.
    async fn replace(&self) {
        self.drop_table().await;
        for id in 10..13 {
            append(&self.other, rows([id])).await.unwrap();
        }
    }

    async fn drop_table(&self) {
        self.other.drop_table(&key(TABLE)).await.unwrap();
    }

    /// The ids that a store finds which has never seen the table.
    async fn fresh_ids(&self) -> Vec<i64> {
        read_ids(&opened(&on_s3(&self.bucket)).await).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_stops_before_its_commit() {
    let race = Race::new().await;
    race.stop(COMMIT, append(&race.stopped, rows([100])), async |_| race.replace().await).await;
    for ids in [race.fresh_ids().await, read_ids(&race.other).await.unwrap(), read_ids(&race.stopped).await.unwrap()] {
        assert_eq!(ids, [10, 11, 12, 100]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_stops_before_a_drop_makes_the_table_again() {
    let race = Race::new().await;
    // The drop makes version 3 itself, and removes it.
    race.stop(COMMIT, append(&race.stopped, rows([100])), async |_| race.drop_table().await).await;
    assert_eq!(race.fresh_ids().await, [100]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_or_compaction_that_stops_before_its_commit() {
    for compacts in [true, false] {
        let race = Race::new().await;
        let schema = race.stopped.schema(&key(TABLE)).await.unwrap().unwrap();
        let predicate = col("id").eq(1).bind(&schema).unwrap();
        let changing = async {
            match compacts {
                true => race.stopped.compact(&key(TABLE)).await,
                false => race.stopped.delete(&key(TABLE), &predicate).await.map(|rows| assert_eq!(rows, 0)),
            }
        };
        race.stop(COMMIT, changing, async |_| race.replace().await).await;
        assert_eq!(race.fresh_ids().await, [10, 11, 12], "compacts: {compacts}");
        append(&race.other, rows([13])).await.unwrap();
        assert_eq!(race.fresh_ids().await, [10, 11, 12, 13], "compacts: {compacts}");
    }
}

/// Other writers may build on a commit before it is taken back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_other_writers_have_built_on() {
    let race = Race::new().await;
    let build = async |commit: &Held| {
        race.replace().await;
        // The look that follows the commit waits, too.
        let look = race.bucket.hold("HEAD", "00000000000000000002.json");
        commit.release();
        tokio::time::timeout(Duration::from_secs(20), look.arrived()).await.expect("the commit is looked at");
        append(&opened(&on_s3(&race.bucket)).await, rows([14])).await.unwrap();
        look.release();
    };
    race.stop(COMMIT, append(&race.stopped, rows([100])), build).await;
    assert_eq!(race.fresh_ids().await, [10, 11, 12, 14, 100]);
}

/// In a directory: writers beside one that drops again and again. No read ever finds damage.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_beside_one_that_drops() {
    let root = tempfile::tempdir().unwrap();
    let settings = local(root.path()).checkpoint_interval(std::num::NonZeroU64::new(5).unwrap());
    let end = Instant::now() + Duration::from_secs(4);
    let writing = (0..4i64).map(|writer| {
        let settings = settings.clone();
        async move {
            let backend = opened(&settings).await;
            for number in 0.. {
                if Instant::now() > end {
                    return;
                }
                append(&backend, rows([writer * 1_000_000 + number])).await.unwrap();
                if writer == 3 {
                    backend.compact(&key(TABLE)).await.unwrap();
                }
            }
        }
    });
    let dropping = async {
        let backend = opened(&settings).await;
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(15)).await;
            backend.drop_table(&key(TABLE)).await.unwrap();
        }
    };
    let reading = async {
        while Instant::now() < end {
            match read_ids(&opened(&settings).await).await {
                Ok(_) | Err(Error::FeatureNotFound { .. }) => {}
                Err(error) => assert!(error.is_transient(), "{error:?}"),
            }
        }
    };
    let writing = futures::future::join_all(writing.map(tokio::spawn));
    let (writers, (), ()) = futures::join!(writing, dropping, reading);
    writers.into_iter().for_each(|writer| writer.unwrap());
    let backend = opened(&settings).await;
    append(&backend, rows([-1])).await.unwrap();
    assert!(read_ids(&backend).await.unwrap().contains(&-1));
}

/// A vacuum whose log goes away is not one of a damaged table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vacuum_that_loses_to_a_drop() {
    let race = Race::new().await;
    let table = key(TABLE);
    let vacuum = race.stopped.vacuum(&table, Duration::from_secs(3600));
    let removed = race.stop(("GET", "00000000000000000001.json"), vacuum, async |_| race.drop_table().await).await;
    assert_eq!(removed, 0);
}

/// On a server that ignores the condition of a put, writers would lose rows of each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_conditional_puts() {
    let bucket = s3::bucket().unwrap();
    append(&opened(&on_s3(&bucket)).await, rows([1])).await.unwrap();
    // A place that has been looked at is not looked at again.
    bucket.requests();
    opened(&on_s3(&bucket)).await;
    assert!(bucket.requests().iter().all(|request| request.verb != "PUT"));
    assert!(bucket.snapshot().into_keys().all(|key| !key.contains("probe")));
    bucket.ignore_conditions();
    let mut settings = on_s3(&bucket);
    settings.root_path = format!("{}/another", bucket.url());
    let error = DeltaBackend::new(settings.clone()).unwrap().open(AccessMode::ReadWrite).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    assert!(error.to_string().contains("conditional puts"), "{error}");
    DeltaBackend::new(settings).unwrap().open(AccessMode::ReadOnly).await.unwrap();
    let off = on_s3(&bucket).storage_option("aws_conditional_put", "disabled");
    let error = DeltaBackend::new(off).unwrap().open(AccessMode::ReadWrite).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
}
