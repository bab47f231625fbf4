//! Reads choices from bytes.

/// The bytes of an input. After its end all bytes are 0.
pub(super) struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// Returns a number below a limit.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    /// Returns one of some values.
    pub fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// Returns a whole number: mostly a small one, sometimes any.
    pub fn number(&mut self) -> i64 {
        match self.byte() {
            255 => i64::MIN,
            254 => i64::MAX,
            253 => i64::from_le_bytes(std::array::from_fn(|_| self.byte())),
            small => i64::from(small) - 100,
        }
    }

    /// Returns up to 32 bytes.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = self.below(33).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}
