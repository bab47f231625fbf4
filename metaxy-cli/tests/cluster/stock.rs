//! Increments on executors of plain Ballista: the same as those of the Arrow engine, or declined.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use metaxy_core::{AccessMode, HashAlgorithm, MetadataStore, SharedBackend, VersioningEngine};
use metaxy_delta::{DeltaBackend, DeltaConfig, Executors};
use metaxy_testkit::scenario::{self, Scenario};

use crate::stock_processes::StockCluster;
use crate::tables::{counted, expected, fill, graph};

/// The algorithms for which DataFusion has functions.
const HASHES: [HashAlgorithm; 2] = [HashAlgorithm::Md5, HashAlgorithm::Sha256];

fn backend(root: &Path, cluster: &StockCluster) -> SharedBackend {
    let config = DeltaConfig::new(root.display().to_string()).scheduler(cluster.url()).executors(Executors::Stock);
    Arc::new(DeltaBackend::new(config).unwrap())
}

/// Opens a store that only the cluster resolves.
async fn on_cluster(root: &Path, cluster: &StockCluster, hash: HashAlgorithm) -> MetadataStore {
    MetadataStore::builder(backend(root, cluster), graph())
        .hash_algorithm(hash)
        .versioning_engine(VersioningEngine::Native)
        .open(AccessMode::ReadWrite)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_increment_of_all_kinds_is_computed() {
    let cluster = StockCluster::shared();
    for hash in HASHES {
        let directory = tempfile::tempdir().unwrap();
        let store = on_cluster(directory.path(), &cluster, hash).await;
        fill(&store, 400).await;
        assert_eq!(counted(&store).await.unwrap(), expected(400), "{hash}");
    }
    cluster.scheduler.wait_for("Job finished successfully");
}

/// Compares both engines on some scenarios; returns the number of resolves that the cluster ran, and why it did not run
/// others.
async fn resolved(scenarios: Vec<Scenario>) -> (usize, Vec<String>) {
    let cluster = StockCluster::shared();
    let (mut resolved, mut declined, mut failures) = (0, Vec::new(), Vec::new());
    for (scenario, hash) in scenarios.into_iter().zip(HASHES.into_iter().cycle()) {
        let directory = tempfile::tempdir().unwrap();
        let arrow = crate::tables::backend(&directory.path().display().to_string(), &BTreeMap::new(), None);
        let backends = [arrow, backend(directory.path(), &cluster)];
        match scenario::compare_accepted(&scenario, &scenario.name, backends, hash, &mut declined).await {
            Ok(count) => resolved += count,
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    println!("{resolved} ran, {} were declined: {declined:#?}", declined.len());
    (resolved, declined)
}

#[tokio::test(flavor = "multi_thread")]
async fn scenarios_agree() {
    let (resolved, declined) = resolved(Scenario::bundled()).await;
    assert!(resolved > 60, "only {resolved} resolves ran on the cluster: {declined:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_agree() {
    let histories = crate::engines::histories();
    let cases = histories.len();
    let (resolved, declined) = resolved(histories).await;
    assert!(resolved >= cases, "only {resolved} resolves ran on the cluster: {declined:#?}");
}
