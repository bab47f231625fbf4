//! Scans: applies a part of a request; the core applies the rest.

use std::sync::Arc;

use arrow::datatypes::Schema;
use metaxy_core::backend::{Scan, ScanRequest, ScanStage};
use metaxy_core::error::Result;

use crate::table::files::{Filters, rows};
use crate::table::log::Table;
use crate::table::log::state::{TableState, check_files};

/// Reads the requested columns of a version of a table, for the rows that pass the row filter.
pub(crate) fn scan(table: Arc<Table>, state: Arc<TableState>, request: &ScanRequest) -> Result<Scan> {
    check_files(&table.name, &state.files)?;
    let names = request.columns_needed(&state.schema.logical, ScanStage::RowFilter);
    // Rows that the last filter refuses may only be left out if no other step comes before it.
    let hint = request.filter.clone().filter(|_| request.keep_latest.is_none());
    let filters = Filters { rows: request.row_filter.clone(), hint };
    let columns = names.iter().filter_map(|name| state.schema.column(name));
    let schema = Arc::new(Schema::new(columns.map(|column| column.logical.clone()).collect::<Vec<_>>()));
    let stream = rows(table, &state, state.files.to_vec(), &names, filters);
    Ok(Scan { schema, stream, applied: ScanStage::RowFilter })
}
