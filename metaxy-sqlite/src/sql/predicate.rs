//! Predicates as SQL.

use arrow::datatypes::DataType;
use metaxy_core::filter::{BoundColumn, Predicate, Scalar, SqlDialect, to_sql};
use metaxy_core::{Error, Result};
use rusqlite::types::Value;

use crate::catalog::StoredTable;
use crate::types::{Storage, storage};

/// The values of the parameters `?1`, `?2`, … of a statement.
#[derive(Debug, Default)]
pub(crate) struct Parameters(Vec<Value>);

impl Parameters {
    /// Creates parameters of which `?1` is set when the statement runs.
    pub(crate) fn after_first() -> Self {
        Self(vec![Value::Null])
    }

    /// Sets the value of `?1`.
    pub(crate) fn set_first(&mut self, value: i64) {
        if let Some(first) = self.0.first_mut() {
            *first = value.into();
        }
    }

    /// Returns the values, to be bound.
    pub(crate) fn bound(&self) -> impl rusqlite::Params + '_ {
        rusqlite::params_from_iter(&self.0)
    }
}

/// Returns a predicate as SQL; `None` if SQLite's result could differ from the core's.
pub(crate) fn condition(table: &StoredTable, predicate: &Predicate, parameters: &mut Parameters) -> Option<String> {
    let known = parameters.0.len();
    let mut nodes = 0;
    let sound = is_exact(predicate, &mut nodes) && nodes <= MAX_NODES;
    let sql = sound.then(|| to_sql(predicate, &mut Dialect { table, parameters }).ok()).flatten();
    let sql = sql.filter(|_| parameters.0.len() <= MAX_PARAMETERS);
    if sql.is_none() {
        parameters.0.truncate(known);
    }
    sql
}

/// The number of nodes of an expression; SQLite's limit of its depth is 1000.
const MAX_NODES: usize = 400;

/// The number of parameters; SQLite's limit is 32,766.
const MAX_PARAMETERS: usize = 30_000;

/// Returns whether comparing stored values gives the same result as comparing the values. Counts the nodes.
fn is_exact(predicate: &Predicate, nodes: &mut usize) -> bool {
    *nodes += 1;
    let comparable = |column: &BoundColumn| {
        storage(&column.data_type).is_some_and(|storage| !matches!(storage, Storage::Decimal | Storage::Json))
    };
    match predicate {
        Predicate::Constant(_) | Predicate::Decided { .. } | Predicate::IsNull(_) => true,
        Predicate::Column(column) | Predicate::Compare { column, .. } | Predicate::In { column, .. } => {
            comparable(column)
        }
        Predicate::CompareColumns { left, right, .. } => {
            comparable(left) && comparable(right) && compare_alike(left.value_type(), right.value_type())
        }
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().all(|part| is_exact(part, nodes)),
        Predicate::Not(inner) => is_exact(inner, nodes),
    }
}

/// Returns whether the values of two columns are stored in the same scale.
fn compare_alike(left: &DataType, right: &DataType) -> bool {
    let plain = |data_type: &DataType| data_type.is_integer() || data_type.is_floating();
    match (left, right) {
        (DataType::Timestamp(unit, _), DataType::Timestamp(other, _)) => unit == other,
        (left, right) if plain(left) || plain(right) => {
            left.is_integer() == right.is_integer() && plain(left) && plain(right)
        }
        (left, right) => left == right,
    }
}

/// The dialect of SQLite. Texts are compared byte by byte, because columns have no other collation.
struct Dialect<'a> {
    table: &'a StoredTable,
    parameters: &'a mut Parameters,
}

impl SqlDialect for Dialect<'_> {
    fn identifier(&self, path: &[String], _: &DataType) -> Result<String> {
        let column = match path {
            [name] => self.table.column(name),
            _ => None,
        };
        column.map(|(column, _)| column).ok_or_else(|| not_in_sql(&path.join(".")))
    }

    fn literal(&mut self, scalar: &Scalar, data_type: &DataType) -> Result<String> {
        let value = match scalar {
            Scalar::Boolean(value) => Value::Integer((*value).into()),
            Scalar::Int(value) => Value::Integer(*value),
            Scalar::UInt(value) => match i64::try_from(*value) {
                Ok(value) => Value::Integer(value),
                Err(_) => Value::Blob(value.to_be_bytes().to_vec()),
            },
            Scalar::Float(value) if value.is_nan() => Value::Text("NaN".to_owned()),
            Scalar::Float(value) => Value::Real(*value),
            Scalar::Text(text) => Value::Text(text.clone()),
            Scalar::Binary(bytes) => Value::Blob(bytes.clone()),
            Scalar::Date(days) if *data_type == DataType::Date64 => Value::Integer(i64::from(*days) * 86_400_000),
            Scalar::Date(days) => Value::Integer((*days).into()),
            Scalar::Time { value, .. } | Scalar::Timestamp { value, .. } => Value::Integer(*value),
            Scalar::Decimal { .. } => return Err(not_in_sql(&scalar.to_string())),
        };
        self.parameters.0.push(value);
        Ok(format!("?{}", self.parameters.0.len()))
    }
}

/// Returns an error that is never shown, because the core evaluates such predicates.
fn not_in_sql(what: &str) -> Error {
    Error::Unsupported { what: format!("`{what}` in SQL"), hint: "the core evaluates it".to_owned() }
}
