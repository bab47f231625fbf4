//! Identifiers.

/// Returns an identifier as SQL text. Names have no NUL, at which SQLite would stop reading.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
