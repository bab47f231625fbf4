//! Reads metadata of the user as JSON.

use serde_json::{Map, Value as Json};

use super::super::item::{Item, Value};
use super::super::notes::Notes;
use super::table::expected;

/// Reads a table as a JSON object.
pub(super) fn metadata(item: &Item, notes: &mut Notes) -> Option<Map<String, Json>> {
    match json(item, notes)? {
        Json::Object(members) => Some(members),
        _ => expected("a table", item, notes),
    }
}

fn json(item: &Item, notes: &mut Notes) -> Option<Json> {
    Some(match &item.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(number) => Json::Number(number.clone()),
        Value::Text(text) => Json::String(text.clone()),
        Value::List(items) => Json::Array(items.iter().map(|item| json(item, notes)).collect::<Option<_>>()?),
        Value::Table(entries) => {
            let members = entries.iter().map(|entry| Some((entry.key.clone(), json(&entry.item, notes)?)));
            Json::Object(members.collect::<Option<_>>()?)
        }
        Value::Foreign(what) => {
            return notes
                .refuse(item.at, format!("metadata is kept as JSON, which cannot hold {what}; write a string"));
        }
    })
}
