//! Names and texts in SQL.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::Fields;
use metaxy_core::schema;

/// The name of a table in DuckDB. In statements it is written in full, because names without a database are first looked
/// up among DuckDB's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TableName {
    pub(crate) database: Arc<str>,
    /// The name in its database, with the store's prefix.
    pub(crate) name: String,
}

/// The schema of all tables.
pub(crate) const SCHEMA: &str = "main";

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{SCHEMA}.{}", quoted(&self.database), quoted(&self.name))
    }
}

/// Returns a name in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns a text in quotes.
pub(crate) fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Makes names differ in more than case, because DuckDB's names are not case-sensitive: later ones get a number.
pub(crate) fn distinct<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut taken = HashSet::new();
    names.into_iter().map(|name| distinct_name(name, &mut taken)).collect()
}

/// Returns a name that is not among `taken` (in lower case) yet, in any case.
pub(crate) fn distinct_name(name: &str, taken: &mut HashSet<String>) -> String {
    schema::distinct_name(name, "_", str::to_lowercase, taken)
}

/// Returns the names of a struct's members in DuckDB.
pub(crate) fn member_names(members: &Fields) -> Vec<String> {
    distinct(members.iter().map(|member| member.name().as_str()))
}
