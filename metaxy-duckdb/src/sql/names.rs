//! Names and texts as SQL writes them.

use std::collections::HashSet;

use arrow::datatypes::Fields;

/// A name in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in quotes.
pub(crate) fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Names that differ in more than case, for DuckDB takes `Name` and `name` for one: later ones get a number.
pub(crate) fn distinct<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut taken = HashSet::new();
    names.into_iter().map(|name| distinct_name(name, &mut taken)).collect()
}

/// A name that is not among `taken` (in lower case) yet, whatever its case.
pub(crate) fn distinct_name(name: &str, taken: &mut HashSet<String>) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while candidate.is_empty() || !taken.insert(candidate.to_lowercase()) {
        candidate = format!("{name}_{number}");
        number += 1;
    }
    candidate
}

/// The names of a struct's members as DuckDB has them.
pub(crate) fn member_names(members: &Fields) -> Vec<String> {
    distinct(members.iter().map(|member| member.name().as_str()))
}
