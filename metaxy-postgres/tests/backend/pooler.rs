//! Connections through PgBouncer, which gives each transaction another session of the server.

use std::sync::Arc;

use metaxy_core::{
    AccessMode, FeatureGraph, FeatureSpec, HashAlgorithm, MetadataStore, StoreBackend, VersioningEngine,
};
use metaxy_postgres::PostgresBackend;
use metaxy_testkit::fixtures::tables::{append, batch, ints, read, texts};
use metaxy_testkit::servers::postgres::{Database, Pooler};

use super::support::{config, database, open, sample};

fn pooler(database: &Database) -> Pooler {
    Pooler::start(database).unwrap_or_else(|reason| panic!("{reason}"))
}

/// Returns the settings of both sessions of the pooler, without those that PgBouncer itself makes for each client.
fn settings(database: &Database, pooler: &Pooler) -> Vec<String> {
    let ask = "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings \
               WHERE (source IN ('session', 'interactive') AND \
               name NOT IN ('TimeZone', 'DateStyle', 'client_encoding')) \
               OR name IN ('jit', 'work_mem', 'default_transaction_read_only')";
    // Two concurrent clients get a session each.
    let hold = format!("{ask}; SELECT pg_sleep(0.3)");
    std::thread::scope(|scope| {
        let ask = || database.sql_over(pooler.url(), &["BEGIN", &hold, "COMMIT"]).unwrap();
        [scope.spawn(ask), scope.spawn(ask)].map(|asked| asked.join().unwrap()).to_vec()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_share_two_sessions() {
    let database = database();
    let pooler = pooler(&database);
    let before = settings(&database, &pooler);
    let clients = (0..6_i64).map(|client| {
        let url = pooler.url().to_owned();
        tokio::spawn(async move {
            let backend = open(&url).await;
            for number in 0..8 {
                // Few and many rows, and tables that are shared and separate.
                let rows = if number % 4 == 0 { 3_000 } else { 3 };
                let column = format!("c{}", number % 3);
                let rows = batch([("client", ints(vec![client; rows])), (column.as_str(), ints(0..rows as i64))]);
                append(&backend, "t", &rows).await.unwrap();
                read(&backend, "t").await.unwrap();
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    assert_eq!(read(&open(pooler.url()).await, "t").await.unwrap().num_rows(), 6 * (2 * 3_000 + 6 * 3));
    assert_eq!(settings(&database, &pooler), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_store_does_not_block_writers() {
    let database = database();
    let pooler = pooler(&database);
    append(&open(pooler.url()).await, "t", &batch([("x", texts(&[r"a\b'c"]))])).await.unwrap();
    let before = settings(&database, &pooler);
    let reader = PostgresBackend::new(config(pooler.url())).unwrap();
    reader.open(AccessMode::ReadOnly).await.unwrap();
    for _ in 0..8 {
        read(&reader, "t").await.unwrap();
    }
    assert!(append(&reader, "t", &batch([("x", texts(&["no"]))])).await.is_err());
    assert_eq!(settings(&database, &pooler), before);
    for _ in 0..4 {
        database.sql_over(pooler.url(), &["INSERT INTO t VALUES ('psql')"]).unwrap();
    }
    assert_eq!(read(&reader, "t").await.unwrap().num_rows(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn increments_are_computed_by_the_server() {
    let database = database();
    let pooler = pooler(&database);
    let root = FeatureSpec::builder("raw/video").id_columns(["id"]).build().unwrap();
    let child = FeatureSpec::builder("child").id_columns(["id"]).dep("raw/video").build().unwrap();
    let backend = Arc::new(PostgresBackend::new(config(pooler.url())).unwrap());
    let store = MetadataStore::builder(backend, FeatureGraph::new([root, child]).unwrap())
        .hash_algorithm(HashAlgorithm::Md5)
        .versioning_engine(VersioningEngine::Native)
        .open(AccessMode::ReadWrite)
        .await
        .unwrap();
    store.write("raw/video", sample()).await.unwrap();
    let increment = store.resolve_update("child").await.unwrap();
    assert_eq!(increment.new.num_rows(), 1);
    store.write("child", increment.new).await.unwrap();
    let increment = store.resolve_update("child").await.unwrap();
    assert!(increment.is_empty());
}
