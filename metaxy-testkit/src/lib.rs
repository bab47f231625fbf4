//! The conformance suite that every Metaxy backend runs.
pub mod crash;
