//! A whole resolve as one SQL statement: the second executor of plans.
//!
//! The statement reads the inputs as a scan would, hashes, joins and compares them, and returns the rows that are new,
//! stale or orphaned. Unchanged rows never leave DuckDB.

mod expected;
mod input;
mod query;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int16Array, Int64Array, RecordBatch};
use arrow::compute::{concat, filter};
use arrow::datatypes::{DataType, Field, Int16Type, Int64Type, Schema};
use duckdb::Connection;
use metaxy_core::backend::{NativeIncrement, NativeOutcome};
use metaxy_core::plan::IncrementPlan;
use metaxy_core::plan::RowKind;
use metaxy_core::{FeatureKey, Result};

use crate::arrow_border::source::Source;
use crate::arrow_border::to_duckdb;
use crate::catalog::StoredTable;
use crate::connection::Link;
use crate::error::During;
use crate::known::Moment;
use crate::read::Rows;
use crate::sql::names::{TableName, quoted};
use crate::types::convert;

use query::Query;

/// The maximum number of joined inputs; plans with more run in the Arrow engine. Measured: DuckDB plans 20 in one
/// second, 40 in three, and 80 in 39.
const MAX_INPUTS: usize = 32;

/// A table of the plan.
pub(crate) struct Part {
    key: FeatureKey,
    table: StoredTable,
}

/// Runs a plan on the tables of the given names, the table of each input and then that of the feature, as they were
/// described at a moment.
pub(crate) fn resolve(
    link: &Link,
    plan: &IncrementPlan,
    names: &[(FeatureKey, TableName)],
    moment: Moment,
    during: During<'_>,
) -> Result<NativeOutcome> {
    if plan.inputs.len() > MAX_INPUTS {
        let count = plan.inputs.len();
        return Ok(NativeOutcome::Declined(format!(
            "it has {count} inputs, and DuckDB takes long to plan joins of more than {MAX_INPUTS}"
        )));
    }
    let hash = link.hash_function(plan.recipe.hasher)?;
    let connection = &link.connection;
    // All tables are read in one transaction, which ends with the connection.
    connection.execute_batch("BEGIN TRANSACTION").map_err(during.fails())?;
    let mut parts = Vec::with_capacity(names.len());
    for (key, sql_name) in names {
        match link.table(sql_name, moment, during)? {
            Some(table) => parts.push(Part { key: key.clone(), table }),
            None => return Ok(NativeOutcome::Declined(format!("`{key}` has no table"))),
        }
    }
    let current = plan.current.as_ref().and_then(|_| parts.pop());
    let query = match Query::new(plan, &parts, current.as_ref(), &hash) {
        Ok(query) => query,
        Err(reason) => return Ok(NativeOutcome::Declined(reason)),
    };
    let mut increment = NativeIncrement::default();
    let mut orphans = Vec::new();
    let mut statement = connection.prepare(&query.sql).map_err(during.fails())?;
    for batch in Rows::new(&mut statement, during)? {
        let (kinds, expected, row_ids) = query.split(plan, &batch?)?;
        let Some(kinds) = kinds else {
            increment.new.push(expected);
            continue;
        };
        let kinds = kinds.as_primitive::<Int16Type>();
        increment.push(RowKind::New, kinds, &expected)?;
        increment.push(RowKind::Stale, kinds, &expected)?;
        orphans.extend(orphan_row_ids(kinds, &row_ids)?);
    }
    if let (Some(current), Some(current_plan), false) = (&current, &plan.current, orphans.is_empty()) {
        increment.orphaned = rows_at(connection, &current.table, &current_plan.orphan_columns, orphans, during)?;
    }
    Ok(NativeOutcome::Done(increment))
}

/// Returns the row numbers of the orphaned rows in the table.
fn orphan_row_ids(kinds: &Int16Array, row_ids: &Option<ArrayRef>) -> Result<Option<ArrayRef>> {
    let (Some(row_ids), wanted) = (row_ids, RowKind::Orphaned.mask(kinds)) else { return Ok(None) };
    if wanted.true_count() == 0 {
        return Ok(None);
    }
    let row_ids = filter(row_ids, &wanted)?;
    Ok(Some(match row_ids.data_type() {
        DataType::List(_) => {
            let lists: Vec<ArrayRef> = row_ids.as_list::<i32>().iter().flatten().collect();
            concat(&lists.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())?
        }
        _ => row_ids,
    }))
}

/// Reads some rows of a table, with some of its columns.
fn rows_at(
    connection: &Connection,
    table: &StoredTable,
    names: &[String],
    row_ids: Vec<ArrayRef>,
    during: During<'_>,
) -> Result<Vec<RecordBatch>> {
    let columns: Vec<_> = names.iter().filter_map(|name| table.column(name)).collect();
    let selected: Vec<String> = columns.iter().map(|column| quoted(&column.sql_name)).collect();
    let row_ids = row_ids.iter().flat_map(|row_ids| row_ids.as_primitive::<Int64Type>().values().iter().copied());
    let row_ids: ArrayRef = Arc::new(row_ids.collect::<Int64Array>());
    let source = Source::new(vec![to_duckdb(RecordBatch::try_from_iter([("row_id", row_ids)])?)?]);
    let sql = format!(
        "SELECT {} FROM {} WHERE rowid IN (SELECT row_id FROM {})",
        selected.join(", "),
        table.sql_name,
        source.call()
    );
    let mut statement = connection.prepare(&sql).map_err(during.fails())?;
    let mut found = Vec::new();
    for batch in Rows::new(&mut statement, during)? {
        let batch = batch?;
        let named = columns.iter().zip(batch.columns());
        let named = named.map(|(column, array)| Ok((column.name.clone(), convert(array, &column.data_type)?)));
        found.push(batch_of(named.collect::<Result<Vec<_>>>()?)?);
    }
    Ok(found)
}

/// Returns a batch of at least one column.
fn batch_of(columns: Vec<(String, ArrayRef)>) -> Result<RecordBatch> {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}
