//! The grammar of filters. It is small and our own, so that every error shows the right token, long chains stay flat
//! and deep nesting is refused.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, Word};

use crate::error::Result;

use super::display::RESERVED;
use super::literal::{Literal, parse_date, parse_float, parse_time, parse_timestamp};
use super::tokens::{GRAMMAR, Tokens, keyword};
use super::{Column, CompareOp, Filter, Node, Operand};

/// The maximum depth of parentheses. Each level takes stack.
const MAX_DEPTH: usize = 100;

/// The words that can follow a column.
const OPERATORS: [Keyword; 6] = [Keyword::AND, Keyword::OR, Keyword::NOT, Keyword::IN, Keyword::IS, Keyword::BETWEEN];

pub(super) fn parse(text: &str) -> Result<Filter> {
    let mut parser = Parser { tokens: Tokens::new(text)?, depth: 0 };
    if parser.tokens.peek().is_none() {
        return Err(parser.tokens.fail(0, "it is empty; write a condition such as `score > 3`"));
    }
    let whole = parser.disjunction()?;
    let filter = parser.condition(whole)?;
    match parser.tokens.peek() {
        None => Ok(filter),
        Some(_) => Err(parser.tokens.unexpected("AND, OR or the end of the text")),
    }
}

/// The meaning of a part of the text, with its first token.
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
    tokens: Tokens<'a>,
    depth: usize,
}

impl Parser<'_> {
    // ---- the grammar, from the loosest operator to the tightest ----

    fn disjunction(&mut self) -> Result<Term> {
        let first = self.conjunction()?;
        if !self.tokens.at_keyword(Keyword::OR) {
            return Ok(first);
        }
        let start = first.start;
        let mut parts = vec![self.condition(first)?];
        while self.tokens.take_keyword(Keyword::OR) {
            let part = self.conjunction()?;
            parts.push(self.condition(part)?);
        }
        Ok(Term { start, kind: TermKind::Filter(Filter::any(parts)) })
    }

    fn conjunction(&mut self) -> Result<Term> {
        let first = self.negation()?;
        if !self.tokens.at_keyword(Keyword::AND) {
            return Ok(first);
        }
        let start = first.start;
        let mut parts = vec![self.condition(first)?];
        while self.tokens.take_keyword(Keyword::AND) {
            let part = self.negation()?;
            parts.push(self.condition(part)?);
        }
        Ok(Term { start, kind: TermKind::Filter(Filter::all(parts)) })
    }

    fn negation(&mut self) -> Result<Term> {
        let start = self.tokens.position;
        let mut negated = false;
        while self.tokens.take_keyword(Keyword::NOT) {
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
        let filter = if let Some(op) = self.tokens.take_operator()? {
            let right = self.operand()?;
            self.compare(left, op, right)?
        } else if self.tokens.take_keyword(Keyword::IS) {
            let column = self.column_of_term(left, "IS NULL")?;
            let negated = self.tokens.take_keyword(Keyword::NOT);
            if !self.tokens.take_keyword(Keyword::NULL) {
                return Err(self.tokens.unexpected(if negated { "NULL" } else { "NULL or NOT NULL" }));
            }
            if negated { column.is_not_null() } else { column.is_null() }
        } else {
            let negated = self.tokens.at_keyword(Keyword::NOT);
            let word = self.tokens.get(self.tokens.position + usize::from(negated)).and_then(keyword);
            match word {
                Some(Keyword::IN) => self.in_list(left, negated)?,
                Some(Keyword::BETWEEN) => self.between(left, negated)?,
                _ => return Ok(left),
            }
        };
        Ok(Term { start, kind: TermKind::Filter(filter) })
    }

    fn in_list(&mut self, left: Term, negated: bool) -> Result<Filter> {
        self.tokens.position += 1 + usize::from(negated);
        let column = self.column_of_term(left, "IN")?;
        self.tokens.expect(&Token::LParen, "a list of values in parentheses")?;
        let mut values = Vec::new();
        while !(values.is_empty() && self.tokens.at(&Token::RParen)) {
            let value = self.operand()?;
            match value.kind {
                TermKind::Literal(literal) => values.push(literal),
                _ => return Err(self.tokens.fail(value.start, "a list after IN may contain values only")),
            }
            if !self.tokens.take(&Token::Comma) {
                break;
            }
        }
        self.tokens.expect(&Token::RParen, "`,` or `)`")?;
        let filter = column.is_in(values);
        Ok(if negated { !filter } else { filter })
    }

    fn between(&mut self, left: Term, negated: bool) -> Result<Filter> {
        self.tokens.position += 1 + usize::from(negated);
        let column = self.column_of_term(left, "BETWEEN")?;
        let low = self.operand()?;
        if !self.tokens.take_keyword(Keyword::AND) {
            return Err(self.tokens.unexpected("AND and the upper end"));
        }
        let high = self.operand()?;
        let (low, high) = (self.operand_of_term(low)?, self.operand_of_term(high)?);
        let filter = column.clone().compare(CompareOp::GtEq, low) & column.compare(CompareOp::LtEq, high);
        Ok(if negated { !filter } else { filter })
    }

    fn operand(&mut self) -> Result<Term> {
        let start = self.tokens.position;
        let Some(token) = self.tokens.get(start).map(|token| token.token.clone()) else {
            return Err(self.tokens.unexpected("a column or a value"));
        };
        self.tokens.position += 1;
        let literal = match token {
            Token::LParen => return self.parenthesised(start),
            Token::Word(word) => return self.word(start, word),
            Token::SingleQuotedString(text) => Literal::Text(text),
            Token::Number(digits, false) => self.number(start, &digits)?,
            Token::Minus => match self.tokens.peek().cloned() {
                Some(Token::Number(digits, false)) => {
                    self.tokens.position += 1;
                    self.number(start, &format!("-{digits}"))?
                }
                _ => return Err(self.tokens.unexpected("a number after `-`")),
            },
            // Not the number 0xff, which has the same token in sqlparser.
            Token::HexStringLiteral(digits) if self.tokens.width(start) == digits.chars().count() + 3 => {
                Literal::Binary(
                    bytes(&digits).ok_or_else(|| self.tokens.fail(start, "x'..' needs pairs of hex digits"))?,
                )
            }
            _ => {
                self.tokens.position = start;
                return Err(self.tokens.unexpected("a column or a value"));
            }
        };
        Ok(Term { start, kind: TermKind::Literal(literal) })
    }

    fn parenthesised(&mut self, start: usize) -> Result<Term> {
        if self.depth == MAX_DEPTH {
            return Err(self.tokens.fail(start, format!("parentheses are nested deeper than {MAX_DEPTH}")));
        }
        self.depth += 1;
        let inner = self.disjunction()?;
        self.depth -= 1;
        self.tokens.expect(&Token::RParen, "`)`")?;
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
        while self.tokens.take(&Token::Period) {
            match self.tokens.peek() {
                Some(Token::Word(word)) => path.push(word.value.clone()),
                _ => return Err(self.tokens.unexpected("the name of a struct's member after `.`")),
            }
            self.tokens.position += 1;
        }
        Ok(Term { start, kind: TermKind::Column(Column { path }) })
    }

    /// Refuses words that look like the name of a column and are not.
    fn check_name(&mut self, start: usize, word: &Word) -> Result<()> {
        if RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(&word.value)) {
            self.tokens.position = start;
            return Err(self.tokens.unexpected("a column or a value"));
        }
        if self.tokens.at(&Token::LParen) {
            return Err(self
                .tokens
                .fail(start, format!("`{}(..)`: functions are not supported; {GRAMMAR}", word.value)));
        }
        let select = word.keyword == Keyword::SELECT;
        match self.tokens.peek_token() {
            // `select` alone may be a column.
            Some(next) if select && matches!(next.token, Token::Word(_) | Token::Mul | Token::Number(..)) => {
                let is_condition = keyword(next).is_some_and(|next| OPERATORS.contains(&next));
                if is_condition {
                    Ok(())
                } else {
                    Err(self.tokens.fail(start, format!("subqueries are not supported; {GRAMMAR}")))
                }
            }
            _ => Ok(()),
        }
    }

    /// Parses `DATE '..'` and the like: a word followed by a string.
    fn typed_literal(&mut self, start: usize, kind: Keyword) -> Result<Option<Literal>> {
        let Some(Token::SingleQuotedString(text)) = self.tokens.peek() else {
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
        self.tokens.position += 1;
        match literal {
            Some(literal) => Ok(Some(literal)),
            None => Err(self
                .tokens
                .fail(start + 1, format!("{} needs a text such as '{example}'", self.tokens.source(start)))),
        }
    }

    fn number(&self, start: usize, digits: &str) -> Result<Literal> {
        digits.parse().map(Literal::Number).map_err(|reason: &str| self.tokens.fail(start, reason))
    }

    // ---- terms ----

    fn compare(&self, left: Term, op: CompareOp, right: Term) -> Result<Filter> {
        let start = left.start;
        match (self.operand_of_term(left)?, self.operand_of_term(right)?) {
            (Operand::Column(column), operand) => Ok(column.compare(op, operand)),
            (literal, Operand::Column(column)) => Ok(column.compare(op.mirrored(), literal)),
            _ => Err(self.tokens.fail(start, "this compares two values; one side has to be a column")),
        }
    }

    fn condition(&self, term: Term) -> Result<Filter> {
        match term.kind {
            TermKind::Filter(filter) => Ok(filter),
            TermKind::Column(column) => Ok(column.is_true()),
            TermKind::Literal(Literal::Boolean(value)) => Ok(Filter::of(Node::Constant(Some(value)))),
            TermKind::Literal(Literal::Null) => Ok(Filter::of(Node::Constant(None))),
            TermKind::Literal(literal) => Err(self
                .tokens
                .fail(term.start, format!("{literal} is a value, not a condition; compare a column with it"))),
        }
    }

    fn operand_of_term(&self, term: Term) -> Result<Operand> {
        match term.kind {
            TermKind::Column(column) => Ok(Operand::Column(column)),
            TermKind::Literal(literal) => Ok(Operand::Literal(literal)),
            TermKind::Filter(_) => {
                Err(self.tokens.fail(term.start, "a condition cannot be compared; expected a column or a value"))
            }
        }
    }

    fn column_of_term(&self, term: Term, word: &str) -> Result<Column> {
        match term.kind {
            TermKind::Column(column) => Ok(column),
            _ => Err(self.tokens.fail(term.start, format!("{word} needs a column on its left"))),
        }
    }
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let pair = |start| u8::from_str_radix(digits.get(start..start + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(pair).collect()
}
