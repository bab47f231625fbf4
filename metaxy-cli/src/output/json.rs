//! JSON for programs.

use std::io;

use serde::Serialize;

use crate::failure::{Failure, Result};

/// Returns an answer as JSON.
pub fn text(answer: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(answer).map_err(|error| Failure::io("write JSON", io::Error::from(error)))
}
