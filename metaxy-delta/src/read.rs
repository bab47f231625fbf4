//! Scans: applies a part of a request; the core applies the rest.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use metaxy_core::backend::{Appended, Position, Scan, ScanRequest, ScanStage};
use metaxy_core::error::Result;

use crate::table::files::{Filters, KeyFilter, rows};
use crate::table::log::Table;
use crate::table::log::state::{TableState, check_files};

/// Reads the requested columns of a version of a table, for the rows that pass the row filter.
pub(crate) fn scan(table: Arc<Table>, state: Arc<TableState>, request: &ScanRequest) -> Result<Scan> {
    check_files(&table.name, &state.files)?;
    let names = request.columns_needed(&state.schema.logical, ScanStage::RowFilter);
    // Rows that the last filter refuses may only be left out if no other step comes before it.
    let hint = request.filter.clone().filter(|_| request.keep_latest.is_none());
    let keys = request.keys.as_ref().map(|keys| KeyFilter::new(&state.schema, keys)).transpose()?.flatten();
    let filters = Filters { rows: request.row_filter.clone(), hint, keys };
    let schema = schema_of(&state, &names);
    let stream = rows(table, &state, state.files.to_vec(), &names, filters);
    Ok(Scan { schema, stream, applied: ScanStage::RowFilter })
}

/// Reads columns of the rows that were appended between a position and a version of a table.
pub(crate) async fn appended(
    table: Arc<Table>,
    state: Arc<TableState>,
    since: &Position,
    names: &[String],
) -> Result<Appended> {
    let files = match table.appended(since, &state).await? {
        Ok(files) => files,
        Err(reason) => return Ok(Appended::CannotTell(reason.to_owned())),
    };
    check_files(&table.name, &files)?;
    let of = state.files.iter().map(|file| file.rows()).sum();
    let schema = schema_of(&state, names);
    let stream = rows(table, &state, files, names, Filters::default());
    Ok(Appended::Rows { rows: Scan { schema, stream, applied: ScanStage::Nothing }, of })
}

fn schema_of(state: &TableState, names: &[String]) -> SchemaRef {
    let columns = names.iter().filter_map(|name| state.schema.column(name));
    Arc::new(Schema::new(columns.map(|column| column.logical.clone()).collect::<Vec<_>>()))
}
