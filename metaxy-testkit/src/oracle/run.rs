//! Running random histories on a backend.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use metaxy_core::SharedBackend;
use metaxy_core::store::StoreBuilder;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::conformance::panic_text;
use crate::location::Location;
use crate::scenario::{self, Scenario, SinceCounts};

use super::history::{Draft, drafts};

/// The maximum number of attempts to shrink a failing history.
const SHRINKS: usize = 2_000;
const SHRINK_TIME: Duration = Duration::from_secs(60);

/// Random histories, each a set of definitions and a script of steps with the oracle's answers.
#[derive(Clone, Debug)]
pub struct Histories {
    cases: usize,
    seed: u64,
    failures: PathBuf,
}

/// The smallest history found on which a store and the oracle disagree.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// The history, with the oracle's results.
    pub scenario: Scenario,
    /// The scenario file, or the reason why it could not be written.
    pub file: Result<PathBuf, String>,
    /// The step, and the difference.
    pub message: String,
}

impl Histories {
    /// Returns this number of histories, with the seed in `METAXY_SEED`, or 0.
    pub fn new(cases: usize) -> Self {
        Self {
            cases,
            seed: std::env::var("METAXY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_default(),
            failures: std::env::var_os("METAXY_FAILURES").map_or_else(std::env::temp_dir, PathBuf::from),
        }
    }

    /// Sets another seed. The same seed gives the same histories.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the directory for the scenario file of a failing history; by default that of `METAXY_FAILURES`, or the one
    /// for temporary files.
    #[must_use]
    pub fn failures(mut self, directory: impl Into<PathBuf>) -> Self {
        self.failures = directory.into();
        self
    }

    /// Returns the histories as scenarios.
    ///
    /// # Errors
    /// If invalid definitions are drawn, which is a defect of the generator.
    pub fn scenarios(&self) -> Result<Vec<Scenario>, String> {
        let mut runner = self.runner();
        let draw = |_| drafts().new_tree(&mut runner).map_err(|reason| reason.to_string())?.current().scenario();
        (0..self.cases).map(draw).collect()
    }

    /// Runs each history on a new backend of the factory: empty and not open, with a value that is kept while it is
    /// used. After every step that changes something, all rows of the feature are compared with the oracle's, and at
    /// the end all rows of all features. A history on which they disagree is shrunk, and written as a scenario file,
    /// which `METAXY_SCENARIOS` can replay.
    ///
    /// # Errors
    /// The first history on which store and oracle disagree.
    pub async fn play<F, Fut, Guard>(&self, factory: F) -> Result<(), Box<Disagreement>>
    where
        F: Fn() -> Fut + Sync,
        Fut: Future<Output = metaxy_core::Result<(SharedBackend, Guard)>> + Send,
        Guard: Send + Sync,
    {
        self.play_configured(factory, |store| store).await
    }

    /// Runs the histories on stores with further settings, such as an engine.
    ///
    /// # Errors
    /// The errors of [`Histories::play`].
    pub async fn play_configured<F, Fut, Guard>(
        &self,
        factory: F,
        configure: impl Fn(StoreBuilder) -> StoreBuilder + Sync,
    ) -> Result<(), Box<Disagreement>>
    where
        F: Fn() -> Fut + Sync,
        Fut: Future<Output = metaxy_core::Result<(SharedBackend, Guard)>> + Send,
        Guard: Send + Sync,
    {
        self.play_with(&Player { factory, configure, since: None }).await
    }

    /// Runs the histories, and compares increments since checkpoints with increments from all rows
    /// ([`run_since`](crate::scenario::run_since)). The oracle's answers are not needed. If the value of the factory has
    /// a location, other programs write to it too.
    ///
    /// # Errors
    /// The first history with an increment that differs.
    pub async fn play_since<F, Fut, Guard>(
        &self,
        factory: F,
        configure: impl Fn(StoreBuilder) -> StoreBuilder + Sync,
        location: fn(&Guard) -> Option<&dyn Location>,
    ) -> Result<SinceCounts, Box<Disagreement>>
    where
        F: Fn() -> Fut + Sync,
        Fut: Future<Output = metaxy_core::Result<(SharedBackend, Guard)>> + Send,
        Guard: Send + Sync,
    {
        let player = Player { factory, configure, since: Some(Since { counts: Mutex::default(), location }) };
        self.play_with(&player).await?;
        Ok(player.since.and_then(|since| since.counts.into_inner().ok()).unwrap_or_default())
    }

    async fn play_with<F, C, Fut, Guard>(&self, player: &Player<F, C, Guard>) -> Result<(), Box<Disagreement>>
    where
        F: Fn() -> Fut + Sync,
        C: Fn(StoreBuilder) -> StoreBuilder + Sync,
        Fut: Future<Output = metaxy_core::Result<(SharedBackend, Guard)>> + Send,
        Guard: Send + Sync,
    {
        let mut runner = self.runner();
        for case in 0..self.cases {
            let mut tree = drafts().new_tree(&mut runner).expect("drafts are drawn without conditions");
            let scenario = tree.current().scenario().expect("definitions are drawn that can be");
            if let Err(message) = player.play(&scenario).await {
                let (mut scenario, message) = player.shrunk(&mut tree, (scenario, message)).await;
                scenario.name = format!("random_{}_{case}", self.seed);
                return Err(Box::new(Disagreement { file: self.written(&scenario), scenario, message }));
            }
        }
        Ok(())
    }

    fn runner(&self) -> TestRunner {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.seed.to_le_bytes());
        TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    fn written(&self, scenario: &Scenario) -> Result<PathBuf, String> {
        let script = serde_json::to_string_pretty(scenario).map_err(|error| error.to_string())?;
        let file = self.failures.join(format!("{}_{}.json", scenario.name, std::process::id()));
        std::fs::create_dir_all(&self.failures)
            .and_then(|()| std::fs::write(&file, script))
            .map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(file)
    }
}

/// Runs histories on new backends.
struct Player<F, C, Guard> {
    factory: F,
    configure: C,
    /// Increments since checkpoints are compared instead of the oracle's answers.
    since: Option<Since<Guard>>,
}

struct Since<Guard> {
    counts: Mutex<SinceCounts>,
    /// Returns the location of the backend, if other programs are to write to it.
    location: fn(&Guard) -> Option<&dyn Location>,
}

impl<F, C, Fut, Guard> Player<F, C, Guard>
where
    F: Fn() -> Fut + Sync,
    C: Fn(StoreBuilder) -> StoreBuilder + Sync,
    Fut: Future<Output = metaxy_core::Result<(SharedBackend, Guard)>> + Send,
    Guard: Send + Sync,
{
    /// Runs a history; a panic counts as a failure.
    async fn play(&self, scenario: &Scenario) -> Result<(), String> {
        let (backend, guard) = (self.factory)().await.map_err(|error| error.to_string())?;
        let played = async {
            let Some(since) = &self.since else {
                return scenario::run_configured(scenario, &scenario.name, backend, &self.configure).await;
            };
            let location = (since.location)(&guard);
            let found = scenario::run_since(scenario, &scenario.name, backend, &self.configure, location).await?;
            since.counts.lock().unwrap_or_else(PoisonError::into_inner).add(found);
            Ok(())
        };
        match AssertUnwindSafe(played).catch_unwind().await {
            Ok(outcome) => outcome.map_err(|failure| failure.to_string()),
            Err(panic) => Err(format!("panic: {}", panic_text(&*panic))),
        }
    }

    /// Returns the smallest history found that also fails.
    async fn shrunk(
        &self,
        tree: &mut (impl ValueTree<Value = Draft> + Send),
        found: (Scenario, String),
    ) -> (Scenario, String) {
        let start = Instant::now();
        let mut smallest = found;
        if !tree.simplify() {
            return smallest;
        }
        for _ in 0..SHRINKS {
            let failing = match tree.current().scenario() {
                Ok(scenario) => self.play(&scenario).await.err().map(|message| (scenario, message)),
                Err(_) => None,
            };
            let more = match failing {
                Some(failing) => {
                    smallest = failing;
                    tree.simplify()
                }
                None => tree.complicate(),
            };
            if !more || start.elapsed() > SHRINK_TIME {
                break;
            }
        }
        smallest
    }
}

/// Shows the history, with a line for each feature and step, and the file.
impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, file, message } = self;
        writeln!(f, "{} differs from the oracle: {message}", scenario.name)?;
        match file {
            Ok(file) => writeln!(f, "The history, written to {}:", file.display())?,
            Err(error) => writeln!(f, "The history, which could not be written to a file ({error}):")?,
        }
        writeln!(f, "{} truncated to {}", scenario.hash_algorithm, scenario.hash_truncation_length)?;
        for feature in &scenario.definitions.features {
            writeln!(f, "feature {}", feature.to_json())?;
        }
        for (index, step) in scenario.steps.iter().enumerate() {
            writeln!(f, "{}. {}", index + 1, serde_json::to_string(step).unwrap_or_default())?;
        }
        Ok(())
    }
}

impl std::error::Error for Disagreement {}
