//! Identifiers.

/// Returns an identifier as SQL text. No name holds a NUL here, at which SQLite would stop reading.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
