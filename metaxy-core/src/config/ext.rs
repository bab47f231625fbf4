//! The table `[ext.rust]`, which the Python package accepts where it refuses unknown fields.

use indexmap::IndexMap;

use crate::error::{Result, nearest};

use super::document::Node;
use super::features::FIELD;

/// Moves the fields of `[ext.rust]` to the top of one file's settings, where they have the same meaning.
pub(super) fn lift(document: &mut Node) -> Result<()> {
    let Some(table) = document.as_table_mut() else { return Ok(()) };
    let Some(ext) = table.get_mut("ext").and_then(Node::as_table_mut) else { return Ok(()) };
    let Some(own) = ext.shift_remove("rust") else { return Ok(()) };
    if ext.is_empty() {
        table.shift_remove("ext");
    }
    let Some(fields) = own.as_table() else {
        return Err(own.error(&["ext", "rust"], format!("expected a table, found {}", own.describe())));
    };
    fields.iter().try_for_each(|(key, node)| lift_field(table, key, node))
}

fn lift_field(table: &mut IndexMap<String, Node>, key: &str, node: &Node) -> Result<()> {
    let path = ["ext", "rust", key];
    if key != FIELD {
        let hint = nearest(key, [FIELD])
            .map_or_else(|| format!("known keys: `{FIELD}`"), |name| format!("did you mean `{name}`?"));
        return Err(node.error(&path, format!("unknown key; {hint}")));
    }
    if table.contains_key(FIELD) {
        return Err(
            node.error(&path, format!("`{FIELD}` is given twice, here and at the top; write all files there or here"))
        );
    }
    table.insert(FIELD.to_owned(), node.clone());
    Ok(())
}
