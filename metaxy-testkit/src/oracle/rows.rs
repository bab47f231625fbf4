//! Rows: their versions, and their form in results.

use metaxy_core::columns;
use serde_json::{Map, Value};

use crate::scenario::Row as JsonRow;

use super::Row;

/// Returns a value as text, empty if there is none.
pub(super) fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Returns a member of a by-field column, if the row has one.
pub(super) fn member(row: &Row, column: &str, struct_key: &str) -> Option<String> {
    row.get(column)?.get(struct_key)?.as_str().map(str::to_owned)
}

/// Returns a by-field column.
pub(super) fn by_field(values: &[(String, String)]) -> Value {
    Value::Object(values.iter().map(|(key, value)| (key.clone(), Value::from(value.clone()))).collect())
}

/// Returns a time of a row; a row without one is older than all others.
pub(super) fn time(row: &Row, column: &str) -> Option<i64> {
    row.get(column).and_then(Value::as_i64)
}

/// Returns the row in the form of results: the user's columns and the four version columns.
pub(super) fn shown(row: &Row) -> JsonRow {
    let is_shown = |name: &str| !name.starts_with("metaxy_") || columns::VERSIONS.contains(&name);
    let shown: Map<String, Value> = row
        .iter()
        .filter(|(name, value)| is_shown(name) && !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    shown
}

/// Returns a row with some of its columns.
pub(super) fn projected<S: AsRef<str>>(row: &Row, names: impl IntoIterator<Item = S>) -> Row {
    let pick = |name: S| Some((name.as_ref().to_owned(), row.get(name.as_ref())?.clone()));
    names.into_iter().filter_map(pick).collect()
}

/// Returns the values of some columns as a comparable key, if none of them is null.
pub(super) fn key(row: &Row, names: &[String]) -> Option<Vec<String>> {
    let value = |name: &String| row.get(name).filter(|value| !value.is_null()).map(Value::to_string);
    names.iter().map(value).collect()
}
