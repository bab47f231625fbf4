//! The Python package, measured by its own script.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use metaxy_core::error::BoxError;
use serde_json::Value;

use super::data::Case;
use super::measure::Measures;
use super::process::{ALLOCATOR, rounds_at_once};
use super::subject::{Phase, Subject};
use crate::python::Python;

/// A Python interpreter with the package, and the script.
pub(super) struct Reference {
    python: Python,
    script: PathBuf,
}

impl Reference {
    /// Finds both, or returns what is missing.
    pub(super) fn find() -> Result<Self, String> {
        let python = Python::find(&[])?;
        let script = match std::env::var_os("METAXY_REFERENCE_BASELINE").filter(|name| !name.is_empty()) {
            Some(path) => PathBuf::from(path),
            None => beside_the_workspace()
                .ok_or("METAXY_REFERENCE_BASELINE names no script, and ../shared/reference has none")?,
        };
        if !script.is_file() {
            return Err(format!("{} is no file", script.display()));
        }
        Ok(Self { python, script })
    }

    /// Measures a store of the package.
    pub(super) fn measure(&self, kind: &str, subject: &Subject, case: Case) -> Result<Measures, BoxError> {
        let rounds = rounds_at_once(case.size, false);
        let output = Command::new(self.python.interpreter())
            .arg(&self.script)
            .args([kind, &case.scenario.to_string(), &case.size.to_string(), &rounds.to_string()])
            .envs(ALLOCATOR)
            .envs(subject.reference_env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let answer = stdout.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
        let Some(answer) = answer.filter(|_| output.status.success()) else {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            return Err(format!("the Python package failed ({}): {last}", output.status).into());
        };
        let mut measures = Measures::default();
        for phase in Phase::ALL {
            if let Some(seconds) = answer[phase.name()].as_f64() {
                measures.seconds.insert(phase.name().to_owned(), vec![seconds]);
            }
        }
        measures.peaks.extend(answer["rss_mb"].as_f64());
        measures.stale_rows = answer["stale_rows"].as_u64().and_then(|rows| usize::try_from(rows).ok());
        Ok(measures)
    }
}

/// Returns `shared/reference/baseline.py` beside the workspace.
fn beside_the_workspace() -> Option<PathBuf> {
    let start = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).or_else(|| std::env::current_dir().ok())?;
    start.ancestors().map(|dir: &Path| dir.join("shared/reference/baseline.py")).find(|path| path.is_file())
}
