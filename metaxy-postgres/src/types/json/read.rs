//! Reads JSON as Arrow values.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryBuilder, BooleanArray, BooleanBufferBuilder, FixedSizeListArray, LargeListArray,
    ListArray, MapArray, StringArray, StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, Fields};
use arrow::error::ArrowError;

use super::count_type;
use super::parse::Parser;

/// Collects JSON values of one type.
pub(in crate::types) enum Reader {
    /// Numbers and strings as text, which is cast to the type at the end.
    Text(StringBuilder, DataType),
    Bytes(BinaryBuilder, DataType),
    Struct {
        members: Vec<(FieldRef, Reader)>,
        nulls: BooleanBufferBuilder,
    },
    List {
        item: Box<Reader>,
        ends: Vec<usize>,
        nulls: BooleanBufferBuilder,
        data_type: DataType,
    },
    Map {
        key: Box<Reader>,
        value: Box<Reader>,
        ends: Vec<usize>,
        nulls: BooleanBufferBuilder,
        data_type: DataType,
    },
}

impl Reader {
    pub(in crate::types) fn new(data_type: &DataType) -> Self {
        let nulls = || BooleanBufferBuilder::new(0);
        match data_type {
            DataType::Struct(members) => Self::Struct {
                members: members.iter().map(|member| (member.clone(), Self::new(member.data_type()))).collect(),
                nulls: nulls(),
            },
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => Self::List {
                item: Box::new(Self::new(item.data_type())),
                ends: vec![0],
                nulls: nulls(),
                data_type: data_type.clone(),
            },
            DataType::Map(entries, _) => {
                let types = match entries.data_type() {
                    DataType::Struct(pair) => pair.iter().map(|field| field.data_type().clone()).collect(),
                    _ => Vec::new(),
                };
                let part = |index: usize| Box::new(Self::new(types.get(index).unwrap_or(&DataType::Utf8)));
                Self::Map { key: part(0), value: part(1), ends: vec![0], nulls: nulls(), data_type: data_type.clone() }
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Self::Bytes(BinaryBuilder::new(), data_type.clone())
            }
            _ => Self::Text(StringBuilder::new(), data_type.clone()),
        }
    }

    /// Reads a whole document.
    pub(in crate::types) fn read(&mut self, document: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(document).map_err(|_| "it holds JSON that is not UTF-8".to_owned())?;
        let mut parser = Parser::new(text);
        self.value(&mut parser)?;
        parser.end()
    }

    fn value(&mut self, parser: &mut Parser<'_>) -> Result<(), String> {
        if parser.null() {
            self.null();
            return Ok(());
        }
        match self {
            Self::Text(builder, _) => parser.scalar(builder),
            Self::Bytes(builder, _) => {
                let mut text = StringBuilder::new();
                parser.scalar(&mut text)?;
                builder.append_value(bytes_of(text.finish().value(0))?);
                Ok(())
            }
            Self::Struct { members, nulls } => read_struct(parser, members, nulls),
            Self::List { item, ends, nulls, .. } => {
                let mut count = ends.last().copied().unwrap_or_default();
                parser.list(|parser| {
                    count += 1;
                    item.value(parser)
                })?;
                ends.push(count);
                nulls.append(true);
                Ok(())
            }
            Self::Map { key, value, ends, nulls, .. } => {
                let mut count = ends.last().copied().unwrap_or_default();
                parser.entries(|parser, separator| {
                    count += 1;
                    key.value(parser)?;
                    parser.expect(separator)?;
                    value.value(parser)
                })?;
                ends.push(count);
                nulls.append(true);
                Ok(())
            }
        }
    }

    pub(in crate::types) fn null(&mut self) {
        match self {
            Self::Text(builder, _) => builder.append_null(),
            Self::Bytes(builder, _) => builder.append_null(),
            Self::Struct { members, nulls } => {
                members.iter_mut().for_each(|(_, reader)| reader.null());
                nulls.append(false);
            }
            Self::List { item, ends, nulls, data_type } => {
                let mut end = ends.last().copied().unwrap_or_default();
                if let DataType::FixedSizeList(_, size) = data_type {
                    (0..*size).for_each(|_| item.null());
                    end += *size as usize;
                }
                ends.push(end);
                nulls.append(false);
            }
            Self::Map { ends, nulls, .. } => {
                ends.push(ends.last().copied().unwrap_or_default());
                nulls.append(false);
            }
        }
    }

    /// Returns the values read since the last call.
    pub(in crate::types) fn finish(&mut self) -> Result<ArrayRef, String> {
        let text = |error: ArrowError| error.to_string();
        match self {
            Self::Text(builder, data_type) => leaf(builder.finish(), data_type).map_err(text),
            Self::Bytes(builder, data_type) => {
                let array: ArrayRef = Arc::new(builder.finish());
                cast(&array, data_type).map_err(text)
            }
            Self::Struct { members, nulls } => {
                let validity = NullBuffer::new(nulls.finish());
                let arrays = members.iter_mut().map(|(_, reader)| reader.finish()).collect::<Result<Vec<_>, _>>()?;
                let fields: Fields = members.iter().map(|(field, _)| field.clone()).collect();
                let rows = validity.len();
                let array = StructArray::try_new_with_length(fields, arrays, Some(validity), rows).map_err(text)?;
                Ok(Arc::new(array))
            }
            Self::List { item, ends, nulls, data_type } => {
                let ends = std::mem::replace(ends, vec![0]);
                list_array(item.finish()?, &ends, NullBuffer::new(nulls.finish()), data_type)
            }
            Self::Map { key, value, ends, nulls, data_type } => {
                let DataType::Map(entries, sorted) = data_type else { return Err("not a map".to_owned()) };
                let DataType::Struct(pair) = entries.data_type() else { return Err("not a map".to_owned()) };
                let items =
                    StructArray::try_new(pair.clone(), vec![key.finish()?, value.finish()?], None).map_err(text)?;
                let ends = std::mem::replace(ends, vec![0]);
                let nulls = Some(NullBuffer::new(nulls.finish()));
                let array = MapArray::try_new(entries.clone(), offsets(&ends)?, items, nulls, *sorted).map_err(text)?;
                Ok(Arc::new(array))
            }
        }
    }
}

fn read_struct(
    parser: &mut Parser<'_>,
    members: &mut [(FieldRef, Reader)],
    nulls: &mut BooleanBufferBuilder,
) -> Result<(), String> {
    let mut seen: Vec<bool> = vec![false; members.len()];
    parser.object(|parser, key| {
        let found = members.iter().position(|(member, _)| *member.name() == *key);
        match found.and_then(|found| Some((seen.get_mut(found)?, members.get_mut(found)?))) {
            Some((seen, (_, reader))) if !*seen => {
                *seen = true;
                reader.value(parser)
            }
            None if parser.null() => Ok(()),
            _ => Err(format!(
                "it holds a value with the member `{key}`, which is not in the type of the column's comment; another \
                 program has written it. Remove the comment to read the column without that type"
            )),
        }
    })?;
    for ((_, reader), _) in members.iter_mut().zip(seen).filter(|(_, seen)| !seen) {
        reader.null();
    }
    nulls.append(true);
    Ok(())
}

/// Casts text to values of a type.
fn leaf(text: StringArray, data_type: &DataType) -> arrow::error::Result<ArrayRef> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let text: ArrayRef = Arc::new(text);
    match data_type {
        DataType::Utf8 => Ok(text),
        DataType::Boolean => {
            let values = text.as_string::<i32>().iter().map(|value| value.map(|value| value == "true"));
            Ok(Arc::new(values.collect::<BooleanArray>()))
        }
        DataType::Float16 => {
            cast_with_options(&cast_with_options(&text, &DataType::Float32, &strict)?, data_type, &strict)
        }
        other => match count_type(other) {
            Some(count) => cast_with_options(&cast_with_options(&text, &count, &strict)?, data_type, &strict),
            None => cast_with_options(&text, data_type, &strict),
        },
    }
}

/// Builds a list column from its items.
pub(in crate::types) fn list_array(
    items: ArrayRef,
    ends: &[usize],
    nulls: NullBuffer,
    data_type: &DataType,
) -> Result<ArrayRef, String> {
    let text = |error: ArrowError| error.to_string();
    Ok(match data_type {
        DataType::List(field) => {
            Arc::new(ListArray::try_new(field.clone(), offsets(ends)?, items, Some(nulls)).map_err(text)?)
        }
        DataType::LargeList(field) => {
            let offsets = OffsetBuffer::new(ends.iter().map(|end| *end as i64).collect());
            Arc::new(LargeListArray::try_new(field.clone(), offsets, items, Some(nulls)).map_err(text)?)
        }
        DataType::FixedSizeList(field, size) => {
            let whole = ends.windows(2).all(|pair| pair[1] - pair[0] == *size as usize);
            if !whole {
                return Err(format!("it holds a list without exactly {size} items"));
            }
            Arc::new(FixedSizeListArray::try_new(field.clone(), *size, items, Some(nulls)).map_err(text)?)
        }
        other => return Err(format!("{other} is not a list")),
    })
}

fn offsets(ends: &[usize]) -> Result<OffsetBuffer<i32>, String> {
    if ends.last().is_some_and(|end| i32::try_from(*end).is_err()) {
        return Err("it holds too many list items in a batch for 32-bit offsets".to_owned());
    }
    Ok(OffsetBuffer::new(ends.iter().map(|end| *end as i32).collect()))
}

fn bytes_of(text: &str) -> Result<Vec<u8>, String> {
    let bad = || "it holds bytes that are not written as `\\x` and hex digits".to_owned();
    let digits =
        text.strip_prefix("\\x").filter(|digits| digits.len() % 2 == 0 && digits.is_ascii()).ok_or_else(bad)?;
    (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|_| bad())).collect()
}
