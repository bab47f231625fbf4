//! Conditions of DataFusion as filters, if both are true for exactly the same rows.

use arrow::datatypes::{DataType, Schema};
use chrono::DateTime;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use crate::filter::{Filter, Literal, col};

/// Returns the filter that equals a condition; `None` if there is none.
pub(super) fn pushed(condition: &Expr, schema: &Schema) -> Option<Filter> {
    let filter = Translation { schema }.filter(condition)?;
    filter.bind(schema).is_ok().then_some(filter)
}

struct Translation<'a> {
    schema: &'a Schema,
}

impl Translation<'_> {
    fn filter(&self, condition: &Expr) -> Option<Filter> {
        match condition {
            Expr::BinaryExpr(binary) => self.binary(binary),
            Expr::Not(inner) => Some(!self.filter(inner)?),
            Expr::IsNull(inner) => Some(col(self.column(inner)?.0).is_null()),
            Expr::IsNotNull(inner) => Some(col(self.column(inner)?.0).is_not_null()),
            Expr::InList(list) => self.in_list(list),
            Expr::Column(_) => {
                let (name, data_type) = self.column(condition)?;
                (*data_type == DataType::Boolean).then(|| col(name).is_true())
            }
            _ => None,
        }
    }

    fn binary(&self, BinaryExpr { left, op, right }: &BinaryExpr) -> Option<Filter> {
        match (op, left.as_ref(), right.as_ref()) {
            (Operator::And, left, right) => Some(self.filter(left)? & self.filter(right)?),
            (Operator::Or, left, right) => Some(self.filter(left)? | self.filter(right)?),
            (op, column, Expr::Literal(value, _)) => self.comparison(column, *op, value),
            (op, Expr::Literal(value, _), column) => self.comparison(column, op.swap()?, value),
            _ => None,
        }
    }

    fn comparison(&self, column: &Expr, op: Operator, value: &ScalarValue) -> Option<Filter> {
        let (name, data_type) = self.column(column)?;
        let (column, value) = (col(name), literal(data_type, value)?);
        Some(match op {
            Operator::Eq => column.eq(value),
            Operator::NotEq => column.ne(value),
            Operator::Lt => column.lt(value),
            Operator::LtEq => column.le(value),
            Operator::Gt => column.gt(value),
            Operator::GtEq => column.ge(value),
            _ => return None,
        })
    }

    fn in_list(&self, InList { expr, list, negated }: &InList) -> Option<Filter> {
        let (name, data_type) = self.column(expr)?;
        let value = |item: &Expr| match item {
            Expr::Literal(value, _) => literal(data_type, value),
            _ => None,
        };
        let values = list.iter().map(value).collect::<Option<Vec<Literal>>>()?;
        Some(if *negated { col(name).not_in(values) } else { col(name).is_in(values) })
    }

    fn column<'e>(&self, column: &'e Expr) -> Option<(&'e str, &DataType)> {
        let Expr::Column(Column { name, .. }) = column else { return None };
        Some((name, self.schema.field_with_name(name).ok()?.data_type()))
    }
}

/// Returns a value that both compare alike with values of a column. Floats are not among them, because of NaN and -0.0;
/// nor is NULL, which a filter understands as IS NULL.
fn literal(data_type: &DataType, value: &ScalarValue) -> Option<Literal> {
    use DataType::{Boolean, Date32, LargeUtf8, Timestamp, Utf8, Utf8View};
    match (data_type, value) {
        (integers, value) if integers.is_integer() => integer(value),
        (Utf8 | LargeUtf8 | Utf8View, value) => value.try_as_str().flatten().map(Literal::from),
        (Boolean, ScalarValue::Boolean(value)) => value.map(Literal::from),
        (Date32, ScalarValue::Date32(Some(days))) => {
            DateTime::from_timestamp(i64::from(*days) * 86_400, 0).map(|moment| Literal::Date(moment.date_naive()))
        }
        (Timestamp(_, zone), value) => moment(zone.is_some(), value),
        _ => None,
    }
}

fn integer(value: &ScalarValue) -> Option<Literal> {
    match value {
        ScalarValue::Int8(value) => value.map(Literal::from),
        ScalarValue::Int16(value) => value.map(Literal::from),
        ScalarValue::Int32(value) => value.map(Literal::from),
        ScalarValue::Int64(value) => value.map(Literal::from),
        ScalarValue::UInt8(value) => value.map(Literal::from),
        ScalarValue::UInt16(value) => value.map(Literal::from),
        ScalarValue::UInt32(value) => value.map(Literal::from),
        ScalarValue::UInt64(value) => value.map(Literal::from),
        _ => None,
    }
}

/// Returns the moment of a timestamp that has a zone if the column has one.
fn moment(zoned: bool, value: &ScalarValue) -> Option<Literal> {
    let (moment, zone) = match value {
        ScalarValue::TimestampSecond(Some(value), zone) => (DateTime::from_timestamp(*value, 0)?, zone),
        ScalarValue::TimestampMillisecond(Some(value), zone) => (DateTime::from_timestamp_millis(*value)?, zone),
        ScalarValue::TimestampMicrosecond(Some(value), zone) => (DateTime::from_timestamp_micros(*value)?, zone),
        ScalarValue::TimestampNanosecond(Some(value), zone) => (DateTime::from_timestamp_nanos(*value), zone),
        _ => return None,
    };
    (zone.is_some() == zoned).then_some(Literal::Timestamp(moment))
}
