//! A commit belongs to the table for which it was computed, even if that is dropped and another one of its name is
//! written.

use std::time::{Duration, Instant};

use metaxy_core::{AccessMode, Error, Result, StoreBackend, col};
use metaxy_delta::DeltaBackend;
use metaxy_testkit::servers::s3::{self, Bucket, Held};

use crate::{TABLE, append, key, local, on_s3, opened, read_ids, rows};

/// The request that creates the fourth commit of a table.
const COMMIT: (&str, &str) = ("PUT", "00000000000000000003.json");

/// Two stores with the same table of three commits, with the ids 0, 1 and 2; a call of the first store is paused.
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

    /// Pauses a call at its first request of a kind, until `between` is done or releases it.
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

    /// Drops the table, and writes another one with the same number of commits, with the ids 10, 11 and 12.
    async fn replace(&self) {
        self.drop_table().await;
        for id in 10..13 {
            append(&self.other, rows([id])).await.unwrap();
        }
    }

    async fn drop_table(&self) {
        self.other.drop_table(&key(TABLE)).await.unwrap();
    }

    /// Returns the ids that a new store reads.
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
async fn an_append_that_stops_before_a_drop_creates_the_table_again() {
    let race = Race::new().await;
    // The drop creates version 3 itself, and removes it.
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

/// Other writers may add commits before a commit is removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_with_later_commits_of_other_writers() {
    let race = Race::new().await;
    let build = async |commit: &Held| {
        race.replace().await;
        // The check after the commit waits, too.
        let look = race.bucket.hold("HEAD", "00000000000000000002.json");
        commit.release();
        tokio::time::timeout(Duration::from_secs(20), look.arrived()).await.expect("the commit is looked at");
        append(&opened(&on_s3(&race.bucket)).await, rows([14])).await.unwrap();
        look.release();
    };
    race.stop(COMMIT, append(&race.stopped, rows([100])), build).await;
    assert_eq!(race.fresh_ids().await, [10, 11, 12, 14, 100]);
}

/// In a directory: writers, while another one drops the table repeatedly. No read reports damage.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_concurrent_with_drops() {
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

/// A vacuum whose log is removed does not report a damaged table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vacuum_concurrent_with_a_drop() {
    let race = Race::new().await;
    let table = key(TABLE);
    let vacuum = race.stopped.vacuum(&table, Duration::from_secs(3600));
    let removed = race.stop(("GET", "00000000000000000001.json"), vacuum, async |_| race.drop_table().await).await;
    assert_eq!(removed, 0);
}

/// On a server that ignores the condition of a put, writers would overwrite each other's rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_conditional_puts() {
    let bucket = s3::bucket().unwrap();
    append(&opened(&on_s3(&bucket)).await, rows([1])).await.unwrap();
    // A location is checked only once.
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
