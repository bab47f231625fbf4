//! A whole resolve as one SQL statement: the second executor of plans.
//!
//! The statement reads the inputs as a scan would, hashes, joins and compares them, and returns rows of three kinds:
//! new, stale and orphaned. Unchanged rows never leave the server.

mod expected;
mod input;
mod query;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Int16Type, Schema};
use futures::TryStreamExt;
use metaxy_core::backend::{NativeIncrement, NativeOutcome};
use metaxy_core::hash::RowHasher;
use metaxy_core::plan::IncrementPlan;
use metaxy_core::plan::RowKind;
use metaxy_core::{FeatureKey, HashAlgorithm, Result, columns};

use crate::catalog::{self, Table, TableName};
use crate::connection::Session;
use crate::read::{Planner, read};
use crate::types::rows::RowReader;
use crate::types::{Storage, Wire};

use query::Query;

/// The end of a `SELECT` whose columns are used several times: it prevents the planner from copying their expressions,
/// including hashes, to each use, where they would be computed repeatedly.
pub(super) const ONCE: &str = "OFFSET 0";

/// A table of the plan.
pub(super) struct Source {
    pub(super) name: TableName,
    pub(super) table: Table,
}

/// Runs a plan.
pub(crate) async fn resolve(session: Arc<Session>, prefix: &str, plan: &IncrementPlan) -> Result<NativeOutcome> {
    if let Err(reason) = hash(plan.recipe.hasher, "''") {
        return Ok(NativeOutcome::Declined(reason));
    }
    if let Some(reason) = &session.foreign_encoding {
        return Ok(NativeOutcome::Declined(reason.clone()));
    }
    let keys = plan.inputs.iter().map(|input| &input.feature).chain(plan.current.iter().map(|_| &plan.feature));
    let mut sources = Vec::new();
    for (key, source) in sources_of(&session, prefix, keys).await? {
        match source {
            Some(source) => sources.push(source),
            None => return Ok(NativeOutcome::Declined(format!("`{key}` has no table"))),
        }
    }
    let current = plan.current.as_ref().and_then(|_| sources.pop());
    match Query::new(plan, &sources, current.as_ref()) {
        Ok(query) => run(session, plan, query).await.map(NativeOutcome::Done),
        Err(reason) => Ok(NativeOutcome::Declined(reason)),
    }
}

/// Finds the tables of features, each with its key.
async fn sources_of(
    session: &Session,
    prefix: &str,
    keys: impl Iterator<Item = &FeatureKey>,
) -> Result<Vec<(FeatureKey, Option<Source>)>> {
    let mut connection = session.connection().await?;
    let mut sources = Vec::new();
    for key in keys {
        let name = TableName::new(&session.schema, prefix, key)?;
        let table = catalog::table(&mut connection, &name).await?;
        sources.push((key.clone(), table.map(|table| Source { name, table })));
    }
    connection.done();
    Ok(sources)
}

/// Returns the SQL of a hash.
pub(super) fn hash(hasher: RowHasher, text: &str) -> Result<String, String> {
    let digest = match hasher.algorithm() {
        HashAlgorithm::Md5 => format!("md5({text})"),
        HashAlgorithm::Sha256 => format!("encode(sha256(convert_to({text}, 'UTF8')), 'hex')"),
        other => return Err(format!("PostgreSQL has no {other}; it has md5 and sha256")),
    };
    Ok(format!("left({digest}, {})", hasher.truncation()))
}

/// Returns text as it is stored by default.
pub(super) fn text() -> Storage {
    Storage { sql: "text".to_owned(), wire: Wire::Text, data_type: DataType::Utf8 }
}

async fn run(session: Arc<Session>, plan: &IncrementPlan, query: Query) -> Result<NativeIncrement> {
    let kind = Storage { sql: "smallint".to_owned(), wire: Wire::Int2, data_type: DataType::Int16 };
    let text = text();
    let fields = plan.recipe.fields.len();
    let sent = std::iter::once(("kind", &kind))
        .chain(query.expected.iter().map(|(name, storage)| (name.as_str(), storage)))
        .chain(std::iter::repeat_n((columns::PROVENANCE, &text), fields + 1))
        .chain(query.orphaned.iter().map(|(name, storage)| (name.as_str(), storage)));
    let reader = RowReader::new(&plan.feature.table_name(), sent)?.with_ids(&plan.join_columns);
    let mut rows = read(session, query.sql, reader, Planner::ForWholeTables);
    let mut increment = NativeIncrement::default();
    while let Some((arrays, count)) = rows.try_next().await? {
        let Some((kinds, arrays)) = arrays.split_first() else { continue };
        let (expected, arrays) = arrays.split_at(query.expected.len());
        let (versions, orphaned) = arrays.split_at(fields + 1);
        let mut named: Vec<(String, ArrayRef)> =
            query.expected.iter().map(|(name, _)| name.clone()).zip(expected.iter().cloned()).collect();
        named.extend(plan.recipe.version_columns(versions)?);
        let expected = batch(named, count)?;
        let orphaned = query.orphaned.iter().map(|(name, _)| name.clone()).zip(orphaned.iter().cloned());
        let orphaned = batch(orphaned.collect(), count)?;
        let kinds = kinds.as_primitive::<Int16Type>();
        increment.push(RowKind::New, kinds, &expected)?;
        increment.push(RowKind::Stale, kinds, &expected)?;
        increment.push(RowKind::Orphaned, kinds, &orphaned)?;
    }
    Ok(increment)
}

fn batch(columns: Vec<(String, ArrayRef)>, rows: usize) -> Result<RecordBatch> {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
}
