//! The tokens of a filter's text, with their positions. sqlparser splits the text.

use sqlparser::dialect::Dialect;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::error::{Error, Result};

use super::CompareOp;

pub(super) const GRAMMAR: &str =
    "a filter has = != < <= > >=, AND, OR, NOT, IN, BETWEEN, IS NULL, parentheses, columns and values";

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

/// The tokens, and the position of the next one.
pub(super) struct Tokens<'a> {
    text: &'a str,
    tokens: Vec<TokenWithSpan>,
    pub(super) position: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self> {
        let mut tokens = Self { text, tokens: Vec::new(), position: 0 };
        let found = Tokenizer::new(&FilterDialect, text)
            .tokenize_with_location()
            .map_err(|error| tokens.fail_at(tokens.column_of(error.location), error.message.to_lowercase()))?;
        let is_part = |token: &TokenWithSpan| !matches!(token.token, Token::Whitespace(_) | Token::EOF);
        tokens.tokens = found.into_iter().filter(is_part).collect();
        Ok(tokens)
    }

    pub(super) fn get(&self, position: usize) -> Option<&TokenWithSpan> {
        self.tokens.get(position)
    }

    pub(super) fn peek_token(&self) -> Option<&TokenWithSpan> {
        self.tokens.get(self.position)
    }

    pub(super) fn peek(&self) -> Option<&Token> {
        self.peek_token().map(|token| &token.token)
    }

    pub(super) fn at(&self, token: &Token) -> bool {
        self.peek() == Some(token)
    }

    pub(super) fn take(&mut self, token: &Token) -> bool {
        let found = self.at(token);
        self.position += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, token: &Token, what: &str) -> Result<()> {
        if self.take(token) { Ok(()) } else { Err(self.unexpected(what)) }
    }

    pub(super) fn at_keyword(&self, word: Keyword) -> bool {
        self.peek_token().and_then(keyword) == Some(word)
    }

    pub(super) fn take_keyword(&mut self, word: Keyword) -> bool {
        let found = self.at_keyword(word);
        self.position += usize::from(found);
        found
    }

    pub(super) fn take_operator(&mut self) -> Result<Option<CompareOp>> {
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

    /// Returns the error of an unexpected token.
    pub(super) fn unexpected(&self, expected: &str) -> Error {
        let message = match self.peek() {
            None => format!("expected {expected}, but the text ends"),
            Some(Token::RParen) => format!("expected {expected}, found `)`"),
            Some(_) => format!("expected {expected}, found `{}`; {GRAMMAR}", self.source(self.position)),
        };
        self.fail(self.position, message)
    }

    pub(super) fn fail(&self, token: usize, message: impl Into<String>) -> Error {
        let column = match self.tokens.get(token) {
            Some(token) => self.column_of(token.span.start),
            None => self.text.trim_end().chars().count(),
        };
        self.fail_at(column, message)
    }

    fn fail_at(&self, column: usize, message: impl Into<String>) -> Error {
        // One character replaces another, so that the caret stays at its position.
        let one_line = self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
        Error::FilterSyntax { filter: one_line.trim_end().to_owned(), message: message.into(), column }
    }

    /// Returns the number of characters of a token.
    pub(super) fn width(&self, token: usize) -> usize {
        let span = self.tokens.get(token).map(|token| token.span);
        let width = span.map_or(0, |span| span.end.column.saturating_sub(span.start.column));
        usize::try_from(width).unwrap_or_default()
    }

    /// Returns the text of a token.
    pub(super) fn source(&self, token: usize) -> String {
        let Some(token) = self.tokens.get(token) else { return String::new() };
        let (start, end) = (self.column_of(token.span.start), self.column_of(token.span.end));
        self.text.chars().skip(start).take(end.saturating_sub(start)).collect()
    }

    /// Returns a position in characters from the start of the text. sqlparser counts lines and columns from 1.
    fn column_of(&self, location: Location) -> usize {
        let lines = usize::try_from(location.line.saturating_sub(1)).unwrap_or_default();
        let before: usize = self.text.split('\n').take(lines).map(|line| line.chars().count() + 1).sum();
        before + usize::try_from(location.column.saturating_sub(1)).unwrap_or_default()
    }
}

/// Returns the keyword of a token, unless it is quoted.
pub(super) fn keyword(token: &TokenWithSpan) -> Option<Keyword> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}
