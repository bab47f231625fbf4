//! Filters: SQL's WHERE, parsed and evaluated on one row, with three truth values (`None` is unknown).

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde_json::Value;

use super::Row;

/// A parsed filter.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Filter {
    Or(Box<Filter>, Box<Filter>),
    And(Box<Filter>, Box<Filter>),
    Not(Box<Filter>),
    Compare(Operand, &'static str, Operand),
    In(Operand, Vec<Operand>),
    IsNull(Operand),
    /// A boolean column or literal.
    Bare(Operand),
}

/// An operand with a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    Column(Vec<String>),
    Literal(Value),
}

impl Filter {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { tokens: tokens(text)?, at: 0 };
        let filter = parser.or()?;
        match parser.peek() {
            None => Ok(filter),
            Some(token) => Err(format!("unexpected {token:?} in `{text}`")),
        }
    }

    /// Returns whether a row passes.
    pub(super) fn passes(&self, row: &Row) -> bool {
        self.truth(row) == Some(true)
    }

    fn truth(&self, row: &Row) -> Option<bool> {
        match self {
            Self::Or(left, right) => match (left.truth(row), right.truth(row)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::And(left, right) => match (left.truth(row), right.truth(row)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Not(inner) => inner.truth(row).map(|truth| !truth),
            Self::IsNull(operand) => Some(operand.value(row).is_null()),
            Self::Bare(operand) => operand.value(row).as_bool(),
            Self::Compare(left, operator, right) => compare(&left.value(row), operator, &right.value(row)),
            Self::In(operand, list) => {
                let value = operand.value(row);
                let hits: Vec<Option<bool>> = list.iter().map(|item| compare(&value, "=", &item.value(row))).collect();
                if hits.contains(&Some(true)) {
                    Some(true)
                } else if hits.contains(&None) {
                    None
                } else {
                    Some(false)
                }
            }
        }
    }

    /// Returns the columns that it uses.
    pub(super) fn columns(&self) -> BTreeSet<String> {
        let of = |operand: &Operand| match operand {
            Operand::Column(path) => path.first().cloned(),
            Operand::Literal(_) => None,
        };
        match self {
            Self::Or(left, right) | Self::And(left, right) => &left.columns() | &right.columns(),
            Self::Not(inner) => inner.columns(),
            Self::IsNull(operand) | Self::Bare(operand) => of(operand).into_iter().collect(),
            Self::Compare(left, _, right) => of(left).into_iter().chain(of(right)).collect(),
            Self::In(operand, list) => of(operand).into_iter().chain(list.iter().filter_map(of)).collect(),
        }
    }
}

impl Operand {
    fn value(&self, row: &Row) -> Value {
        match self {
            Self::Literal(value) => value.clone(),
            Self::Column(path) => {
                let mut parts = path.iter();
                let mut value = parts.next().and_then(|name| row.get(name));
                for part in parts {
                    value = value.and_then(|value| value.get(part));
                }
                value.cloned().unwrap_or(Value::Null)
            }
        }
    }
}

fn compare(left: &Value, operator: &str, right: &Value) -> Option<bool> {
    let order = order(left, right)?;
    Some(match operator {
        "=" => order == Ordering::Equal,
        "<>" => order != Ordering::Equal,
        "<" => order == Ordering::Less,
        "<=" => order != Ordering::Greater,
        ">" => order == Ordering::Greater,
        _ => order != Ordering::Less,
    })
}

/// Compares two values of one kind; `None` if either is null.
pub(super) fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.as_bytes().cmp(right.as_bytes())),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
        },
        _ => None,
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Text(String),
    Number(String),
    Sign(&'static str),
}

const SIGNS: [&str; 13] = ["<=", ">=", "<>", "!=", "==", "=", "<", ">", "(", ")", ",", ".", "-"];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let taken = if first == '\'' || first == '"' {
            let (value, length) = quoted(rest, first)?;
            tokens.push(if first == '"' { Token::Quoted(value) } else { Token::Text(value) });
            length
        } else if first.is_ascii_digit() {
            let length = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            tokens.push(Token::Number(rest[..length].to_owned()));
            length
        } else if first.is_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..length].to_owned()));
            length
        } else {
            let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
            let sign = sign.ok_or_else(|| format!("unexpected `{first}` in `{text}`"))?;
            tokens.push(Token::Sign(sign));
            sign.len()
        };
        rest = rest[taken..].trim_start();
    }
    Ok(tokens)
}

/// Returns a quoted text at the start, and the number of its bytes; quotes inside it are doubled.
fn quoted(text: &str, quote: char) -> Result<(String, usize), String> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            value.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            value.push(quote);
        } else {
            return Ok((value, at + 1));
        }
    }
    Err(format!("`{text}` has no closing quote"))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(next)) if next.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(next)) if *next == sign);
        self.at += usize::from(found);
        found
    }

    fn or(&mut self) -> Result<Filter, String> {
        let mut left = self.and()?;
        while self.word("or") {
            left = Filter::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Filter, String> {
        let mut left = self.not()?;
        while self.word("and") {
            left = Filter::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Filter, String> {
        if self.word("not") {
            return Ok(Filter::Not(Box::new(self.not()?)));
        }
        if self.sign("(") {
            let inner = self.or()?;
            return if self.sign(")") { Ok(inner) } else { Err("a parenthesis is not closed".to_owned()) };
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Filter, String> {
        let left = self.operand()?;
        if self.word("is") {
            let negated = self.word("not");
            return if self.word("null") {
                Ok(negate(Filter::IsNull(left), negated))
            } else {
                Err("IS is followed by NULL or NOT NULL".to_owned())
            };
        }
        let negated = self.word("not");
        if self.word("in") {
            return Ok(negate(Filter::In(left, self.list()?), negated));
        }
        for (sign, operator) in
            [("=", "="), ("==", "="), ("<>", "<>"), ("!=", "<>"), ("<=", "<="), (">=", ">="), ("<", "<"), (">", ">")]
        {
            if self.sign(sign) {
                let right = self.operand()?;
                let null = Operand::Literal(Value::Null);
                return Ok(match operator {
                    "=" if right == null => Filter::IsNull(left),
                    "<>" if right == null => negate(Filter::IsNull(left), true),
                    "=" if left == null => Filter::IsNull(right),
                    "<>" if left == null => negate(Filter::IsNull(right), true),
                    _ => Filter::Compare(left, operator, right),
                });
            }
        }
        Ok(Filter::Bare(left))
    }

    fn list(&mut self) -> Result<Vec<Operand>, String> {
        let mut items = Vec::new();
        if !self.sign("(") {
            return Err("IN is followed by a list".to_owned());
        }
        loop {
            items.push(self.operand()?);
            if self.sign(")") {
                return Ok(items);
            }
            if !self.sign(",") {
                return Err("a list is not closed".to_owned());
            }
        }
    }

    fn operand(&mut self) -> Result<Operand, String> {
        let negative = self.sign("-");
        let token = self.peek().cloned().ok_or("the filter ends too early")?;
        self.at += 1;
        Ok(match token {
            Token::Text(text) => Operand::Literal(Value::String(text)),
            Token::Number(digits) => Operand::Literal(number(&digits, negative)?),
            Token::Word(word) if word.eq_ignore_ascii_case("true") => Operand::Literal(Value::Bool(true)),
            Token::Word(word) if word.eq_ignore_ascii_case("false") => Operand::Literal(Value::Bool(false)),
            Token::Word(word) if word.eq_ignore_ascii_case("null") => Operand::Literal(Value::Null),
            Token::Word(name) | Token::Quoted(name) => {
                let mut path = vec![name];
                while self.sign(".") {
                    match self.peek().cloned() {
                        Some(Token::Word(part) | Token::Quoted(part)) => path.push(part),
                        _ => return Err("a dot is followed by a name".to_owned()),
                    }
                    self.at += 1;
                }
                Operand::Column(path)
            }
            Token::Sign(sign) => return Err(format!("unexpected `{sign}`")),
        })
    }
}

fn negate(filter: Filter, negated: bool) -> Filter {
    if negated { Filter::Not(Box::new(filter)) } else { filter }
}

fn number(digits: &str, negative: bool) -> Result<Value, String> {
    let text = format!("{}{digits}", if negative { "-" } else { "" });
    if let Ok(whole) = text.parse::<i64>() {
        return Ok(Value::from(whole));
    }
    text.parse::<f64>().map(Value::from).map_err(|_| format!("`{text}` is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(filter: &str) -> Option<bool> {
        let row: Row = [("n", Value::from(3)), ("t", Value::from("it's")), ("b", Value::from(true))]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        Filter::parse(filter).unwrap().truth(&row)
    }

    #[test]
    fn three_values() {
        assert_eq!(truth("n > 2 AND t = 'it''s' AND b"), Some(true));
        assert_eq!(truth("x > 2 OR b"), Some(true));
        assert_eq!(truth("x > 2 AND b"), None);
        assert_eq!(truth("NOT x > 2"), None);
        assert_eq!(truth("x > 2 AND NOT b"), Some(false));
        assert_eq!(truth("x IN (1, 2)"), None);
        assert_eq!(truth("n NOT IN (1, -2.5)"), Some(true));
        assert_eq!(truth("x = NULL and n != null and not x is not null"), Some(true));
        assert_eq!(truth("(n <= 3.0 or b = false) and \"n\" <> 4"), Some(true));
    }

    #[test]
    fn nonsense() {
        for text in ["n >", "n > 2 2", "(n = 1", "t = 'x", "n IN ()", "n ; 1"] {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
    }
}
