//! The features and rows of the workload, drawn like in the paper's script.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, Int64Array, RecordBatch, StringBuilder, StructArray};
use futures::{StreamExt, stream};
use metaxy_core::backend::BatchStream;
use metaxy_core::error::BoxError;
use metaxy_core::{FeatureGraph, FeatureSpec, FieldSpec, columns};

/// The number of rows of a batch, if they are not large.
const BATCH: usize = 65_536;
/// The length of a long id, in characters.
const LONG_ID: usize = 1_000;
/// The size of a thumbnail, in bytes.
const THUMBNAIL: usize = 100_000;
/// The column that identifies a sample.
pub(super) const ID: &str = "sample_uid";
/// The feature that depends on the roots.
pub(super) const LEAF: &str = "bench/leaf";

/// The size of the features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// One root of two fields, a leaf of one.
    Simple,
    /// Two roots of four fields, a leaf of two.
    Wide,
    /// As `Simple`, but ids are texts of 1,000 characters.
    LongIds,
    /// As `Simple`, but the root has a column of 100 KB in each row, which the leaf's increments have too.
    Thumbnails,
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
            Self::LongIds => "long_ids",
            Self::Thumbnails => "thumbnails",
        })
    }
}

impl FromStr for Scenario {
    type Err = BoxError;

    fn from_str(text: &str) -> Result<Self, BoxError> {
        match text {
            "simple" => Ok(Self::Simple),
            "wide" => Ok(Self::Wide),
            "long_ids" => Ok(Self::LongIds),
            "thumbnails" => Ok(Self::Thumbnails),
            other => Err(format!("there is no scenario `{other}`; use simple, wide, long_ids or thumbnails").into()),
        }
    }
}

impl Scenario {
    /// Returns the fields of each root.
    pub fn root_fields(self) -> &'static [&'static str] {
        match self {
            Self::Simple | Self::LongIds | Self::Thumbnails => &["audio", "frames"],
            Self::Wide => &["audio", "embedding", "frames", "optical_flow"],
        }
    }

    /// Returns the fields of the leaf.
    pub fn leaf_fields(self) -> &'static [&'static str] {
        match self {
            Self::Simple | Self::LongIds | Self::Thumbnails => &["prediction"],
            Self::Wide => &["prediction_a", "prediction_b"],
        }
    }

    /// Returns the keys of the root features.
    pub fn roots(self) -> &'static [&'static str] {
        match self {
            Self::Simple | Self::LongIds | Self::Thumbnails => &["bench/root_0"],
            Self::Wide => &["bench/root_0", "bench/root_1"],
        }
    }

    /// Returns the number of rows of a batch.
    fn batch_rows(self) -> usize {
        match self {
            Self::Simple | Self::Wide => BATCH,
            Self::LongIds => 16_384,
            Self::Thumbnails => 256,
        }
    }

    /// Returns the ids of some rows, in increasing order.
    fn ids(self, seed: u64, rows: Range<usize>) -> ArrayRef {
        if self != Self::LongIds {
            return Arc::new(Int64Array::from_iter_values(rows.map(|row| row as i64)));
        }
        let mut ids = StringBuilder::with_capacity(rows.len(), rows.len() * LONG_ID);
        let mut id = String::new();
        for row in rows {
            id.clear();
            id.push_str(&format!("{row:012}"));
            for at in 0..(LONG_ID / 16) as u64 {
                id.push_str(&format!("{:016x}", mixed(seed, at, row as u64)));
            }
            ids.append_value(&id[..LONG_ID]);
        }
        Arc::new(ids.finish())
    }

    /// Returns the thumbnails of some rows, if they have any.
    fn thumbnails(self, seed: u64, rows: Range<usize>) -> Option<ArrayRef> {
        if self != Self::Thumbnails {
            return None;
        }
        let mut thumbnails = BinaryBuilder::with_capacity(rows.len(), rows.len() * THUMBNAIL);
        for row in rows {
            let words = (0..THUMBNAIL as u64 / 8).map(|at| mixed(seed, at, row as u64).to_le_bytes());
            thumbnails.append_value(words.collect::<Vec<_>>().as_flattened());
        }
        Some(Arc::new(thumbnails.finish()))
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
        let rows = self.scenario.batch_rows();
        let starts = (0..self.size).step_by(rows);
        starts.map(move |start| batch(self.scenario, seed, start, rows.min(self.size - start), bumped))
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
    let provenance: ArrayRef = Arc::new(StructArray::try_new(fields, arrays, None)?);
    let mut columns = vec![(ID, scenario.ids(seed, start..start + rows)), (columns::PROVENANCE_BY_FIELD, provenance)];
    columns.extend(scenario.thumbnails(seed, start..start + rows).map(|thumbnails| ("thumbnail", thumbnails)));
    Ok(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))?)
}

/// Returns a pseudo-random number (splitmix64).
pub(super) fn mixed(seed: u64, column: u64, row: u64) -> u64 {
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
        for scenario in [Scenario::Wide, Scenario::LongIds, Scenario::Thumbnails] {
            let whole = batch(scenario, 42, 0, 20, true).unwrap();
            assert_eq!(whole.slice(5, 10), batch(scenario, 42, 5, 10, true).unwrap());
        }
    }
}
