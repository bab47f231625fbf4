//! The greatest row of each key, as bytes: DataFusion's windows are slow if there are many.

use arrow::datatypes::DataType;
use deltalake::datafusion::functions_aggregate::expr_fn::max;
use deltalake::datafusion::logical_expr::{Expr, LogicalPlanBuilder, ident};

use super::Declined;
use super::functions::{has_sort_key, sort_key, sorted_column, sorted_columns};
use super::names::OrderColumns;

/// The names of columns for a moment: no others begin with this letter.
const NEWEST: &str = "newest";
const NEWEST_ROW: &str = "newest_row";

/// Returns the row of each key that is the last in an order. All columns are part of it: it has their values.
pub(super) fn latest(
    query: LogicalPlanBuilder,
    keys: Vec<Expr>,
    order: OrderColumns,
    columns: &[String],
) -> Result<LogicalPlanBuilder, Declined> {
    let types: Vec<DataType> = order.iter().map(|(data_type, _)| data_type.clone()).collect();
    let ordered: Vec<Expr> = order.iter().map(|(_, column)| column.clone()).collect();
    if let Some(unknown) = types.iter().find(|data_type| !has_sort_key(data_type)) {
        return Err(Declined(format!("rows with {unknown} have no order in DataFusion")));
    }
    let newest = max(sort_key(order)).alias(NEWEST);
    let group_keys = keys.iter().enumerate().map(|(number, key)| match key {
        // It stays under its name, so that DataFusion knows how the rows are divided.
        Expr::Column(_) => key.clone(),
        computed => computed.clone().alias(format!("{NEWEST}{number}")),
    });
    let groups = query.aggregate(group_keys.collect::<Vec<_>>(), [newest])?;
    // Without keys there is a group also of no rows.
    let groups = groups.filter(ident(NEWEST).is_not_null())?;
    let plain: Vec<Expr> = keys.into_iter().filter(|key| matches!(key, Expr::Column(_))).collect();
    let read = sorted_columns(types, ident(NEWEST)).alias(NEWEST_ROW);
    let rows = groups.project(plain.iter().cloned().chain([read]).collect::<Vec<_>>())?;
    let column = |name: &String| {
        let column = ident(name);
        match ordered.iter().position(|other| *other == column) {
            Some(place) if !plain.contains(&column) => sorted_column(ident(NEWEST_ROW), place).alias(name),
            _ => column,
        }
    };
    Ok(rows.project(columns.iter().map(column).collect::<Vec<_>>())?)
}
