//! The tokens of a JSON document.

use std::borrow::Cow;

use arrow::array::StringBuilder;

/// A position in a JSON document, which the server has validated.
pub(super) struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    /// Starts at the beginning of a document.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Checks that nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<(), String> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.unexpected("the end")) }
    }

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

    /// Consumes a character if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.take(byte) { Ok(()) } else { Err(self.unexpected(&format!("`{}`", char::from(byte)))) }
    }

    pub(super) fn null(&mut self) -> bool {
        self.space();
        let found = self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(b"null"));
        self.at += if found { 4 } else { 0 };
        found
    }

    /// Appends the content of a string, or the text of a number, `true` or `false`.
    pub(super) fn scalar(&mut self, out: &mut StringBuilder) -> Result<(), String> {
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

    fn string(&mut self) -> Result<Cow<'a, str>, String> {
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
            return serde_json::from_str(quoted).map(Cow::Owned).map_err(|_| self.unexpected("a string"));
        }
        Ok(Cow::Borrowed(self.text.get(start..end).unwrap_or_default()))
    }

    pub(super) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<(), String>,
    ) -> Result<(), String> {
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

    pub(super) fn list(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), String>) -> Result<(), String> {
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

    /// Reads the entries of a map, which is a list of pairs or an object; `entry` reads the key, the separator and the
    /// value.
    pub(super) fn entries(&mut self, mut entry: impl FnMut(&mut Self, u8) -> Result<(), String>) -> Result<(), String> {
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
