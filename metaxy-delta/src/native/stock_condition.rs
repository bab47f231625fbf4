//! The stock form of predicates: conditions of DataFusion with the same results.

use arrow::datatypes::{DataType, Field, TimeUnit};
use deltalake::datafusion::common::ScalarValue;
use deltalake::datafusion::logical_expr::{Expr, Operator, binary_expr, in_list, lit, not, when};
use metaxy_core::filter::{BoundColumn, CompareOp, Predicate, Scalar};

use super::Declined;
use super::stock::member;

/// Returns the value of a predicate; `columns` are its columns, with their names in the table.
pub(super) fn condition(predicate: &Predicate, columns: &[(Field, Expr)]) -> Result<Expr, Declined> {
    let column = |bound: &BoundColumn| column(bound, columns);
    let all = |parts: &[Predicate], empty: bool, joined: fn(Expr, Expr) -> Expr| {
        let parts = parts.iter().map(|part| condition(part, columns)).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, Declined>(parts.into_iter().reduce(joined).unwrap_or_else(|| lit(empty)))
    };
    Ok(match predicate {
        Predicate::Constant(result) => lit(ScalarValue::Boolean(*result)),
        Predicate::Decided { column: bound, result } => {
            when(column(bound)?.is_null(), lit(ScalarValue::Boolean(None))).otherwise(lit(*result))?
        }
        Predicate::Column(bound) => column(bound)?,
        Predicate::Compare { column: bound, op, value } => {
            binary_expr(column(bound)?, operator(*op), literal(value, bound)?)
        }
        Predicate::CompareColumns { left, op, right } => {
            let is_exact = left.data_type == right.data_type && compares_alike(&left.data_type);
            if !is_exact {
                let (left, right) = (&left.data_type, &right.data_type);
                return Err(Declined(format!("stock executors may compare {left} with {right} otherwise")));
            }
            binary_expr(column(left)?, operator(*op), column(right)?)
        }
        Predicate::In { column: bound, list } => {
            let values = list.values().iter().map(|value| literal(value, bound));
            let mut values = values.collect::<Result<Vec<_>, _>>()?;
            if list.has_null() {
                values.push(lit(ScalarValue::try_from(&bound.data_type)?));
            }
            if values.is_empty() {
                return Err(Declined("stock executors do not know empty lists".to_owned()));
            }
            in_list(column(bound)?, values, false)
        }
        Predicate::IsNull(bound) => column(bound)?.is_null(),
        Predicate::And(parts) => all(parts, true, Expr::and)?,
        Predicate::Or(parts) => all(parts, false, Expr::or)?,
        Predicate::Not(inner) => not(condition(inner, columns)?),
    })
}

/// Returns a column, or a member of a struct.
fn column(bound: &BoundColumn, columns: &[(Field, Expr)]) -> Result<Expr, Declined> {
    let missing = || Declined(format!("stock executors do not find `{bound}`"));
    let (name, members) = bound.path.split_first().ok_or_else(missing)?;
    let (field, expr) = columns.iter().find(|(field, _)| field.name() == name).ok_or_else(missing)?;
    let (mut data_type, mut expr) = (field.data_type(), expr.clone());
    for name in members {
        let DataType::Struct(fields) = data_type else { return Err(missing()) };
        data_type = fields.iter().find(|field| field.name() == name).ok_or_else(missing)?.data_type();
        expr = member(expr, name, data_type)?;
    }
    if *data_type == bound.data_type { Ok(expr) } else { Err(missing()) }
}

fn operator(op: CompareOp) -> Operator {
    match op {
        CompareOp::Eq => Operator::Eq,
        CompareOp::NotEq => Operator::NotEq,
        CompareOp::Lt => Operator::Lt,
        CompareOp::LtEq => Operator::LtEq,
        CompareOp::Gt => Operator::Gt,
        CompareOp::GtEq => Operator::GtEq,
    }
}

/// Returns whether DataFusion compares values of a type as the core does.
fn compares_alike(data_type: &DataType) -> bool {
    use DataType::{Binary, Boolean, Date32, Timestamp, Utf8};
    data_type.is_integer() || matches!(data_type, Utf8 | Binary | Boolean | Date32 | Timestamp(_, _))
}

/// Returns a value in the type of the column that it is compared with.
fn literal(value: &Scalar, column: &BoundColumn) -> Result<Expr, Declined> {
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    let data_type = &column.data_type;
    let exact = match (value, data_type) {
        (Scalar::Boolean(value), DataType::Boolean) => Some(ScalarValue::from(*value)),
        (Scalar::Int(value), _) if data_type.is_signed_integer() => ScalarValue::from(*value).cast_to(data_type).ok(),
        (Scalar::UInt(value), _) if data_type.is_unsigned_integer() => {
            ScalarValue::from(*value).cast_to(data_type).ok()
        }
        (Scalar::Text(text), DataType::Utf8) => Some(ScalarValue::from(text.as_str())),
        (Scalar::Binary(bytes), DataType::Binary) => Some(ScalarValue::Binary(Some(bytes.clone()))),
        (Scalar::Date(days), DataType::Date32) => Some(ScalarValue::Date32(Some(*days))),
        (Scalar::Timestamp { value, unit, .. }, DataType::Timestamp(own, zone)) if unit == own => {
            let (value, zone) = (Some(*value), zone.clone());
            Some(match own {
                Second => ScalarValue::TimestampSecond(value, zone),
                Millisecond => ScalarValue::TimestampMillisecond(value, zone),
                Microsecond => ScalarValue::TimestampMicrosecond(value, zone),
                Nanosecond => ScalarValue::TimestampNanosecond(value, zone),
            })
        }
        _ => None,
    };
    exact.map(lit).ok_or_else(|| Declined(format!("stock executors may compare `{column}`, {data_type}, otherwise")))
}
