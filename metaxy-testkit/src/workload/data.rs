//! The features and rows of the workload, drawn like in the paper's script.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringBuilder, StructArray};
use arrow::datatypes::{DataType, Field, Schema};
use futures::{StreamExt, stream};
use metaxy_core::backend::BatchStream;
use metaxy_core::error::BoxError;
use metaxy_core::{FeatureGraph, FeatureSpec, FieldSpec, columns};

/// The number of rows of a batch.
const BATCH: usize = 65_536;
/// The column that identifies a sample.
const ID: &str = "sample_uid";
/// The feature that depends on the roots.
pub(super) const LEAF: &str = "bench/leaf";

/// The size of the features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// One root of two fields, a leaf of one.
    Simple,
    /// Two roots of four fields, a leaf of two.
    Wide,
}

/// A scenario and a size, which are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) scenario: Scenario,
    pub(super) size: usize,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Simple => "simple",
            Self::Wide => "wide",
        })
    }
}

impl FromStr for Scenario {
    type Err = BoxError;

    fn from_str(text: &str) -> Result<Self, BoxError> {
        match text {
            "simple" => Ok(Self::Simple),
            "wide" => Ok(Self::Wide),
            other => Err(format!("there is no scenario `{other}`; use simple or wide").into()),
        }
    }
}

impl Scenario {
    fn root_fields(self) -> &'static [&'static str] {
        match self {
            Self::Simple => &["audio", "frames"],
            Self::Wide => &["audio", "embedding", "frames", "optical_flow"],
        }
    }

    fn leaf_fields(self) -> &'static [&'static str] {
        match self {
            Self::Simple => &["prediction"],
            Self::Wide => &["prediction_a", "prediction_b"],
        }
    }

    /// Returns the keys of the root features.
    pub fn roots(self) -> &'static [&'static str] {
        match self {
            Self::Simple => &["bench/root_0"],
            Self::Wide => &["bench/root_0", "bench/root_1"],
        }
    }

    /// Returns the features.
    pub(super) fn graph(self) -> metaxy_core::Result<FeatureGraph> {
        let fields = |keys: &[&'static str]| -> Vec<FieldSpec> {
            keys.iter().map(|key| FieldSpec::new(*key).code_version("1")).collect()
        };
        let leaf = FeatureSpec::builder(LEAF).id_columns([ID]).deps(self.roots().iter().copied());
        let mut specs = vec![leaf.fields(fields(self.leaf_fields())).build()?];
        for root in self.roots() {
            specs.push(FeatureSpec::builder(*root).id_columns([ID]).fields(fields(self.root_fields())).build()?);
        }
        FeatureGraph::new(specs)
    }
}

impl Case {
    /// Returns the rows of all roots.
    pub(super) fn roots(self) -> metaxy_core::Result<Vec<Vec<RecordBatch>>> {
        (0..self.scenario.roots().len() as u64).map(|index| self.batches(42 + index, false).collect()).collect()
    }

    /// Returns the rows of all roots, drawn batch by batch.
    pub(super) fn root_streams(self) -> Vec<BatchStream> {
        (0..self.scenario.roots().len() as u64)
            .map(|index| stream::iter(self.batches(42 + index, false)).boxed())
            .collect()
    }

    /// Returns the rows of the first root after its change.
    pub(super) fn changed(self) -> BatchStream {
        stream::iter(self.batches(42, true)).boxed()
    }

    fn batches(self, seed: u64, bumped: bool) -> impl Iterator<Item = metaxy_core::Result<RecordBatch>> {
        let starts = (0..self.size).step_by(BATCH);
        starts.map(move |start| batch(self.scenario, seed, start, BATCH.min(self.size - start), bumped))
    }
}

/// Returns the rows from `start` on. A value depends only on its position, so that it can be drawn again.
fn batch(scenario: Scenario, seed: u64, start: usize, rows: usize, bumped: bool) -> metaxy_core::Result<RecordBatch> {
    let fields = columns::by_field_fields(scenario.root_fields());
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(fields.len());
    for (index, field) in fields.iter().enumerate() {
        let mut values = StringBuilder::with_capacity(rows, rows * 9);
        let letter: String = field.name().chars().take(1).collect();
        let mut text = String::new();
        for row in start..start + rows {
            text.clear();
            text.push_str(&letter);
            text.push_str(&(mixed(seed, index as u64, row as u64) % (1 << 20)).to_string());
            if bumped && field.name() == "audio" && mixed(777, 0, row as u64).is_multiple_of(10) {
                text.push_str("_bumped");
            }
            values.append_value(&text);
        }
        arrays.push(Arc::new(values.finish()));
    }
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((start..start + rows).map(|row| row as i64)));
    let provenance: ArrayRef = Arc::new(StructArray::try_new(fields.clone(), arrays, None)?);
    let schema = Schema::new(vec![
        Field::new(ID, DataType::Int64, true),
        Field::new(columns::PROVENANCE_BY_FIELD, DataType::Struct(fields), true),
    ]);
    Ok(RecordBatch::try_new(Arc::new(schema), vec![ids, provenance])?)
}

/// Returns a pseudo-random number (splitmix64).
fn mixed(seed: u64, column: u64, row: u64) -> u64 {
    let mut z = (seed << 40 ^ column << 56 ^ row).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_a_tenth_changes() {
        let changed = (0..100_000).filter(|row| mixed(777, 0, *row).is_multiple_of(10)).count();
        assert!((9_500..10_500).contains(&changed), "{changed}");
    }

    #[test]
    fn rows_do_not_depend_on_their_batch() {
        let whole = batch(Scenario::Wide, 42, 0, 20, true).unwrap();
        assert_eq!(whole.slice(5, 10), batch(Scenario::Wide, 42, 5, 10, true).unwrap());
    }
}
