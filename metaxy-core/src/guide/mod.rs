#![doc = include_str!("introduction.md")]

#[allow(unused_imports, reason = "chapters link to them")]
use crate::*;

#[doc = include_str!("start.md")]
pub mod start {}

#[doc = include_str!("concepts.md")]
pub mod concepts {}

#[doc = include_str!("features.md")]
pub mod features {}

#[doc = include_str!("versions.md")]
pub mod versions {}

#[doc = include_str!("lineages.md")]
pub mod lineages {}

#[doc = include_str!("filters.md")]
pub mod filters {}

#[doc = include_str!("chains.md")]
pub mod chains {}

#[doc = include_str!("buffering.md")]
pub mod buffering {}

#[doc = include_str!("changes.md")]
pub mod changes {}

#[doc = include_str!("operations.md")]
pub mod operations {}

#[doc = include_str!("scale.md")]
pub mod scale {}
