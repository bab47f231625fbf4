//! Errors of builders, which the call that ends the builder returns.

use crate::error::Error;

/// The value that a builder makes, or the first error on the way. Calls of a builder can be chained without `?`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Deferred<T, E = Error>(Result<T, E>);

impl<T: Default, E> Default for Deferred<T, E> {
    fn default() -> Self {
        Self(Ok(T::default()))
    }
}

impl<T, E> Deferred<T, E> {
    pub(crate) fn new(value: Result<T, impl Into<E>>) -> Self {
        Self(value.map_err(Into::into))
    }

    /// Changes the value.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut T)) {
        if let Ok(value) = &mut self.0 {
            change(value);
        }
    }

    /// Adds a part to the value, or keeps the error of the part.
    pub(crate) fn add<P>(&mut self, part: Result<P, impl Into<E>>, add: impl FnOnce(&mut T, P)) {
        if let Ok(value) = &mut self.0 {
            match part {
                Ok(part) => add(value, part),
                Err(error) => self.0 = Err(error.into()),
            }
        }
    }

    /// Returns the value, or the error.
    pub(crate) fn get(&self) -> Result<&T, &E> {
        self.0.as_ref()
    }

    /// Returns the value, or the error.
    pub(crate) fn finish(self) -> Result<T, E> {
        self.0
    }
}
