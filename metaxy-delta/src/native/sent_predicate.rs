//! Predicates as other processes get them: with their values exactly as they are.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit, i256};
use metaxy_core::filter::{BoundColumn, CompareOp, InList, Predicate, Scalar};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(super) fn serialize<S: Serializer>(predicate: &Predicate, serializer: S) -> Result<S::Ok, S::Error> {
    Sent::from(predicate).serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Predicate, D::Error> {
    Sent::deserialize(deserializer).map(Predicate::from)
}

/// A predicate that may be missing.
pub(super) mod optional {
    use super::{Deserialize, Deserializer, Predicate, Sent, Serialize, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        predicate: &Option<Predicate>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        predicate.as_ref().map(Sent::from).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Predicate>, D::Error> {
        Ok(Option::<Sent>::deserialize(deserializer)?.map(Predicate::from))
    }
}

#[derive(Serialize, Deserialize)]
enum Sent {
    Constant(Option<bool>),
    Decided(Column, bool),
    Column(Column),
    Compare(Column, CompareOp, Value),
    CompareColumns(Column, CompareOp, Column),
    In { column: Column, values: Vec<Value>, has_null: bool },
    IsNull(Column),
    And(Vec<Sent>),
    Or(Vec<Sent>),
    Not(Box<Sent>),
}

#[derive(Serialize, Deserialize)]
struct Column {
    path: Vec<String>,
    data_type: DataType,
}

#[derive(Serialize, Deserialize)]
enum Value {
    Boolean(bool),
    Int(i64),
    UInt(u64),
    /// The bits, because JSON has no NaN.
    Float(u64),
    /// The bytes of the digits, little end first, and the scale.
    Decimal([u8; 32], i8),
    Text(String),
    Binary(Vec<u8>),
    Date(i32),
    Time(i64, TimeUnit),
    Timestamp {
        value: i64,
        unit: TimeUnit,
        zoned: bool,
    },
}

impl From<&Predicate> for Sent {
    fn from(predicate: &Predicate) -> Self {
        let all = |parts: &[Predicate]| parts.iter().map(Self::from).collect();
        match predicate {
            Predicate::Constant(result) => Self::Constant(*result),
            Predicate::Decided { column, result } => Self::Decided(column.into(), *result),
            Predicate::Column(column) => Self::Column(column.into()),
            Predicate::Compare { column, op, value } => Self::Compare(column.into(), *op, value.into()),
            Predicate::CompareColumns { left, op, right } => Self::CompareColumns(left.into(), *op, right.into()),
            Predicate::In { column, list } => Self::In {
                column: column.into(),
                values: list.values().iter().map(Value::from).collect(),
                has_null: list.has_null(),
            },
            Predicate::IsNull(column) => Self::IsNull(column.into()),
            Predicate::And(parts) => Self::And(all(parts)),
            Predicate::Or(parts) => Self::Or(all(parts)),
            Predicate::Not(inner) => Self::Not(Box::new(inner.as_ref().into())),
        }
    }
}

impl From<Sent> for Predicate {
    fn from(sent: Sent) -> Self {
        let all = |parts: Vec<Sent>| parts.into_iter().map(Self::from).collect();
        match sent {
            Sent::Constant(result) => Self::Constant(result),
            Sent::Decided(column, result) => Self::Decided { column: column.into(), result },
            Sent::Column(column) => Self::Column(column.into()),
            Sent::Compare(column, op, value) => Self::Compare { column: column.into(), op, value: value.into() },
            Sent::CompareColumns(left, op, right) => {
                Self::CompareColumns { left: left.into(), op, right: right.into() }
            }
            Sent::In { column, values, has_null } => {
                let column = BoundColumn::from(column);
                let values = values.into_iter().map(Scalar::from).collect();
                let list = Arc::new(InList::new(values, has_null, &column.data_type));
                Self::In { column, list }
            }
            Sent::IsNull(column) => Self::IsNull(column.into()),
            Sent::And(parts) => Self::And(all(parts)),
            Sent::Or(parts) => Self::Or(all(parts)),
            Sent::Not(inner) => Self::Not(Box::new((*inner).into())),
        }
    }
}

impl From<&BoundColumn> for Column {
    fn from(column: &BoundColumn) -> Self {
        Self { path: column.path.clone(), data_type: column.data_type.clone() }
    }
}

impl From<Column> for BoundColumn {
    fn from(column: Column) -> Self {
        Self { path: column.path, data_type: column.data_type }
    }
}

impl From<&Scalar> for Value {
    fn from(value: &Scalar) -> Self {
        match value {
            Scalar::Boolean(value) => Self::Boolean(*value),
            Scalar::Int(value) => Self::Int(*value),
            Scalar::UInt(value) => Self::UInt(*value),
            Scalar::Float(value) => Self::Float(value.to_bits()),
            Scalar::Decimal { value, scale } => Self::Decimal(value.to_le_bytes(), *scale),
            Scalar::Text(text) => Self::Text(text.clone()),
            Scalar::Binary(bytes) => Self::Binary(bytes.clone()),
            Scalar::Date(days) => Self::Date(*days),
            Scalar::Time { value, unit } => Self::Time(*value, *unit),
            Scalar::Timestamp { value, unit, zoned } => Self::Timestamp { value: *value, unit: *unit, zoned: *zoned },
        }
    }
}

impl From<Value> for Scalar {
    fn from(value: Value) -> Self {
        match value {
            Value::Boolean(value) => Self::Boolean(value),
            Value::Int(value) => Self::Int(value),
            Value::UInt(value) => Self::UInt(value),
            Value::Float(bits) => Self::Float(f64::from_bits(bits)),
            Value::Decimal(bytes, scale) => Self::Decimal { value: i256::from_le_bytes(bytes), scale },
            Value::Text(text) => Self::Text(text),
            Value::Binary(bytes) => Self::Binary(bytes),
            Value::Date(days) => Self::Date(days),
            Value::Time(value, unit) => Self::Time { value, unit },
            Value::Timestamp { value, unit, zoned } => Self::Timestamp { value, unit, zoned },
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};
    use metaxy_core::filter::Filter;

    use super::*;

    #[test]
    fn predicates_return_as_they_were() {
        let member = Field::new("m", DataType::Int8, true);
        let schema = Schema::new(vec![
            Field::new("b", DataType::Boolean, true),
            Field::new("i", DataType::Int64, true),
            Field::new("u", DataType::UInt64, true),
            Field::new("f", DataType::Float64, true),
            Field::new("d", DataType::Decimal128(20, 3), true),
            Field::new("t", DataType::Utf8, true),
            Field::new("x", DataType::Binary, true),
            Field::new("day", DataType::Date32, true),
            Field::new("time", DataType::Time64(TimeUnit::Nanosecond), true),
            Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
            Field::new("s", DataType::Struct(vec![member].into()), true),
        ]);
        for text in [
            "b AND NOT i < 3 OR u >= 18446744073709551615",
            "f > FLOAT 'NaN' OR f = FLOAT '-inf' OR f = 0.1",
            "d != 12345678901234567.891",
            "t IN ('a', 'b', 'c', 'd', NULL) AND x = x'00ff'",
            "day <= DATE '2026-01-31' AND time = TIME '12:30:00'",
            "at = TIMESTAMP '2026-01-31T12:30:00Z' AND i = u AND s IS NULL AND s.m = 1",
            "i = 3.5",
        ] {
            let predicate = text.parse::<Filter>().unwrap().bind(&schema).unwrap();
            let json = serde_json::to_vec(&Sent::from(&predicate)).unwrap();
            let returned = Predicate::from(serde_json::from_slice::<Sent>(&json).unwrap());
            assert_eq!(returned, predicate, "{text}");
        }
    }
}
