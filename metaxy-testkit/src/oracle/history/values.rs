//! Columns and their possible values. The type of a column follows from the last part of its name, so a renamed column,
//! or one of another feature, keeps its type.

use serde_json::{Value, json};

/// The id columns of most features.
const IDS: [&str; 3] = ["a", "b", "c"];
/// The possible own columns of a feature.
const OWN: [&str; 4] = ["score", "name", "f", "ok"];

/// Returns the names of a feature's id columns.
pub(super) fn id_names(count: usize, other_names: bool) -> Vec<String> {
    let prefix = if other_names { "x_" } else { "" };
    IDS.iter().take(count).map(|id| format!("{prefix}{id}")).collect()
}

/// Returns the names of a feature's own columns.
pub(super) fn own_columns(mask: u8) -> Vec<String> {
    let chosen = OWN.iter().enumerate().filter(|(index, _)| mask & (1 << index) != 0);
    chosen.map(|(_, name)| (*name).to_owned()).collect()
}

/// Returns the last part of a column's name.
pub(super) fn base(column: &str) -> &str {
    column.rsplit('_').next().unwrap_or(column)
}

/// Returns a column's type, by its name in scenarios.
pub(super) fn type_of(column: &str) -> &'static str {
    match base(column) {
        "b" | "score" => "int64",
        "f" => "float64",
        "ok" => "bool",
        _ => "string",
    }
}

/// Returns a value of a column; columns that are not ids are sometimes null.
pub(super) fn value(column: &str, number: u8) -> Value {
    let pick = usize::from(number);
    match base(column) {
        "a" => json!(format!("k{}", pick % 5)),
        "b" => json!(pick % 3),
        "c" => json!(["u", "v"][pick % 2]),
        _ if pick % 4 == 3 => Value::Null,
        "score" => json!((pick % 5) as i64 - 1),
        "name" => json!(["p", "q", "it's", "\u{e9}"][pick / 4 % 4]),
        "f" => json!((pick % 8) as f64 / 4.0 - 0.5),
        "ok" => json!(pick % 2 == 0),
        _ => Value::Null,
    }
}

/// Returns a value of a column that is not null, as a literal of a filter.
pub(super) fn literal(column: &str, number: u8) -> String {
    let number = if value(column, number).is_null() { number + 1 } else { number };
    match value(column, number) {
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        other => other.to_string(),
    }
}

/// Returns a number that is a hash of others.
pub(super) fn mixed(numbers: &[u8]) -> u8 {
    let mix = |state: u32, number: &u8| (state ^ u32::from(*number)).wrapping_mul(0x0100_0193).rotate_left(5);
    (numbers.iter().fold(0x811c_9dc5, mix) >> 11) as u8
}
