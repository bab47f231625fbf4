//! Overrides the settings of files by `METAXY_*` variables.

use indexmap::IndexMap;

use crate::error::{Result, nearest};
use crate::registry::{Origin, read};

use super::document::Node;
use super::variables::Environment;
use super::{features, fields, store};

const PREFIX: &str = "metaxy_";

/// The maximum length of a path. No setting has a longer one, and deep trees could overflow the stack.
const MAX_DEPTH: usize = 32;

/// Replaces the settings that variables name. Names are not case-sensitive: a key of the file is found in any case, a
/// new key is lower-case. The stores of the document are in their normal form.
pub(super) fn apply(document: &mut Node, environment: &Environment) -> Result<()> {
    for (variable, value) in environment.iter() {
        let lower = variable.to_lowercase();
        let Some(rest) = lower.strip_prefix(PREFIX) else { continue };
        let path: Vec<&str> = rest.split("__").collect();
        let origin = Origin { variable: Some(variable.to_owned()), ..Origin::default() };
        let text = || Node::of(toml::Value::String(value.to_owned()), &origin);
        match path[..] {
            // These are read elsewhere, or would have to be read before the file.
            ["config" | "extend" | "materialization_id"] => {}
            ["stores"] => merge_at(document, &[], stores_node(&[], value, &origin)?),
            ["stores", ..] if path.len() > MAX_DEPTH || path.contains(&"") => ignore(variable),
            ["stores", name] | ["stores", name, "config"] => {
                merge_at(document, &[], stores_node(&[name], &in_config(&path, value), &origin)?);
            }
            ["stores", name, "type"] => merge_at(document, &["stores", name, "type"], text()),
            ["stores", name, "config", ref keys @ ..] | ["stores", name, ref keys @ ..] => {
                merge_at(document, &[&["stores", name, "config"], keys].concat(), text());
            }
            ["ext", "rust", field] if field == features::FIELD => merge_at(document, &[field], text()),
            [field] if fields::SETTABLE.contains(&field) => merge_at(document, &[field], text()),
            _ => ignore(variable),
        }
    }
    Ok(())
}

/// Warns of a variable that looks like a spelling mistake. Other programs may have other `METAXY_*` variables.
fn ignore(variable: &str) {
    let lower = variable.to_lowercase();
    let field = lower.trim_start_matches(PREFIX);
    match nearest(field, fields::SETTABLE) {
        Some(near) => tracing::warn!(
            variable,
            "the environment variable is not a field of the configuration and is ignored; did you mean METAXY_{}?",
            near.to_uppercase()
        ),
        None => tracing::debug!(variable, "the environment variable is not a field of the configuration"),
    }
}

/// Wraps the JSON of a store's `config` table as the JSON of the store.
fn in_config(path: &[&str], json: &str) -> String {
    match path.last() {
        Some(&"config") if path.len() == 3 => format!("{{\"config\":{json}}}"),
        _ => json.to_owned(),
    }
}

/// Returns a document with the stores of a JSON object: all of them, or one.
fn stores_node(name: &[&str], json: &str, origin: &Origin) -> Result<Node> {
    let object = serde_json::from_str(json).ok().and_then(read::toml_of_json).filter(toml::Value::is_table);
    let path: Vec<&str> = ["stores"].into_iter().chain(name.iter().copied()).collect();
    let mut node = Node::table(origin.clone());
    let Some(object) = object else { return Err(node.error(&path, "expected a JSON object")) };
    merge_at(&mut node, &path, Node::of(object, origin));
    store::normalize(&mut node)?;
    Ok(node)
}

/// Merges a node into the one at a path, and creates the tables on the way.
fn merge_at(document: &mut Node, path: &[&str], over: Node) {
    let mut node = document;
    for key in path {
        if node.as_table().is_none() {
            *node = Node::table(over.origin.clone());
        }
        let Some(table) = node.as_table_mut() else { return };
        let key = spelled(table, key);
        node = table.entry(key).or_insert_with(|| Node::table(over.origin.clone()));
    }
    node.overlay(over);
}

/// Returns a key as the table spells it, if the table has it in any case.
fn spelled(table: &IndexMap<String, Node>, key: &str) -> String {
    if table.contains_key(key) {
        return key.to_owned();
    }
    table.keys().find(|known| known.to_lowercase() == key).cloned().unwrap_or_else(|| key.to_owned())
}
