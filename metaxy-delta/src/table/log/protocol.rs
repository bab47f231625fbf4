//! The protocol that a table requires from its readers and writers.

use deltalake::kernel::{Metadata, Protocol, StructType};
use metaxy_core::error::{Error, Result};
use serde_json::{Value, json};

use crate::types::Mapping;

/// The feature of timestamps without a zone.
const ZONELESS: &str = "timestampNtz";

/// The protocol support of readers or of writers.
struct Role {
    name: &'static str,
    version_key: &'static str,
    /// The greatest version that this crate supports.
    version: i64,
    features_key: &'static str,
    /// The features that this crate supports, or refuses if a table uses them.
    features: &'static [&'static str],
}

const READER: Role = Role {
    name: "reader",
    version_key: "minReaderVersion",
    version: 3,
    features_key: "readerFeatures",
    features: &[ZONELESS, "v2Checkpoint", "vacuumProtocolCheck", "deletionVectors", "columnMapping"],
};

const WRITER: Role = Role {
    name: "writer",
    version_key: "minWriterVersion",
    version: 7,
    features_key: "writerFeatures",
    features: &[
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
        ZONELESS,
        "v2Checkpoint",
        "vacuumProtocolCheck",
    ],
};

impl Role {
    /// Refuses a protocol that this crate does not support.
    fn check(&self, table: &str, protocol: &Protocol) -> Result<()> {
        let name = self.name;
        let value = serde_json::to_value(protocol).unwrap_or_default();
        let version = value[self.version_key].as_i64().unwrap_or_default();
        if version > self.version {
            return Err(refused(table, format_args!("{name} version {version} of Delta Lake"), OTHER_PROGRAM));
        }
        match texts(&value[self.features_key]).find(|feature| !self.features.contains(feature)) {
            Some(feature) => {
                Err(refused(table, format_args!("the {name} feature `{feature}` of Delta Lake"), OTHER_PROGRAM))
            }
            None => Ok(()),
        }
    }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Returns whether the writers of a table must support a feature.
pub(super) fn has_writer_feature(protocol: &Protocol, feature: &str) -> bool {
    let value = serde_json::to_value(protocol).unwrap_or_default();
    texts(&value[WRITER.features_key]).any(|known| known == feature)
}

/// Returns the error of a table that needs an unsupported feature.
pub(crate) fn refused(table: &str, what: impl std::fmt::Display, hint: &str) -> Error {
    Error::Unsupported { what: format!("table `{table}`: {what}"), hint: hint.to_owned() }
}

pub(crate) const OTHER_PROGRAM: &str =
    "use the program that created the table, or copy its rows into a table without this feature";

/// Checks that this crate can read a table.
pub(super) fn check_readable(table: &str, metadata: &Metadata, protocol: &Protocol) -> Result<()> {
    READER.check(table, protocol)?;
    mapping_of(table, metadata).map(drop)
}

/// Returns the column mapping of a table.
pub(crate) fn mapping_of(table: &str, metadata: &Metadata) -> Result<Mapping> {
    let stated = metadata.configuration().get("delta.columnMapping.mode").map(String::as_str);
    Mapping::parse(stated).ok_or_else(|| {
        let what = format!("column mapping by `{}`", stated.unwrap_or_default());
        refused(table, what, OTHER_PROGRAM)
    })
}

/// What a commit does with rows.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Change {
    /// It adds some.
    Append,
    /// It moves some to other files.
    Move,
    /// It removes some.
    Remove,
}

/// Checks that this crate can make a change to a table.
pub(super) fn check_writable(
    table: &str,
    protocol: &Protocol,
    metadata: &Metadata,
    delta: &StructType,
    change: Change,
) -> Result<()> {
    WRITER.check(table, protocol)?;
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

/// Returns the protocol of a new table: the oldest that supports its content, so that as many programs as possible can
/// read it.
pub(crate) fn of_new_table(has_zoneless: bool) -> Result<Protocol, String> {
    let value = if has_zoneless {
        json!({
            "minReaderVersion": 3, "minWriterVersion": 7,
            "readerFeatures": [ZONELESS], "writerFeatures": [ZONELESS],
        })
    } else {
        json!({ "minReaderVersion": 1, "minWriterVersion": 2 })
    };
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Returns a protocol with timestamps without a zone in addition; `None` if it has them.
pub(crate) fn with_zoneless(old: &Protocol) -> Result<Option<Protocol>, String> {
    let mut value = serde_json::to_value(old).map_err(|error| error.to_string())?;
    let has = |list: &str| texts(&value[list]).any(|feature| feature == ZONELESS);
    if has(READER.features_key) && has(WRITER.features_key) {
        return Ok(None);
    }
    let writer = value["minWriterVersion"].as_i64().unwrap_or_default();
    if writer < 7 {
        // Features that older versions imply must be listed if any features are listed.
        let implied: &[&str] = match writer {
            ..=2 => &["appendOnly", "invariants"],
            3 => &["appendOnly", "invariants", "checkConstraints"],
            4 => &["appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns"],
            _ => return Err("its protocol cannot be upgraded to hold timestamps without a zone".to_owned()),
        };
        value["writerFeatures"] = json!(implied);
    }
    for role in [&READER, &WRITER] {
        let mut features: Vec<String> = texts(&value[role.features_key]).map(str::to_owned).collect();
        if !features.iter().any(|feature| feature == ZONELESS) {
            features.push(ZONELESS.to_owned());
        }
        value[role.features_key] = json!(features);
        value[role.version_key] = json!(role.version);
    }
    serde_json::from_value(value).map(Some).map_err(|error| error.to_string())
}
