//! Parts of the messages.

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::key::FeatureKey;

/// Writes the message of an error and those of its causes, one a line. A message that the line before contains adds
/// nothing, so it is left out.
pub(super) fn with_causes(error: &(dyn StdError + 'static), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut last = error.to_string();
    f.write_str(&last)?;
    for cause in std::iter::successors(error.source(), |cause| (*cause).source()) {
        let message = cause.to_string();
        if !last.contains(&message) {
            write!(f, "\n  caused by: {message}")?;
            last = message;
        }
    }
    Ok(())
}

/// Returns the candidate nearest to `name`, if one is near enough to be a spelling mistake.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + name.chars().count().min(candidate.chars().count()) / 3)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

pub(super) fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

pub(super) fn in_brackets(hint: &Option<String>) -> String {
    hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default()
}

pub(super) fn at_origin(origin: &Option<String>) -> String {
    origin.as_ref().map(|origin| format!("{origin}: ")).unwrap_or_default()
}

pub(crate) fn known_types(known: &[String]) -> String {
    match known {
        [] => "this program links no backend crate".to_owned(),
        known => format!("known types: {}", known.join(", ")),
    }
}

pub(super) fn in_context(context: &str) -> String {
    if context.is_empty() { String::new() } else { format!(" in {context}") }
}

pub(super) fn on_table(table: &Option<String>) -> String {
    table.as_ref().map(|table| format!(" on table `{table}`")).unwrap_or_default()
}

pub(super) fn join_path(path: &[FeatureKey]) -> String {
    path.iter().map(ToString::to_string).collect::<Vec<_>>().join(" -> ")
}

pub(super) fn join_stores(stores: &[String]) -> String {
    match stores {
        [] => "the store".to_owned(),
        [one] => format!("store {one}"),
        [first, rest @ ..] => format!("store {first} nor in its fallbacks {}", rest.join(", ")),
    }
}

pub(super) fn config_message(file: &Option<PathBuf>, line: Option<usize>, key: &str, reason: &str) -> String {
    match config_location(file.as_deref(), line, key) {
        location if location.is_empty() => reason.to_owned(),
        location => format!("{location}: {reason}"),
    }
}

/// Describes a location in a configuration: the file and line, and the path of the key.
pub(crate) fn config_location(file: Option<&Path>, line: Option<usize>, key: &str) -> String {
    let file = match (file, line) {
        (Some(file), Some(line)) => Some(format!("{}:{line}", file.display())),
        (Some(file), None) => Some(file.display().to_string()),
        (None, Some(line)) => Some(format!("line {line}")),
        (None, None) => None,
    };
    let key = Some(key).filter(|key| !key.is_empty()).map(|key| format!("`{key}`"));
    [file, key].into_iter().flatten().collect::<Vec<_>>().join(": ")
}
