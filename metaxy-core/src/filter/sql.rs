//! Renders a bound predicate for a database.

use arrow::datatypes::DataType;

use crate::error::Result;

use super::display::write_path;
use super::{BoundColumn, Predicate, Scalar};

/// The notation of columns and values in a database.
///
/// Comparisons need the semantics of [`Predicate`]: texts compare byte by byte, so the dialect of a database whose
/// columns have a collation writes the binary one in [`SqlDialect::identifier`] (`"name" COLLATE "C"`).
pub trait SqlDialect {
    /// Writes a column, or the member of a struct column to which `path` leads, as an expression of type `data_type`.
    ///
    /// # Errors
    /// An error if the database cannot access it.
    fn identifier(&self, path: &[String], data_type: &DataType) -> Result<String>;

    /// Writes a value for a column of type `data_type`: its text, or a placeholder of a parameter that the dialect
    /// collects. It is called in the order of the values in the text.
    ///
    /// # Errors
    /// An error if the database has no such value.
    fn literal(&mut self, scalar: &Scalar, data_type: &DataType) -> Result<String>;
}

/// Writes the predicate as an SQL condition, every part in parentheses, with SQL's three-valued logic.
///
/// # Errors
/// The errors of the dialect.
pub fn to_sql(predicate: &Predicate, dialect: &mut dyn SqlDialect) -> Result<String> {
    let name = |dialect: &dyn SqlDialect, column: &BoundColumn| dialect.identifier(&column.path, &column.data_type);
    Ok(match predicate {
        Predicate::Constant(Some(true)) => "(1 = 1)".to_owned(),
        Predicate::Constant(Some(false)) => "(1 = 0)".to_owned(),
        Predicate::Constant(None) => "(1 = NULL)".to_owned(),
        Predicate::Decided { column, result } => {
            let outcome = if *result { "(1 = 1)" } else { "(1 = 0)" };
            format!("(CASE WHEN {} IS NOT NULL THEN {outcome} END)", name(dialect, column)?)
        }
        Predicate::Column(column) => format!("({})", name(dialect, column)?),
        Predicate::Compare { column, op, value } => {
            let left = name(dialect, column)?;
            format!("({left} {} {})", op.as_sql(), dialect.literal(value, &column.data_type)?)
        }
        Predicate::CompareColumns { left, op, right } => {
            format!("({} {} {})", name(dialect, left)?, op.as_sql(), name(dialect, right)?)
        }
        Predicate::In { column, list } => {
            let left = name(dialect, column)?;
            let values = list.values().iter().map(|value| dialect.literal(value, &column.data_type));
            let mut values = values.collect::<Result<Vec<_>>>()?;
            values.extend(list.has_null().then(|| "NULL".to_owned()));
            format!("({left} IN ({}))", values.join(", "))
        }
        Predicate::IsNull(column) => format!("({} IS NULL)", name(dialect, column)?),
        Predicate::And(parts) => joined(parts, " AND ", "(1 = 1)", dialect)?,
        Predicate::Or(parts) => joined(parts, " OR ", "(1 = 0)", dialect)?,
        Predicate::Not(inner) => match &**inner {
            Predicate::IsNull(column) => format!("({} IS NOT NULL)", name(dialect, column)?),
            inner => format!("(NOT {})", to_sql(inner, dialect)?),
        },
    })
}

fn joined(parts: &[Predicate], separator: &str, empty: &str, dialect: &mut dyn SqlDialect) -> Result<String> {
    if parts.is_empty() {
        return Ok(empty.to_owned());
    }
    let parts = parts.iter().map(|part| to_sql(part, dialect)).collect::<Result<Vec<_>>>()?;
    Ok(format!("({})", parts.join(separator)))
}

/// The dialect of messages: names and values as in the text of a filter.
#[derive(Clone, Copy, Debug, Default)]
pub struct StandardSql;

impl SqlDialect for StandardSql {
    fn identifier(&self, path: &[String], _: &DataType) -> Result<String> {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = write_path(&mut text, path);
        Ok(text)
    }

    fn literal(&mut self, scalar: &Scalar, _: &DataType) -> Result<String> {
        Ok(match scalar {
            Scalar::Boolean(value) => if *value { "TRUE" } else { "FALSE" }.to_owned(),
            Scalar::Int(_) | Scalar::UInt(_) | Scalar::Decimal { .. } => scalar.to_string(),
            Scalar::Float(value) if value.is_finite() => scalar.to_string(),
            Scalar::Float(_) => format!("FLOAT '{scalar}'"),
            Scalar::Text(text) => format!("'{}'", text.replace('\'', "''")),
            Scalar::Binary(_) => format!("x'{scalar}'"),
            Scalar::Date(_) => format!("DATE '{scalar}'"),
            Scalar::Time { .. } => format!("TIME '{scalar}'"),
            Scalar::Timestamp { zoned, .. } => format!("TIMESTAMP '{scalar}{}'", if *zoned { "Z" } else { "" }),
        })
    }
}
