//! Scenario files: recorded scripts of store operations with the expected results.
//!
//! [`Scenario`] is the content of a file, [`run`] runs one on any backend, through the public store API only.

mod bundled;
mod diff;
mod engines;
mod rows;
mod runner;
mod since;

use std::collections::BTreeMap;

use metaxy_core::{FeatureGraph, FeatureSpec, HashAlgorithm, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use bundled::BUNDLED;
pub use diff::compare;
pub use engines::{compare_accepted, compare_engines, compare_stores};
pub use rows::{json_rows, record_batch};
pub use runner::{Failure, parse, run, run_by, run_configured, run_text};
pub(crate) use runner::{assert_same_increment, play_step, read_rows, resolve_rows};
pub use since::{SinceCounts, run_since};

/// A row of a scenario: values by column.
pub type Row = Map<String, Value>;

/// A scenario file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scenario {
    /// Its name: that of the file without its ending.
    pub name: String,
    /// A description.
    #[serde(default)]
    pub about: String,
    /// The hash algorithm of rows.
    pub hash_algorithm: HashAlgorithm,
    /// The number of characters of every version that are kept.
    pub hash_truncation_length: usize,
    /// The features at the start.
    #[serde(flatten)]
    pub definitions: Definitions,
    /// The steps in their order, each later in time than the previous one.
    pub steps: Vec<Step>,
}

/// A set of features with the versions that were recorded for them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Definitions {
    /// The features.
    pub features: Vec<FeatureSpec>,
    /// Their versions, by feature; features without an entry are not checked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, Versions>,
    /// The version of the project, if it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_version: Option<String>,
}

/// The recorded versions of a feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The version of the feature.
    pub feature_version: String,
    /// The version of each field.
    pub fields: BTreeMap<String, String>,
    /// The version of the code alone.
    pub code_version: String,
    /// The version of the spec.
    pub spec_version: String,
    /// The version of the definition.
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
    /// The same store is opened with other definitions.
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
    /// The feature.
    pub feature: String,
    /// The rows.
    #[serde(flatten)]
    pub samples: Samples,
}

/// The step `resolve`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resolve {
    /// The feature.
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
    /// The staleness predicates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staleness_predicates: Option<Vec<String>>,
    /// Whether the comparison is skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_comparison: Option<bool>,
    /// The expected result.
    pub expect: Expected,
}

/// The three parts of an increment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// Samples without a current row.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub new: Vec<Row>,
    /// Samples whose current row has other versions.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub stale: Vec<Row>,
    /// Current rows that nothing upstream expects.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub orphaned: Vec<Row>,
}

/// The step `read`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Read {
    /// The feature.
    pub feature: String,
    /// The filters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<String>>,
    /// The columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// Whether rows of other feature versions are returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_feature_history: Option<bool>,
    /// Whether earlier rows of a sample are returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_sample_history: Option<bool>,
    /// Whether deleted samples are returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_soft_deleted: Option<bool>,
    /// The expected result.
    pub expect: Vec<Row>,
}

/// The step `delete`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Delete {
    /// The feature.
    pub feature: String,
    /// The filters; without any, all samples are deleted.
    pub filters: Option<Vec<String>>,
    /// Whether the rows are kept and marked as deleted, which is the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft: Option<bool>,
}

impl Scenario {
    /// Returns the scenarios of this crate.
    #[must_use]
    pub fn bundled() -> Vec<Self> {
        let read = |(name, text): &(&str, &str)| {
            serde_json::from_str(text)
                .unwrap_or_else(|error| panic!("scenarios/{name}.json is not a scenario: {error}"))
        };
        BUNDLED.iter().map(read).collect()
    }
}

impl Expected {
    /// Checks that an increment has these rows.
    ///
    /// # Errors
    /// The differences.
    pub fn compare(&self, found: &Self) -> Result<(), String> {
        let answers = [
            compare("new", &self.new, &found.new),
            compare("stale", &self.stale, &found.stale),
            compare("orphaned", &self.orphaned, &found.orphaned),
        ];
        let differences: Vec<String> = answers.into_iter().filter_map(Result::err).collect();
        if differences.is_empty() { Ok(()) } else { Err(differences.concat()) }
    }
}

impl Definitions {
    /// Returns the graph of these features.
    ///
    /// # Errors
    /// The errors of [`FeatureGraph::new`].
    pub fn graph(&self, truncation: usize) -> Result<FeatureGraph> {
        FeatureGraph::builder().hash_truncation_length(truncation).features(self.features.iter().cloned()).build()
    }
}

impl Versions {
    /// Returns the versions of a feature in a graph, in the form of a recording.
    ///
    /// # Errors
    /// The errors of [`FeatureGraph::plan`].
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
    /// Returns its name in a file.
    pub fn op(&self) -> &'static str {
        match self {
            Self::Write(_) => "write",
            Self::Resolve(_) => "resolve",
            Self::Read(_) => "read",
            Self::Delete(_) => "delete",
            Self::Redefine(_) => "redefine",
        }
    }

    /// Returns its feature.
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
