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
    let node =
        read_file(path)?.unwrap_or_else(|| Node::table(Place { file: Some(path.to_owned()), ..Place::default() }));
    resolve(node, vec![path.to_owned()], environment)
}

/// The settings of a text laid over those of the files that it extends, found from a directory.
pub(super) fn load_text(text: &str, directory: &Path, environment: &Environment) -> Result<Node> {
    let node = Node::parse(text, None)?;
    let base = match take_extend(&node, environment)? {
        Some(path) => Some(load_base(&node, directory.join(path), Vec::new(), environment)?),
        None => None,
    };
    Ok(merge(base, node))
}

fn resolve(node: Node, chain: Vec<PathBuf>, environment: &Environment) -> Result<Node> {
    let base = match take_extend(&node, environment)? {
        Some(path) => {
            let directory = chain.last().and_then(|file| file.parent()).unwrap_or(Path::new(""));
            Some(load_base(&node, directory.join(path), chain, environment)?)
        }
        None => None,
    };
    Ok(merge(base, node))
}

fn load_base(node: &Node, path: PathBuf, mut chain: Vec<PathBuf>, environment: &Environment) -> Result<Node> {
    let extend = node.get("extend").unwrap_or(node);
    let same = |one: &Path, other: &Path| match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    };
    if let Some(start) = chain.iter().position(|file| same(file, &path)) {
        let files: Vec<String> = chain[start..].iter().chain([&path]).map(|file| file.display().to_string()).collect();
        return Err(
            extend.error(&["extend"], format!("the files extend each other in a circle: {}", files.join(" -> ")))
        );
    }
    if !path.exists() {
        return Err(extend.error(&["extend"], format!("{} does not exist", path.display())));
    }
    chain.push(path);
    let Some(path) = chain.last() else { return Ok(Node::table(Place::default())) };
    let base = read_file(path)?
        .ok_or_else(|| extend.error(&["extend"], format!("{} has no [tool.metaxy]", path.display())))?;
    resolve(base, chain, environment)
}

fn take_extend(node: &Node, environment: &Environment) -> Result<Option<PathBuf>> {
    let Some(extend) = node.get("extend") else { return Ok(None) };
    let Some(text) = extend.as_str() else {
        return Err(extend.error(&["extend"], format!("expected the path of a file, found {}", extend.describe())));
    };
    let path = variables::expand_text(text, environment).map_err(|reason| extend.error(&["extend"], reason))?;
    Ok(Some(PathBuf::from(path)))
}

fn merge(base: Option<Node>, mut node: Node) -> Node {
    if let Some(table) = node.as_table_mut() {
        table.shift_remove("extend");
    }
    match base {
        Some(mut base) => {
            base.extend_with(node);
            base
        }
        None => node,
    }
}
