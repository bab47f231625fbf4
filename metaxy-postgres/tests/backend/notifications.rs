//! Features that are watched: the server tells of writes and deletes.

use std::time::Duration;

use futures::TryStreamExt;
use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, Increment, MetadataStore};
use metaxy_postgres::{PostgresBackend, PostgresConfig};
use metaxy_testkit::servers::postgres::Pooler;

use super::support::{config, database, sample};

/// The time in which a notification has to arrive.
const PATIENCE: Duration = Duration::from_secs(20);
/// So long that only a notification can tell of a change.
const NEVER: Duration = Duration::from_secs(3_600);

async fn store(config: PostgresConfig) -> MetadataStore {
    let feature = |key: &str| FeatureSpec::builder(key).id_columns(["id"]);
    let graph = FeatureGraph::new([feature("raw").build().unwrap(), feature("leaf").dep("raw").build().unwrap()]);
    let backend = PostgresBackend::new(config).unwrap();
    MetadataStore::builder(backend, graph.unwrap()).open(AccessMode::ReadWrite).await.unwrap()
}

async fn next(increments: &mut (impl TryStreamExt<Ok = Increment, Error = metaxy_core::Error> + Unpin)) -> Increment {
    let next = tokio::time::timeout(PATIENCE, increments.try_next()).await;
    next.expect("a change is seen in time").unwrap().expect("the stream goes on")
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_and_deletes_of_other_stores_are_seen_at_once() {
    let database = database();
    let (watching, other) = (store(config(database.url())).await, store(config(database.url())).await);
    other.write("raw", sample()).await.unwrap();
    let mut increments = watching.watch("leaf").unwrap().interval(NEVER);
    let first = next(&mut increments).await;
    assert_eq!(first.new.num_rows(), 1);
    // The listener is connected while the stream is polled.
    let waiting = tokio::spawn(async move { (next(&mut increments).await, increments) });
    tokio::time::sleep(Duration::from_secs(1)).await;
    other.write("leaf", first.new).await.unwrap();
    other.delete("raw").hard().await.unwrap();
    let (deleted, _) = waiting.await.unwrap();
    assert_eq!(deleted.orphaned.num_rows(), 1);
}

/// Nothing is listened to on a session that belongs to many clients, or if the settings say so.
#[tokio::test(flavor = "multi_thread")]
async fn without_notifications_changes_are_looked_for() {
    let database = database();
    let pooler = Pooler::start(&database).unwrap_or_else(|reason| panic!("{reason}"));
    let silent = PostgresConfig { notifications: Some(false), ..config(database.url()) };
    for config in [config(pooler.url()), silent] {
        let (watching, other) = (store(config.clone()).await, store(config).await);
        let mut increments = watching.watch("leaf").unwrap().interval(Duration::from_millis(100));
        other.write("raw", sample()).await.unwrap();
        assert_eq!(next(&mut increments).await.new.num_rows(), 1);
        let listening = database
            .sql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'listen%'")
            .unwrap();
        assert_eq!(listening.trim(), "0");
        other.drop_feature("raw").await.unwrap();
    }
}
