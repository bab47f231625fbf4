//! Tests that need several storage systems; this crate contains nothing else.

/// The programs of the project's README compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
