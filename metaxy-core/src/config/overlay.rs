//! `METAXY_*` variables over the settings of files.

use indexmap::IndexMap;

use crate::error::{Result, nearest};
use crate::registry::{Place, read};

use super::document::Node;
use super::variables::Environment;
use super::{fields, store};

const PREFIX: &str = "metaxy_";

/// Longer paths lead nowhere, and deep trees are a danger to the stack.
const MAX_DEPTH: usize = 32;

/// Replaces what the variables name. A name is not case-sensitive: a key that a file has is found however it is written
/// there, another one is lower-case. The stores of the document are in their normal form.
pub(super) fn apply(document: &mut Node, environment: &Environment) -> Result<()> {
    for (variable, value) in environment.iter() {
        let lower = variable.to_lowercase();
        let Some(rest) = lower.strip_prefix(PREFIX) else { continue };
        let path: Vec<&str> = rest.split("__").collect();
        let place = Place { variable: Some(variable.to_owned()), ..Place::default() };
        let text = || Node::of(toml::Value::String(value.to_owned()), &place);
        match path[..] {
            // These are read elsewhere, or would have to be read before the file is.
            ["config" | "extend" | "materialization_id"] => {}
            ["stores"] => lay_over(document, &[], stores_node(&[], value, &place)?),
            ["stores", ..] if path.len() > MAX_DEPTH || path.contains(&"") => ignore(variable),
            ["stores", name] | ["stores", name, "config"] => {
                lay_over(document, &[], stores_node(&[name], &in_config(&path, value), &place)?);
            }
            ["stores", name, "type"] => lay_over(document, &["stores", name, "type"], text()),
            ["stores", name, "config", ref keys @ ..] | ["stores", name, ref keys @ ..] => {
                lay_over(document, &[&["stores", name, "config"], keys].concat(), text());
            }
            [field] if fields::SETTABLE.contains(&field) => lay_over(document, &[field], text()),
            _ => ignore(variable),
        }
    }
    Ok(())
}

/// Other programs may have variables of such names; only what looks like a slip is worth a warning.
fn ignore(variable: &str) {
    let lower = variable.to_lowercase();
    let field = lower.trim_start_matches(PREFIX);
    match nearest(field, fields::SETTABLE) {
        Some(near) => tracing::warn!(
            variable,
            "the environment variable names no field of the configuration and is ignored; did you mean METAXY_{}?",
            near.to_uppercase()
        ),
        None => tracing::debug!(variable, "the environment variable names no field of the configuration"),
    }
}

/// The JSON of a store's `config` table as the JSON of the store.
fn in_config(path: &[&str], json: &str) -> String {
    match path.last() {
        Some(&"config") if path.len() == 3 => format!("{{\"config\":{json}}}"),
        _ => json.to_owned(),
    }
}

/// A document that holds only the stores that a JSON object gives: all of them, or one.
fn stores_node(name: &[&str], json: &str, place: &Place) -> Result<Node> {
    let object = serde_json::from_str(json).ok().and_then(read::toml_of_json).filter(toml::Value::is_table);
    let path: Vec<&str> = ["stores"].into_iter().chain(name.iter().copied()).collect();
    let mut node = Node::table(place.clone());
    let Some(object) = object else { return Err(node.error(&path, "expected a JSON object")) };
    lay_over(&mut node, &path, Node::of(object, place));
    store::normalize(&mut node)?;
    Ok(node)
}

/// Lays a node over the one at a path; makes the tables on the way.
fn lay_over(document: &mut Node, path: &[&str], over: Node) {
    let mut node = document;
    for key in path {
        if node.as_table().is_none() {
            *node = Node::table(over.place.clone());
        }
        let Some(table) = node.as_table_mut() else { return };
        let key = spelled(table, key);
        node = table.entry(key).or_insert_with(|| Node::table(over.place.clone()));
    }
    node.overlay(over);
}

/// A key as the table has it, if it has it in whatever case.
fn spelled(table: &IndexMap<String, Node>, key: &str) -> String {
    if table.contains_key(key) {
        return key.to_owned();
    }
    table.keys().find(|known| known.to_lowercase() == key).cloned().unwrap_or_else(|| key.to_owned())
}
