//! Scans as SQL.

use metaxy_core::{ScanRequest, ScanStage, columns};

use crate::catalog::StoredTable;
use crate::keys::ROWS;
use crate::types::{Storage, storage};

use super::predicate::{Parameters, condition};

/// If more columns than this are read, SQLite keeps the latest rows, in little memory but with a sort. For fewer
/// columns the core does it, which is about three times as fast and needs little memory then.
const NARROW: usize = 8;

/// The temporary table of rows that have a newer row of the same sample. No table of a feature has a `$` in its name.
const SUPERSEDED: &str = "temp.metaxy$superseded";

/// A scan as SQL. It can be run again from any row, so that no statement is held between batches.
#[derive(Debug)]
pub(crate) struct Select {
    /// Statements to run once, before the scan.
    pub(crate) preparation: Vec<(String, Parameters)>,
    /// Selects the number of each row and its columns, ordered by number, from the number `?1`.
    pub(crate) sql: String,
    pub(crate) parameters: Parameters,
    /// The columns that are read, by their positions in the table's schema.
    pub(crate) columns: Vec<usize>,
    pub(crate) applied: ScanStage,
}

/// The conditions of a scan on a row, in addition to that on its number.
#[derive(Default)]
struct Conditions {
    sql: Vec<String>,
    preparation: Vec<(String, Parameters)>,
}

/// Converts a request into SQL, as far as SQLite's result equals that of the core. With `by_keys`, only the rows in
/// [`ROWS`] are selected.
pub(crate) fn select(table: &StoredTable, request: &ScanRequest, by_keys: bool) -> Select {
    let mut parameters = Parameters::after_first();
    let mut conditions = Conditions::default();
    let applied = conditions_of(table, request, &mut parameters, &mut conditions);
    let needed = request.columns_needed(&table.schema, applied);
    let columns: Vec<usize> = needed.iter().filter_map(|name| table.schema.index_of(name).ok()).collect();
    let mut sql = numbered_rows(table, needed.iter().map(String::as_str));
    if by_keys {
        conditions.sql.push(format!("rowid IN (SELECT row FROM {ROWS})"));
    }
    for condition in &conditions.sql {
        sql.push_str(" AND ");
        sql.push_str(condition);
    }
    sql.push_str(" ORDER BY rowid");
    Select { preparation: conditions.preparation, sql, parameters, columns, applied }
}

/// Returns the SQL that selects the numbers of the rows from `?1` on, and columns.
pub(crate) fn numbered_rows<'a>(table: &StoredTable, names: impl Iterator<Item = &'a str>) -> String {
    let columns = names.filter_map(|name| table.column(name)).map(|(column, _)| column);
    let columns: Vec<String> = std::iter::once("rowid".to_owned()).chain(columns).collect();
    format!("SELECT {} FROM {} WHERE rowid >= ?1", columns.join(", "), table.quoted_name())
}

fn conditions_of(
    table: &StoredTable,
    request: &ScanRequest,
    parameters: &mut Parameters,
    conditions: &mut Conditions,
) -> ScanStage {
    if let Some(predicate) = &request.row_filter {
        let Some(condition) = condition(table, predicate, parameters) else { return ScanStage::Nothing };
        conditions.sql.push(condition);
    }
    if let Some(ids) = &request.keep_latest {
        // The core keeps the latest of a few rows.
        if request.keys.is_some() {
            return ScanStage::RowFilter;
        }
        if request.columns_needed(&table.schema, ScanStage::RowFilter).len() <= NARROW {
            return ScanStage::RowFilter;
        }
        let Some(superseded) = superseded(table, ids, request) else { return ScanStage::RowFilter };
        conditions
            .preparation
            .push((format!("CREATE TABLE {SUPERSEDED} (row INTEGER PRIMARY KEY)"), Parameters::default()));
        conditions.preparation.push(superseded);
        conditions.sql.push(format!("rowid NOT IN (SELECT row FROM {SUPERSEDED})"));
    }
    if let Some(predicate) = &request.filter {
        let Some(condition) = condition(table, predicate, parameters) else { return ScanStage::KeepLatest };
        conditions.sql.push(condition);
    }
    ScanStage::Filter
}

/// Returns the statement that finds the rows with a newer row of the same ids; of rows with equal times it is the one with
/// the greatest versions among the requested columns, as in the core. It sorts only numbers, times, ids and versions, not
/// whole rows.
fn superseded(table: &StoredTable, ids: &[String], request: &ScanRequest) -> Option<(String, Parameters)> {
    let id = |name: &String| {
        let (column, field) = table.column(name)?;
        let comparable = !matches!(storage(field.data_type())?, Storage::Float | Storage::Json);
        comparable.then_some(column)
    };
    let ids = ids.iter().map(id).collect::<Option<Vec<_>>>()?.join(", ");
    let (updated, deleted) = (table.column(columns::UPDATED_AT)?.0, table.column(columns::DELETED_AT)?.0);
    let versions = request.version_order().filter_map(|name| table.column(name));
    let versions: String = versions.map(|(column, _)| format!("{column} DESC, ")).collect();
    let mut parameters = Parameters::default();
    let filter = match &request.row_filter {
        Some(predicate) => format!(" WHERE {}", condition(table, predicate, &mut parameters)?),
        None => String::new(),
    };
    let sql = format!(
        "INSERT INTO {SUPERSEDED} SELECT number FROM (SELECT rowid AS number, row_number() OVER \
         (PARTITION BY {ids} ORDER BY coalesce({deleted}, {updated}) DESC, {versions}rowid DESC) AS rank FROM {}{filter}) \
         WHERE rank > 1",
        table.quoted_name()
    );
    Some((sql, parameters))
}
