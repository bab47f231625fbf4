//! The stock form of what queries compute: expressions of DataFusion that have the values of the core's functions, for
//! the types for which they do.

use arrow::datatypes::{DataType, TimeUnit};
use deltalake::datafusion::common::ScalarValue;
use deltalake::datafusion::functions::core::expr_fn::get_field;
use deltalake::datafusion::functions::expr_fn::coalesce;
use deltalake::datafusion::functions_aggregate::string_agg::string_agg_udaf;
use deltalake::datafusion::functions_window::expr_fn::row_number;
use deltalake::datafusion::logical_expr::{
    Expr, ExprFunctionExt, LogicalPlanBuilder, SortExpr, cast, ident, lit, when,
};
use metaxy_core::executor;
use metaxy_core::hash::RowHasher;
use metaxy_core::plan::sql::HashPart;

use super::Declined;
use super::hash::{stock_hash, texts};
use super::names::{OrderColumns, all_of};

const MILLIS_PER_DAY: i64 = 86_400_000;
/// The name of a column for a moment: no other begins with this letter.
const PLACE: &str = "newest";

/// Returns the values of a key column in the form in which a key type compares them.
pub(super) fn key(column: Expr, data_type: &DataType, key_type: &DataType) -> Result<Expr, Declined> {
    use DataType::{Binary, Boolean, Date32, Date64, Decimal128, Int32, Int64, Timestamp, UInt64, Utf8};
    let compared = executor::compared_type(key_type);
    Ok(match (data_type, key_type) {
        (Utf8, Utf8) | (Binary, Binary) | (Boolean, Boolean) | (Int64, Int64) | (UInt64, UInt64) => column,
        (integer, Int64) if integer.is_integer() => cast(column, compared),
        (integer, Decimal128(_, _)) if integer.is_integer() => cast(column, compared),
        (Decimal128(_, _), Decimal128(_, _)) => cast(column, compared),
        (Timestamp(unit, _), Timestamp(key_unit, _)) if unit == key_unit && *unit != TimeUnit::Nanosecond => {
            cast(column, compared)
        }
        (Date32, Date64) => cast(cast(column, Int32), compared) * lit(MILLIS_PER_DAY),
        _ => return Err(Declined(format!("stock executors cannot match {data_type} as {key_type}"))),
    })
}

/// Returns what sorts rows by some columns, ascending and nulls first.
pub(super) fn order(columns: OrderColumns) -> Result<Vec<SortExpr>, Declined> {
    match columns.iter().find(|(data_type, _)| !has_one_order(data_type)) {
        Some((unknown, _)) => Err(Declined(format!("stock executors may order {unknown} otherwise"))),
        None => Ok(columns.into_iter().map(|(_, column)| column.sort(true, true)).collect()),
    }
}

/// Returns whether all kernels order values of a type alike.
fn has_one_order(data_type: &DataType) -> bool {
    use DataType::{Binary, Boolean, Date32, Decimal128, Timestamp, Utf8};
    data_type.is_integer() || matches!(data_type, Utf8 | Binary | Boolean | Date32 | Decimal128(_, _) | Timestamp(_, _))
}

/// Returns whether sorts order values of a type as the core does: those of nested types one by one, and floats by their
/// total order.
fn sorts_alike(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(members) => members.iter().all(|member| sorts_alike(member.data_type())),
        DataType::List(item) => sorts_alike(item.data_type()),
        DataType::Float32 | DataType::Float64 => true,
        other => has_one_order(other),
    }
}

/// Returns the row of each key that is the last in an order.
pub(super) fn latest(
    query: LogicalPlanBuilder,
    keys: Vec<Expr>,
    order: OrderColumns,
    columns: &[String],
) -> Result<LogicalPlanBuilder, Declined> {
    if let Some((unknown, _)) = order.iter().find(|(data_type, _)| !sorts_alike(data_type)) {
        return Err(Declined(format!("stock executors may order {unknown} otherwise")));
    }
    let last_first = order.into_iter().map(|(_, column)| column.sort(false, false)).collect();
    let place = row_number().partition_by(keys).order_by(last_first).build()?.alias(PLACE);
    let last = query.window([place])?.filter(ident(PLACE).eq(lit(1_u64)))?;
    Ok(last.project(columns.iter().map(ident).collect::<Vec<_>>())?)
}

/// Returns a member of a struct, which is null where the struct is.
pub(super) fn member(of: Expr, name: &str, data_type: &DataType) -> Result<Expr, Declined> {
    let nothing = lit(ScalarValue::try_from(data_type)?);
    Ok(when(of.clone().is_null(), nothing).otherwise(get_field(of, name))?)
}

/// Returns the data versions of a field from a by-field column.
pub(super) fn version(by_field: Expr, data_type: &DataType, field: &str) -> Result<Expr, Declined> {
    let DataType::Struct(members) = data_type else {
        return Err(Declined(format!("stock executors find no fields in {data_type}")));
    };
    match members.iter().find(|member| member.name() == field) {
        Some(found) => text(member(by_field, field, found.data_type())?, found.data_type()),
        None => Ok(lit(ScalarValue::Utf8(None))),
    }
}

/// Returns the texts of a column.
pub(super) fn text(column: Expr, data_type: &DataType) -> Result<Expr, Declined> {
    match data_type {
        DataType::Utf8 => Ok(column),
        integer if integer.is_integer() => Ok(cast(column, DataType::Utf8)),
        other => Err(Declined(format!("stock executors may write {other} as another text"))),
    }
}

/// Returns the hash of texts that consist of parts.
pub(super) fn hash(hasher: RowHasher, parts: Vec<HashPart>) -> Result<Expr, Declined> {
    let unknown = || Declined(format!("stock executors have no {}", hasher.algorithm()));
    stock_hash(hasher, &texts(parts)).ok_or_else(unknown)
}

/// Returns a row for each key, with the hashes of its data versions.
pub(super) fn group_hashes(
    query: LogicalPlanBuilder,
    keys: Vec<Expr>,
    hasher: RowHasher,
    columns: OrderColumns,
    versions: Vec<(Expr, String)>,
) -> Result<LogicalPlanBuilder, Declined> {
    let names: Vec<String> = versions.iter().map(|(_, name)| name.clone()).collect();
    // No two rows of a group are equal in it. All aggregates of a query have one order.
    let order = order(columns)?;
    let line = |(version, name): (Expr, String)| {
        let version = coalesce(vec![version, lit("")]);
        Ok(string_agg_udaf().call(vec![version, lit("|")]).order_by(order.clone()).build()?.alias(name))
    };
    let lines = versions.into_iter().map(line).collect::<Result<Vec<_>, Declined>>()?;
    let groups = query.aggregate(keys, lines)?;
    let hashed = |column: Expr| match &column {
        Expr::Column(line) if names.contains(&line.name) => {
            Ok(hash(hasher, vec![HashPart::Version(line.name.clone())])?.alias(&line.name))
        }
        _ => Ok(column),
    };
    let outputs = all_of(&groups).map(hashed).collect::<Result<Vec<_>, Declined>>()?;
    Ok(groups.project(outputs)?)
}
