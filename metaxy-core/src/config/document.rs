//! A tree of settings that records the origin of each.

use std::ops::Range;
use std::path::Path;

use indexmap::IndexMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, Result};
use crate::registry::{Origin, Origins, push_path};

/// A setting, or a table of them.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
    /// Why a `${VAR}` in this string could not be replaced.
    pub(super) unresolved: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Neither an array nor a table.
    Scalar(toml::Value),
    Array(Vec<Node>),
    Table(IndexMap<String, Node>),
}

impl Node {
    pub(super) fn new(value: Value, origin: Origin) -> Self {
        Self { value, origin, unresolved: None }
    }

    pub(super) fn table(origin: Origin) -> Self {
        Self::new(Value::Table(IndexMap::new()), origin)
    }

    /// Returns a value whose parts all have one origin.
    pub(super) fn of(value: toml::Value, origin: &Origin) -> Self {
        let value = match value {
            toml::Value::Array(items) => Value::Array(items.into_iter().map(|item| Self::of(item, origin)).collect()),
            toml::Value::Table(table) => {
                Value::Table(table.into_iter().map(|(key, value)| (key, Self::of(value, origin))).collect())
            }
            scalar => Value::Scalar(scalar),
        };
        Self::new(value, origin.clone())
    }

    /// Parses a text, and records the line of every setting.
    pub(super) fn parse(text: &str, file: Option<&Path>) -> Result<Self> {
        let lines = Lines::of(text, file);
        // The text of the error would quote the line, which may hold a password.
        let root = DeTable::parse(text).map_err(|error| lines.syntax_error(error.span(), error.message()))?;
        let table = lines.table(root.into_inner())?;
        Ok(Self::new(table, Origin { file: file.map(Path::to_owned), ..Origin::default() }))
    }

    pub(super) fn as_table(&self) -> Option<&IndexMap<String, Node>> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(super) fn as_table_mut(&mut self) -> Option<&mut IndexMap<String, Node>> {
        match &mut self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(toml::Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.as_table().and_then(|table| table.get(key))
    }

    /// Describes the kind of the value, for messages.
    pub(super) fn describe(&self) -> &'static str {
        match &self.value {
            Value::Scalar(value) => match value {
                toml::Value::String(_) => "a string",
                toml::Value::Integer(_) => "a whole number",
                toml::Value::Float(_) => "a number",
                toml::Value::Boolean(_) => "a truth value",
                _ => "a date",
            },
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
        }
    }

    /// Returns the value without its origins.
    pub(super) fn to_toml(&self) -> toml::Value {
        match &self.value {
            Value::Scalar(value) => value.clone(),
            Value::Array(items) => toml::Value::Array(items.iter().map(Self::to_toml).collect()),
            Value::Table(table) => {
                toml::Value::Table(table.iter().map(|(key, node)| (key.clone(), node.to_toml())).collect())
            }
        }
    }

    /// Returns the path of the first string with a `${VAR}` that could not be replaced, and the reason.
    pub(super) fn first_unresolved(&self) -> Option<(Vec<String>, &str)> {
        if let Some(reason) = &self.unresolved {
            return Some((Vec::new(), reason));
        }
        self.children().find_map(|(key, node)| {
            let (mut path, reason) = node.first_unresolved()?;
            path.insert(0, key);
            Some((path, reason))
        })
    }

    /// Returns the items of an array or table, by key.
    fn children(&self) -> Box<dyn Iterator<Item = (String, &Node)> + '_> {
        match &self.value {
            Value::Scalar(_) => Box::new(std::iter::empty()),
            Value::Array(items) => Box::new(items.iter().enumerate().map(|(at, item)| (format!("[{at}]"), item))),
            Value::Table(table) => Box::new(table.iter().map(|(key, node)| (key.clone(), node))),
        }
    }

    /// Returns the origins of this value and of all values in it.
    pub(super) fn origins(&self) -> Origins {
        let mut origins = Origins::default();
        self.collect_places(&mut Vec::new(), &mut origins);
        origins
    }

    fn collect_places(&self, path: &mut Vec<String>, origins: &mut Origins) {
        origins.insert(path.clone(), self.origin.clone());
        for (key, node) in self.children() {
            path.push(key);
            node.collect_places(path, origins);
            path.pop();
        }
    }

    /// Returns an error at the origin of this value.
    pub(super) fn error(&self, path: &[&str], reason: impl Into<String>) -> Error {
        let mut key = String::new();
        push_path(&mut key, &path.iter().map(|&key| key.to_owned()).collect::<Vec<_>>());
        self.origin.error(key, reason)
    }

    /// Merges a document into the one that it extends: scalars are replaced, arrays appended, tables merged one level
    /// deep.
    pub(super) fn extend_with(&mut self, child: Node) {
        let (Value::Table(base), Value::Table(over)) = (&mut self.value, child.value) else { return };
        for (key, node) in over {
            match base.get_mut(&key) {
                Some(below) => below.merge_once(node),
                None => {
                    base.insert(key, node);
                }
            }
        }
    }

    fn merge_once(&mut self, over: Node) {
        match (&mut self.value, over.value) {
            (Value::Table(base), Value::Table(over)) => base.extend(over),
            (Value::Array(base), Value::Array(over)) => base.extend(over),
            (_, value) => *self = Node { value, origin: over.origin, unresolved: over.unresolved },
        }
    }

    /// Merges a value into this one: tables are merged to any depth, all else is replaced.
    pub(super) fn overlay(&mut self, over: Node) {
        match (&mut self.value, over.value) {
            (Value::Table(base), Value::Table(over)) => {
                for (key, node) in over {
                    match base.get_mut(&key) {
                        Some(below) => below.overlay(node),
                        None => {
                            base.insert(key, node);
                        }
                    }
                }
            }
            (_, value) => *self = Node { value, origin: over.origin, unresolved: over.unresolved },
        }
    }
}

/// Finds the lines of positions in a text.
struct Lines<'a> {
    text: &'a str,
    file: Option<&'a Path>,
    /// The positions of the line breaks.
    breaks: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str, file: Option<&'a Path>) -> Self {
        Self { text, file, breaks: text.match_indices('\n').map(|(at, _)| at).collect() }
    }

    fn origin(&self, at: usize) -> Origin {
        let line = 1 + self.breaks.partition_point(|line_break| *line_break < at);
        Origin { file: self.file.map(Path::to_owned), line: Some(line), variable: None }
    }

    fn syntax_error(&self, span: Option<Range<usize>>, message: &str) -> Error {
        let Some(span) = span else {
            let origin = Origin { file: self.file.map(Path::to_owned), ..Origin::default() };
            return origin.error("", format!("this is not TOML: {message}"));
        };
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
        self.origin(span.start).error("", format!("this is not TOML: {message} (column {column})"))
    }

    fn table(&self, table: DeTable<'_>) -> Result<Value> {
        let mut entries: Vec<_> = table.into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entries = entries.into_iter().map(|(key, value)| {
            let origin = self.origin(key.span().start);
            Ok((key.into_inner().into_owned(), self.node(value, origin)?))
        });
        Ok(Value::Table(entries.collect::<Result<_>>()?))
    }

    fn node(&self, value: Spanned<DeValue<'_>>, origin: Origin) -> Result<Node> {
        let span = value.span();
        let value = match value.into_inner() {
            DeValue::Table(table) => self.table(table)?,
            DeValue::Array(items) => {
                let items = items.into_iter().map(|item| {
                    let origin = self.origin(item.span().start);
                    self.node(item, origin)
                });
                Value::Array(items.collect::<Result<_>>()?)
            }
            DeValue::String(text) => Value::Scalar(toml::Value::String(text.into_owned())),
            DeValue::Boolean(value) => Value::Scalar(toml::Value::Boolean(value)),
            DeValue::Datetime(value) => Value::Scalar(toml::Value::Datetime(value)),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(value) => Value::Scalar(toml::Value::Integer(value)),
                Err(_) => return Err(self.syntax_error(Some(span), "the number does not fit into 64 bits")),
            },
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(value) => Value::Scalar(toml::Value::Float(value)),
                Err(_) => return Err(self.syntax_error(Some(span), "this is not a number")),
            },
        };
        Ok(Node::new(value, origin))
    }
}
