//! Arrow types and PostgreSQL types: the stored type of a column, and the binary format of its values.
//!
//! A column is created in the PostgreSQL type that stores its Arrow type without loss. If several Arrow types have the
//! same PostgreSQL type, the column's comment records the Arrow type ([`comment`]); a column without such a comment,
//! for example of another program, is read in the Arrow type that fits best.

pub(crate) mod comment;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod json;
pub(crate) mod numeric;
pub(crate) mod rows;
pub(crate) mod shape;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use metaxy_core::schema::plain_type;
use metaxy_core::{Error, columns};

use crate::KIND;

/// The start of a binary `COPY`.
pub(crate) const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Microseconds from 1970 to 2000, PostgreSQL's epoch.
pub(crate) const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Days from 1970 to 2000, PostgreSQL's epoch.
pub(crate) const EPOCH_DAYS: i32 = 10_957;

/// The binary format of the values of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Text,
    Bytea,
    Date,
    Time,
    /// Without a zone.
    Timestamp,
    /// With a zone.
    Timestamptz,
    Numeric,
    Jsonb,
    /// `json`, which is text.
    Json,
    Uuid,
    /// An array whose elements have this object id.
    Array(Box<Wire>, u32),
    /// Any other type: read as the server's text of it, never written.
    Other,
}

/// How a column of an Arrow type is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Storage {
    /// The type in a column definition.
    pub(crate) sql: String,
    pub(crate) wire: Wire,
    /// The Arrow type in which the values are read.
    pub(crate) data_type: DataType,
}

/// A PostgreSQL type in the catalog.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PgType {
    pub(crate) oid: u32,
    pub(crate) modifier: i32,
}

/// Returns whether PostgreSQL can store values of a type.
pub(crate) fn stores(data_type: &DataType) -> bool {
    use DataType::{Interval, LargeListView, ListView, Union};
    !matches!(data_type, Interval(_) | LargeListView(_) | ListView(_) | Union(_, _))
}

/// Returns how a column of this Arrow type is stored.
///
/// # Errors
/// [`Error::UnsupportedType`] that names the column.
pub(crate) fn storage(column: &str, data_type: &DataType) -> Result<Storage, Error> {
    let data_type = plain_type(data_type);
    let unsupported = |hint: &str| Error::UnsupportedType {
        backend: KIND,
        column: column.to_owned(),
        data_type: data_type.to_string(),
        hint: hint.to_owned(),
    };
    let (sql, wire) = match scalar_storage(&data_type) {
        Some(scalar) => scalar,
        None => match &data_type {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                match scalar_storage(item.data_type()) {
                    Some((sql, wire)) => {
                        let oid = element_oid(&wire);
                        (format!("{sql}[]"), Wire::Array(Box::new(wire), oid))
                    }
                    None => ("jsonb".to_owned(), Wire::Jsonb),
                }
            }
            DataType::Struct(_) | DataType::Map(_, _) => ("jsonb".to_owned(), Wire::Jsonb),
            DataType::Null => return Err(unsupported("it has no type yet; cast it to the type of its values")),
            _ => return Err(unsupported("cast it to a type of PostgreSQL")),
        },
    };
    if wire == Wire::Jsonb {
        json::check(&data_type).map_err(|hint| unsupported(&hint))?;
    }
    Ok(Storage { sql, wire, data_type })
}

fn scalar_storage(data_type: &DataType) -> Option<(String, Wire)> {
    use DataType as T;
    let (sql, wire) = match data_type {
        T::Boolean => ("boolean", Wire::Bool),
        T::Int8 | T::Int16 | T::UInt8 => ("smallint", Wire::Int2),
        T::Int32 | T::UInt16 => ("integer", Wire::Int4),
        T::Int64 | T::UInt32 => ("bigint", Wire::Int8),
        T::UInt64 => ("numeric(20,0)", Wire::Numeric),
        T::Float16 | T::Float32 => ("real", Wire::Float4),
        T::Float64 => ("double precision", Wire::Float8),
        T::Utf8 | T::LargeUtf8 | T::Utf8View => ("character varying", Wire::Text),
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => ("bytea", Wire::Bytea),
        T::Date32 => ("date", Wire::Date),
        T::Date64 => ("timestamp(6) without time zone", Wire::Timestamp),
        T::Time32(_) | T::Time64(TimeUnit::Microsecond) => ("time(6) without time zone", Wire::Time),
        // PostgreSQL stores microseconds; nanoseconds are stored as a count, without loss.
        T::Time64(_) | T::Timestamp(TimeUnit::Nanosecond, _) | T::Duration(_) => ("bigint", Wire::Int8),
        T::Timestamp(_, None) => ("timestamp(6) without time zone", Wire::Timestamp),
        T::Timestamp(_, Some(_)) => ("timestamp(6) with time zone", Wire::Timestamptz),
        T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal128(p, s) | T::Decimal256(p, s) => {
            let sql = match u8::try_from(*s) {
                Ok(scale) if scale <= *p => format!("numeric({p},{s})"),
                _ => "numeric".to_owned(),
            };
            return Some((sql, Wire::Numeric));
        }
        _ => return None,
    };
    Some((sql.to_owned(), wire))
}

/// Returns the object id in the header of an array.
fn element_oid(wire: &Wire) -> u32 {
    match wire {
        Wire::Bool => 16,
        Wire::Int2 => 21,
        Wire::Int4 => 23,
        Wire::Int8 => 20,
        Wire::Float4 => 700,
        Wire::Float8 => 701,
        Wire::Bytea => 17,
        Wire::Date => 1082,
        Wire::Time => 1083,
        Wire::Timestamp => 1114,
        Wire::Timestamptz => 1184,
        Wire::Numeric => 1700,
        _ => 1043,
    }
}

/// Returns how an existing column is read and written: by the first recorded type that fits, or by its PostgreSQL type.
/// The second value says whether a recorded type fits.
pub(crate) fn existing(
    column: &str,
    pg: PgType,
    sql: String,
    written: impl IntoIterator<Item = DataType>,
) -> (Storage, bool) {
    let (wire, natural) = natural(pg);
    let stored = plain_numeric(pg.oid).unwrap_or_else(|| wire.clone());
    let fits = |data_type: DataType| storage(column, &data_type).ok().filter(|storage| storage.wire == stored);
    if let Some(known) = written.into_iter().find_map(fits) {
        return (Storage { sql, ..known }, true);
    }
    let by_field = column == columns::PROVENANCE_BY_FIELD || column == columns::DATA_VERSION_BY_FIELD;
    let data_type = match wire {
        Wire::Jsonb | Wire::Json | Wire::Text if by_field => string_map(),
        _ => natural,
    };
    (Storage { sql, wire, data_type }, false)
}

/// Returns `numeric` and its arrays, with any precision: with a comment they are read in its type, otherwise as text if
/// they have no precision.
fn plain_numeric(oid: u32) -> Option<Wire> {
    match oid {
        1700 => Some(Wire::Numeric),
        1231 => Some(Wire::Array(Box::new(Wire::Numeric), 1700)),
        _ => None,
    }
}

/// Returns the type of by-field columns of other programs, whose fields may differ from row to row.
fn string_map() -> DataType {
    let key = Field::new("keys", DataType::Utf8, false);
    let value = Field::new("values", DataType::Utf8, true);
    let entries = Field::new("entries", DataType::Struct(vec![key, value].into()), false);
    DataType::Map(Arc::new(entries), false)
}

/// Returns the default Arrow type of a PostgreSQL type.
fn natural(pg: PgType) -> (Wire, DataType) {
    use DataType as T;
    let micros = TimeUnit::Microsecond;
    match pg.oid {
        16 => (Wire::Bool, T::Boolean),
        21 => (Wire::Int2, T::Int16),
        23 => (Wire::Int4, T::Int32),
        20 => (Wire::Int8, T::Int64),
        700 => (Wire::Float4, T::Float32),
        701 => (Wire::Float8, T::Float64),
        25 | 1043 => (Wire::Text, T::Utf8),
        17 => (Wire::Bytea, T::Binary),
        1082 => (Wire::Date, T::Date32),
        1083 => (Wire::Time, T::Time64(micros)),
        1114 => (Wire::Timestamp, T::Timestamp(micros, None)),
        1184 => (Wire::Timestamptz, T::Timestamp(micros, Some("UTC".into()))),
        1700 => match numeric::type_of(pg.modifier) {
            Some(data_type) => (Wire::Numeric, data_type),
            None => (Wire::Other, T::Utf8),
        },
        3802 => (Wire::Jsonb, T::Utf8),
        114 => (Wire::Json, T::Utf8),
        2950 => (Wire::Uuid, T::Utf8),
        oid => match element_of_array(oid) {
            Some(element) => match natural(PgType { oid: element, modifier: pg.modifier }) {
                (Wire::Other, _) => (Wire::Other, T::Utf8),
                (wire, data_type) => {
                    (Wire::Array(Box::new(wire), element), T::List(Arc::new(Field::new_list_field(data_type, true))))
                }
            },
            None => (Wire::Other, T::Utf8),
        },
    }
}

/// Array types and their element types by object id; ids of built-in types never change.
const ARRAYS: [(u32, u32); 16] = [
    (1000, 16),
    (1005, 21),
    (1007, 23),
    (1016, 20),
    (1021, 700),
    (1022, 701),
    (1009, 25),
    (1015, 1043),
    (1001, 17),
    (1182, 1082),
    (1183, 1083),
    (1115, 1114),
    (1185, 1184),
    (1231, 1700),
    (2951, 2950),
    (199, 114),
];

/// Returns the element type of an array type.
fn element_of_array(oid: u32) -> Option<u32> {
    ARRAYS.iter().find(|(array, _)| *array == oid).map(|(_, element)| *element)
}

/// Returns whether a column of this type needs a comment to be read in the same type.
pub(crate) fn needs_comment(storage: &Storage) -> bool {
    let implied = match &storage.wire {
        Wire::Numeric => match &storage.data_type {
            DataType::Decimal128(_, scale) if *scale >= 0 => return storage.sql == "numeric",
            DataType::Decimal256(precision, _) => return *precision <= 38 || storage.sql == "numeric",
            _ => return true,
        },
        // The precision of the elements of `numeric[]` is not in the catalog.
        Wire::Array(element, _) if **element == Wire::Numeric => return true,
        Wire::Jsonb => return true,
        wire => natural(PgType { oid: oid_of(wire), modifier: -1 }).1,
    };
    implied != storage.data_type
}

/// Returns the object id of the type with this binary format.
pub(crate) fn oid_of(wire: &Wire) -> u32 {
    match wire {
        Wire::Array(_, element) => {
            ARRAYS.iter().find(|(_, other)| other == element).map(|(array, _)| *array).unwrap_or_default()
        }
        Wire::Jsonb => 3802,
        Wire::Json => 114,
        Wire::Uuid => 2950,
        wire => element_oid(wire),
    }
}
