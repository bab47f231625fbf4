//! Comma-separated values for spreadsheets and scripts.

use std::io;

use crate::failure::{Failure, Result};

use super::Table;

/// Returns a table as CSV with a header.
pub fn text(table: &Table) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failure = |error: csv::Error| Failure::io("write CSV", io::Error::from(error));
    writer.write_record(&table.header).map_err(failure)?;
    for row in &table.rows {
        writer.write_record(row).map_err(failure)?;
    }
    let bytes = writer.into_inner().map_err(|error| Failure::io("write CSV", error.into_error()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
