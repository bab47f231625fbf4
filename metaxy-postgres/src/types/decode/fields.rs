//! The bytes of values.

/// Bytes that are read from the front.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("a value is truncated")?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn int(&mut self) -> Result<i32, String> {
        Ok(i32::from_be_bytes(sized(self.take(4)?)?))
    }

    /// Returns a field that starts with its length; `None` for a null.
    pub(crate) fn field(&mut self) -> Result<Option<&'a [u8]>, String> {
        match usize::try_from(self.int()?) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Ok(None),
        }
    }
}

pub(super) fn sized<const N: usize>(bytes: &[u8]) -> Result<[u8; N], String> {
    bytes.try_into().map_err(|_| format!("it sends {} bytes where {N} were expected", bytes.len()))
}

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "it holds text that is not UTF-8".to_owned())
}
