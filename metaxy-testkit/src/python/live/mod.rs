//! Both programs take the steps of a scenario in turns on one store, and give the same answers after each.

mod groups;
mod steps;
mod story;

use std::path::Path;

use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, MetadataStore, MetaxyConfig};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Conversation, Program, Python};
use crate::scenario::Scenario;

const STEPS: &str = include_str!("steps.py");

/// The store that the steps of a scenario use, and the one to which its features are copied.
const STORE: &str = "dev";
const COPY: &str = "copy";

/// A process of the Python package, which serves many scenarios: it takes seconds to start.
#[derive(Debug)]
pub struct Companion {
    conversation: Conversation,
    _directory: TempDir,
}

impl Companion {
    /// Starts the process.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(python: &Python) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self { conversation: python.start(directory.path(), STEPS), _directory: directory }
    }

    /// Takes a step, and returns what it answers; an error is what went wrong there.
    fn take(&mut self, step: &Value) -> Result<Value, String> {
        let answer = self.conversation.ask(&step.to_string());
        let (failure, answer): (Option<String>, Value) = serde_json::from_str(&answer).expect("JSON");
        failure.map_or(Ok(answer), |failure| Err(format!("Python: {failure}")))
    }
}

/// The stores of a scenario, in a directory of their own.
#[derive(Debug)]
pub struct Stores<'a> {
    /// A `metaxy.toml` with the stores `dev` and `copy`; `${HOME}` in it is the directory.
    pub config: &'a str,
    /// Whether this program keeps its store open while the other one uses it.
    pub shared: bool,
}

/// Lets both programs take the steps of a scenario in turns; then they process what there is to do, carry rows over to
/// changed definitions, and copy everything to another store.
///
/// # Errors
/// The first step after which their answers differ, or that fails.
pub async fn alternate(
    companion: &mut Companion,
    stores: &Stores<'_>,
    scenario: &Scenario,
    first: Program,
) -> Result<(), String> {
    let scenario = groups::without_order(scenario);
    let mut live = Live::new(companion, stores, &scenario, first)?;
    let told = live.tell(&scenario).await;
    live.close().await?;
    told.map_err(|failure| format!("{}, {first:?} first, {}: {failure}", scenario.name, live.position))
}

/// Both programs on the stores of a scenario.
struct Live<'a> {
    companion: &'a mut Companion,
    directory: TempDir,
    shared: bool,
    truncation: usize,
    graph: FeatureGraph,
    store: Option<MetadataStore>,
    next: Program,
    position: String,
}

impl<'a> Live<'a> {
    fn new(
        companion: &'a mut Companion,
        stores: &Stores<'_>,
        scenario: &Scenario,
        first: Program,
    ) -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let home = directory.path().display().to_string();
        std::fs::write(directory.path().join("metaxy.toml"), stores.config.replace("${HOME}", &home))
            .map_err(|error| error.to_string())?;
        companion.take(&json!(["open", home]))?;
        let truncation = scenario.hash_truncation_length;
        let graph = FeatureGraph::new([]).map_err(text)?;
        let position = "definitions".to_owned();
        Ok(Self { companion, directory, shared: stores.shared, truncation, graph, store: None, next: first, position })
    }

    /// Returns the program whose turn it is.
    fn turn(&mut self) -> Program {
        let other = self.next.other();
        std::mem::replace(&mut self.next, other)
    }

    /// Changes the definitions of both programs.
    async fn define(&mut self, features: &[FeatureSpec]) -> Result<(), String> {
        self.companion.take(&json!(["define", features]))?;
        let graph = FeatureGraph::builder().hash_truncation_length(self.truncation).features(features.to_vec());
        self.graph = graph.build().map_err(text)?;
        self.close().await
    }

    /// Takes a store that is open in this program, to be [given back](Self::give_back).
    async fn take_store(&mut self) -> Result<MetadataStore, String> {
        match self.store.take() {
            Some(store) => Ok(store),
            None => self.open(STORE).await,
        }
    }

    async fn give_back(&mut self, store: MetadataStore) -> Result<(), String> {
        if self.shared {
            self.store = Some(store);
            return Ok(());
        }
        store.close().await.map_err(text)
    }

    async fn open(&self, name: &str) -> Result<MetadataStore, String> {
        let config = config(self.directory.path())?;
        config.open_store(name, self.graph.clone(), AccessMode::ReadWrite).await.map_err(text)
    }

    async fn close(&mut self) -> Result<(), String> {
        match self.store.take() {
            Some(store) => store.close().await.map_err(text),
            None => Ok(()),
        }
    }
}

fn config(directory: &Path) -> Result<MetaxyConfig, String> {
    MetaxyConfig::loader().directory(directory).load().map_err(text)
}

fn text(error: metaxy_core::Error) -> String {
    error.to_string()
}
