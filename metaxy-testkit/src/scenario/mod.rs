//! Scenario files: recorded scripts of store operations with the answers that they must get.
//!
//! [`Scenario`] is the file's form, [`run`] plays one over any backend, through the public store API alone.

mod bundled;
mod diff;
mod engines;
mod rows;
mod runner;

use std::collections::BTreeMap;

use metaxy_core::{FeatureGraph, FeatureSpec, HashAlgorithm, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use bundled::BUNDLED;
pub use diff::compare;
pub use engines::compare_engines;
pub use rows::{json_rows, record_batch};
pub(crate) use runner::assert_same_increment;
pub use runner::{Failure, parse, run, run_by, run_configured, run_text};

/// A row of a scenario: values by column.
pub type Row = Map<String, Value>;

/// A scenario file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scenario {
    /// Its name, the file's name without its ending.
    pub name: String,
    /// What it is about.
    #[serde(default)]
    pub about: String,
    /// How rows are hashed.
    pub hash_algorithm: HashAlgorithm,
    /// How many characters of every version are kept.
    pub hash_truncation_length: usize,
    /// The features at the start.
    #[serde(flatten)]
    pub definitions: Definitions,
    /// What is done, in order, each step later in time than the one before.
    pub steps: Vec<Step>,
}

/// A set of features with the versions that were recorded for them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Definitions {
    /// The features.
    pub features: Vec<FeatureSpec>,
    /// Their versions, by feature; a feature that is not named here is not checked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, Versions>,
    /// The version of the project, if it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_version: Option<String>,
}

/// The recorded versions of a feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Of the feature.
    pub feature_version: String,
    /// Of each field.
    pub fields: BTreeMap<String, String>,
    /// Of the code alone.
    pub code_version: String,
    /// Of the spec.
    pub spec_version: String,
    /// Of the definition.
    pub definition_version: String,
    /// The name of its table.
    pub table_name: String,
}

/// One operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Step {
    /// Rows are written.
    Write(Write),
    /// A feature is resolved.
    Resolve(Resolve),
    /// A feature is read.
    Read(Read),
    /// Samples are deleted.
    Delete(Delete),
    /// The same store gets other definitions.
    Redefine(Definitions),
}

/// Rows with the types of their user columns.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Samples {
    /// The types of the columns, by name: `string`, `int64`, `float64`, `bool`, or any other Arrow type by its name.
    pub columns: BTreeMap<String, String>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// The step `write`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Write {
    /// Of which feature.
    pub feature: String,
    /// What.
    #[serde(flatten)]
    pub samples: Samples,
}

/// The step `resolve`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resolve {
    /// Which feature.
    pub feature: String,
    /// The samples of a root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<Samples>,
    /// Filters by feature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filters: Option<BTreeMap<String, Vec<String>>>,
    /// Filters of the resolved feature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_filters: Option<Vec<String>>,
    /// Filters of every feature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_filters: Option<Vec<String>>,
    /// What makes a current row stale, beside its versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staleness_predicates: Option<Vec<String>>,
    /// Whether nothing is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_comparison: Option<bool>,
    /// The answer.
    pub expect: Expected,
}

/// The three parts of an increment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// Samples without a current row.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub new: Vec<Row>,
    /// Samples whose current row is out of date.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub stale: Vec<Row>,
    /// Current rows that nothing asks for.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub orphaned: Vec<Row>,
}

/// The step `read`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Read {
    /// Which feature.
    pub feature: String,
    /// Which rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<String>>,
    /// Which columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// Whether rows of other feature versions come too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_feature_history: Option<bool>,
    /// Whether earlier rows of a sample come too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_sample_history: Option<bool>,
    /// Whether deleted samples come too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_soft_deleted: Option<bool>,
    /// The answer.
    pub expect: Vec<Row>,
}

/// The step `delete`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Delete {
    /// Of which feature.
    pub feature: String,
    /// Which samples; all if there is no filter.
    pub filters: Option<Vec<String>>,
    /// Whether the rows stay, marked as deleted, which is the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft: Option<bool>,
}

impl Scenario {
    /// Returns the scenarios that come with this crate.
    #[must_use]
    pub fn bundled() -> Vec<Self> {
        let read = |(name, text): &(&str, &str)| {
            serde_json::from_str(text)
                .unwrap_or_else(|error| panic!("scenarios/{name}.json is not a scenario: {error}"))
        };
        BUNDLED.iter().map(read).collect()
    }
}

impl Definitions {
    /// Returns the graph of these features.
    ///
    /// # Errors
    /// As [`FeatureGraph::new`].
    pub fn graph(&self, truncation: usize) -> Result<FeatureGraph> {
        FeatureGraph::builder().hash_truncation_length(truncation).features(self.features.iter().cloned()).build()
    }
}

impl Versions {
    /// Returns the versions of a feature as a graph has them, in the form of a recording.
    ///
    /// # Errors
    /// As [`FeatureGraph::plan`].
    pub fn of(graph: &FeatureGraph, feature: &str) -> Result<Self> {
        let plan = graph.plan(feature)?;
        Ok(Self {
            feature_version: plan.feature_version.clone(),
            fields: plan.field_versions.iter().map(|(key, version)| (key.to_string(), version.clone())).collect(),
            code_version: plan.code_version.clone(),
            spec_version: plan.spec_version.clone(),
            definition_version: plan.definition_version.clone(),
            table_name: plan.spec.key.table_name(),
        })
    }
}

impl Step {
    /// Its name in a file.
    pub fn op(&self) -> &'static str {
        match self {
            Self::Write(_) => "write",
            Self::Resolve(_) => "resolve",
            Self::Read(_) => "read",
            Self::Delete(_) => "delete",
            Self::Redefine(_) => "redefine",
        }
    }

    /// Returns the feature that it is about.
    pub fn feature(&self) -> &str {
        match self {
            Self::Write(step) => &step.feature,
            Self::Resolve(step) => &step.feature,
            Self::Read(step) => &step.feature,
            Self::Delete(step) => &step.feature,
            Self::Redefine(_) => "",
        }
    }
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Row>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
