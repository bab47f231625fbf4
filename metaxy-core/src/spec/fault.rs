//! What is wrong with a definition, and in which part of it.

use crate::error::{Error, Result};

/// A broken rule, and the part of the definition that breaks it.
#[derive(Debug)]
pub(crate) struct Fault {
    /// The path to the part, in the JSON form of the definition.
    pub(crate) part: Vec<Step>,
    pub(crate) error: Error,
}

/// A step of a path in a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl Fault {
    pub(crate) fn new(part: impl IntoIterator<Item = Step>, error: Error) -> Self {
        Self { part: part.into_iter().collect(), error }
    }

    /// Returns a fault of a dependency, or of a part of one.
    pub(crate) fn of_dep(index: usize, part: &[&str], error: Error) -> Self {
        let dep = [Step::from("deps"), index.into()];
        Self::new(dep.into_iter().chain(part.iter().map(|&key| key.into())), error)
    }

    /// Returns the error of the first fault, if there is one.
    pub(crate) fn first(faults: Vec<Self>) -> Result<()> {
        faults.into_iter().next().map_or(Ok(()), |fault| Err(fault.error))
    }
}
