//! A feature that is watched.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use metaxy_core::{AccessMode, Error, Result};

use super::kit::{LEAF, PASSED, ROOT, assert_error, ids_of, pair, process, samples};
use super::{Bench, Outcome};

/// The time in which a change has to be seen.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn an_increment_for_each_change(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1"], "v1").batch()).await?;
    let mut increments = store.watch(LEAF)?.interval(Duration::from_millis(200));
    let mut next = async || -> Result<Vec<String>> {
        let next = tokio::time::timeout(PATIENCE, increments.try_next()).await;
        let increment = next.expect("a change is seen in time")?.expect("the stream goes on");
        Ok(ids_of(&increment.new))
    };
    assert_eq!(next().await?, ["s1"], "what is new at the start");
    process(&store, LEAF).await?;
    for id in ["s2", "s3"] {
        let other = bench.builder(pair()?).await?.open(AccessMode::ReadWrite).await?;
        other.write(ROOT, samples([id], "v1").batch()).await?;
        other.close().await?;
        assert_eq!(next().await?, [id], "what another store has written");
        process(&store, LEAF).await?;
    }
    let quiet = tokio::time::timeout(Duration::from_millis(700), increments.next()).await;
    assert!(quiet.is_err(), "nothing has changed");
    assert_error!(store.watch("no/such/feature").map(drop), Error::UnknownFeature { .. });
    PASSED
}
