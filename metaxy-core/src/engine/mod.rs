//! Runs an [`IncrementPlan`] on Arrow batches: the first executor of plans, and the reference for all others.
//!
//! Rows stay in the batches in which they came and are addressed by number. Only keys and versions are looked at; user
//! columns are gathered at the end, for the rows that are new or stale.

mod by_field;
mod compare;
mod complete;
mod expected;
mod float_text;
mod input;
mod join;
mod key_type;
mod keys;
mod latest;
mod newest;
mod parallel;
mod pick;
mod provenance;
mod rows;
mod scan;
mod table;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::TryStreamExt;

use crate::backend::BatchStream;
use crate::error::Result;
use crate::plan::IncrementPlan;
use crate::schema::{output_runs, plain_type};
use crate::spec::FeatureSpec;

pub(crate) use by_field::{conform as conform_by_field, text};
pub(crate) use complete::{check_provenance, complete_versions};
pub(crate) use key_type::{ambiguous_float, key_type};
pub(crate) use pick::{KeyEncoder, KeySet};
pub(crate) use rows::{carry_over, provenance_of_batch};
pub(crate) use scan::{finish, finish_in_two};
pub(crate) use table::{Table, batch_of};

use compare::{Current, compare, newest_rows};
use expected::{Expected, Samples};
use input::Input;
use keys::{KeyIndex, Keys};

/// A hash of the key in each row: equal keys have equal hashes, in whatever batch.
pub(crate) fn key_hashes(columns: Vec<ArrayRef>) -> Result<Vec<u64>> {
    Ok(Keys::within(columns)?.into_hashes())
}

/// All rows, those of one key beside each other: batches of whole groups, with the number of rows of each group.
pub(crate) fn by_key(rows: &crate::store::Rows, columns: &[String]) -> Result<Vec<(RecordBatch, Vec<usize>)>> {
    let table = Table::new(rows.schema().clone(), rows.batches().to_vec())?;
    let groups = Keys::within(columns.iter().map(|name| table.column(name)).collect::<Result<_>>()?)?.groups();
    let mut order: Vec<u32> = (0..table.num_rows() as u32).collect();
    order.sort_by_key(|row| groups.of_row[*row as usize]);
    let bytes = table.row_bytes();
    let mut units = vec![(0, 0); groups.firsts.len()];
    for (group, bytes) in groups.of_row.iter().zip(bytes) {
        let (rows, sum) = &mut units[*group as usize];
        *rows += 1;
        *sum += bytes;
    }
    let mut start = 0;
    let batch = |run: Range<usize>| {
        let sizes: Vec<usize> = units[run].iter().map(|(rows, _)| *rows).collect();
        let end = start + sizes.iter().sum::<usize>();
        let batch = table.take_in_one(&order[start..end])?;
        start = end;
        Ok((batch, sizes))
    };
    output_runs(units.iter().copied()).into_iter().map(batch).collect()
}

/// The last row of each key, and whether a key has several.
pub(crate) struct LastRows {
    pub(crate) rows: Vec<u32>,
    /// The second row of a key that has several, and how many it has.
    pub(crate) repeated: Option<(u32, usize)>,
}

/// Finds the last row of each key.
pub(crate) fn last_rows(table: &Table, key: &[String]) -> Result<LastRows> {
    let groups = Keys::within(key.iter().map(|name| table.column(name)).collect::<Result<Vec<_>>>()?)?.groups();
    let mut rows = groups.firsts;
    if rows.len() == table.num_rows() {
        return Ok(LastRows { rows, repeated: None });
    }
    let mut repeated = None;
    for (row, group) in groups.of_row.iter().enumerate() {
        let last = &mut rows[*group as usize];
        if *last != row as u32 {
            repeated.get_or_insert((row as u32, *group));
            *last = row as u32;
        }
    }
    let count = |group: u32| groups.of_row.iter().filter(|other| **other == group).count();
    Ok(LastRows { rows, repeated: repeated.map(|(row, group)| (row, count(group))) })
}

/// What an executor has found.
pub(crate) struct Outcome {
    pub(crate) new: Vec<RecordBatch>,
    pub(crate) stale: Vec<RecordBatch>,
    /// The keys of current rows that nothing asks for; their columns are read in a second pass, for there are few.
    pub(crate) orphans: Option<OrphanKeys>,
    /// How many input units there are, and how many of them are new; counted where it was asked for.
    pub(crate) units: Units,
}

/// Input units: distinct join keys of expected rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Units {
    pub(crate) total: usize,
    pub(crate) missing: usize,
}

/// What the engine works on.
pub(crate) struct Rows {
    /// The rows of each input of the plan.
    pub(crate) inputs: Vec<Table>,
    /// The samples of a root, with complete versions.
    pub(crate) samples: Option<Table>,
    /// The rows that are there, where the plan compares.
    pub(crate) current: Option<Table>,
}

/// Runs a plan. Blocks: call it off the async threads.
pub(crate) fn execute(plan: &IncrementPlan, rows: Rows, count_units: bool) -> Result<Outcome> {
    let current = match (&plan.current, rows.current) {
        (Some(current_plan), Some(table)) => Some(Current::new(current_plan, &plan.join_columns, table)?),
        _ => None,
    };
    let current_types: Vec<DataType> =
        current.iter().flat_map(|current| &current.key_columns).map(|array| array.data_type().clone()).collect();
    if let Some(samples) = rows.samples {
        let expected = Expected::Given(Box::new(Samples::new(plan, samples, &current_types)?));
        return finish_comparison(&expected, current.as_ref(), count_units);
    }
    let work: Vec<_> = plan.inputs.iter().zip(rows.inputs).collect();
    let inputs = parallel::map(work, |(input, table)| Input::new(input, table, plan.recipe.hasher))?;
    let joined = join::join(plan, &inputs, &current_types)?;
    finish_comparison(&Expected::joined(plan, &inputs, &joined), current.as_ref(), count_units)
}

fn finish_comparison(expected: &Expected<'_>, current: Option<&Current>, count_units: bool) -> Result<Outcome> {
    let comparison = compare(expected, current)?;
    let orphans = match current {
        Some(current) if !comparison.orphaned.is_empty() => {
            Some(OrphanKeys::new(&current.key_columns, comparison.orphaned, expected.key_types())?)
        }
        _ => None,
    };
    let units = if count_units { distinct_units(expected, &comparison.new) } else { Units::default() };
    Ok(Outcome { new: expected.batches(&comparison.new)?, stale: expected.batches(&comparison.stale)?, orphans, units })
}

/// Counts distinct keys, of all expected rows and of the new ones.
fn distinct_units(expected: &Expected<'_>, new: &[u32]) -> Units {
    let total = keys::count_distinct((0..expected.len()).map(|row| expected.key(row)));
    let missing = keys::count_distinct(new.iter().map(|row| expected.key(*row as usize)));
    Units { total, missing }
}

/// The keys of orphaned rows.
pub(crate) struct OrphanKeys {
    keys: Keys,
    types: Vec<DataType>,
}

impl OrphanKeys {
    fn new(columns: &[ArrayRef], rows: Vec<u32>, types: &[DataType]) -> Result<Self> {
        let rows = UInt32Array::from(rows);
        let columns = columns.iter().map(|column| Ok(take(column, &rows, None)?)).collect::<Result<Vec<ArrayRef>>>()?;
        let typed: Vec<_> = columns.into_iter().zip(types.iter().cloned()).collect();
        Ok(Self { keys: Keys::new(&typed)?, types: types.to_vec() })
    }

    /// The orphaned ones among the current rows, with the columns that the plan wants of them.
    pub(crate) async fn select(
        self,
        plan: &IncrementPlan,
        schema: SchemaRef,
        mut stream: BatchStream,
    ) -> Result<Vec<RecordBatch>> {
        let Some(current) = &plan.current else { return Ok(Vec::new()) };
        let index = KeyIndex::with_nulls(&self.keys);
        let mut found = Vec::new();
        while let Some(batch) = stream.try_next().await? {
            let mask = self.mask(&index, plan, &batch)?;
            found.push(filter_record_batch(&batch, &mask)?);
        }
        let mut table = Table::new(schema, found)?;
        if current.collapse {
            table = table.take(&newest_rows(&table, &plan.join_columns)?)?;
        }
        Ok(table.project(&current.orphan_columns)?.into_batches())
    }

    fn mask(
        &self,
        index: &KeyIndex<'_>,
        plan: &IncrementPlan,
        batch: &RecordBatch,
    ) -> Result<arrow::array::BooleanArray> {
        let mut columns = Vec::with_capacity(plan.join_columns.len());
        for (name, data_type) in plan.join_columns.iter().zip(&self.types) {
            columns.push((batch.column(batch.schema().index_of(name)?).clone(), data_type.clone()));
        }
        let keys = Keys::new(&columns)?;
        Ok((0..keys.len()).map(|row| Some(index.find(&keys, row) != table::NO_ROW)).collect())
    }
}

/// The schema of new and stale rows of a feature whose inputs have these schemas, in the order of the plan.
pub(crate) fn expected_schema(plan: &IncrementPlan, spec: &FeatureSpec, inputs: &[SchemaRef]) -> Result<SchemaRef> {
    let mut fields = Vec::new();
    for (input, column) in plan.expected_columns() {
        let field = inputs[input].field_with_name(&column.source)?;
        fields.push(Field::new(&column.name, plain_type(field.data_type()), true));
    }
    for name in crate::columns::VERSIONS {
        fields.extend(crate::columns::field(name, spec.struct_keys()));
    }
    Ok(Arc::new(Schema::new(fields)))
}
