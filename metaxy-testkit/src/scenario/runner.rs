//! Runs a scenario on a backend.

use std::fmt;
use std::sync::Arc;

use metaxy_core::backend::SharedBackend;
use metaxy_core::store::{ResolveRequest, StoreBuilder};
use metaxy_core::{AccessMode, FeatureGraph, Increment, MetadataStore, Result, Rows, VersioningEngine};

use super::{
    Definitions, Delete, Expected, Read, Resolve, Row, Scenario, Step, Versions, compare, json_rows, record_batch,
};
use crate::clock::ManualClock;

/// A scenario whose result differs from the recording.
#[derive(Debug)]
pub struct Failure {
    file: String,
    position: String,
    message: String,
}

impl Failure {
    /// Returns the failure at a position in a file.
    pub(crate) fn new(file: &str, position: impl Into<String>, message: String) -> Self {
        Self { file: file.to_owned(), position: position.into(), message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.file, self.position, self.message)
    }
}

impl std::error::Error for Failure {}

/// Runs the text of a scenario file on a backend that is empty and not open.
///
/// # Errors
/// The first step whose result differs from the recording, with file, step, operation and the rows that differ.
pub async fn run_text(text: &str, file: &str, backend: SharedBackend) -> Result<(), Failure> {
    run(&parse(text, file)?, file, backend).await
}

/// Parses the text of a scenario file.
///
/// # Errors
/// If it is not a scenario.
pub fn parse(text: &str, file: &str) -> Result<Scenario, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::new(file, format!("line {}", error.line()), format!("this is not a scenario: {error}"))
    })
}

/// Runs a scenario on a backend that is empty (or has the rows on which the scenario builds) and not open.
///
/// # Errors
/// The first step whose result differs from the recording, with file, step, operation and the rows that differ.
pub async fn run(scenario: &Scenario, file: &str, backend: SharedBackend) -> Result<(), Failure> {
    run_configured(scenario, file, backend, |store| store).await
}

/// Runs a scenario on a store with further settings, such as an engine.
///
/// # Errors
/// The errors of [`run`].
pub async fn run_configured(
    scenario: &Scenario,
    file: &str,
    backend: SharedBackend,
    configure: impl FnOnce(StoreBuilder) -> StoreBuilder,
) -> Result<(), Failure> {
    play_all(&ManualClock::new(), scenario, file, backend, configure).await
}

/// Runs a scenario with this clock, which advances with each step.
///
/// # Errors
/// The errors of [`run`].
pub async fn run_by(
    clock: &Arc<ManualClock>,
    scenario: &Scenario,
    file: &str,
    backend: SharedBackend,
) -> Result<(), Failure> {
    play_all(clock, scenario, file, backend, |store| store).await
}

async fn play_all(
    clock: &Arc<ManualClock>,
    scenario: &Scenario,
    file: &str,
    backend: SharedBackend,
    configure: impl FnOnce(StoreBuilder) -> StoreBuilder,
) -> Result<(), Failure> {
    let at = |position: String| move |message: String| Failure::new(file, position, message);
    let graph =
        checked_graph(&scenario.definitions, scenario.hash_truncation_length).map_err(at("definitions".to_owned()))?;
    let mut store = configure(MetadataStore::builder(backend, graph))
        .hash_algorithm(scenario.hash_algorithm)
        .hash_truncation_length(scenario.hash_truncation_length)
        .auto_create_tables(true)
        .clock(Arc::clone(clock) as _)
        .open(AccessMode::ReadWrite)
        .await
        .map_err(|error| at("opening the store".to_owned())(error.to_string()))?;
    for (index, step) in scenario.steps.iter().enumerate() {
        clock.advance(1);
        let position = format!("step {} of {} ({} {})", index + 1, scenario.steps.len(), step.op(), step.feature());
        store = play_step(store, step, scenario.hash_truncation_length).await.map_err(at(position))?;
    }
    store.close().await.map_err(|error| at("closing the store".to_owned())(error.to_string()))
}

/// Runs one step, and returns the store for the next one.
pub(crate) async fn play_step(store: MetadataStore, step: &Step, truncation: usize) -> Result<MetadataStore, String> {
    let text = |error: metaxy_core::Error| error.to_string();
    match step {
        Step::Write(write) => {
            let batch = record_batch(&write.samples).map_err(text)?;
            store.write(&write.feature, batch).await.map_err(text)?;
        }
        Step::Read(read) => compare("read", &read.expect, &read_rows(&store, read).await?)?,
        Step::Delete(delete) => {
            play_delete(&store, delete).await.map_err(text)?;
        }
        Step::Resolve(resolve) => resolve.expect.compare(&resolve_rows(&store, resolve).await?)?,
        Step::Redefine(definitions) => {
            return store.with_graph(checked_graph(definitions, truncation)?).map_err(text);
        }
    }
    Ok(store)
}

/// Returns the graph of some definitions, after checking it against the recorded versions.
fn checked_graph(definitions: &Definitions, truncation: usize) -> Result<FeatureGraph, String> {
    let graph = definitions.graph(truncation).map_err(|error| error.to_string())?;
    for (feature, expected) in &definitions.versions {
        let actual = Versions::of(&graph, feature).map_err(|error| error.to_string())?;
        if actual != *expected {
            return Err(format!("versions of `{feature}`: expected {expected:#?}, got {actual:#?}"));
        }
    }
    match &definitions.project_version {
        Some(expected) if expected != graph.project_version() => {
            Err(format!("project version: expected {expected}, got {}", graph.project_version()))
        }
        _ => Ok(graph),
    }
}

/// Returns the rows that a step reads.
pub(crate) async fn read_rows(store: &MetadataStore, step: &Read) -> Result<Vec<Row>, String> {
    let batches = play_read(store, step).await.map_err(|error| error.to_string())?;
    json_rows(&batches).map_err(|error| error.to_string())
}

/// Returns the rows of the increment of a step.
pub(crate) async fn resolve_rows(store: &MetadataStore, step: &Resolve) -> Result<Expected, String> {
    let increment = play_resolve(store, step).await.map_err(|error| error.to_string())?;
    let rows = |rows: &Rows| json_rows(rows.batches()).map_err(|error| error.to_string());
    Ok(Expected { new: rows(&increment.new)?, stale: rows(&increment.stale)?, orphaned: rows(&increment.orphaned)? })
}

async fn play_read(store: &MetadataStore, step: &Read) -> Result<Vec<arrow::array::RecordBatch>> {
    let mut read = store.read(&step.feature);
    for filter in step.filters.iter().flatten() {
        read = read.filter(filter);
    }
    if let Some(columns) = &step.columns {
        read = read.columns(columns);
    }
    if step.with_feature_history == Some(true) {
        read = read.with_feature_history();
    }
    if step.with_sample_history == Some(true) {
        read = read.with_sample_history();
    }
    if step.include_soft_deleted == Some(true) {
        read = read.include_soft_deleted();
    }
    read.await?.collect().await
}

pub(super) async fn play_delete(store: &MetadataStore, step: &Delete) -> Result<u64> {
    let delete =
        step.filters.iter().flatten().fold(store.delete(&step.feature), |delete, filter| delete.filter(filter));
    if step.soft == Some(false) { delete.hard().await } else { delete.await }
}

/// Resolves from all rows, from what the store remembers, and as a stream of partitions in files, which must give the
/// same result.
pub(super) async fn play_resolve(store: &MetadataStore, step: &Resolve) -> Result<Increment> {
    let increment = resolve_request(store, step)?.from_all_rows().await?;
    let remembered = resolve_request(store, step)?.await?;
    assert_same_increment("what the store remembers", &increment, &remembered)?;
    let streamed = resolve_request(store, step)?.versioning_engine(VersioningEngine::Arrow).memory_limit(1);
    let streamed = streamed.lazy().await?.collect().await?;
    assert_same_increment("the resolve in partitions", &increment, &streamed)?;
    Ok(increment)
}

/// Panics if two increments differ.
pub(crate) fn assert_same_increment(what: &str, expected: &Increment, found: &Increment) -> Result<()> {
    let parts = [("new", &expected.new, &found.new), ("stale", &expected.stale, &found.stale)];
    for (part, expected, found) in parts.into_iter().chain([("orphaned", &expected.orphaned, &found.orphaned)]) {
        let compared = compare(part, &json_rows(expected.batches())?, &json_rows(found.batches())?);
        compared.unwrap_or_else(|difference| panic!("{what} differs: {difference}"));
    }
    Ok(())
}

pub(super) fn resolve_request(store: &MetadataStore, step: &Resolve) -> Result<ResolveRequest> {
    let mut resolve = store.resolve_update(&step.feature);
    if let Some(samples) = &step.samples {
        resolve = resolve.samples(record_batch(samples)?);
    }
    for (feature, filters) in step.filters.iter().flatten() {
        resolve = filters.iter().fold(resolve, |resolve, filter| resolve.filter(feature, filter));
    }
    for filter in step.target_filters.iter().flatten() {
        resolve = resolve.target_filter(filter);
    }
    for filter in step.global_filters.iter().flatten() {
        resolve = resolve.global_filter(filter);
    }
    for predicate in step.staleness_predicates.iter().flatten() {
        resolve = resolve.staleness(predicate);
    }
    if step.skip_comparison == Some(true) {
        resolve = resolve.skip_comparison();
    }
    Ok(resolve)
}
