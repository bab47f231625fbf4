//! The table of backends and groups for `METAXY_CONFORMANCE_REPORT`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{CASES, Outcome};

/// The outcomes by backend, group and case.
type Outcomes = BTreeMap<String, BTreeMap<String, BTreeMap<String, Reported>>>;

/// The outcome of a case, and its duration.
#[derive(serde::Serialize, serde::Deserialize)]
struct Reported {
    outcome: String,
    seconds: f64,
}

/// Adds an outcome to the report, if there is one. Several processes may write to one report.
pub(super) fn record(tested: &str, group: &str, name: &str, outcome: &Result<Outcome, String>, took: Duration) {
    let Some(file) = std::env::var_os("METAXY_CONFORMANCE_REPORT").filter(|value| !value.is_empty()) else { return };
    // Cargo runs tests in the directory of their package; a relative path means from the directory where cargo was
    // called.
    let called_from = std::env::var_os("PWD").map(PathBuf::from).unwrap_or_default();
    let reported = Reported { outcome: word(outcome).to_owned(), seconds: took.as_secs_f64() };
    if let Err(error) = merge(&called_from.join(file), tested, group, name, reported) {
        eprintln!("the conformance report cannot be written: {error}");
    }
}

fn word(outcome: &Result<Outcome, String>) -> &'static str {
    match outcome {
        Ok(Outcome::Passed) => "passed",
        Ok(Outcome::Refused(_)) => "refused",
        Err(_) => "failed",
    }
}

/// Adds an outcome to those in a file of the same name that ends in `.json`, and returns the table.
fn merge(file: &Path, tested: &str, group: &str, name: &str, reported: Reported) -> std::io::Result<()> {
    let data = file.with_added_extension("json");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(file.with_added_extension("lock"))?;
    lock.lock()?;
    let mut outcomes: Outcomes =
        File::open(&data).ok().and_then(|file| serde_json::from_reader(file).ok()).unwrap_or_default();
    let cases = outcomes.entry(tested.to_owned()).or_default().entry(group.to_owned()).or_default();
    cases.insert(name.to_owned(), reported);
    std::fs::write(&data, serde_json::to_string_pretty(&outcomes)?)?;
    std::fs::write(file, table(&outcomes))
}

/// Returns a row for each backend, with a column for each group, in the order of the suite, and the time of all cases.
fn table(outcomes: &Outcomes) -> String {
    let present: BTreeSet<&str> = outcomes.values().flat_map(BTreeMap::keys).map(String::as_str).collect();
    let mut groups: Vec<&str> = CASES.iter().map(|case| case.group).filter(|group| present.contains(group)).collect();
    groups.dedup();
    groups.extend(present.into_iter().filter(|group| CASES.iter().all(|case| case.group != *group)));
    let mut text = String::from("| backend |");
    groups.iter().for_each(|group| {
        let _ = write!(text, " {group} |");
    });
    text.push_str(" seconds |\n|---|---|");
    text.push_str(&"---|".repeat(groups.len()));
    for (tested, by_group) in outcomes {
        let _ = write!(text, "\n| {tested} |");
        for group in &groups {
            let cell = by_group.get(*group).map(cell).unwrap_or_default();
            let _ = write!(text, " {cell} |");
        }
        let seconds: f64 = by_group.values().flat_map(BTreeMap::values).map(|case| case.seconds).sum();
        let _ = write!(text, " {seconds:.0} |");
    }
    text.push('\n');
    text
}

/// Returns a cell of the table: `41`, or `38, 1 refused`, or `40, 1 FAILED`.
fn cell(cases: &BTreeMap<String, Reported>) -> String {
    let count = |word: &str| cases.values().filter(|case| case.outcome == word).count();
    let mut text = count("passed").to_string();
    for (word, label) in [("refused", "refused"), ("failed", "FAILED")] {
        if count(word) > 0 {
            let _ = write!(text, ", {} {label}", count(word));
        }
    }
    text
}
