//! Joins the inputs of a resolve on their shared id columns.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use crate::error::{Error, Result};
use crate::plan::{IncrementPlan, InputPlan};

use super::input::Input;
use super::key_type::common_type;
use super::keys::{KeyIndex, Keys};
use super::table::NO_ROW;

/// Expected rows: for each, the row of every input that it is made from.
pub(crate) struct Joined {
    /// One list for each input; [`NO_ROW`] if an optional input has none.
    pub(crate) rows: Vec<Vec<u32>>,
    /// The keys of each input's rows, comparable across inputs.
    pub(crate) keys: Vec<Keys>,
    /// The type in which each join column is compared.
    pub(crate) key_types: Vec<DataType>,
}

impl Joined {
    pub(crate) fn len(&self) -> usize {
        self.rows.first().map_or(0, Vec::len)
    }

    /// Returns the first input that has a row for an expected row, and that row.
    pub(crate) fn source(&self, row: usize) -> (usize, usize) {
        let found = self.rows.iter().enumerate().find(|(_, rows)| rows[row] != NO_ROW);
        found.map_or((0, 0), |(input, rows)| (input, rows[row] as usize))
    }
}

/// Joins the inputs: required ones by an inner join; optional ones by a left join, or a full join if none is required.
pub(crate) fn join(plan: &IncrementPlan, inputs: &[Input], also: &[DataType]) -> Result<Joined> {
    let (keys, key_types) = input_keys(plan, inputs, also)?;
    let first = inputs.first().map_or(0, |input| input.table.num_rows());
    let mut joined = Joined { rows: vec![(0..first as u32).collect()], keys, key_types };
    let all_optional = plan.inputs.iter().all(|input| input.optional);
    for (number, input) in plan.inputs.iter().enumerate().skip(1) {
        let added = match_rows(&joined, number, input.optional);
        joined.rows = added;
        if all_optional {
            add_unmatched(&mut joined, number, inputs[number].table.num_rows());
        }
    }
    Ok(joined)
}

/// Joins one more input; `keep` says whether rows without a match stay.
fn match_rows(joined: &Joined, number: usize, keep: bool) -> Vec<Vec<u32>> {
    let index = KeyIndex::new(&joined.keys[number]);
    let mut cursor = index.cursor();
    let mut rows: Vec<Vec<u32>> = (0..=number).map(|_| Vec::with_capacity(joined.len())).collect();
    for row in 0..joined.len() {
        let (source, source_row) = joined.source(row);
        let mut matched = false;
        for other in cursor.find_all(&joined.keys[source], source_row) {
            matched = true;
            push_row(&mut rows, joined, row, other);
        }
        if keep && !matched {
            push_row(&mut rows, joined, row, NO_ROW);
        }
    }
    rows
}

fn push_row(rows: &mut [Vec<u32>], joined: &Joined, row: usize, other: u32) {
    let (last, earlier) = match rows.split_last_mut() {
        Some(parts) => parts,
        None => return,
    };
    earlier.iter_mut().zip(&joined.rows).for_each(|(out, from)| out.push(from[row]));
    last.push(other);
}

/// Completes a full join with the rows of the last input that have no match.
fn add_unmatched(joined: &mut Joined, number: usize, count: usize) {
    let mut seen = vec![false; count];
    for row in joined.rows[number].iter().filter(|row| **row != NO_ROW) {
        seen[*row as usize] = true;
    }
    for row in (0..count).filter(|row| !seen[*row]) {
        joined.rows[..number].iter_mut().for_each(|rows| rows.push(NO_ROW));
        joined.rows[number].push(row as u32);
    }
}

/// Returns the join columns of every input, each in a type that all inputs and the types in `also` share.
fn input_keys(plan: &IncrementPlan, inputs: &[Input], also: &[DataType]) -> Result<(Vec<Keys>, Vec<DataType>)> {
    let mut columns: Vec<Vec<ArrayRef>> = Vec::with_capacity(inputs.len());
    for (input, input_plan) in inputs.iter().zip(&plan.inputs) {
        let names = plan.join_columns.iter();
        columns.push(names.map(|name| input.column(input_plan, name)).collect::<Result<_>>()?);
    }
    let mut types = Vec::with_capacity(plan.join_columns.len());
    for (index, name) in plan.join_columns.iter().enumerate() {
        let mut all = columns.iter().map(|arrays| arrays[index].data_type()).chain(also.get(index));
        let first = all.next().cloned().unwrap_or(DataType::Null);
        let shared = all.try_fold(first, |shared, other| {
            common_type(&shared, other).ok_or_else(|| mismatch(plan, name, &shared, other))
        })?;
        types.push(common_type(&shared, &shared).ok_or_else(|| mismatch(plan, name, &shared, &shared))?);
    }
    let keys = columns
        .into_iter()
        .map(|arrays| Keys::new(&arrays.into_iter().zip(types.iter().cloned()).collect::<Vec<_>>()))
        .collect::<Result<_>>()?;
    Ok((keys, types))
}

/// Returns the error for a join column whose types cannot be compared.
pub(crate) fn mismatch(plan: &IncrementPlan, column: &str, left: &DataType, right: &DataType) -> Error {
    let inputs: Vec<String> = plan.inputs.iter().map(|input: &InputPlan| format!("`{}`", input.feature)).collect();
    let among = match inputs.as_slice() {
        [] => format!("it is {left} in the samples and {right} in the table"),
        inputs => format!("it is {left} in one table and {right} in another (inputs: {})", inputs.join(", ")),
    };
    Error::InvalidColumn {
        feature: plan.feature.clone(),
        column: column.to_owned(),
        reason: format!("rows are matched by it, but {among}; store one type"),
    }
}
