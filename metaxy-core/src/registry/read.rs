//! Reads settings into serde structs, with error messages in the terms of the configuration.
//!
//! A text may be given for a number or a boolean (as in `port = "${PGPORT}"`), and JSON for an array or table, because
//! the values of environment variables are text. `8.0` is read as a whole number, and 0 and 1 as booleans: the Python
//! package does the same, so that both can read one file.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Expected, IntoDeserializer, Unexpected, Visitor};
use toml::Value;

use crate::error::nearest;

/// An invalid value, with the path of keys that leads to it; indices are written `[0]`.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) path: Vec<String>,
    pub(crate) reason: String,
}

/// Reads a value.
pub(crate) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Problem> {
    T::deserialize(Reader(value))
}

/// Reads a table.
pub(crate) fn read_table<T: DeserializeOwned>(table: &toml::Table) -> Result<T, Problem> {
    T::deserialize(de::value::MapAccessDeserializer::new(Entries { entries: table.iter(), current: None }))
}

impl Problem {
    fn new(reason: impl Into<String>) -> Self {
        Self { path: Vec::new(), reason: reason.into() }
    }

    fn inside(mut self, key: impl Into<String>) -> Self {
        self.path.insert(0, key.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Problem {}

// No message quotes a given string: it may be a secret.
impl de::Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {}, found {}", wanted(expected), describe(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match found {
            Unexpected::Signed(_) | Unexpected::Unsigned(_) | Unexpected::Float(_) => {
                Self::new(format!("{} is out of range; expected {}", describe(found), wanted(expected)))
            }
            other => Self::invalid_type(other, expected),
        }
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {}, found {length} item(s)", wanted(expected)))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(unknown("unknown value", variant, expected, "use one of"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(unknown("unknown key", field, expected, "known keys:"))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("`{field}` is missing"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("`{field}` is given twice"))
    }
}

fn unknown(what: &str, given: &str, known: &[&str], list: &str) -> String {
    match similar(&given.to_lowercase(), known) {
        Some(name) => format!("{what}; did you mean `{name}`?"),
        None if known.is_empty() => what.to_owned(),
        None => {
            format!("{what}; {list} {}", known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
        }
    }
}

/// Returns the name that starts like the given one, or else the nearest.
fn similar(given: &str, known: &[&str]) -> Option<String> {
    let begins_alike = |name: &&&str| given.len() >= 3 && (name.starts_with(given) || given.starts_with(*name));
    let mut alike = known.iter().filter(begins_alike);
    match (alike.next(), alike.next()) {
        (Some(only), None) => Some((*only).to_owned()),
        _ => nearest(given, known.iter().copied()),
    }
}

/// Translates the description of a Rust type into the terms of TOML.
fn wanted(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "u8" => format!("a whole number from 0 to {}", u8::MAX),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "u128" | "usize" => "a whole number of at least 0".to_owned(),
        unsigned if unsigned.starts_with("a nonzero u") => "a whole number of at least 1".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "an array".to_owned(),
        "a map" => "a table".to_owned(),
        "path string" => "a string".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other if other.starts_with("enum ") || other == "variant identifier" => "a string".to_owned(),
        _ => text,
    }
}

fn describe(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Float(value) => value.to_string(),
        Unexpected::Char(_) | Unexpected::Str(_) => "a string".to_owned(),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

#[derive(Clone, Copy)]
struct Reader<'a>(&'a Value);

impl<'a> Reader<'a> {
    /// Reads text as JSON if an array or table is expected.
    fn from_json(text: &str) -> Option<Value> {
        let text = text.trim();
        if !text.starts_with(['[', '{']) {
            return None;
        }
        toml_of_json(serde_json::from_str(text).ok()?)
    }

    /// Passes an array or table to the visitor. Nothing that is read borrows from the value, so that it may come from
    /// JSON text that lives only during this call.
    fn read_composite<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0.as_str().and_then(Self::from_json) {
            Some(value) => de::Deserializer::deserialize_any(Reader(&value), visitor),
            None => de::Deserializer::deserialize_any(self, visitor),
        }
    }

    fn text(self) -> Option<&'a str> {
        self.0.as_str().map(str::trim)
    }
}

/// Converts a JSON value into a TOML value. Keys of tables whose value is null are left out.
pub(crate) fn toml_of_json(json: serde_json::Value) -> Option<Value> {
    use serde_json::Value as Json;
    Some(match json {
        Json::Null => return None,
        Json::Bool(value) => Value::Boolean(value),
        Json::Number(number) => match number.as_i64() {
            Some(value) => Value::Integer(value),
            None => Value::Float(number.as_f64()?),
        },
        Json::String(text) => Value::String(text),
        Json::Array(items) => Value::Array(items.into_iter().map(toml_of_json).collect::<Option<_>>()?),
        Json::Object(map) => {
            Value::Table(map.into_iter().filter_map(|(key, value)| Some((key, toml_of_json(value)?))).collect())
        }
    })
}

/// Reads a boolean in the words that the Python package accepts.
fn truth(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "true" | "1" | "yes" | "y" | "on" | "t" => Some(true),
        "false" | "0" | "no" | "n" | "off" | "f" => Some(false),
        _ => None,
    }
}

/// Returns the whole number that a float is equal to.
#[allow(clippy::cast_possible_truncation)]
fn whole(value: f64) -> Option<i64> {
    // Beyond this a float is equal to several whole numbers.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i64)
}

impl Reader<'_> {
    fn as_truth(self) -> Option<bool> {
        match self.0 {
            Value::String(text) => truth(text.trim()),
            Value::Integer(0) => Some(false),
            Value::Integer(1) => Some(true),
            Value::Float(value) => Reader(&Value::Integer(whole(*value)?)).as_truth(),
            _ => None,
        }
    }

    fn as_whole(self) -> Option<i64> {
        match self.0 {
            Value::String(text) => text.trim().parse().ok(),
            Value::Float(value) => whole(*value),
            _ => None,
        }
    }

    fn as_number(self) -> Option<f64> {
        self.text().and_then(|text| text.parse().ok())
    }

    /// Passes a value of an unexpected type to the visitor, whose error names the expected type.
    fn refuse<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0 {
            Value::Datetime(_) => Err(de::Error::invalid_type(Unexpected::Other("a date"), &visitor)),
            _ => de::Deserializer::deserialize_any(self, visitor),
        }
    }
}

macro_rules! scalars {
    ($read:ident, $visit:ident: $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
            match self.$read() {
                Some(value) => visitor.$visit(value),
                None => self.refuse(visitor),
            }
        })*
    };
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0 {
            Value::String(text) => visitor.visit_str(text),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Datetime(value) => visitor.visit_string(value.to_string()),
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter(), index: 0 }),
            Value::Table(table) => visitor.visit_map(Entries { entries: table.iter(), current: None }),
        }
    }

    scalars!(as_truth, visit_bool: deserialize_bool);
    scalars!(as_whole, visit_i64: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128);
    scalars!(as_number, visit_f64: deserialize_f32 deserialize_f64);

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.read_composite(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.read_composite(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.read_composite(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(IntoDeserializer::<Problem>::into_deserializer(text.as_str())),
            Value::Table(table) => visitor
                .visit_enum(de::value::MapAccessDeserializer::new(Entries { entries: table.iter(), current: None })),
            _ => self.deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Value>,
    index: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Problem> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(Reader(item)).map(Some).map_err(|problem| problem.inside(format!("[{index}]")))
    }
}

struct Entries<'a> {
    entries: toml::map::Iter<'a, String, Value>,
    current: Option<(&'a String, &'a Value)>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        self.current = self.entries.next();
        let Some((key, _)) = self.current else { return Ok(None) };
        seed.deserialize(StrDeserializer::new(key)).map(Some).map_err(|problem: Problem| problem.inside(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        let Some((key, value)) = self.current else { return Err(Problem::new("a value is missing")) };
        seed.deserialize(Reader(value)).map_err(|problem| problem.inside(key))
    }
}
