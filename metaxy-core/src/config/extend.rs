//! Reads configuration files, and those that they extend.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::registry::Place;

use super::document::Node;
use super::variables::{self, Environment};

pub(super) const PYPROJECT: &str = "pyproject.toml";

/// The settings of a file; of a `pyproject.toml` those of `[tool.metaxy]`, if there are any.
pub(super) fn read_file(path: &Path) -> Result<Option<Node>> {
    let text = std::fs::read(path).map_err(|error| unreadable(path, &error.to_string()))?;
    let text = String::from_utf8(text).map_err(|_| unreadable(path, "it is not UTF-8 text"))?;
    let root = Node::parse(text.strip_prefix('\u{feff}').unwrap_or(&text), Some(path))?;
    if !path.ends_with(PYPROJECT) {
        return Ok(Some(root));
    }
    let Some(section) = root.get("tool").and_then(|tool| tool.get("metaxy")) else { return Ok(None) };
    match section.as_table() {
        Some(table) => Ok(Some(section.clone()).filter(|_| !table.is_empty())),
        None => Err(section.error(&["tool", "metaxy"], format!("expected a table, found {}", section.describe()))),
    }
}

fn unreadable(path: &Path, reason: &str) -> Error {
    let place = Place { file: Some(path.to_owned()), ..Place::default() };
    place.error("", format!("the file cannot be read: {reason}"))
}

/// The settings of a file laid over those of the files that it extends.
pub(super) fn load(path: &Path, environment: &Environment) -> Result<Node> {
    let nothing = || Node::table(Place { file: Some(path.to_owned()), ..Place::default() });
    let node = read_file(path)?.unwrap_or_else(nothing);
    resolve(node, parent(path), &mut vec![path.to_owned()], environment)
}

/// The settings of a text laid over those of the files that it extends, which are found from a directory.
pub(super) fn load_text(text: &str, directory: &Path, environment: &Environment) -> Result<Node> {
    resolve(Node::parse(text, None)?, directory, &mut Vec::new(), environment)
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Lays settings over those that they extend; `chain` is the files that led to them.
fn resolve(mut node: Node, directory: &Path, chain: &mut Vec<PathBuf>, environment: &Environment) -> Result<Node> {
    let extend = node.as_table_mut().and_then(|table| table.shift_remove("extend"));
    let Some(extend) = extend else { return Ok(node) };
    let path = directory.join(extended_path(&extend, environment)?);
    let wrong = |reason: String| extend.error(&["extend"], reason);
    if let Some(start) = chain.iter().position(|file| is_same(file, &path)) {
        let files: Vec<String> = chain[start..].iter().chain([&path]).map(|file| file.display().to_string()).collect();
        return Err(wrong(format!("the files extend each other in a circle: {}", files.join(" -> "))));
    }
    if !path.exists() {
        return Err(wrong(format!("{} does not exist", path.display())));
    }
    let base = read_file(&path)?.ok_or_else(|| wrong(format!("{} has no [tool.metaxy]", path.display())))?;
    chain.push(path.clone());
    let mut base = resolve(base, parent(&path), chain, environment)?;
    base.extend_with(node);
    Ok(base)
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

fn extended_path(extend: &Node, environment: &Environment) -> Result<PathBuf> {
    let Some(text) = extend.as_str() else {
        return Err(extend.error(&["extend"], format!("expected the path of a file, found {}", extend.describe())));
    };
    variables::expand_text(text, environment).map(PathBuf::from).map_err(|reason| extend.error(&["extend"], reason))
}
