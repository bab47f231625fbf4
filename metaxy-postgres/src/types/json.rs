//! Nested values as JSON, the text that `jsonb` travels in.
//!
//! Numbers, strings, booleans, lists and structs are what they look like. Floats that JSON cannot write (`NaN`,
//! infinities, `-0.0`) and decimals are strings, times are counts in the unit of their type, bytes are `"\x…"` in hex,
//! maps are lists of `[key, value]`, so that their order stays.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, BooleanBufferBuilder, FixedSizeListArray, LargeListArray,
    ListArray, MapArray, StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, Fields, Float16Type, Float32Type, Float64Type};

/// What is wrong with a text that PostgreSQL cannot hold.
pub(super) const NUL: &str = "it holds a text with a NUL character, which PostgreSQL cannot store; remove or escape it";

/// Whether values of a type can be written as JSON and read back.
pub(super) fn check(data_type: &DataType) -> Result<(), String> {
    match data_type {
        DataType::Struct(members) => {
            let mut seen = std::collections::HashSet::new();
            if let Some(twice) = members.iter().find(|member| !seen.insert(member.name())) {
                return Err(format!("two of its members are called `{}`; rename one", twice.name()));
            }
            if let Some(name) = members.iter().map(|member| member.name()).find(|name| name.contains('\0')) {
                return Err(format!("the name of its member {name:?} holds a NUL character, which PostgreSQL refuses"));
            }
            members.iter().try_for_each(|member| check(member.data_type()))
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => check(item.data_type()),
        DataType::Map(entries, _) => check(entries.data_type()),
        DataType::Decimal32(_, s)
        | DataType::Decimal64(_, s)
        | DataType::Decimal128(_, s)
        | DataType::Decimal256(_, s)
            if *s < 0 =>
        {
            Err("decimals of a negative scale cannot be nested; cast it to scale 0".to_owned())
        }
        other if super::scalar_storage(other).is_some() => Ok(()),
        other => Err(format!("a nested {other} has no form in jsonb; cast it")),
    }
}

/// The number that a temporal type counts in.
fn count_type(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Date32 | DataType::Time32(_) => Some(DataType::Int32),
        DataType::Date64 | DataType::Time64(_) | DataType::Timestamp(_, _) | DataType::Duration(_) => {
            Some(DataType::Int64)
        }
        _ => None,
    }
}

// ---- writing ---------------------------------------------------------------------------------------------------------

type WriteValue = Box<dyn Fn(usize, &mut Vec<u8>) -> Result<(), String> + Send>;

/// Writes the values of one array.
pub(super) struct Writer {
    nulls: Option<NullBuffer>,
    value: WriteValue,
}

impl Writer {
    pub(super) fn new(array: &ArrayRef) -> Result<Self, String> {
        let text = |error: arrow::error::ArrowError| error.to_string();
        let array = match array.data_type() {
            DataType::Dictionary(_, value) => cast(array, value).map_err(text)?,
            other => match count_type(other) {
                Some(count) => cast(array, &count).map_err(text)?,
                None => array.clone(),
            },
        };
        Ok(Self { nulls: array.logical_nulls(), value: value_writer(&array)? })
    }

    pub(super) fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out.extend(b"null");
            return Ok(());
        }
        (self.value)(row, out)
    }
}

fn value_writer(array: &ArrayRef) -> Result<WriteValue, String> {
    Ok(match array.data_type() {
        DataType::Struct(members) => struct_writer(array.as_struct(), members)?,
        DataType::List(_) => {
            let list = array.as_list::<i32>().clone();
            let items = Writer::new(list.values())?;
            list_writer(items, move |row| (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>().clone();
            let items = Writer::new(list.values())?;
            list_writer(items, move |row| (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize))
        }
        DataType::FixedSizeList(_, size) => {
            let (items, size) = (Writer::new(array.as_fixed_size_list().values())?, *size as usize);
            list_writer(items, move |row| (row * size, (row + 1) * size))
        }
        DataType::Map(_, _) => map_writer(array.as_map().clone())?,
        DataType::Boolean => {
            let array = array.as_boolean().clone();
            Box::new(move |row, out| {
                out.extend(if array.value(row) { &b"true"[..] } else { b"false" });
                Ok(())
            })
        }
        DataType::Float16 => {
            let array = array.as_primitive::<Float16Type>().clone();
            Box::new(move |row, out| write_float(f32::from(array.value(row)), out))
        }
        DataType::Float32 => {
            let array = array.as_primitive::<Float32Type>().clone();
            Box::new(move |row, out| write_float(array.value(row), out))
        }
        DataType::Float64 => {
            let array = array.as_primitive::<Float64Type>().clone();
            Box::new(move |row, out| write_float(array.value(row), out))
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let array = cast(array, &DataType::LargeBinary).map_err(|error| error.to_string())?;
            Box::new(move |row, out| {
                out.extend(b"\"\\\\x");
                array.as_binary::<i64>().value(row).iter().for_each(|byte| {
                    out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
                });
                out.push(b'"');
                Ok(())
            })
        }
        other => {
            let is_number = other.is_integer();
            let array = cast(array, &DataType::LargeUtf8).map_err(|error| error.to_string())?;
            Box::new(move |row, out| {
                let text = array.as_string::<i64>().value(row);
                if is_number {
                    out.extend(text.as_bytes());
                    return Ok(());
                }
                write_string(text, out)
            })
        }
    })
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn write_float<F: Copy + Into<f64> + std::fmt::Debug>(value: F, out: &mut Vec<u8>) -> Result<(), String> {
    let wide: f64 = value.into();
    let plain = wide.is_finite() && !(wide == 0.0 && wide.is_sign_negative());
    let mut text = String::new();
    write!(text, "{value:?}").map_err(|error| error.to_string())?;
    out.extend(if plain { text } else { format!("\"{text}\"") }.as_bytes());
    Ok(())
}

fn write_string(text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    if text.contains('\0') {
        return Err(NUL.to_owned());
    }
    out.push(b'"');
    let mut plain = 0;
    let bytes = text.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend(&bytes[plain..index]);
        plain = index + 1;
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            _ => out.extend(format!("\\u{byte:04x}").as_bytes()),
        }
    }
    out.extend(&bytes[plain..]);
    out.push(b'"');
    Ok(())
}

fn struct_writer(array: &StructArray, members: &Fields) -> Result<WriteValue, String> {
    let mut parts = Vec::with_capacity(members.len());
    for (number, (member, column)) in members.iter().zip(array.columns()).enumerate() {
        let mut key = Vec::from(if number == 0 { &b"{"[..] } else { b"," });
        write_string(member.name(), &mut key)?;
        key.push(b':');
        parts.push((key, Writer::new(column)?));
    }
    Ok(Box::new(move |row, out| {
        for (key, writer) in &parts {
            out.extend(key);
            writer.write(row, out)?;
        }
        out.extend(if parts.is_empty() { &b"{}"[..] } else { b"}" });
        Ok(())
    }))
}

fn list_writer(items: Writer, range: impl Fn(usize) -> (usize, usize) + Send + 'static) -> WriteValue {
    Box::new(move |row, out| {
        let (start, end) = range(row);
        out.push(b'[');
        for item in start..end {
            if item > start {
                out.push(b',');
            }
            items.write(item, out)?;
        }
        out.push(b']');
        Ok(())
    })
}

fn map_writer(map: MapArray) -> Result<WriteValue, String> {
    let (keys, values) = (Writer::new(map.keys())?, Writer::new(map.values())?);
    Ok(Box::new(move |row, out| {
        out.push(b'[');
        for (number, entry) in (map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize).enumerate() {
            out.extend(if number == 0 { &b"["[..] } else { b",[" });
            keys.write(entry, out)?;
            out.push(b',');
            values.write(entry, out)?;
            out.push(b']');
        }
        out.push(b']');
        Ok(())
    }))
}

/// Writes a map of strings as an object, which is what other programs expect of a by-field column.
pub(super) fn object_writer(map: &MapArray) -> Result<Writer, String> {
    let (keys, values) = (Writer::new(map.keys())?, Writer::new(map.values())?);
    let (nulls, map) = (map.nulls().cloned(), map.clone());
    let value: WriteValue = Box::new(move |row, out| {
        out.push(b'{');
        for (number, entry) in (map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize).enumerate() {
            if number > 0 {
                out.push(b',');
            }
            keys.write(entry, out)?;
            out.push(b':');
            values.write(entry, out)?;
        }
        out.push(b'}');
        Ok(())
    });
    Ok(Writer { nulls, value })
}

// ---- reading ---------------------------------------------------------------------------------------------------------

/// Collects JSON values of one type.
pub(super) enum Reader {
    /// Numbers and strings, as their text; cast to the type at the end.
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
    pub(super) fn new(data_type: &DataType) -> Self {
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

    /// Reads one whole document.
    pub(super) fn read(&mut self, document: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(document).map_err(|_| "it holds JSON that is no UTF-8".to_owned())?;
        let mut parser = Parser { text, at: 0 };
        self.value(&mut parser)?;
        parser.space();
        if parser.at == text.len() { Ok(()) } else { Err(parser.unexpected("the end")) }
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

    pub(super) fn null(&mut self) {
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

    /// The values read since the last call.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, String> {
        let text = |error: arrow::error::ArrowError| error.to_string();
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
                "it holds a value with the member `{key}`, which the comment of the column does not name; another program \
                 has written it. Remove the comment to read the column as it is"
            )),
        }
    })?;
    for ((_, reader), _) in members.iter_mut().zip(seen).filter(|(_, seen)| !seen) {
        reader.null();
    }
    nulls.append(true);
    Ok(())
}

/// Text as values of a type.
fn leaf(text: arrow::array::StringArray, data_type: &DataType) -> arrow::error::Result<ArrayRef> {
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

/// A list column from its items.
pub(super) fn list_array(
    items: ArrayRef,
    ends: &[usize],
    nulls: NullBuffer,
    data_type: &DataType,
) -> Result<ArrayRef, String> {
    let text = |error: arrow::error::ArrowError| error.to_string();
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
                return Err(format!("it holds a list that has not {size} items"));
            }
            Arc::new(FixedSizeListArray::try_new(field.clone(), *size, items, Some(nulls)).map_err(text)?)
        }
        other => return Err(format!("{other} is no list")),
    })
}

fn offsets(ends: &[usize]) -> Result<OffsetBuffer<i32>, String> {
    if ends.last().is_some_and(|end| i32::try_from(*end).is_err()) {
        return Err("it holds more list items in a batch than 32-bit offsets reach".to_owned());
    }
    Ok(OffsetBuffer::new(ends.iter().map(|end| *end as i32).collect()))
}

fn bytes_of(text: &str) -> Result<Vec<u8>, String> {
    let bad = || "it holds bytes that are not written as `\\x` and hex digits".to_owned();
    let digits =
        text.strip_prefix("\\x").filter(|digits| digits.len() % 2 == 0 && digits.is_ascii()).ok_or_else(bad)?;
    (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|_| bad())).collect()
}

/// A place in a JSON document, which the server has checked already.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn unexpected(&self, wanted: &str) -> String {
        format!("it holds JSON that does not fit its type: {wanted} was expected at byte {} of the value", self.at)
    }

    /// Takes a character if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.take(byte) { Ok(()) } else { Err(self.unexpected(&format!("`{}`", char::from(byte)))) }
    }

    fn null(&mut self) -> bool {
        self.space();
        let found = self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(b"null"));
        self.at += if found { 4 } else { 0 };
        found
    }

    /// Appends a string's content, or the text of a number, `true` or `false`.
    fn scalar(&mut self, out: &mut StringBuilder) -> Result<(), String> {
        self.space();
        if self.peek() == Some(b'"') {
            let text = self.string()?;
            out.append_value(text);
            return Ok(());
        }
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
            self.at += 1;
        }
        if start == self.at {
            return Err(self.unexpected("a single value"));
        }
        out.append_value(&self.text[start..self.at]);
        Ok(())
    }

    fn string(&mut self) -> Result<std::borrow::Cow<'a, str>, String> {
        self.expect(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 2;
                }
                Some(_) => self.at += 1,
                None => return Err(self.unexpected("a closing quote")),
            }
        }
        let end = self.at;
        self.at += 1;
        if escaped {
            let quoted = self.text.get(start - 1..end + 1).unwrap_or_default();
            return serde_json::from_str(quoted).map(std::borrow::Cow::Owned).map_err(|_| self.unexpected("a string"));
        }
        Ok(std::borrow::Cow::Borrowed(self.text.get(start..end).unwrap_or_default()))
    }

    fn object(&mut self, mut member: impl FnMut(&mut Self, &str) -> Result<(), String>) -> Result<(), String> {
        self.expect(b'{')?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.space();
            let key = self.string()?;
            self.expect(b':')?;
            member(self, &key)?;
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    fn list(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), String>) -> Result<(), String> {
        self.expect(b'[')?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.take(b']') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    /// The entries of a map, which is a list of pairs or an object; `entry` reads the key, the separator and the value.
    fn entries(&mut self, mut entry: impl FnMut(&mut Self, u8) -> Result<(), String>) -> Result<(), String> {
        self.space();
        if self.peek() == Some(b'[') {
            return self.list(|parser| {
                parser.expect(b'[')?;
                entry(parser, b',')?;
                parser.expect(b']')
            });
        }
        self.expect(b'{')?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            entry(self, b':')?;
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }
}
