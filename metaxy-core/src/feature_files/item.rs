//! The values of a file, with the place of each.

use serde_json::Number;

use crate::spec::Step;

/// The deepest nesting of lists and tables that is read.
pub(super) const MAX_DEPTH: usize = 100;

/// A value, and where it starts.
#[derive(Debug)]
pub(super) struct Item {
    /// The position of its first byte.
    pub(super) at: usize,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Item>),
    Table(Vec<Entry>),
    /// A value of TOML that JSON does not have, by its description.
    Foreign(&'static str),
}

/// An entry of a table.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The position of the key.
    pub(super) at: usize,
    pub(super) item: Item,
}

impl Item {
    /// Returns the value of a key of a table.
    pub(super) fn get(&self, key: &str) -> Option<&Item> {
        let Value::Table(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| &entry.item)
    }

    /// Describes the kind of the value, for messages.
    pub(super) fn describe(&self) -> &'static str {
        match &self.value {
            Value::Null => "null",
            Value::Bool(_) => "a truth value",
            Value::Number(number) if number.is_f64() => "a number",
            Value::Number(_) => "a whole number",
            Value::Text(_) => "a string",
            Value::List(_) => "an array",
            Value::Table(_) => "a table",
            Value::Foreign(what) => what,
        }
    }

    /// Returns the position of a part, or of the nearest value around it that the file has: short forms leave parts
    /// out.
    pub(super) fn locate(&self, part: &[Step]) -> usize {
        let Some((step, rest)) = part.split_first() else { return self.at };
        match self.step(step) {
            Some(item) => item.locate(rest),
            None => self.at,
        }
    }

    fn step(&self, step: &Step) -> Option<&Item> {
        match (step, &self.value) {
            (Step::Index(index), Value::List(items)) => items.get(*index),
            (Step::Key(key), _) if key == "sql_filters" => self.get(key).or_else(|| self.get("filters")),
            (Step::Key(key), _) => self.get(key),
            _ => None,
        }
    }
}
