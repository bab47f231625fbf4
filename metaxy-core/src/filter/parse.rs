//! The text of a filter. sqlparser cuts it into tokens with their places; the grammar here is small and our own, so
//! that every error points at the right token, long chains stay flat and deep nesting is refused.

use sqlparser::dialect::Dialect;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};

use crate::error::{Error, Result};

use super::display::RESERVED;
use super::literal::{Literal, parse_date, parse_float, parse_time, parse_timestamp};
use super::{Column, CompareOp, Filter, Node, Operand};

/// Parentheses inside parentheses; each level costs stack.
const MAX_DEPTH: usize = 100;

const GRAMMAR: &str =
    "a filter knows = != < <= > >=, AND, OR, NOT, IN, BETWEEN, IS NULL, parentheses, columns and values";

/// The words that can follow a column.
const OPERATORS: [Keyword; 6] = [Keyword::AND, Keyword::OR, Keyword::NOT, Keyword::IN, Keyword::IS, Keyword::BETWEEN];

#[derive(Debug)]
struct FilterDialect;

impl Dialect for FilterDialect {
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }
}

pub(super) fn parse(text: &str) -> Result<Filter> {
    let mut parser = Parser::new(text)?;
    if parser.tokens.is_empty() {
        return Err(parser.fail(0, "it is empty; write a condition such as `score > 3`"));
    }
    let whole = parser.disjunction()?;
    let filter = parser.condition(whole)?;
    match parser.peek() {
        None => Ok(filter),
        Some(_) => Err(parser.unexpected("AND, OR or the end of the text")),
    }
}

/// What a piece of text stands for, with the token where it starts.
struct Term {
    start: usize,
    kind: TermKind,
}

enum TermKind {
    Column(Column),
    Literal(Literal),
    Filter(Filter),
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<TokenWithSpan>,
    position: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self> {
        let mut parser = Self { text, tokens: Vec::new(), position: 0, depth: 0 };
        let tokens = Tokenizer::new(&FilterDialect, text)
            .tokenize_with_location()
            .map_err(|error| parser.fail_at(parser.column_of(error.location), error.message.to_lowercase()))?;
        parser.tokens =
            tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)).collect();
        Ok(parser)
    }

    // ---- the grammar, from the loosest operator to the tightest ----

    fn disjunction(&mut self) -> Result<Term> {
        let first = self.conjunction()?;
        if !self.at_keyword(Keyword::OR) {
            return Ok(first);
        }
        let start = first.start;
        let mut parts = vec![self.condition(first)?];
        while self.take_keyword(Keyword::OR) {
            let part = self.conjunction()?;
            parts.push(self.condition(part)?);
        }
        Ok(Term { start, kind: TermKind::Filter(Filter::any(parts)) })
    }

    fn conjunction(&mut self) -> Result<Term> {
        let first = self.negation()?;
        if !self.at_keyword(Keyword::AND) {
            return Ok(first);
        }
        let start = first.start;
        let mut parts = vec![self.condition(first)?];
        while self.take_keyword(Keyword::AND) {
            let part = self.negation()?;
            parts.push(self.condition(part)?);
        }
        Ok(Term { start, kind: TermKind::Filter(Filter::all(parts)) })
    }

    fn negation(&mut self) -> Result<Term> {
        let start = self.position;
        let mut negated = false;
        while self.take_keyword(Keyword::NOT) {
            negated = !negated;
        }
        let term = self.comparison()?;
        if term.start == start {
            return Ok(term);
        }
        let filter = self.condition(term)?;
        Ok(Term { start, kind: TermKind::Filter(if negated { !filter } else { filter }) })
    }

    fn comparison(&mut self) -> Result<Term> {
        let left = self.operand()?;
        let start = left.start;
        let filter = if let Some(op) = self.take_operator()? {
            let right = self.operand()?;
            self.compare(left, op, right)?
        } else if self.take_keyword(Keyword::IS) {
            let column = self.column_of_term(left, "IS NULL")?;
            let negated = self.take_keyword(Keyword::NOT);
            if !self.take_keyword(Keyword::NULL) {
                return Err(self.unexpected(if negated { "NULL" } else { "NULL or NOT NULL" }));
            }
            if negated { column.is_not_null() } else { column.is_null() }
        } else {
            let negated = self.at_keyword(Keyword::NOT);
            let word = self.tokens.get(self.position + usize::from(negated)).and_then(keyword);
            match word {
                Some(Keyword::IN) => self.in_list(left, negated)?,
                Some(Keyword::BETWEEN) => self.between(left, negated)?,
                _ => return Ok(left),
            }
        };
        Ok(Term { start, kind: TermKind::Filter(filter) })
    }

    fn in_list(&mut self, left: Term, negated: bool) -> Result<Filter> {
        self.position += 1 + usize::from(negated);
        let column = self.column_of_term(left, "IN")?;
        self.expect(&Token::LParen, "a list of values in parentheses")?;
        let mut values = Vec::new();
        while !(values.is_empty() && self.at(&Token::RParen)) {
            let value = self.operand()?;
            match value.kind {
                TermKind::Literal(literal) => values.push(literal),
                _ => return Err(self.fail(value.start, "a list after IN takes values only")),
            }
            if !self.take(&Token::Comma) {
                break;
            }
        }
        self.expect(&Token::RParen, "`,` or `)`")?;
        let filter = column.is_in(values);
        Ok(if negated { !filter } else { filter })
    }

    fn between(&mut self, left: Term, negated: bool) -> Result<Filter> {
        self.position += 1 + usize::from(negated);
        let column = self.column_of_term(left, "BETWEEN")?;
        let low = self.operand()?;
        if !self.take_keyword(Keyword::AND) {
            return Err(self.unexpected("AND and the upper end"));
        }
        let high = self.operand()?;
        let (low, high) = (self.operand_of_term(low)?, self.operand_of_term(high)?);
        let filter = column.clone().compare(CompareOp::GtEq, low) & column.compare(CompareOp::LtEq, high);
        Ok(if negated { !filter } else { filter })
    }

    fn operand(&mut self) -> Result<Term> {
        let start = self.position;
        let Some(token) = self.tokens.get(start).map(|token| token.token.clone()) else {
            return Err(self.unexpected("a column or a value"));
        };
        self.position += 1;
        let literal = match token {
            Token::LParen => return self.parenthesised(start),
            Token::Word(word) => return self.word(start, word),
            Token::SingleQuotedString(text) => Literal::Text(text),
            Token::Number(digits, false) => self.number(start, &digits)?,
            Token::Minus => match self.tokens.get(self.position).map(|token| token.token.clone()) {
                Some(Token::Number(digits, false)) => {
                    self.position += 1;
                    self.number(start, &format!("-{digits}"))?
                }
                _ => return Err(self.unexpected("a number after `-`")),
            },
            // Not the number 0xff, for which sqlparser has the same token.
            Token::HexStringLiteral(digits) if self.width(start) == digits.chars().count() + 3 => {
                Literal::Binary(bytes(&digits).ok_or_else(|| self.fail(start, "x'..' takes pairs of hex digits"))?)
            }
            _ => {
                self.position = start;
                return Err(self.unexpected("a column or a value"));
            }
        };
        Ok(Term { start, kind: TermKind::Literal(literal) })
    }

    fn parenthesised(&mut self, start: usize) -> Result<Term> {
        if self.depth == MAX_DEPTH {
            return Err(self.fail(start, format!("parentheses are nested deeper than {MAX_DEPTH}")));
        }
        self.depth += 1;
        let inner = self.disjunction()?;
        self.depth -= 1;
        self.expect(&Token::RParen, "`)`")?;
        Ok(Term { start, kind: inner.kind })
    }

    fn word(&mut self, start: usize, word: Word) -> Result<Term> {
        let quoted = word.quote_style.is_some();
        let literal = match word.keyword {
            Keyword::TRUE if !quoted => Some(Literal::Boolean(true)),
            Keyword::FALSE if !quoted => Some(Literal::Boolean(false)),
            Keyword::NULL if !quoted => Some(Literal::Null),
            _ if quoted => None,
            kind => self.typed_literal(start, kind)?,
        };
        if let Some(literal) = literal {
            return Ok(Term { start, kind: TermKind::Literal(literal) });
        }
        if !quoted {
            self.check_name(start, &word)?;
        }
        let mut path = vec![word.value];
        while self.take(&Token::Period) {
            match self.tokens.get(self.position).map(|token| &token.token) {
                Some(Token::Word(word)) => path.push(word.value.clone()),
                _ => return Err(self.unexpected("the name of a struct's member after `.`")),
            }
            self.position += 1;
        }
        Ok(Term { start, kind: TermKind::Column(Column { path }) })
    }

    /// Refuses what looks like a column's name but is not.
    fn check_name(&mut self, start: usize, word: &Word) -> Result<()> {
        if RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(&word.value)) {
            self.position = start;
            return Err(self.unexpected("a column or a value"));
        }
        if self.at(&Token::LParen) {
            return Err(self.fail(start, format!("`{}(..)`: functions are not supported; {GRAMMAR}", word.value)));
        }
        let select = word.keyword == Keyword::SELECT;
        match self.tokens.get(self.position) {
            // `select` alone may well be a column.
            Some(next) if select && matches!(next.token, Token::Word(_) | Token::Mul | Token::Number(..)) => {
                let is_condition = keyword(next).is_some_and(|next| OPERATORS.contains(&next));
                if is_condition {
                    Ok(())
                } else {
                    Err(self.fail(start, format!("subqueries are not supported; {GRAMMAR}")))
                }
            }
            _ => Ok(()),
        }
    }

    /// `DATE '..'` and the like: a word that has a string behind it.
    fn typed_literal(&mut self, start: usize, kind: Keyword) -> Result<Option<Literal>> {
        let Some(Token::SingleQuotedString(text)) = self.tokens.get(self.position).map(|token| &token.token) else {
            return Ok(None);
        };
        let (literal, example) = match kind {
            Keyword::DATE => (parse_date(text).map(Literal::Date), "2026-01-31"),
            Keyword::TIME => (parse_time(text).map(Literal::Time), "12:30:00"),
            Keyword::TIMESTAMP | Keyword::TIMESTAMPTZ | Keyword::DATETIME => {
                (parse_timestamp(text).map(Literal::Timestamp), "2026-01-31 12:30:00")
            }
            Keyword::FLOAT | Keyword::DOUBLE => (parse_float(text), "NaN"),
            _ => return Ok(None),
        };
        self.position += 1;
        match literal {
            Some(literal) => Ok(Some(literal)),
            None => Err(self.fail(start + 1, format!("{} takes a text such as '{example}'", self.source(start)))),
        }
    }

    fn number(&self, start: usize, digits: &str) -> Result<Literal> {
        digits.parse().map(Literal::Number).map_err(|reason: &str| self.fail(start, reason))
    }

    // ---- terms ----

    fn compare(&self, left: Term, op: CompareOp, right: Term) -> Result<Filter> {
        let start = left.start;
        match (self.operand_of_term(left)?, self.operand_of_term(right)?) {
            (Operand::Column(column), operand) => Ok(column.compare(op, operand)),
            (literal, Operand::Column(column)) => Ok(column.compare(op.mirrored(), literal)),
            _ => Err(self.fail(start, "this compares two values; one side has to be a column")),
        }
    }

    fn condition(&self, term: Term) -> Result<Filter> {
        match term.kind {
            TermKind::Filter(filter) => Ok(filter),
            TermKind::Column(column) => Ok(column.is_true()),
            TermKind::Literal(Literal::Boolean(value)) => Ok(Filter::of(Node::Constant(Some(value)))),
            TermKind::Literal(Literal::Null) => Ok(Filter::of(Node::Constant(None))),
            TermKind::Literal(literal) => {
                Err(self.fail(term.start, format!("{literal} is a value, not a condition; compare a column with it")))
            }
        }
    }

    fn operand_of_term(&self, term: Term) -> Result<Operand> {
        match term.kind {
            TermKind::Column(column) => Ok(Operand::Column(column)),
            TermKind::Literal(literal) => Ok(Operand::Literal(literal)),
            TermKind::Filter(_) => {
                Err(self.fail(term.start, "a condition cannot be compared; expected a column or a value"))
            }
        }
    }

    fn column_of_term(&self, term: Term, word: &str) -> Result<Column> {
        match term.kind {
            TermKind::Column(column) => Ok(column),
            _ => Err(self.fail(term.start, format!("{word} takes a column on its left"))),
        }
    }

    // ---- tokens ----

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.position).map(|token| &token.token)
    }

    fn at(&self, token: &Token) -> bool {
        self.peek() == Some(token)
    }

    fn take(&mut self, token: &Token) -> bool {
        let found = self.at(token);
        self.position += usize::from(found);
        found
    }

    fn expect(&mut self, token: &Token, what: &str) -> Result<()> {
        if self.take(token) { Ok(()) } else { Err(self.unexpected(what)) }
    }

    fn at_keyword(&self, word: Keyword) -> bool {
        self.tokens.get(self.position).and_then(keyword) == Some(word)
    }

    fn take_keyword(&mut self, word: Keyword) -> bool {
        let found = self.at_keyword(word);
        self.position += usize::from(found);
        found
    }

    fn take_operator(&mut self) -> Result<Option<CompareOp>> {
        let op = match self.peek() {
            Some(Token::Eq) => CompareOp::Eq,
            Some(Token::Neq) => CompareOp::NotEq,
            Some(Token::Lt) => CompareOp::Lt,
            Some(Token::LtEq) => CompareOp::LtEq,
            Some(Token::Gt) => CompareOp::Gt,
            Some(Token::GtEq) => CompareOp::GtEq,
            Some(Token::DoubleEq) => return Err(self.fail(self.position, "`==` is not SQL; write `=`")),
            _ => return Ok(None),
        };
        self.position += 1;
        Ok(Some(op))
    }

    // ---- errors ----

    /// The token under the cursor is none of what may stand there.
    fn unexpected(&self, expected: &str) -> Error {
        let message = match self.peek() {
            None => format!("expected {expected}, but the text ends"),
            Some(Token::RParen) => format!("expected {expected}, found `)`"),
            Some(_) => format!("expected {expected}, found `{}`; {GRAMMAR}", self.source(self.position)),
        };
        self.fail(self.position, message)
    }

    fn fail(&self, token: usize, message: impl Into<String>) -> Error {
        let column = match self.tokens.get(token) {
            Some(token) => self.column_of(token.span.start),
            None => self.text.trim_end().chars().count(),
        };
        self.fail_at(column, message)
    }

    fn fail_at(&self, column: usize, message: impl Into<String>) -> Error {
        // One character for another, so that the caret stays under its place.
        let one_line = self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
        Error::FilterSyntax { filter: one_line.trim_end().to_owned(), message: message.into(), column }
    }

    /// How many characters of its line a token takes.
    fn width(&self, token: usize) -> usize {
        let span = self.tokens.get(token).map(|token| token.span);
        let width = span.map_or(0, |span| span.end.column.saturating_sub(span.start.column));
        usize::try_from(width).unwrap_or_default()
    }

    /// The token as the text has it.
    fn source(&self, token: usize) -> String {
        let Some(token) = self.tokens.get(token) else { return String::new() };
        let (start, end) = (self.column_of(token.span.start), self.column_of(token.span.end));
        self.text.chars().skip(start).take(end.saturating_sub(start)).collect()
    }

    /// A place in characters from the start of the whole text. sqlparser counts lines and columns from 1.
    fn column_of(&self, place: Location) -> usize {
        let lines = usize::try_from(place.line.saturating_sub(1)).unwrap_or_default();
        let before: usize = self.text.split('\n').take(lines).map(|line| line.chars().count() + 1).sum();
        before + usize::try_from(place.column.saturating_sub(1)).unwrap_or_default()
    }
}

/// The keyword that a token is, unless it is quoted.
fn keyword(token: &TokenWithSpan) -> Option<Keyword> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let pair = |start| u8::from_str_radix(digits.get(start..start + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(pair).collect()
}
