//! Secrets stay with the process that was given them.

use metaxy_core::{AccessMode, MetadataStore};

use crate::processes::Cluster;
use crate::proxy;
use crate::tables::{backend, counted, expected, fill, graph};

const ROWS: i64 = 400;

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_sent_or_logged() {
    let cluster = Cluster::start(1, "-vv");
    let (address, seen) = proxy::start(&cluster.address, "", "");
    let options = cluster.bucket.storage_options();
    let root = format!("{}/secrets", cluster.bucket.url());
    let backend = backend(&root, &options, Some(&format!("df://{address}")));
    let store = MetadataStore::builder(backend, graph()).open(AccessMode::ReadWrite).await.unwrap();
    fill(&store, ROWS).await;

    let found = store.resolve_update("both").versioning_engine(metaxy_core::VersioningEngine::Native).await.unwrap();
    assert_eq!([found.new, found.stale, found.orphaned].map(|rows| rows.num_rows()), expected(ROWS));
    assert_eq!(counted(&store).await.unwrap(), expected(ROWS));

    assert!(seen.contains("left.delta") || seen.contains("\"left\""), "no query has passed the proxy");
    let logs = cluster.logs();
    for name in ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"] {
        assert!(!seen.contains(&options[name]), "{name} was sent to the scheduler");
    }
    for log in &logs {
        assert!(!log.contains(&options["AWS_SECRET_ACCESS_KEY"]), "the secret key is in a log");
    }
    assert!(logs.iter().all(|log| log.contains("DEBUG")), "the logs are not verbose");
}
