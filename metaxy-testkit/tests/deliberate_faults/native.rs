//! A simple engine of the copy: joins by id, without groups and expansions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, StructArray, UInt32Array};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::{Field, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use metaxy_core::backend::{NativeIncrement, NativeOutcome};
use metaxy_core::plan::{IncrementPlan, InputLineage, InputPlan};
use metaxy_core::{Result, columns};

use super::wrong::{WrongBackend, column};

/// The defects of the engine.
#[derive(Clone, Copy)]
pub struct Settings {
    pub swaps_sides: bool,
    pub forgets_renames: bool,
}

/// The row of each input for an expected row; `None` if an optional input has none.
type Joined = Vec<Option<u32>>;

pub async fn resolve(backend: &WrongBackend, plan: &IncrementPlan, settings: Settings) -> Result<NativeOutcome> {
    let rows_only = plan.inputs.iter().all(|input| input.lineage == InputLineage::Rows);
    if !rows_only || plan.current.as_ref().is_some_and(|current| current.collapse) {
        return Ok(NativeOutcome::Declined("only plain joins run here".to_owned()));
    }
    let mut inputs = Vec::new();
    for input in &plan.inputs {
        inputs.push(backend.rows(&input.feature, &input.request).await?);
    }
    let (joined, expected_keys) = join(plan, &inputs, settings)?;
    let expected = expected_rows(plan, &inputs, &joined, settings)?;
    let Some(current_plan) = &plan.current else {
        return Ok(NativeOutcome::Done(NativeIncrement {
            new: vec![expected],
            stale: Vec::new(),
            orphaned: Vec::new(),
        }));
    };
    let current = backend.rows(&plan.feature, &current_plan.request).await?;
    let current_keys = keys(&current, &plan.join_columns)?;
    let forced = current_plan.staleness.as_ref().map(|predicate| predicate.evaluate(&current)).transpose()?;
    let provenance = |batch: &RecordBatch| column(batch, columns::PROVENANCE).as_string::<i32>().clone();
    let (wanted, stored) = (provenance(&expected), provenance(&current));
    let same = |row: usize| {
        let rows = current_keys.iter().enumerate();
        let wanted = &expected_keys[row];
        rows.filter(move |(_, key)| key.as_ref() == Some(wanted)).map(|(other, _)| other)
    };
    let is_outdated = |row: usize, other: usize| {
        let is_forced = forced.as_ref().is_some_and(|forced| forced.is_valid(other) && forced.value(other));
        is_forced || stored.is_null(other) || stored.value(other) != wanted.value(row)
    };
    let rows = 0..expected.num_rows();
    let new: BooleanArray = rows.clone().map(|row| Some(same(row).next().is_none())).collect();
    let stale: BooleanArray = rows.map(|row| Some(same(row).any(|other| is_outdated(row, other)))).collect();
    let known: BTreeSet<&String> = expected_keys.iter().collect();
    let orphaned: BooleanArray =
        current_keys.iter().map(|key| Some(key.as_ref().is_none_or(|key| !known.contains(key)))).collect();
    let orphan_columns = current_plan
        .orphan_columns
        .iter()
        .map(|name| current.schema().index_of(name))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(NativeOutcome::Done(NativeIncrement {
        new: vec![filter_record_batch(&expected, &new)?],
        stale: vec![filter_record_batch(&expected, &stale)?],
        orphaned: vec![filter_record_batch(&current, &orphaned)?.project(&orphan_columns)?],
    }))
}

/// Returns the values of some columns of each row as one text; `None` if one of them is null.
pub fn keys(rows: &RecordBatch, names: &[String]) -> Result<Vec<Option<String>>> {
    let options = FormatOptions::default();
    let mut columns = Vec::new();
    for name in names {
        let array = column(rows, name);
        columns.push((array, ArrayFormatter::try_new(array, &options)?));
    }
    let key = |row: usize| {
        let values: Option<Vec<String>> = columns
            .iter()
            .map(|(array, text)| array.is_valid(row).then(|| format!("{:?}", text.value(row).to_string())))
            .collect();
        values.map(|values| values.join(","))
    };
    Ok((0..rows.num_rows()).map(key).collect())
}

/// Returns all combinations of rows of one key, and the key of each.
fn join(plan: &IncrementPlan, inputs: &[RecordBatch], settings: Settings) -> Result<(Vec<Joined>, Vec<String>)> {
    let mut by_key: Vec<BTreeMap<String, Vec<u32>>> = Vec::new();
    for (input, rows) in plan.inputs.iter().zip(inputs) {
        let names: Vec<String> = plan.join_columns.iter().map(|name| source(input, name)).collect();
        let mut rows_of: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (row, key) in keys(rows, &names)?.into_iter().enumerate() {
            if let Some(key) = key {
                rows_of.entry(key).or_default().push(row as u32);
            }
        }
        by_key.push(rows_of);
    }
    let all: BTreeSet<&String> = by_key.iter().flat_map(BTreeMap::keys).collect();
    let (mut joined, mut joined_keys) = (Vec::new(), Vec::new());
    for key in all {
        let mut combinations: Vec<Joined> = vec![Vec::new()];
        for (input, rows_of) in plan.inputs.iter().zip(&by_key) {
            let mut rows: Vec<Option<u32>> = rows_of.get(key).into_iter().flatten().copied().map(Some).collect();
            // The deliberate fault: the optional side is kept, and the required one may be missing.
            let may_miss = input.optional != settings.swaps_sides;
            if rows.is_empty() && may_miss {
                rows.push(None);
            }
            let with = |before: &Joined| rows.iter().map(|row| before.iter().chain([row]).copied().collect()).collect();
            combinations = combinations.iter().flat_map(|before| -> Vec<Joined> { with(before) }).collect();
        }
        joined_keys.extend(combinations.iter().map(|_| key.clone()));
        joined.extend(combinations);
    }
    Ok((joined, joined_keys))
}

fn source(input: &InputPlan, name: &str) -> String {
    input.columns.iter().find(|column| column.name == name).map_or(name, |column| &column.source).to_owned()
}

/// Returns the rows of one input, row by row of the join.
fn indices(joined: &[Joined], input: usize) -> UInt32Array {
    joined.iter().map(|rows| rows[input]).collect()
}

/// Returns the expected rows: the columns of the inputs, and the versions.
fn expected_rows(
    plan: &IncrementPlan,
    inputs: &[RecordBatch],
    joined: &[Joined],
    settings: Settings,
) -> Result<RecordBatch> {
    let mut names: Vec<String> = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for (index, input) in plan.inputs.iter().enumerate() {
        for brought in &input.columns {
            let array = take(column(&inputs[index], &brought.source), &indices(joined, index), None)?;
            let name = if settings.forgets_renames { &brought.source } else { &brought.name };
            match names.iter().position(|known| known == name) {
                // An id that is missing in an optional input comes from another one.
                Some(known) => {
                    arrays[known] = arrow::compute::kernels::zip::zip(
                        &arrow::compute::is_not_null(&arrays[known])?,
                        &arrays[known],
                        &array,
                    )?
                }
                None => {
                    names.push(name.clone());
                    arrays.push(array);
                }
            }
        }
    }
    let mut fields: Vec<Vec<String>> = Vec::new();
    for field in &plan.recipe.fields {
        let mut texts = vec![field.prefix.clone(); joined.len()];
        for parent in &field.parents {
            let versions = column(&inputs[parent.input], columns::DATA_VERSION_BY_FIELD).as_struct();
            let versions = versions.column_by_name(&parent.struct_key).expect("the field is stored").as_string::<i32>();
            for (text, rows) in texts.iter_mut().zip(joined) {
                let version = rows[parent.input].map(|row| versions.value(row as usize)).unwrap_or_default();
                text.push_str(&format!("|{}|{version}", parent.name));
            }
        }
        fields.push(texts.iter().map(|text| plan.recipe.hasher.hash(text)).collect());
    }
    let whole = (0..joined.len()).map(|row| {
        let values: Vec<&str> = fields.iter().map(|field| field[row].as_str()).collect();
        plan.recipe.hasher.hash(&values.join("|"))
    });
    let whole: ArrayRef = Arc::new(StringArray::from_iter_values(whole));
    let members = columns::by_field_fields(plan.recipe.fields.iter().map(|field| &field.struct_key));
    let values = fields.iter().map(|values| Arc::new(StringArray::from_iter_values(values)) as ArrayRef).collect();
    let by_field: ArrayRef = Arc::new(StructArray::try_new(members, values, None)?);
    for (name, array) in columns::VERSIONS.into_iter().zip([&by_field, &whole, &by_field, &whole]) {
        names.push(name.to_owned());
        arrays.push(array.clone());
    }
    let fields = names.iter().zip(&arrays).map(|(name, array)| Field::new(name, array.data_type().clone(), true));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), arrays)?)
}
