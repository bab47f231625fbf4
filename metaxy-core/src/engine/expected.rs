//! The expected rows: the joined inputs of a feature, or the samples that the caller gives for a root.

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::compute::{cast, is_not_null, kernels::zip::zip};
use arrow::datatypes::DataType;

use crate::columns;
use crate::error::Result;
use crate::plan::IncrementPlan;

use super::by_field;
use super::input::Input;
use super::join::{Joined, mismatch};
use super::key_type::common_type;
use super::keys::Keys;
use super::parallel;
use super::provenance::Hashing;
use super::table::{NO_ROW, Table, batch_of, output_chunks};

/// The rows that a plan expects.
pub(crate) enum Expected<'a> {
    /// Joined from inputs; versions are computed when they are needed.
    Joined { plan: &'a IncrementPlan, inputs: &'a [Input], joined: &'a Joined, hashing: Hashing<'a> },
    /// Given by the caller, with their versions.
    Given(Box<Samples>),
}

/// Rows that the caller gives.
pub(crate) struct Samples {
    table: Table,
    keys: Keys,
    key_types: Vec<DataType>,
    provenance: StringArray,
}

impl Samples {
    /// Creates samples with complete versions; `current` are the types of the current key columns, if there is a table.
    pub(crate) fn new(plan: &IncrementPlan, table: Table, current: &[DataType]) -> Result<Self> {
        let mut typed: Vec<(ArrayRef, DataType)> = Vec::with_capacity(plan.join_columns.len());
        for (index, name) in plan.join_columns.iter().enumerate() {
            let array = table.column(name)?;
            let own = array.data_type();
            let stored = current.get(index).unwrap_or(own);
            let shared = common_type(own, stored).ok_or_else(|| mismatch(plan, name, own, stored))?;
            typed.push((array, shared));
        }
        Ok(Self {
            keys: Keys::new(&typed)?,
            key_types: typed.into_iter().map(|(_, data_type)| data_type).collect(),
            provenance: by_field::text(&table.column(columns::PROVENANCE)?)?,
            table,
        })
    }
}

impl<'a> Expected<'a> {
    pub(crate) fn joined(plan: &'a IncrementPlan, inputs: &'a [Input], joined: &'a Joined) -> Self {
        Self::Joined { plan, inputs, joined, hashing: Hashing::new(&plan.recipe, inputs, joined) }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Joined { joined, .. } => joined.len(),
            Self::Given(samples) => samples.table.num_rows(),
        }
    }

    /// Returns the type in which each join column is compared.
    pub(crate) fn key_types(&self) -> &[DataType] {
        match self {
            Self::Joined { joined, .. } => &joined.key_types,
            Self::Given(samples) => &samples.key_types,
        }
    }

    /// Returns the key of a row: a table of keys, and the row in it.
    pub(crate) fn key(&self, row: usize) -> (&Keys, usize) {
        match self {
            Self::Joined { joined, .. } => {
                let (input, input_row) = joined.source(row);
                (&joined.keys[input], input_row)
            }
            Self::Given(samples) => (&samples.keys, row),
        }
    }

    /// Returns the provenance of some rows.
    pub(crate) fn provenance(&self, rows: &[u32]) -> Result<StringArray> {
        match self {
            Self::Joined { hashing, .. } => hashing.provenance(rows),
            Self::Given(samples) => {
                let of_row = |row: &u32| by_field::value_or_empty(&samples.provenance, *row as usize);
                Ok(StringArray::from_iter_values(rows.iter().map(of_row)))
            }
        }
    }

    /// Returns some rows with all their columns.
    pub(crate) fn batches(&self, rows: &[u32]) -> Result<Vec<RecordBatch>> {
        // If nothing is new or stale, the sizes of all rows need not be known.
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::Given(samples) => Ok(samples.table.take(rows)?.into_batches()),
            Self::Joined { plan, inputs, joined, hashing } => {
                let struct_keys: Vec<String> =
                    plan.recipe.fields.iter().map(|field| field.struct_key.clone()).collect();
                let sizes: Vec<_> = inputs.iter().map(|input| input.table.row_bytes()).collect();
                parallel::map(output_chunks(rows, |row| joined_bytes(joined, &sizes, row)), |chunk| {
                    let mut columns = input_columns(plan, inputs, joined, chunk)?;
                    columns.extend(hashing.columns(&struct_keys, chunk)?);
                    batch_of(columns, chunk.len())
                })
            }
        }
    }
}

/// Returns the size of an expected row in bytes, as the sum of the sizes of its input rows.
fn joined_bytes(joined: &Joined, sizes: &[Vec<usize>], row: u32) -> usize {
    let of_input = |(rows, sizes): (&Vec<u32>, &Vec<usize>)| match rows[row as usize] {
        NO_ROW => 0,
        source => sizes[source as usize],
    };
    joined.rows.iter().zip(sizes).map(of_input).sum()
}

/// Returns the columns of some expected rows that come from inputs.
fn input_columns(
    plan: &IncrementPlan,
    inputs: &[Input],
    joined: &Joined,
    rows: &[u32],
) -> Result<Vec<(String, ArrayRef)>> {
    let value = |input: usize, name: &str| {
        let source = plan.inputs[input].source_of(name);
        inputs[input].table.values(source, rows.iter().map(|row| joined.rows[input][*row as usize]))
    };
    let mut columns = Vec::new();
    for (input, column) in plan.expected_columns() {
        let mut array = value(input, &column.name)?;
        if plan.join_columns.contains(&column.name) {
            for other in input + 1..inputs.len() {
                if array.null_count() == 0 {
                    break;
                }
                array = coalesce(&array, &value(other, &column.name)?)?;
            }
        }
        columns.push((column.name.clone(), array));
    }
    Ok(columns)
}

/// Returns the values of `first`, with those of `second` in place of nulls.
fn coalesce(first: &ArrayRef, second: &ArrayRef) -> Result<ArrayRef> {
    let second =
        if first.data_type() == second.data_type() { second.clone() } else { cast(second, first.data_type())? };
    Ok(zip(&is_not_null(first)?, first, &second)?)
}
