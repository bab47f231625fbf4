//! Scans and predicates as SQL.

use metaxy_core::filter::Predicate;
use metaxy_core::{ScanRequest, ScanStage, columns};
use rusqlite::types::Value;

use crate::catalog::StoredTable;
use crate::types::{Storage, storage};

/// Reads of more columns than this let SQLite keep the latest rows, which it does in little memory but with a sort.
/// Narrower ones leave it to the core, which is about three times as fast and holds such columns easily.
const NARROW: usize = 8;

/// The values behind the `?1`, `?2`, … of a statement.
#[derive(Debug, Default)]
pub(crate) struct Parameters(Vec<Value>);

impl Parameters {
    /// The values, to be bound.
    pub(crate) fn bound(&self) -> impl rusqlite::Params + '_ {
        rusqlite::params_from_iter(&self.0)
    }
}

/// A predicate as SQL; `None` where SQLite would not give the core's answer.
pub(crate) fn condition(table: &StoredTable, predicate: &Predicate, parameters: &mut Parameters) -> Option<String> {
    let _ = (table, predicate, parameters);
    None
}

/// A scan as SQL.
#[derive(Debug)]
pub(crate) struct Select {
    pub(crate) sql: String,
    pub(crate) parameters: Parameters,
    /// The columns that are read, by their places in the table's schema.
    pub(crate) columns: Vec<usize>,
    pub(crate) applied: ScanStage,
}

/// Takes as much of a request into SQL as gives the core's answer.
pub(crate) fn select(table: &StoredTable, request: &ScanRequest) -> Select {
    let mut parameters = Parameters::default();
    let mut conditions = Vec::new();
    let applied = conditions_of(table, request, &mut parameters, &mut conditions);
    let needed = request.columns_needed(&table.schema, applied);
    let columns: Vec<usize> = needed.iter().filter_map(|name| table.schema.index_of(name).ok()).collect();
    let names: Vec<String> = needed.iter().filter_map(|name| table.column(name)).map(|(column, _)| column).collect();
    let names = if names.is_empty() { "NULL".to_owned() } else { names.join(", ") };
    let mut sql = format!("SELECT {names} FROM {}", table.quoted_name());
    if !conditions.is_empty() {
        sql.push_str(" WHERE ");
        sql.push_str(&conditions.join(" AND "));
    }
    Select { sql, parameters, columns, applied }
}

fn conditions_of(
    table: &StoredTable,
    request: &ScanRequest,
    parameters: &mut Parameters,
    conditions: &mut Vec<String>,
) -> ScanStage {
    if let Some(predicate) = &request.row_filter {
        let Some(condition) = condition(table, predicate, parameters) else { return ScanStage::Nothing };
        conditions.push(condition);
    }
    if let Some(ids) = &request.keep_latest {
        if request.columns_needed(&table.schema, ScanStage::RowFilter).len() <= NARROW {
            return ScanStage::RowFilter;
        }
        let Some(condition) = not_superseded(table, ids, conditions.first()) else { return ScanStage::RowFilter };
        conditions.push(condition);
    }
    if let Some(predicate) = &request.filter {
        let Some(condition) = condition(table, predicate, parameters) else { return ScanStage::KeepLatest };
        conditions.push(condition);
    }
    ScanStage::Filter
}

/// Says of a row that no row of the same ids is newer. Only numbers, times and ids are sorted for it, not whole rows.
fn not_superseded(table: &StoredTable, ids: &[String], row_filter: Option<&String>) -> Option<String> {
    let id = |name: &String| {
        let (column, field) = table.column(name)?;
        let comparable = !matches!(storage(field.data_type())?, Storage::Float | Storage::Json);
        comparable.then_some(column)
    };
    let ids = ids.iter().map(id).collect::<Option<Vec<_>>>()?.join(", ");
    let (updated, deleted) = (table.column(columns::UPDATED_AT)?.0, table.column(columns::DELETED_AT)?.0);
    let filter = row_filter.map(|condition| format!(" WHERE {condition}")).unwrap_or_default();
    Some(format!(
        "rowid NOT IN (SELECT number FROM (SELECT rowid AS number, row_number() OVER \
         (PARTITION BY {ids} ORDER BY coalesce({deleted}, {updated}) DESC, rowid DESC) AS place FROM {}{filter}) \
         WHERE place > 1)",
        table.quoted_name()
    ))
}
