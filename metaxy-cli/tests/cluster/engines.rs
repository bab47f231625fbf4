//! The cluster and the Arrow engine: the same increments from the same tables.

use std::collections::BTreeMap;
use std::time::Instant;

use futures::StreamExt;
use metaxy_core::HashAlgorithm;
use metaxy_testkit::oracle::Histories;
use metaxy_testkit::scenario::{self, Scenario};

use crate::processes::Cluster;
use crate::tables::backend;

/// The number of scenarios that are played at a time: one resolve alone leaves the processes of the cluster idle.
const AT_A_TIME: usize = 4;

/// Where the tables of scenarios are.
#[derive(Clone, Copy)]
enum Where {
    Directory,
    Bucket,
}

/// Runs both engines, step by step, on some scenarios, with all hash algorithms in turn; returns the number of resolves
/// that the cluster ran.
async fn resolved(place: Where, name: &str, scenarios: Vec<Scenario>) -> usize {
    let cluster = Cluster::shared();
    let numbered = scenarios.into_iter().zip(HashAlgorithm::ALL.into_iter().cycle()).enumerate();
    let compared = futures::stream::iter(numbered).map(|(number, (scenario, hash))| {
        let cluster = cluster.clone();
        async move {
            let directory = tempfile::tempdir().unwrap();
            let (root, options) = match place {
                Where::Directory => (directory.path().display().to_string(), BTreeMap::new()),
                Where::Bucket => {
                    (format!("{}/{name}/{number}", cluster.bucket.url()), cluster.bucket.storage_options())
                }
            };
            let backends = [backend(&root, &options, None), backend(&root, &options, Some(&cluster.url()))];
            let start = Instant::now();
            let resolved = scenario::compare_stores(&scenario, &scenario.name, backends, hash).await;
            println!("{}: {resolved:?} resolves in {} ms", scenario.name, start.elapsed().as_millis());
            resolved.map_err(|failure| failure.to_string())
        }
    });
    let outcomes: Vec<Result<usize, String>> = compared.buffer_unordered(AT_A_TIME).collect().await;
    let failures: Vec<&str> =
        outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).map(String::as_str).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    outcomes.iter().flatten().sum()
}

/// Returns as many random histories as `METAXY_CASES` says.
pub fn histories() -> Vec<Scenario> {
    let cases = std::env::var("METAXY_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    Histories::new(cases).scenarios().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn scenarios_agree_in_a_directory() {
    let resolved = resolved(Where::Directory, "scenarios", Scenario::bundled()).await;
    assert!(resolved > 60, "only {resolved} resolves ran on the cluster");
}

#[tokio::test(flavor = "multi_thread")]
async fn scenarios_agree_on_s3() {
    let resolved = resolved(Where::Bucket, "scenarios", Scenario::bundled()).await;
    assert!(resolved > 60, "only {resolved} resolves ran on the cluster");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_agree_in_a_directory() {
    let histories = histories();
    let cases = histories.len();
    let resolved = resolved(Where::Directory, "histories", histories).await;
    assert!(resolved >= cases, "only {resolved} resolves ran on the cluster");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_agree_on_s3() {
    let histories = histories();
    let cases = histories.len();
    let resolved = resolved(Where::Bucket, "histories", histories).await;
    assert!(resolved >= cases, "only {resolved} resolves ran on the cluster");
}
