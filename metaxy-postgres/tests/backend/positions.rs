//! Positions: changes of every kind move them, also those of transactions that were open when they were asked for.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use metaxy_core::StoreBackend;
use metaxy_testkit::fixtures::tables::{append, batch, ints, key};

use super::support::{database, open};

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_end_later_move_positions() {
    let database = database();
    let backend = Arc::new(open(database.url()).await);
    append(backend.as_ref(), "t", batch([("id", ints([1]))])).await.unwrap();
    let mut seen = Vec::new();
    let mut look = async |change: &str| {
        let position = backend.position(&key("t")).await.unwrap().expect("a plain table");
        assert!(!seen.contains(&position), "after {change}: {position}");
        seen.push(position);
    };
    look("the first write").await;
    let (more, rest) = tokio::sync::oneshot::channel::<()>();
    let first = batch([("id", ints([2]))]);
    let schema = first.schema();
    let rows = futures::stream::iter([Ok(first)]).chain(rest.into_stream().filter_map(|_| async { None })).boxed();
    let writer = backend.clone();
    let write = tokio::spawn(async move { writer.append_stream(&key("t"), schema, rows).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let while_it_runs = backend.position(&key("t")).await.unwrap();
    more.send(()).unwrap();
    write.await.unwrap().unwrap();
    assert_ne!(backend.position(&key("t")).await.unwrap(), while_it_runs);
    look("the end of the write").await;
    for statement in
        ["INSERT INTO t VALUES (3)", "UPDATE t SET id = 4 WHERE id = 3", "DELETE FROM t WHERE id = 4", "TRUNCATE t"]
    {
        database.sql(statement).unwrap();
        look(statement).await;
    }
}

/// Their rows may change, or be others for other users, without a transaction of this server.
#[tokio::test(flavor = "multi_thread")]
async fn positions_of_other_relations_cannot_be_told() {
    let database = database();
    database
        .sql(
            "CREATE TABLE plain (id bigint); CREATE VIEW seen AS SELECT * FROM plain; \
             CREATE MATERIALIZED VIEW kept AS SELECT * FROM plain; \
             CREATE TABLE parent (id bigint); CREATE TABLE child () INHERITS (parent); \
             CREATE TABLE parts (id bigint) PARTITION BY RANGE (id); \
             CREATE TABLE guarded (id bigint); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY",
        )
        .unwrap();
    let backend = open(database.url()).await;
    let is_told = async |table: &str| backend.position(&key(table)).await.unwrap().is_some();
    assert!(is_told("plain").await && is_told("missing").await);
    for table in ["seen", "kept", "parent", "parts", "guarded"] {
        assert!(!is_told(table).await, "{table}");
    }
}
