//! Predicates in SQL.

use arrow::datatypes::{DataType, TimeUnit};
use metaxy_core::filter::{BoundColumn, Predicate, Scalar, SqlDialect, to_sql};
use metaxy_core::{Error, Result};

use super::{collated, column, literal};
use crate::catalog::{Column, Table};
use crate::types::Wire;

/// Microseconds from 1970 to the beginning of the years 1 and 10000: the range of literals.
const SPELLED: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

pub(super) fn write(table: &Table, predicate: &Predicate) -> Result<String, String> {
    check_pairs(table, predicate)?;
    to_sql(predicate, &mut Dialect { table }).map_err(|error| match error {
        Error::Unsupported { what, hint } => format!("{what}: {hint}"),
        other => other.to_string(),
    })
}

/// Checks that compared columns are stored in the same way, or both as numbers.
fn check_pairs(table: &Table, predicate: &Predicate) -> Result<(), String> {
    match predicate {
        Predicate::CompareColumns { left, right, .. } => {
            let numeric = |column: &BoundColumn| column.data_type.is_numeric();
            let nested = left.path.len() > 1 || right.path.len() > 1;
            let wire = |column: &BoundColumn| {
                column.path.first().and_then(|name| table.find(name)).map(|column| column.storage.wire.clone())
            };
            let alike = left.data_type == right.data_type && wire(left) == wire(right);
            if (alike || (numeric(left) && numeric(right))) && !nested {
                return Ok(());
            }
            Err(format!("`{left}` and `{right}` are stored in different ways"))
        }
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().try_for_each(|part| check_pairs(table, part)),
        Predicate::Not(inner) => check_pairs(table, inner),
        _ => Ok(()),
    }
}

struct Dialect<'a> {
    table: &'a Table,
}

fn refused(what: impl Into<String>, hint: &str) -> Error {
    Error::Unsupported { what: what.into(), hint: hint.to_owned() }
}

impl SqlDialect for Dialect<'_> {
    fn identifier(&self, path: &[String], data_type: &DataType) -> Result<String> {
        let missing = || refused(format!("a filter on `{}`", path.join(".")), "the table has no such column");
        let (name, members) = path.split_first().ok_or_else(missing)?;
        let found = self.table.find(name).ok_or_else(missing)?;
        if members.is_empty() { Ok(whole(found)) } else { member(found, members, data_type) }
    }

    fn literal(&mut self, scalar: &Scalar, data_type: &DataType) -> Result<String> {
        let beyond = || refused(format!("a filter with the value {scalar}"), "PostgreSQL has no such value");
        Ok(match scalar {
            Scalar::Boolean(value) => if *value { "TRUE" } else { "FALSE" }.to_owned(),
            Scalar::Int(value) => format!("({value})"),
            Scalar::UInt(value) => value.to_string(),
            Scalar::Float(value) if value.is_infinite() => {
                format!("'{}Infinity'::double precision", if *value < 0.0 { "-" } else { "" })
            }
            Scalar::Float(value) => format!("'{value:?}'::double precision"),
            Scalar::Decimal { .. } => format!("'{scalar}'::numeric"),
            Scalar::Text(text) if text.contains('\0') => return Err(beyond()),
            Scalar::Text(text) => literal(text),
            Scalar::Binary(_) => format!("decode('{scalar}', 'hex')"),
            Scalar::Date(days) => {
                let micros = i64::from(*days) * 86_400_000_000;
                let kind = if *data_type == DataType::Date64 { "timestamp" } else { "date" };
                SPELLED.contains(&micros).then(|| format!("'{scalar}'::{kind}")).ok_or_else(beyond)?
            }
            // Nanoseconds are stored as counts.
            Scalar::Time { value, unit: TimeUnit::Nanosecond } => format!("({value})"),
            Scalar::Timestamp { value, unit: TimeUnit::Nanosecond, .. } => format!("({value})"),
            Scalar::Time { .. } => format!("'{scalar}'::time"),
            Scalar::Timestamp { value, unit, zoned } => {
                let scale = match unit {
                    TimeUnit::Second => 1_000_000,
                    TimeUnit::Millisecond => 1_000,
                    TimeUnit::Microsecond | TimeUnit::Nanosecond => 1,
                };
                value.checked_mul(scale).filter(|micros| SPELLED.contains(micros)).ok_or_else(beyond)?;
                if *zoned { format!("'{scalar}+00'::timestamptz") } else { format!("'{scalar}'::timestamp") }
            }
        })
    }
}

/// Returns a column in the form in which it is compared.
fn whole(found: &Column) -> String {
    let name = column(&found.name);
    match &found.storage.wire {
        Wire::Text => format!("({})", collated(name, &Wire::Text)),
        Wire::Other | Wire::Uuid | Wire::Json => format!("(({name})::text COLLATE \"C\")"),
        Wire::Jsonb if found.storage.data_type == DataType::Utf8 => format!("(({name})::text COLLATE \"C\")"),
        _ => name,
    }
}

/// Returns a member of a struct in `jsonb`.
fn member(found: &Column, members: &[String], data_type: &DataType) -> Result<String> {
    let refuse = |why: &str| refused(format!("a filter on a member of `{}` inside PostgreSQL", found.name), why);
    if found.storage.wire != Wire::Jsonb {
        return Err(refuse("it is not stored as jsonb"));
    }
    let path: Vec<String> = members.iter().map(|member| array_element(member)).collect();
    let value = format!("({} #>> {})", column(&found.name), literal(&format!("{{{}}}", path.join(","))));
    Ok(match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => format!("({value} COLLATE \"C\")"),
        DataType::Boolean => format!("{value}::boolean"),
        DataType::Float64 => format!("{value}::double precision"),
        DataType::Float32 | DataType::Float16 => format!("{value}::real"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            format!("{value}::bytea")
        }
        numeric if numeric.is_numeric() => format!("{value}::numeric"),
        nested if nested.is_nested() => value,
        _ => return Err(refuse("its values are stored as counts")),
    })
}

/// Returns an element in the text of an array.
fn array_element(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
