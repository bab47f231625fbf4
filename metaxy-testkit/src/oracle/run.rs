//! Playing random histories over a backend.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use futures::FutureExt;
use metaxy_core::SharedBackend;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::scenario::{self, Scenario};

use super::history::{Draft, drafts};

/// How often a failing history is made smaller, at most.
const SHRINKS: usize = 2_000;

/// Draws histories and plays each over a backend of its own, which the factory makes: empty and not open, with whatever
/// has to live as long as it is used. After every step that changes something all rows are compared with the oracle's.
///
/// A history that goes another way is made smaller while it still does, and written as a scenario file into the directory
/// that `METAXY_FAILURES` names, or into the one for temporary files. `METAXY_SEED` draws other histories.
///
/// # Errors
/// The smallest failing history, where its file is, and how it differs.
pub async fn run_histories<F, Fut, Guard>(cases: usize, factory: F) -> Result<(), String>
where
    F: Fn() -> Fut + Sync,
    Fut: Future<Output = metaxy_core::Result<(SharedBackend, Guard)>> + Send,
    Guard: Send,
{
    let player = Player { factory };
    let seed = std::env::var("METAXY_SEED").ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    let mut runner = runner(seed);
    for case in 0..cases {
        let mut tree = drafts().new_tree(&mut runner).map_err(|reason| reason.to_string())?;
        let scenario = tree.current().scenario()?;
        if let Err(message) = player.play(&scenario).await {
            let (scenario, message) = player.shrunk(&mut tree, (scenario, message)).await;
            return Err(failure(scenario, &message, case, seed));
        }
    }
    Ok(())
}

/// Random histories as scenarios with the oracle's answers: the same for the same seed.
///
/// # Errors
/// Where definitions are drawn that cannot be, which is a defect of the generator.
pub fn histories(cases: usize, seed: u64) -> Result<Vec<Scenario>, String> {
    let mut runner = runner(seed);
    let draw = |_| drafts().new_tree(&mut runner).map_err(|reason| reason.to_string())?.current().scenario();
    (0..cases).map(draw).collect()
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Plays histories over fresh backends.
struct Player<F> {
    factory: F,
}

impl<F, Fut, Guard> Player<F>
where
    F: Fn() -> Fut + Sync,
    Fut: Future<Output = metaxy_core::Result<(SharedBackend, Guard)>> + Send,
    Guard: Send,
{
    /// Plays a history; a panic is a failure like any other.
    async fn play(&self, scenario: &Scenario) -> Result<(), String> {
        let (backend, _guard) = (self.factory)().await.map_err(|error| error.to_string())?;
        match AssertUnwindSafe(scenario::run(scenario, &scenario.name, backend)).catch_unwind().await {
            Ok(outcome) => outcome.map_err(|failure| failure.to_string()),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                Err(format!("panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")))
            }
        }
    }

    /// The smallest history that can be found that fails too.
    async fn shrunk(
        &self,
        tree: &mut (impl ValueTree<Value = Draft> + Send),
        found: (Scenario, String),
    ) -> (Scenario, String) {
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
            if !more {
                break;
            }
        }
        smallest
    }
}

/// Writes the history down, and tells of it.
fn failure(mut scenario: Scenario, message: &str, case: usize, seed: u64) -> String {
    scenario.name = format!("random_{seed}_{case}");
    let script = serde_json::to_string_pretty(&scenario).unwrap_or_default();
    let directory = std::env::var_os("METAXY_FAILURES").map_or_else(std::env::temp_dir, PathBuf::from);
    let file = directory.join(format!("{}_{}.json", scenario.name, std::process::id()));
    let written = std::fs::create_dir_all(&directory).and_then(|()| std::fs::write(&file, &script));
    let place = match written {
        Ok(()) => format!("written to {}", file.display()),
        Err(error) => format!("which could not be written to {}: {error}", file.display()),
    };
    format!(
        "history {case} of seed {seed} differs from the oracle: {message}\nThe history, {place}:\n{}",
        told(&scenario)
    )
}

/// The history, a line for each feature and step.
fn told(scenario: &Scenario) -> String {
    let mut lines = vec![format!("{} cut to {}", scenario.hash_algorithm, scenario.hash_truncation_length)];
    lines.extend(scenario.definitions.features.iter().map(|feature| format!("feature {}", feature.to_json())));
    for (index, step) in scenario.steps.iter().enumerate() {
        lines.push(format!("{}. {}", index + 1, serde_json::to_string(step).unwrap_or_default()));
    }
    lines.join("\n")
}
