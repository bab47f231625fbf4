//! Identifiers.

/// An identifier as SQL text. No name that gets here holds a NUL, at which SQLite would stop reading.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
