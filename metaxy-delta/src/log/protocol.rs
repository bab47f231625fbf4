//! What a table asks of the programs that read and write it.

use deltalake::kernel::{Metadata, Protocol, StructType};
use metaxy_core::error::{Error, Result};
use serde_json::Value;

use crate::types::Mapping;

/// Features of Delta that a reader must know; these it does.
const READER_FEATURES: [&str; 5] =
    ["timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "deletionVectors", "columnMapping"];
/// Features of Delta that a writer must know; these it does, or refuses where a table uses them.
const WRITER_FEATURES: [&str; 13] = [
    "appendOnly",
    "changeDataFeed",
    "checkConstraints",
    "clustering",
    "columnMapping",
    "deletionVectors",
    "domainMetadata",
    "generatedColumns",
    "invariants",
    "rowTracking",
    "timestampNtz",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];

pub(crate) fn features(protocol: &Protocol, name: &str) -> Vec<String> {
    let value = serde_json::to_value(protocol).unwrap_or_default();
    let list = value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

fn version_of(protocol: &Protocol, name: &str) -> i64 {
    let value = serde_json::to_value(protocol).unwrap_or_default();
    value.get(name).and_then(Value::as_i64).unwrap_or_default()
}

pub(crate) fn refused(table: &str, what: impl std::fmt::Display, hint: &str) -> Error {
    Error::Unsupported { what: format!("table `{table}`: {what}"), hint: hint.to_owned() }
}

pub(crate) const OTHER_PROGRAM: &str =
    "use the program that made the table, or copy its rows into a table without this feature";

pub(crate) fn check_readable(table: &str, metadata: &Metadata, protocol: &Protocol) -> Result<()> {
    let version = version_of(protocol, "minReaderVersion");
    if version > 3 {
        return Err(refused(table, format_args!("reader version {version} of Delta Lake"), OTHER_PROGRAM));
    }
    let unknown =
        features(protocol, "readerFeatures").into_iter().find(|name| !READER_FEATURES.contains(&name.as_str()));
    if let Some(feature) = unknown {
        return Err(refused(table, format_args!("the reader feature `{feature}` of Delta Lake"), OTHER_PROGRAM));
    }
    mapping_of(table, metadata).map(drop)
}

/// How the columns of a table are found in its files.
pub(crate) fn mapping_of(table: &str, metadata: &Metadata) -> Result<Mapping> {
    let stated = metadata.configuration().get("delta.columnMapping.mode").map(String::as_str);
    Mapping::parse(stated).ok_or_else(|| {
        let what = format!("column mapping by `{}`", stated.unwrap_or_default());
        refused(table, what, OTHER_PROGRAM)
    })
}

/// What a commit does to rows.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Change {
    /// It adds some.
    Append,
    /// It moves some to other files.
    Move,
    /// It removes some.
    Remove,
}

/// Refuses to write to a table that asks for more than this crate does.
pub(super) fn check_writable(
    table: &str,
    protocol: &Protocol,
    metadata: &Metadata,
    delta: &StructType,
    change: Change,
) -> Result<()> {
    let version = version_of(protocol, "minWriterVersion");
    if version > 7 {
        return Err(refused(table, format_args!("writer version {version} of Delta Lake"), OTHER_PROGRAM));
    }
    let unknown =
        features(protocol, "writerFeatures").into_iter().find(|name| !WRITER_FEATURES.contains(&name.as_str()));
    if let Some(feature) = unknown {
        return Err(refused(table, format_args!("the writer feature `{feature}` of Delta Lake"), OTHER_PROGRAM));
    }
    let settings = metadata.configuration();
    let is_on = |name: &str| settings.get(name).is_some_and(|value| value == "true");
    let ruled = |field: &deltalake::kernel::StructField| {
        ["delta.generationExpression", "delta.identity.start"].iter().any(|key| field.metadata.contains_key(*key))
    };
    if delta.fields().any(ruled) {
        return Err(refused(table, "writing generated columns", OTHER_PROGRAM));
    }
    if change == Change::Remove && is_on("delta.appendOnly") {
        return Err(refused(table, "removing rows", "the table's property `delta.appendOnly` forbids it"));
    }
    if change == Change::Remove && is_on("delta.enableChangeDataFeed") {
        return Err(refused(table, "removing rows from a table with a change data feed", OTHER_PROGRAM));
    }
    if change != Change::Append && is_on("delta.enableRowTracking") {
        return Err(refused(table, "moving rows that have ids of their own (row tracking)", OTHER_PROGRAM));
    }
    Ok(())
}
