//! Runs an [`IncrementPlan`] on Arrow batches: the first executor of plans, and the reference for all others.
//!
//! Rows stay in the batches in which they came and are addressed by number. Only keys and versions are looked at; user
//! columns are gathered at the end, for the rows that are new or stale.

mod by_field;
mod compare;
mod complete;
mod expected;
mod float_text;
mod groups;
mod input;
mod join;
mod key_type;
mod keys;
mod latest;
mod newest;
mod orphans;
mod parallel;
mod pick;
mod provenance;
mod rows;
mod scan;
mod source;
mod table;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::future::{OptionFuture, try_join_all};

use crate::blocking;
use crate::error::Result;
use crate::plan::IncrementPlan;
use crate::scan::{Scan, ScanRequest};
use crate::schema::plain_type;
use crate::spec::FeatureSpec;

pub(crate) use by_field::{conform as conform_by_field, text};
pub(crate) use complete::{check_provenance, complete_versions};
pub(crate) use groups::{by_key, key_hashes, last_rows};
pub(crate) use key_type::{ambiguous_float, key_type};
pub(crate) use pick::{KeyEncoder, KeySet};
pub(crate) use rows::{carry_over, provenance_of_batch};
pub(crate) use scan::{finish, finish_in_two};
pub(crate) use source::{InputScan, PlanSource};
pub(crate) use table::{Table, batch_of};

use compare::{Comparison, Current, compare};
use expected::{Expected, Samples};
use input::Input;
use orphans::OrphanKeys;

/// What is new, stale and orphaned.
pub(crate) struct Outcome {
    pub(crate) new: Vec<RecordBatch>,
    pub(crate) stale: Vec<RecordBatch>,
    pub(crate) orphaned: Vec<RecordBatch>,
}

/// How many input units there are, and how many of them are new. A unit is a distinct join key of expected rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Units {
    pub(crate) total: usize,
    pub(crate) missing: usize,
}

/// Runs a plan on the rows of its tables, or on the samples of a root, whose versions are complete.
pub(crate) async fn resolve(plan: &IncrementPlan, source: &impl PlanSource, samples: Option<Table>) -> Result<Outcome> {
    let rows = Rows::read(plan, source, samples).await?;
    let (new, stale, orphans) = run(plan, rows, |expected, current, found| {
        let orphans = match current {
            Some(current) if !found.orphaned.is_empty() => {
                Some(OrphanKeys::new(&current.key_columns, found.orphaned, expected.key_types())?)
            }
            _ => None,
        };
        Ok((expected.batches(&found.new)?, expected.batches(&found.stale)?, orphans))
    })
    .await?;
    let orphaned = match orphans {
        Some(keys) => keys.select(plan, source).await?,
        None => Vec::new(),
    };
    Ok(Outcome { new, stale, orphaned })
}

/// Counts the input units of a plan.
pub(crate) async fn count_units(plan: &IncrementPlan, source: &impl PlanSource) -> Result<Units> {
    let rows = Rows::read(plan, source, None).await?;
    run(plan, rows, |expected, _, found| {
        let total = keys::count_distinct((0..expected.len()).map(|row| expected.key(row)));
        let missing = keys::count_distinct(found.new.iter().map(|row| expected.key(*row as usize)));
        Ok(Units { total, missing })
    })
    .await
}

/// What a plan works on.
struct Rows {
    /// The rows of each input of the plan.
    inputs: Vec<Table>,
    samples: Option<Table>,
    /// The rows that are there, if the plan compares.
    current: Option<Table>,
}

impl Rows {
    /// Reads the tables of a plan, all at once.
    ///
    /// The current rows are those of an earlier moment than the inputs: a sample that is written and processed between the
    /// two is done once more. The other way round its result would be taken for an orphan.
    async fn read(plan: &IncrementPlan, source: &impl PlanSource, samples: Option<Table>) -> Result<Self> {
        let current = match &plan.current {
            Some(current) => Some((source.current(&current.request).await?, &current.request)),
            None => None,
        };
        let current: OptionFuture<_> = current.map(|(scan, request)| collect(scan, request)).into();
        let inputs = plan.inputs.iter().enumerate().map(|(index, input)| async move {
            match source.input(index).await? {
                InputScan::Table(scan) => collect(scan, &input.request).await,
                InputScan::Missing(schema) => Table::new(schema, Vec::new()),
            }
        });
        let (inputs, current) = futures::try_join!(try_join_all(inputs), async { current.await.transpose() })?;
        Ok(Self { inputs, samples, current })
    }
}

async fn collect(scan: Scan, request: &ScanRequest) -> Result<Table> {
    let (schema, stream) = finish(scan, request).await?;
    Table::collect(schema, stream).await
}

/// Compares what a plan expects with what is there, off the async threads, and hands over what was found.
async fn run<T: Send + 'static>(
    plan: &IncrementPlan,
    rows: Rows,
    finish: impl FnOnce(&Expected<'_>, Option<&Current>, Comparison) -> Result<T> + Send + 'static,
) -> Result<T> {
    let plan = plan.clone();
    blocking::run(move || {
        let plan = &plan;
        let current = match (&plan.current, rows.current) {
            (Some(current_plan), Some(table)) => Some(Current::new(current_plan, &plan.join_columns, table)?),
            _ => None,
        };
        let key_types: Vec<DataType> =
            current.iter().flat_map(|current| &current.key_columns).map(|array| array.data_type().clone()).collect();
        let finish = |expected: &Expected<'_>| finish(expected, current.as_ref(), compare(expected, current.as_ref())?);
        if let Some(samples) = rows.samples {
            return finish(&Expected::Given(Box::new(Samples::new(plan, samples, &key_types)?)));
        }
        let work: Vec<_> = plan.inputs.iter().zip(rows.inputs).collect();
        let inputs = parallel::map(work, |(input, table)| Input::new(input, table, plan.recipe.hasher))?;
        let joined = join::join(plan, &inputs, &key_types)?;
        finish(&Expected::joined(plan, &inputs, &joined))
    })
    .await
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
