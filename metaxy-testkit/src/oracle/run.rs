//! Playing random histories over a backend.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use futures::FutureExt;
use metaxy_core::SharedBackend;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::scenario::{self, Scenario};

use super::history::drafts;

/// How often a failing history is made smaller, at most.
const SHRINKS: usize = 2_000;

/// Draws histories and plays each over a backend of its own, which the factory makes: empty and not open. After every
/// step that changes something all rows are compared with the oracle's.
///
/// A history that goes another way is made smaller while it still does, and written as a scenario file into the directory
/// that `METAXY_FAILURES` names, or into the one for temporary files. `METAXY_SEED` draws other histories.
///
/// # Errors
/// The smallest failing history, where its file is, and how it differs.
pub async fn run_histories(cases: usize, factory: impl AsyncFn() -> SharedBackend) -> Result<(), String> {
    let seed = std::env::var("METAXY_SEED").ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for case in 0..cases {
        let mut tree = drafts().new_tree(&mut runner).map_err(|reason| reason.to_string())?;
        let scenario = tree.current().scenario()?;
        if let Err(message) = play(&scenario, &factory).await {
            let (scenario, message) = shrunk(&mut tree, (scenario, message), &factory).await;
            return Err(failure(scenario, &message, case, seed));
        }
    }
    Ok(())
}

/// Plays a history; a panic is a failure like any other.
async fn play(scenario: &Scenario, factory: &impl AsyncFn() -> SharedBackend) -> Result<(), String> {
    let backend = factory().await;
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
    tree: &mut impl ValueTree<Value = super::history::Draft>,
    found: (Scenario, String),
    factory: &impl AsyncFn() -> SharedBackend,
) -> (Scenario, String) {
    let mut smallest = found;
    if !tree.simplify() {
        return smallest;
    }
    for _ in 0..SHRINKS {
        let failing = match tree.current().scenario() {
            Ok(scenario) => play(&scenario, factory).await.err().map(|message| (scenario, message)),
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
