//! The table of backends and groups that `METAXY_CONFORMANCE_REPORT` asks for.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use metaxy_core::Result;

use super::Outcome;

/// Outcomes by backend, group and case.
type Outcomes = BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>;

type Ended = Result<Result<Outcome>, Box<dyn Any + Send>>;

/// Adds an outcome to the report, if one is asked for. Tests of several processes may write to one report.
pub(super) fn record(kind: &str, group: &str, name: &str, outcome: &Result<Result<Outcome>, Box<dyn Any + Send>>) {
    let Some(file) = std::env::var_os("METAXY_CONFORMANCE_REPORT").filter(|value| !value.is_empty()) else { return };
    if let Err(error) = merge(&PathBuf::from(file), kind, group, name, word(outcome)) {
        eprintln!("the conformance report cannot be written: {error}");
    }
}

fn word(outcome: &Ended) -> &'static str {
    match outcome {
        Ok(Ok(Outcome::Passed)) => "passed",
        Ok(Ok(Outcome::Refused(_))) => "refused",
        _ => "failed",
    }
}

/// The outcomes themselves stand beside the table, in a file of the same name that ends in `.json`.
fn merge(file: &Path, kind: &str, group: &str, name: &str, word: &str) -> std::io::Result<()> {
    let data = file.with_added_extension("json");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(file.with_added_extension("lock"))?;
    lock.lock()?;
    let mut outcomes: Outcomes =
        File::open(&data).ok().and_then(|file| serde_json::from_reader(file).ok()).unwrap_or_default();
    let cases = outcomes.entry(kind.to_owned()).or_default().entry(group.to_owned()).or_default();
    cases.insert(name.to_owned(), word.to_owned());
    std::fs::write(&data, serde_json::to_string_pretty(&outcomes)?)?;
    std::fs::write(file, table(&outcomes))
}

fn table(outcomes: &Outcomes) -> String {
    let groups: BTreeSet<&String> = outcomes.values().flat_map(BTreeMap::keys).collect();
    let mut text = String::from("| backend |");
    groups.iter().for_each(|group| {
        let _ = write!(text, " {group} |");
    });
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(groups.len()));
    for (kind, by_group) in outcomes {
        let _ = write!(text, "\n| {kind} |");
        for group in &groups {
            let cell = by_group.get(*group).map(cell).unwrap_or_default();
            let _ = write!(text, " {cell} |");
        }
    }
    text.push('\n');
    text
}

/// `41`, or `38, 3 refused`, or `40, 1 FAILED`.
fn cell(cases: &BTreeMap<String, String>) -> String {
    let count = |word: &str| cases.values().filter(|outcome| *outcome == word).count();
    let mut text = count("passed").to_string();
    for (word, label) in [("refused", "refused"), ("failed", "FAILED")] {
        if count(word) > 0 {
            let _ = write!(text, ", {} {label}", count(word));
        }
    }
    text
}
