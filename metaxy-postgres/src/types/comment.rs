//! The Arrow type of a column, recorded in its comment as JSON: `{"arrow":{"timestamp":["ns",null]}}`.
//!
//! Other programs write comments too, so the types are also recorded in a line of the table's comment.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Comment {
    arrow: Type,
}

#[derive(Clone, Serialize, Deserialize)]
struct Member {
    name: String,
    #[serde(rename = "type")]
    data_type: Type,
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    nullable: bool,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Unit {
    #[serde(rename = "s")]
    Second,
    #[serde(rename = "ms")]
    Millisecond,
    #[serde(rename = "us")]
    Microsecond,
    #[serde(rename = "ns")]
    Nanosecond,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Type {
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    #[serde(rename = "uint8")]
    UInt8,
    #[serde(rename = "uint16")]
    UInt16,
    #[serde(rename = "uint32")]
    UInt32,
    #[serde(rename = "uint64")]
    UInt64,
    Float16,
    Float32,
    Float64,
    Utf8,
    LargeUtf8,
    Utf8View,
    Binary,
    LargeBinary,
    BinaryView,
    FixedSizeBinary(i32),
    Date32,
    Date64,
    Time32(Unit),
    Time64(Unit),
    Timestamp(Unit, Option<String>),
    Duration(Unit),
    Decimal32(u8, i8),
    Decimal64(u8, i8),
    Decimal128(u8, i8),
    Decimal256(u8, i8),
    List(Box<Member>),
    LargeList(Box<Member>),
    FixedSizeList(Box<Member>, i32),
    Struct(Vec<Member>),
    Map(Box<Member>, bool),
}

/// Returns the comment of a column of this type; `None` for a type that no column can have.
pub(crate) fn write(data_type: &DataType) -> Option<String> {
    serde_json::to_string(&Comment { arrow: from_arrow(data_type)? }).ok()
}

/// Returns the type in a comment; `None` for a comment of another program, and for a type that does not exist.
pub(crate) fn read(comment: &str) -> Option<DataType> {
    let comment: Comment = serde_json::from_str(comment).ok()?;
    checked(comment.arrow)
}

/// The types of a table's columns in the table's comment.
#[derive(Default)]
pub(crate) struct Backup(BTreeMap<String, Entry>);

#[derive(Serialize, Deserialize)]
struct Entry {
    /// The number of the column, because a later column may have the same name.
    number: i16,
    arrow: Type,
}

#[derive(Serialize, Deserialize)]
struct TableComment {
    arrow: BTreeMap<String, Entry>,
}

impl Backup {
    pub(crate) fn read(comment: &str) -> Self {
        let mut own = comment.lines().rev().filter_map(|line| serde_json::from_str::<TableComment>(line).ok());
        Self(own.next().map(|comment| comment.arrow).unwrap_or_default())
    }

    /// Returns the type of a column.
    pub(crate) fn find(&self, name: &str, number: i16) -> Option<DataType> {
        let entry = self.0.get(name).filter(|entry| entry.number == number)?;
        checked(entry.arrow.clone())
    }

    pub(crate) fn set(&mut self, name: &str, number: i16, data_type: &DataType) {
        if let Some(arrow) = from_arrow(data_type) {
            self.0.insert(name.to_owned(), Entry { number, arrow });
        }
    }

    /// Returns the comment with these types and its other text.
    pub(crate) fn write(self, comment: &str) -> String {
        let own = |line: &&str| serde_json::from_str::<TableComment>(line).is_ok();
        let foreign: Vec<&str> = comment.lines().filter(|line| !own(line)).collect();
        let types = serde_json::to_string(&TableComment { arrow: self.0 }).unwrap_or_default();
        foreign.into_iter().chain([types.as_str()]).collect::<Vec<_>>().join("\n")
    }
}

/// Returns the type if it is valid: a comment is input.
fn checked(data_type: Type) -> Option<DataType> {
    let data_type = to_arrow(data_type);
    is_valid(&data_type).then_some(data_type)
}

fn is_valid(data_type: &DataType) -> bool {
    let scaled = |precision: u8, scale: i8, most: u8| (1..=most).contains(&precision) && scale.unsigned_abs() <= most;
    match data_type {
        DataType::FixedSizeBinary(size) => *size >= 0,
        DataType::Decimal32(p, s) => scaled(*p, *s, 9),
        DataType::Decimal64(p, s) => scaled(*p, *s, 18),
        DataType::Decimal128(p, s) => scaled(*p, *s, 38),
        DataType::Decimal256(p, s) => scaled(*p, *s, 76),
        DataType::Time32(unit) => matches!(unit, TimeUnit::Second | TimeUnit::Millisecond),
        DataType::Time64(unit) => matches!(unit, TimeUnit::Microsecond | TimeUnit::Nanosecond),
        DataType::FixedSizeList(item, size) => *size >= 0 && is_valid(item.data_type()),
        DataType::List(item) | DataType::LargeList(item) => is_valid(item.data_type()),
        DataType::Struct(members) => members.iter().all(|member| is_valid(member.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => pair.len() == 2 && pair.iter().all(|part| is_valid(part.data_type())),
            _ => false,
        },
        _ => true,
    }
}

fn from_arrow(data_type: &DataType) -> Option<Type> {
    use DataType as T;
    Some(match data_type {
        T::Boolean => Type::Boolean,
        T::Int8 => Type::Int8,
        T::Int16 => Type::Int16,
        T::Int32 => Type::Int32,
        T::Int64 => Type::Int64,
        T::UInt8 => Type::UInt8,
        T::UInt16 => Type::UInt16,
        T::UInt32 => Type::UInt32,
        T::UInt64 => Type::UInt64,
        T::Float16 => Type::Float16,
        T::Float32 => Type::Float32,
        T::Float64 => Type::Float64,
        T::Utf8 => Type::Utf8,
        T::LargeUtf8 => Type::LargeUtf8,
        T::Utf8View => Type::Utf8View,
        T::Binary => Type::Binary,
        T::LargeBinary => Type::LargeBinary,
        T::BinaryView => Type::BinaryView,
        T::FixedSizeBinary(size) => Type::FixedSizeBinary(*size),
        T::Date32 => Type::Date32,
        T::Date64 => Type::Date64,
        T::Time32(unit) => Type::Time32(unit_from(*unit)),
        T::Time64(unit) => Type::Time64(unit_from(*unit)),
        T::Timestamp(unit, zone) => Type::Timestamp(unit_from(*unit), zone.as_ref().map(ToString::to_string)),
        T::Duration(unit) => Type::Duration(unit_from(*unit)),
        T::Decimal32(p, s) => Type::Decimal32(*p, *s),
        T::Decimal64(p, s) => Type::Decimal64(*p, *s),
        T::Decimal128(p, s) => Type::Decimal128(*p, *s),
        T::Decimal256(p, s) => Type::Decimal256(*p, *s),
        T::List(item) => Type::List(member_from(item)?),
        T::LargeList(item) => Type::LargeList(member_from(item)?),
        T::FixedSizeList(item, size) => Type::FixedSizeList(member_from(item)?, *size),
        T::Struct(members) => {
            Type::Struct(members.iter().map(|member| member_from(member).map(|m| *m)).collect::<Option<_>>()?)
        }
        T::Map(entries, sorted) => Type::Map(member_from(entries)?, *sorted),
        _ => return None,
    })
}

fn to_arrow(data_type: Type) -> DataType {
    use DataType as T;
    match data_type {
        Type::Boolean => T::Boolean,
        Type::Int8 => T::Int8,
        Type::Int16 => T::Int16,
        Type::Int32 => T::Int32,
        Type::Int64 => T::Int64,
        Type::UInt8 => T::UInt8,
        Type::UInt16 => T::UInt16,
        Type::UInt32 => T::UInt32,
        Type::UInt64 => T::UInt64,
        Type::Float16 => T::Float16,
        Type::Float32 => T::Float32,
        Type::Float64 => T::Float64,
        Type::Utf8 => T::Utf8,
        Type::LargeUtf8 => T::LargeUtf8,
        Type::Utf8View => T::Utf8View,
        Type::Binary => T::Binary,
        Type::LargeBinary => T::LargeBinary,
        Type::BinaryView => T::BinaryView,
        Type::FixedSizeBinary(size) => T::FixedSizeBinary(size),
        Type::Date32 => T::Date32,
        Type::Date64 => T::Date64,
        Type::Time32(unit) => T::Time32(unit_to(unit)),
        Type::Time64(unit) => T::Time64(unit_to(unit)),
        Type::Timestamp(unit, zone) => T::Timestamp(unit_to(unit), zone.map(Into::into)),
        Type::Duration(unit) => T::Duration(unit_to(unit)),
        Type::Decimal32(p, s) => T::Decimal32(p, s),
        Type::Decimal64(p, s) => T::Decimal64(p, s),
        Type::Decimal128(p, s) => T::Decimal128(p, s),
        Type::Decimal256(p, s) => T::Decimal256(p, s),
        Type::List(item) => T::List(member_to(*item)),
        Type::LargeList(item) => T::LargeList(member_to(*item)),
        Type::FixedSizeList(item, size) => T::FixedSizeList(member_to(*item), size),
        Type::Struct(members) => T::Struct(members.into_iter().map(member_to).collect()),
        Type::Map(entries, sorted) => T::Map(member_to(*entries), sorted),
    }
}

fn member_from(field: &FieldRef) -> Option<Box<Member>> {
    Some(Box::new(Member {
        name: field.name().clone(),
        data_type: from_arrow(field.data_type())?,
        nullable: field.is_nullable(),
    }))
}

fn member_to(member: Member) -> FieldRef {
    Arc::new(Field::new(member.name, to_arrow(member.data_type), member.nullable))
}

fn unit_from(unit: TimeUnit) -> Unit {
    match unit {
        TimeUnit::Second => Unit::Second,
        TimeUnit::Millisecond => Unit::Millisecond,
        TimeUnit::Microsecond => Unit::Microsecond,
        TimeUnit::Nanosecond => Unit::Nanosecond,
    }
}

fn unit_to(unit: Unit) -> TimeUnit {
    match unit {
        Unit::Second => TimeUnit::Second,
        Unit::Millisecond => TimeUnit::Millisecond,
        Unit::Microsecond => TimeUnit::Microsecond,
        Unit::Nanosecond => TimeUnit::Nanosecond,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_back_from_a_comment() {
        let member = |name: &str, data_type| Field::new(name, data_type, true);
        let types = [
            DataType::Timestamp(TimeUnit::Nanosecond, Some("Europe/Berlin".into())),
            DataType::FixedSizeList(Arc::new(member("item", DataType::Float32)), 3),
            DataType::Struct(vec![member("a", DataType::UInt64), member("b", DataType::Decimal256(50, -2))].into()),
        ];
        for data_type in types {
            assert_eq!(write(&data_type).and_then(|text| read(&text)), Some(data_type));
        }
    }

    #[test]
    fn the_comment_of_a_table_keeps_other_text() {
        let mut backup = Backup::default();
        backup.set("a", 1, &DataType::UInt8);
        let comment = backup.write("Videos\nof the lab");
        assert!(comment.starts_with("Videos\nof the lab\n{"), "{comment}");
        let mut backup = Backup::read(&comment);
        assert_eq!(backup.find("a", 1), Some(DataType::UInt8));
        assert_eq!(backup.find("a", 2), None);
        backup.set("b", 2, &DataType::UInt16);
        let comment = backup.write(&comment);
        assert_eq!(comment.lines().count(), 3);
        assert_eq!(Backup::read(&comment).find("b", 2), Some(DataType::UInt16));
    }

    #[test]
    fn unknown_types_are_not_read() {
        for arrow in [
            "{\"fixed_size_binary\":-1}",
            "{\"decimal128\":[200,0]}",
            "{\"time32\":\"ns\"}",
            "{\"fixed_size_list\":[{\"name\":\"i\",\"type\":\"int8\"},-3]}",
            "{\"map\":[{\"name\":\"e\",\"type\":\"int8\"},false]}",
        ] {
            assert_eq!(read(&format!("{{\"arrow\":{arrow}}}")), None, "{arrow}");
        }
    }

    #[test]
    fn other_comments_are_ignored() {
        assert_eq!(read("the size in bytes"), None);
        assert_eq!(read("{\"owner\":\"vision\"}"), None);
    }
}
