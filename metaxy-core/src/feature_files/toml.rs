//! Parses TOML.

use serde_json::Number;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::item::{Entry, Item, Value};
use super::notes::Notes;

/// The number of errors of one text that are looked at.
const MAX_ERRORS: usize = 100;

/// Parses a text. What cannot be read is noted.
pub(super) fn parse(text: &str, notes: &mut Notes) -> Option<Item> {
    let (root, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(position);
    errors.dedup_by_key(|error| position(error));
    for (index, error) in errors.iter().take(MAX_ERRORS).enumerate() {
        let at = position(error);
        if index == 0 || error.message() == "duplicate key" || is_first_of_section(text, at) {
            let message = error.message().lines().collect::<Vec<_>>().join("; ");
            notes.add(at, format!("this is not TOML: {message}"));
        }
    }
    errors.is_empty().then(|| table(0, root.into_inner(), notes))
}

fn position(error: &toml::de::Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

/// Returns whether an error would be the first one if only its section were parsed: the lines from one header of a table
/// to the next. Others mostly follow from an earlier one, such as a list that is not closed.
fn is_first_of_section(text: &str, at: usize) -> bool {
    let Some((before, after)) = text.split_at_checked(at) else { return false };
    let start =
        if after.starts_with('[') && before.ends_with('\n') { at } else { before.rfind("\n[").map_or(0, |at| at + 1) };
    let end = after.find("\n[").map_or(text.len(), |length| at + length + 1);
    let (_, errors) = DeTable::parse_recoverable(&text[start..end]);
    errors.iter().map(position).min().is_some_and(|first| start + first == at)
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
