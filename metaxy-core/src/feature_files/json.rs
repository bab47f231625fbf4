//! Parses JSON.

use std::collections::HashSet;

use serde::de::IgnoredAny;

use super::item::{Entry, Item, MAX_DEPTH, Value};
use super::notes::Notes;
use super::position::Positions;

/// Parses a text. What cannot be read is noted.
pub(super) fn parse(positions: &Positions, notes: &mut Notes) -> Option<Item> {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(positions.text()) {
        return notes.refuse(positions.byte(error.line(), error.column()), not_json(&error));
    }
    match (Parser { text: positions.text(), at: 0 }).item(0) {
        Ok(item) => Some(item),
        Err(refusal) => notes.refuse(refusal.at, refusal.reason),
    }
}

/// Reads a text that is known to be JSON.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

struct Refusal {
    at: usize,
    reason: String,
}

impl<'a> Parser<'a> {
    fn item(&mut self, depth: usize) -> Result<Item, Refusal> {
        let at = self.skip_space();
        if depth > MAX_DEPTH {
            return Err(Refusal { at, reason: format!("this is nested deeper than {MAX_DEPTH} levels") });
        }
        let value = match self.next() {
            Some('{') => Value::Table(self.entries(depth)?),
            Some('[') => Value::List(self.items(depth)?),
            Some('"') => Value::Text(self.string()?),
            _ => self.word()?,
        };
        Ok(Item { at, value })
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Item>, Refusal> {
        self.at += 1;
        let mut items = Vec::new();
        while !self.closes(']') {
            items.push(self.item(depth + 1)?);
            self.skip_comma();
        }
        Ok(items)
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<Entry>, Refusal> {
        self.at += 1;
        let (mut entries, mut keys) = (Vec::new(), HashSet::new());
        while !self.closes('}') {
            let at = self.at;
            let key = self.string()?;
            if !keys.insert(key.clone()) {
                return Err(Refusal { at, reason: format!("the key `{key}` is given twice") });
            }
            self.skip_space();
            self.at += 1;
            entries.push(Entry { key, at, item: self.item(depth + 1)? });
            self.skip_comma();
        }
        Ok(entries)
    }

    /// Reads a string, which starts here.
    fn string(&mut self) -> Result<String, Refusal> {
        let (start, mut escaped) = (self.at, false);
        let after = self.rest().char_indices().skip(1).find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        self.at = after.map_or(self.text.len(), |(length, _)| start + length + 1);
        self.decode(start)
    }

    /// Reads a number, a truth value or null.
    fn word(&mut self) -> Result<Value, Refusal> {
        let start = self.at;
        let ends = |c: char| c.is_ascii_whitespace() || matches!(c, ',' | ']' | '}');
        self.at += self.rest().find(ends).unwrap_or(self.rest().len());
        let literal = self.text.get(start..self.at).unwrap_or_default();
        let value = match self.decode(start)? {
            serde_json::Value::Bool(value) => Value::Bool(value),
            // Python keeps such a number as it is; here its last digits would be lost.
            serde_json::Value::Number(number) if number.is_f64() && !literal.contains(['.', 'e', 'E']) => {
                Value::Foreign("a number that does not fit into 64 bits")
            }
            serde_json::Value::Number(number) => Value::Number(number),
            _ => Value::Null,
        };
        Ok(value)
    }

    /// Decodes the text from a position to here.
    fn decode<T: serde::de::DeserializeOwned>(&self, start: usize) -> Result<T, Refusal> {
        let literal = self.text.get(start..self.at).unwrap_or_default();
        serde_json::from_str(literal).map_err(|error| Refusal { at: start, reason: not_json(&error) })
    }

    /// Returns whether the list or table ends here, and steps over its end.
    fn closes(&mut self, end: char) -> bool {
        self.skip_space();
        let closes = self.next().is_none_or(|next| next == end);
        self.at = (self.at + usize::from(closes)).min(self.text.len());
        closes
    }

    fn skip_comma(&mut self) {
        self.skip_space();
        if self.next() == Some(',') {
            self.at += 1;
        }
    }

    fn skip_space(&mut self) -> usize {
        self.at = self.text.len() - self.rest().trim_start().len();
        self.at
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn next(&self) -> Option<char> {
        self.rest().chars().next()
    }
}

/// Returns the reason without its place, which every problem has.
fn not_json(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let reason = message.rsplit_once(" at line ").map_or(message.as_str(), |(reason, _)| reason);
    format!("this is not JSON: {reason}")
}
