//! Tests that need several storage systems at once; there is nothing else here.

/// The programs of the project's README compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
