//! Names of columns, inside of queries and of their results.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema};
use deltalake::datafusion::common::Column;
use deltalake::datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use metaxy_core::Result;

/// Columns that decide about an order, with their types: ascending, nulls first.
pub(super) type OrderColumns = Vec<(DataType, Expr)>;

/// Returns the names of so many keys.
pub(super) fn key_names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{prefix}{index}")).collect()
}

/// Returns columns by their names.
pub(super) fn columns_of(names: &[String]) -> Vec<Column> {
    names.iter().map(Column::new_unqualified).collect()
}

/// Returns all columns of a query.
pub(super) fn all_of(query: &LogicalPlanBuilder) -> impl Iterator<Item = Expr> + use<> {
    query.schema().columns().into_iter().map(Expr::Column)
}

/// Returns a batch of columns, all of which may have nulls.
pub(super) fn batch_of(columns: Vec<(String, ArrayRef)>, rows: usize) -> Result<RecordBatch> {
    let field = |(name, array): &(String, ArrayRef)| Field::new(name, array.data_type().clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    Ok(RecordBatch::try_new_with_options(schema, arrays, &RecordBatchOptions::new().with_row_count(Some(rows)))?)
}
