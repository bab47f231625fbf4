//! What the Python package has answered, and both engines against each other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use metaxy_core::{
    AccessMode, FeatureGraph, HashAlgorithm, Increment, MetadataStore, Result, SharedBackend, VersioningEngine,
};
use metaxy_postgres::{PostgresBackend, PostgresConfig};
use metaxy_testkit::clock::ManualClock;
use metaxy_testkit::postgres_server::{self, Database};
use metaxy_testkit::scenario::{self, Resolve, Scenario, Step, compare, json_rows, record_batch};

fn testkit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../metaxy-testkit")
}

fn scenarios() -> Vec<(String, Scenario)> {
    let files = std::fs::read_dir(testkit().join("scenarios")).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = files
        .map(|file| {
            let scenario = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
            (file.display().to_string(), scenario)
        })
        .collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}

fn database() -> Database {
    postgres_server::database().unwrap_or_else(|reason| panic!("{reason}"))
}

fn backend(url: &str) -> PostgresBackend {
    let mut config = PostgresConfig::from_url(url);
    config.auto_create_tables = Some(true);
    PostgresBackend::new(config).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn recordings_are_answered() {
    let mut failures = Vec::new();
    for (file, scenario) in scenarios() {
        let database = database();
        let outcome = scenario::run(&scenario, &file, Arc::new(backend(database.url()))).await;
        failures.extend(outcome.err().map(|failure| failure.to_string()));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_python_package_answers() {
    let text = std::fs::read_to_string(testkit().join("stores/expected.json")).unwrap();
    let scenario: Scenario = serde_json::from_str(&text).unwrap();
    let database = database();
    database.load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/store.postgres.sql")).unwrap();
    scenario::run(&scenario, "expected.json", Arc::new(backend(database.url()))).await.unwrap();
    // That was the server's engine, which takes part where it can; the other one says the same.
    let resolved = play(&scenario, Arc::new(backend(database.url())), scenario.hash_algorithm).await.unwrap();
    assert_eq!(resolved, 4);
}

/// Both engines, step by step, on every scenario, hashed with what the server has.
#[tokio::test(flavor = "multi_thread")]
async fn both_engines_agree() {
    let mut resolved = 0;
    let mut failures = Vec::new();
    for (number, (file, scenario)) in scenarios().into_iter().enumerate() {
        let database = database();
        let hash = if number % 2 == 0 { HashAlgorithm::Md5 } else { HashAlgorithm::Sha256 };
        match play(&scenario, Arc::new(backend(database.url())), hash).await {
            Ok(count) => resolved += count,
            Err(difference) => failures.push(format!("{file}: {difference}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(resolved > 60, "only {resolved} resolves ran in the server");
}

struct Engines {
    arrow: MetadataStore,
    native: MetadataStore,
}

impl Engines {
    async fn open(graph: FeatureGraph, backend: SharedBackend, hash: HashAlgorithm) -> Result<Self> {
        let clock = ManualClock::new();
        let builder = |engine| {
            MetadataStore::builder(backend.clone(), graph.clone())
                .hash_algorithm(hash)
                .auto_create_tables(true)
                .clock(Arc::clone(&clock) as _)
                .versioning_engine(engine)
        };
        let arrow = builder(VersioningEngine::Arrow).open(AccessMode::ReadWrite).await?;
        let native = builder(VersioningEngine::Native).open(AccessMode::ReadWrite).await?;
        Ok(Self { arrow, native })
    }

    fn redefined(&self, graph: FeatureGraph) -> Result<Self> {
        Ok(Self { arrow: self.arrow.with_graph(graph.clone())?, native: self.native.with_graph(graph)? })
    }
}

/// Plays a scenario; how many resolves ran in the server.
async fn play(scenario: &Scenario, backend: SharedBackend, hash: HashAlgorithm) -> Result<usize, String> {
    let text = |error: metaxy_core::Error| error.to_string();
    let graph = scenario.definitions.graph(scenario.hash_truncation_length).map_err(text)?;
    let mut engines = Engines::open(graph, backend, hash).await.map_err(text)?;
    let mut resolved = 0;
    for (number, step) in scenario.steps.iter().enumerate() {
        // Writes of one moment leave to chance which of them is the later one.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        match step {
            Step::Write(write) => {
                let batch = record_batch(&write.samples).map_err(text)?;
                engines.arrow.write(&write.feature, batch).await.map_err(text)?;
            }
            Step::Delete(delete) => {
                let request = engines.arrow.delete(&delete.feature).soft(delete.soft.unwrap_or(true));
                let request = delete.filters.iter().flatten().fold(request, |request, filter| request.filter(filter));
                request.await.map_err(text)?;
            }
            Step::Redefine(definitions) => {
                let graph = definitions.graph(scenario.hash_truncation_length).map_err(text)?;
                engines = engines.redefined(graph).map_err(text)?;
            }
            Step::Resolve(step) if step.samples.is_none() => {
                let expected = resolve(&engines.arrow, step).await.map_err(text)?;
                let found = match resolve(&engines.native, step).await {
                    Ok(found) => found,
                    Err(error) if error.to_string().contains("has no table") => continue,
                    Err(error) => return Err(format!("step {}: {error}", number + 1)),
                };
                resolved += 1;
                let rows = |rows: &metaxy_core::Rows| json_rows(rows.batches()).map_err(text);
                for (kind, left, right) in [
                    ("new", &expected.new, &found.new),
                    ("stale", &expected.stale, &found.stale),
                    ("orphaned", &expected.orphaned, &found.orphaned),
                ] {
                    compare(kind, &rows(left)?, &rows(right)?)
                        .map_err(|text| format!("step {}: {text}", number + 1))?;
                    if left.schema() != right.schema() {
                        return Err(format!("step {}: {kind}: {} and {}", number + 1, left.schema(), right.schema()));
                    }
                }
            }
            Step::Resolve(_) | Step::Read(_) => {}
        }
    }
    Ok(resolved)
}

async fn resolve(store: &MetadataStore, step: &Resolve) -> Result<Increment> {
    let mut resolve = store.resolve_update(&step.feature);
    for (feature, filters) in step.filters.iter().flatten() {
        resolve = filters.iter().fold(resolve, |resolve, filter| resolve.filter(feature, filter));
    }
    resolve = step.target_filters.iter().flatten().fold(resolve, |resolve, filter| resolve.target_filter(filter));
    resolve = step.global_filters.iter().flatten().fold(resolve, |resolve, filter| resolve.global_filter(filter));
    resolve = step.staleness_predicates.iter().flatten().fold(resolve, |resolve, filter| resolve.staleness(filter));
    if step.skip_comparison == Some(true) {
        resolve = resolve.skip_comparison();
    }
    resolve.await
}
