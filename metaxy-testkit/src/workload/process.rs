//! Measurements in separate processes: the benchmark starts itself again with a task in its environment.

use std::process::{Command, Stdio};

use metaxy_core::error::BoxError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::data::Case;
use super::measure::{self, Measures, Parts};
use super::options::Options;
use super::subject::Subject;

/// The variable with a [`Task`].
const TASK: &str = "METAXY_BENCH_TASK";
/// The prefix of the line with the result; a backend may print other lines.
const ANSWER: &str = "metaxy-bench-answer: ";

/// The settings of glibc: the memory in use is measured, not what glibc keeps for each thread. A few threads share
/// freed memory, and large blocks are returned to the system at once. The Python package's processes have the same
/// settings.
pub(super) const ALLOCATOR: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "1048576")];

/// The measurement of a process.
#[derive(Serialize, Deserialize)]
pub(super) struct Task {
    subject: usize,
    scenario: String,
    size: usize,
    rounds: usize,
    hash: Option<String>,
    extras: bool,
    floor: bool,
    #[serde(default)]
    changes: bool,
}

/// Returns whether this process runs a task of another one.
pub(super) fn is_child() -> bool {
    std::env::var_os(TASK).is_some()
}

/// Returns the task of this process, if it has one.
pub(super) fn task() -> Result<Option<Task>, BoxError> {
    match std::env::var(TASK) {
        Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
        Err(_) => Ok(None),
    }
}

/// Runs the task and prints the result.
pub(super) fn answer(subjects: &[Subject], task: &Task) -> Result<(), BoxError> {
    let subject = subjects.get(task.subject).ok_or("the process that measures has other subjects")?;
    let case = Case { scenario: task.scenario.parse()?, size: task.size };
    let hash = task.hash.as_deref().map(str::parse).transpose()?;
    let parts = Parts { extras: task.extras, floor: task.floor, changes: task.changes };
    let measures = measure::measure(subject, case, hash, task.rounds, parts)?;
    tell(&measures)
}

/// Measures a subject in a separate process.
pub(super) fn measure(
    index: usize,
    subject: &Subject,
    case: Case,
    options: &Options,
    extras: bool,
) -> Result<Measures, BoxError> {
    let task = Task {
        subject: index,
        scenario: case.scenario.to_string(),
        size: case.size,
        rounds: rounds_at_once(case.size, options.smoke),
        hash: subject.algorithm(options.hash).map(|algorithm| algorithm.to_string()),
        extras,
        floor: extras && options.floor,
        changes: extras && options.changes,
    };
    ask(subject, TASK, &task, &ALLOCATOR)
        .map_err(|error| format!("{}, {} records: {error}", case.scenario, case.size).into())
}

/// Runs a task in a separate process: this program again, with the task in a variable.
pub(super) fn ask<T: DeserializeOwned>(
    subject: &Subject,
    variable: &str,
    task: &impl Serialize,
    allocator: &[(&str, &str)],
) -> Result<T, BoxError> {
    let output = Command::new(std::env::current_exe()?)
        .env(variable, serde_json::to_string(task)?)
        .envs(allocator.iter().copied())
        .envs(subject.child_env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    match stdout.lines().rev().find_map(|line| line.strip_prefix(ANSWER)) {
        Some(text) if output.status.success() => Ok(serde_json::from_str(text)?),
        _ => Err(format!("measuring `{}` failed: {}", subject.name, output.status).into()),
    }
}

/// Prints the result of a task.
pub(super) fn tell(answer: &impl Serialize) -> Result<(), BoxError> {
    println!("{ANSWER}{}", serde_json::to_string(answer)?);
    Ok(())
}

/// Returns the number of rounds in one process: small cases are measured several times, like in a program that runs
/// longer, also for the Python package.
pub(super) fn rounds_at_once(size: usize, smoke: bool) -> usize {
    if size > 100_000 || smoke { 1 } else { 3 }
}
