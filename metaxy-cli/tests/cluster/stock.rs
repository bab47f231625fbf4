//! Increments on executors of plain Ballista: the same as those of the Arrow engine, or declined.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use metaxy_core::{AccessMode, Error, HashAlgorithm, MetadataStore, SharedBackend, VersioningEngine};
use metaxy_delta::{DeltaBackend, DeltaConfig, Executors};
use metaxy_testkit::scenario::{self, Scenario};

use crate::proxy;
use crate::stock_processes::StockCluster;
use crate::tables::{counted, expected, fill, graph, samples};

/// The algorithms for which DataFusion has functions.
const HASHES: [HashAlgorithm; 2] = [HashAlgorithm::Md5, HashAlgorithm::Sha256];

fn backend(root: &Path, scheduler: &str) -> SharedBackend {
    let config = DeltaConfig::new(root.display().to_string()).scheduler(scheduler).executors(Executors::Stock);
    Arc::new(DeltaBackend::new(config).unwrap())
}

/// Opens a store that only the cluster resolves.
async fn on_cluster(backend: SharedBackend, hash: HashAlgorithm) -> MetadataStore {
    MetadataStore::builder(backend, graph())
        .hash_algorithm(hash)
        .versioning_engine(VersioningEngine::Native)
        .open(AccessMode::ReadWrite)
        .await
        .unwrap()
}

/// Returns why the increment of a store is declined.
async fn reason(store: &MetadataStore) -> String {
    counted(store).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_increment_of_all_kinds_is_computed() {
    let cluster = StockCluster::shared();
    for hash in HASHES {
        let directory = tempfile::tempdir().unwrap();
        let store = on_cluster(backend(directory.path(), &cluster.url()), hash).await;
        fill(&store, 400).await;
        assert_eq!(counted(&store).await.unwrap(), expected(400), "{hash}");
    }
    cluster.scheduler.wait_for("Job finished successfully");
}

/// No resolve of these scenarios is declined.
#[tokio::test(flavor = "multi_thread")]
async fn all_lineages_run_with_both_hashes() {
    let cluster = StockCluster::shared();
    let bundled = Scenario::bundled();
    for (lineage, hash) in
        ["chain_0", "aggregation_0", "expansion_0"].into_iter().flat_map(|name| HASHES.map(|hash| (name, hash)))
    {
        let scenario = bundled.iter().find(|scenario| scenario.name.ends_with(lineage)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let arrow = crate::tables::backend(&directory.path().display().to_string(), &BTreeMap::new(), None);
        let backends = [arrow, backend(directory.path(), &cluster.url())];
        let ran = scenario::compare_stores(scenario, lineage, backends, hash).await.unwrap();
        assert!(ran > 5, "{lineage} with {hash}: {ran}");
    }
}

/// Another hash is declined by name, and computed in this process.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_declined_is_computed_here() {
    let cluster = StockCluster::shared();
    let directory = tempfile::tempdir().unwrap();
    let backend = backend(directory.path(), &cluster.url());
    let native = on_cluster(backend.clone(), HashAlgorithm::Wyhash).await;
    let auto = MetadataStore::builder(backend, graph()).hash_algorithm(HashAlgorithm::Wyhash);
    let auto = auto.open(AccessMode::ReadWrite).await.unwrap();
    fill(&auto, 40).await;
    assert_eq!(counted(&auto).await.unwrap(), expected(40));
    let reason = reason(&native).await;
    assert!(reason.contains("stock executors have no wyhash"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_not_plain_files_are_declined() {
    let cluster = StockCluster::shared();
    let directory = tempfile::tempdir().unwrap();
    let config = DeltaConfig::new(directory.path().display().to_string()).scheduler(cluster.url());
    let config = config.executors(Executors::Stock).partition_by(["id"]);
    let store = on_cluster(Arc::new(DeltaBackend::new(config).unwrap()), HashAlgorithm::Md5).await;
    for root in ["left", "right"] {
        store.write(root, samples(root, 0..3, "1")).await.unwrap();
    }
    let reason = reason(&store).await;
    assert!(reason.contains("is partitioned by `id`"), "{reason}");
}

/// A cluster that has other files at the same place, here by other names in what it is sent, does not answer with fewer
/// rows.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_the_cluster_does_not_find_are_told() {
    let cluster = StockCluster::shared();
    let directory = tempfile::tempdir().unwrap();
    let store = on_cluster(backend(directory.path(), &cluster.url()), HashAlgorithm::Md5).await;
    fill(&store, 40).await;
    let (address, _) = proxy::start(&cluster.address, "right.delta", "wrong.delta");
    let store = on_cluster(backend(directory.path(), &format!("df://{address}")), HashAlgorithm::Md5).await;
    let error = counted(&store).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    assert!(error.to_string().contains("which finds 100 of 143 rows"), "{error}");
}

/// Compares both engines on some scenarios; returns the number of resolves that the cluster ran, and why it did not run
/// others.
async fn resolved(scenarios: Vec<Scenario>) -> (usize, Vec<String>) {
    let cluster = StockCluster::shared();
    let (mut resolved, mut declined, mut failures) = (0, Vec::new(), Vec::new());
    for (scenario, hash) in scenarios.into_iter().zip(HASHES.into_iter().cycle()) {
        let directory = tempfile::tempdir().unwrap();
        let arrow = crate::tables::backend(&directory.path().display().to_string(), &BTreeMap::new(), None);
        let backends = [arrow, backend(directory.path(), &cluster.url())];
        match scenario::compare_accepted(&scenario, &scenario.name, backends, hash, &mut declined).await {
            Ok(count) => resolved += count,
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    println!("{resolved} ran, {} were declined", declined.len());
    (resolved, declined)
}

#[tokio::test(flavor = "multi_thread")]
async fn scenarios_agree() {
    let (resolved, declined) = resolved(Scenario::bundled()).await;
    assert!(resolved > 250, "only {resolved} resolves ran on the cluster: {declined:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_agree() {
    let histories = crate::engines::histories();
    let cases = histories.len();
    let (resolved, declined) = resolved(histories).await;
    assert!(resolved >= cases, "only {resolved} resolves ran on the cluster: {declined:#?}");
}
