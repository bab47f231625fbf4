//! Compares two executors of increment plans: the Arrow engine, and that of a storage system.

use std::sync::Arc;

use metaxy_core::backend::SharedBackend;
use metaxy_core::{AccessMode, FeatureGraph, HashAlgorithm, Increment, MetadataStore, Result, Rows, VersioningEngine};

use super::runner::{play_delete, play_resolve};
use super::{Failure, Resolve, Scenario, Step, compare, json_rows, record_batch};
use crate::clock::ManualClock;

/// Runs a scenario and resolves every step by both engines, which must return the same rows in the same columns.
/// Recorded results are ignored, so any hash algorithm may be used. Returns the number of resolves that the storage
/// system ran: it may decline only those that need a missing table.
///
/// # Errors
/// The first step whose results differ, or that fails.
pub async fn compare_engines(
    scenario: &Scenario,
    file: &str,
    backend: SharedBackend,
    hash: HashAlgorithm,
) -> Result<usize, Failure> {
    compare_stores(scenario, file, [backend.clone(), backend], hash).await
}

/// Compares as [`compare_engines`] does, where two backends at one location have different settings: the first for the
/// Arrow engine, the second for the storage system's own.
///
/// # Errors
/// The first step whose results differ, or that fails.
pub async fn compare_stores(
    scenario: &Scenario,
    file: &str,
    backends: [SharedBackend; 2],
    hash: HashAlgorithm,
) -> Result<usize, Failure> {
    run(scenario, file, backends, hash, None).await
}

/// Compares as [`compare_stores`] does, where the storage system may decline any resolve; adds its reasons to `declined`.
///
/// # Errors
/// The first step whose results differ, or that fails.
pub async fn compare_accepted(
    scenario: &Scenario,
    file: &str,
    backends: [SharedBackend; 2],
    hash: HashAlgorithm,
    declined: &mut Vec<String>,
) -> Result<usize, Failure> {
    run(scenario, file, backends, hash, Some(declined)).await
}

async fn run(
    scenario: &Scenario,
    file: &str,
    backends: [SharedBackend; 2],
    hash: HashAlgorithm,
    mut declined: Option<&mut Vec<String>>,
) -> Result<usize, Failure> {
    let text = |error: metaxy_core::Error| error.to_string();
    let start = async || {
        let graph = scenario.definitions.graph(scenario.hash_truncation_length)?;
        Engines::open(graph, backends, hash, scenario.hash_truncation_length).await
    };
    let mut engines = start().await.map_err(|error| Failure::new(file, "opening the store", error.to_string()))?;
    let mut resolved = 0;
    for (index, step) in scenario.steps.iter().enumerate() {
        engines.clock.advance(1);
        let played = async {
            match step {
                Step::Write(write) => {
                    let batch = record_batch(&write.samples).map_err(text)?;
                    engines.arrow.write(&write.feature, batch).await.map_err(text)?;
                }
                Step::Delete(delete) => {
                    play_delete(&engines.arrow, delete).await.map_err(text)?;
                }
                Step::Redefine(definitions) => {
                    let graph = definitions.graph(scenario.hash_truncation_length).map_err(text)?;
                    engines = engines.redefined(graph).map_err(text)?;
                }
                Step::Resolve(step) if step.samples.is_none() => {
                    resolved += usize::from(engines.resolve(step, declined.as_deref_mut()).await?);
                }
                Step::Resolve(_) | Step::Read(_) => {}
            }
            Ok(())
        };
        let position = format!("step {} of {} ({} {})", index + 1, scenario.steps.len(), step.op(), step.feature());
        played.await.map_err(|message: String| Failure::new(file, position, message))?;
    }
    let closed = engines.arrow.close().await;
    closed.map_err(|error| Failure::new(file, "closing the store", error.to_string()))?;
    Ok(resolved)
}

/// Two stores at one location.
struct Engines {
    clock: Arc<ManualClock>,
    arrow: MetadataStore,
    native: MetadataStore,
}

impl Engines {
    async fn open(
        graph: FeatureGraph,
        [arrow, native]: [SharedBackend; 2],
        hash: HashAlgorithm,
        truncation: usize,
    ) -> Result<Self> {
        let clock = ManualClock::new();
        let builder = |backend: SharedBackend, engine| {
            MetadataStore::builder(backend, graph.clone())
                .hash_algorithm(hash)
                .hash_truncation_length(truncation)
                .auto_create_tables(true)
                .clock(Arc::clone(&clock) as _)
                .versioning_engine(engine)
        };
        let arrow = builder(arrow, VersioningEngine::Arrow).open(AccessMode::ReadWrite).await?;
        let native = builder(native, VersioningEngine::Native).open(AccessMode::ReadWrite).await?;
        Ok(Self { clock, arrow, native })
    }

    fn redefined(&self, graph: FeatureGraph) -> Result<Self> {
        let (arrow, native) = (self.arrow.with_graph(graph.clone())?, self.native.with_graph(graph)?);
        Ok(Self { clock: Arc::clone(&self.clock), arrow, native })
    }

    /// Returns whether the storage system ran the resolve; an error if the two differ.
    async fn resolve(&self, step: &Resolve, declined: Option<&mut Vec<String>>) -> Result<bool, String> {
        let text = |error: metaxy_core::Error| error.to_string();
        let expected: Increment = play_resolve(&self.arrow, step).await.map_err(text)?;
        let found = match play_resolve(&self.native, step).await.map_err(text) {
            Ok(found) => found,
            Err(error) if error.contains("has no table") => return Ok(false),
            Err(error) => match declined {
                Some(declined) if error.contains("inside the storage system") => {
                    declined.push(error);
                    return Ok(false);
                }
                _ => return Err(error),
            },
        };
        for (kind, left, right) in [
            ("new", &expected.new, &found.new),
            ("stale", &expected.stale, &found.stale),
            ("orphaned", &expected.orphaned, &found.orphaned),
        ] {
            let rows = |rows: &Rows| json_rows(rows.batches()).map_err(text);
            compare(kind, &rows(left)?, &rows(right)?)?;
            if left.schema() != right.schema() {
                return Err(format!("{kind}: {} and {}", left.schema(), right.schema()));
            }
        }
        Ok(true)
    }
}
