//! Parses TOML.

use serde_json::Number;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::item::{Entry, Item, Value};
use super::notes::Notes;

/// Parses a text. What cannot be read is noted.
pub(super) fn parse(text: &str, notes: &mut Notes) -> Option<Item> {
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        notes.add(at, format!("this is not TOML: {message}"));
    }
    errors.is_empty().then(|| table(0, root.into_inner(), notes))
}

fn table(at: usize, table: DeTable<'_>, notes: &mut Notes) -> Item {
    let entries = table.into_iter().map(|(key, value)| Entry {
        at: key.span().start,
        key: key.into_inner().into_owned(),
        item: item(value, notes),
    });
    let mut entries: Vec<Entry> = entries.collect();
    entries.sort_by_key(|entry| entry.at);
    Item { at, value: Value::Table(entries) }
}

fn item(value: Spanned<DeValue<'_>>, notes: &mut Notes) -> Item {
    let at = value.span().start;
    let value = match value.into_inner() {
        DeValue::Table(entries) => return table(at, entries, notes),
        DeValue::Array(items) => Value::List(items.into_iter().map(|value| item(value, notes)).collect()),
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(_) => Value::Foreign("a date"),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) => Value::Number(value.into()),
            Err(_) => Value::Foreign("a number that does not fit into 64 bits"),
        },
        DeValue::Float(number) => match number.as_str().parse::<f64>().ok().and_then(Number::from_f64) {
            Some(number) => Value::Number(number),
            None => Value::Foreign("a number that is not finite"),
        },
    };
    Item { at, value }
}
