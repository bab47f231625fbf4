//! Scans in DuckDB's SQL.

use std::collections::HashSet;

use arrow::datatypes::DataType;
use metaxy_core::{ScanRequest, ScanStage, columns};

use super::names::quoted;
use super::predicate::condition;
use crate::catalog::StoredTable;

/// The number of rows up to which all texts of a column count as small.
pub(crate) const SMALL_TABLE: i64 = 500_000;

/// The rows of a scan in SQL, as far as DuckDB's result equals that of the core.
#[derive(Debug)]
pub(crate) struct Relation {
    /// The table, or a subquery with its columns and `rowid`.
    from: String,
    /// The list of all columns, including `rowid`, which `*` leaves out.
    all: &'static str,
    condition: Option<String>,
    pub(crate) applied: ScanStage,
}

impl Relation {
    /// Converts a request into SQL, as far as DuckDB's result equals that of the core.
    pub(crate) fn new(table: &StoredTable, request: &ScanRequest) -> Self {
        let mut relation = Self::filtered(table, request);
        if relation.applied < ScanStage::RowFilter {
            return relation;
        }
        if let Some(ids) = &request.keep_latest {
            let Some(latest) = keep_latest(table, ids, request, &relation) else { return relation };
            relation.add_condition(&latest);
        }
        relation.applied = ScanStage::KeepLatest;
        match request.filter.as_ref().map(|predicate| condition(table, predicate)) {
            Some(None) => return relation,
            Some(Some(condition)) => relation.add_condition(&condition),
            None => {}
        }
        relation.applied = ScanStage::Filter;
        relation
    }

    /// Converts the first step of a request, the row filter.
    fn filtered(table: &StoredTable, request: &ScanRequest) -> Self {
        let from = table.sql_name.to_string();
        let mut relation = Self { from, all: "*, rowid", condition: None, applied: ScanStage::Nothing };
        if let Some(predicate) = &request.row_filter {
            let Some(condition) = condition(table, predicate) else { return relation };
            relation.condition = Some(condition);
        }
        relation.applied = ScanStage::RowFilter;
        relation
    }

    fn add_condition(&mut self, condition: &str) {
        self.condition = Some(match self.condition.take() {
            Some(before) => format!("{before} AND {condition}"),
            None => condition.to_owned(),
        });
    }

    /// Returns the rows for which a condition on windows is true.
    pub(crate) fn qualified(self, condition: &str) -> Self {
        let from = format!("(SELECT {} {} QUALIFY {condition})", self.all, self.sql());
        Self { from, all: "*", condition: None, applied: self.applied }
    }

    /// Adds columns.
    pub(crate) fn with_columns(self, columns: &str) -> Self {
        let from = format!("(SELECT {}, {columns} {})", self.all, self.sql());
        Self { from, all: "*", condition: None, applied: self.applied }
    }

    /// Returns `FROM` and `WHERE`.
    pub(crate) fn sql(&self) -> String {
        self.joined("")
    }

    /// Returns `FROM`, a join of `every` row with others, and `WHERE`.
    fn joined(&self, join: &str) -> String {
        match &self.condition {
            Some(condition) => format!("FROM {} AS every {join} WHERE {condition}", self.from),
            None => format!("FROM {} AS every {join}", self.from),
        }
    }
}

/// A scan as a statement.
#[derive(Debug)]
pub(crate) struct Select {
    pub(crate) sql: String,
    /// The columns that are read, by their positions in the table's schema.
    pub(crate) columns: Vec<usize>,
    pub(crate) applied: ScanStage,
}

/// Returns the statement that reads the requested columns, and those that the core needs to apply the rest. `rows` is a
/// condition on the rows that are needed, if not all are.
pub(crate) fn select(table: &StoredTable, request: &ScanRequest, rows: Option<String>) -> Select {
    let relation = match rows {
        // The core keeps the latest of a few rows.
        Some(rows) => {
            let mut relation = Relation::filtered(table, request);
            relation.add_condition(&rows);
            relation
        }
        None if leaves_keep_latest(table, request) => Relation::filtered(table, request),
        None => Relation::new(table, request),
    };
    let needed: HashSet<String> = request.columns_needed(&table.schema, relation.applied).into_iter().collect();
    let columns: Vec<usize> =
        (0..table.columns.len()).filter(|index| needed.contains(&table.columns[*index].name)).collect();
    let names: Vec<String> = columns.iter().map(|index| quoted(&table.columns[*index].sql_name)).collect();
    let names = if names.is_empty() { "NULL".to_owned() } else { names.join(", ") };
    Select { sql: format!("SELECT {names} {}", relation.sql()), columns, applied: relation.applied }
}

/// Returns whether keep-latest is left to the core, which takes half the time of a window, because that sorts. Then rows
/// that are not the latest are read too: not those with large values, and not more than a user's filter selects.
fn leaves_keep_latest(table: &StoredTable, request: &ScanRequest) -> bool {
    let (Some(ids), Some(names)) = (&request.keep_latest, &request.columns) else { return false };
    let is_small = |name: &String| {
        let is_version = columns::is_system(name);
        let has_small_type = |data_type: &DataType| match data_type {
            DataType::Utf8 => table.rows <= SMALL_TABLE,
            other => other.primitive_width().is_some() || *other == DataType::Boolean,
        };
        is_version || ids.contains(name) || table.column(name).is_some_and(|column| has_small_type(&column.data_type))
    };
    let is_own = |name: &String| name == columns::DELETED_AT;
    request.filter.as_ref().is_none_or(|filter| filter.columns().iter().all(is_own)) && names.iter().all(is_small)
}

/// Returns the condition that a row of a relation is the newest of its ids. It lists the rows that are not, because
/// that keeps the other columns out of the window's sort, and usually the list is empty. Of rows with equal times it is
/// the one with the greatest versions among the requested columns, as in the core, which reads smaller tables; only the
/// rows of ids whose newest rows have one time are sorted by them.
fn keep_latest(table: &StoredTable, ids: &[String], request: &ScanRequest, relation: &Relation) -> Option<String> {
    if table.has_own_rowid() {
        return None;
    }
    let ids = ids.iter().map(|id| table.name_in_sql(id)).collect::<Option<Vec<_>>>()?;
    let versions: Vec<String> = request.version_order().filter_map(|name| table.name_in_sql(name)).collect();
    let keys: Vec<String> = (0..ids.len()).map(|index| format!("k{index}")).collect();
    let is_tied = ids.iter().zip(&keys).map(|(id, key)| format!("every.{id} IS NOT DISTINCT FROM tied.{key}"));
    let (all_ids, all_keys, is_tied) = (ids.join(", "), keys.join(", "), is_tied.collect::<Vec<_>>().join(" AND "));
    let order = newest_first(table).map(|newest| format!(" ORDER BY {newest}")).unwrap_or_default();
    let later = format!(
        "SELECT rowid, rank() OVER by_time, {all_ids} {} WINDOW by_time AS (PARTITION BY {all_ids}{order}) \
         QUALIFY row_number() OVER by_time > 1",
        relation.sql()
    );
    let join = format!("SEMI JOIN (SELECT {all_keys} FROM later WHERE place = 1) AS tied ON {is_tied}");
    let newest = newest_of(table, &all_ids, &versions);
    let tied = format!("SELECT rowid {} QUALIFY NOT {newest}", relation.joined(&join));
    Some(format!(
        "rowid NOT IN (WITH later(row_id, place, {all_keys}) AS MATERIALIZED ({later}) \
         SELECT row_id FROM later WHERE place > 1 UNION ALL {tied})"
    ))
}

/// Returns the order in which the row that was written or deleted last comes first, if the table has such times.
fn newest_first(table: &StoredTable) -> Option<String> {
    let times = [columns::DELETED_AT, columns::UPDATED_AT];
    let times: Vec<String> = times.into_iter().filter_map(|name| table.name_in_sql(name)).collect();
    (!times.is_empty()).then(|| format!("coalesce({}) DESC NULLS LAST", times.join(", ")))
}

/// Returns the condition that a row was written or deleted last among those with equal values in some columns; of
/// several with one time it is the one with the greatest values of `then`, and of those the last one.
pub(crate) fn newest_of(table: &StoredTable, columns: &str, then: &[String]) -> String {
    let newest = newest_first(table).map(|newest| format!("{newest}, ")).unwrap_or_default();
    let then: String = then.iter().map(|column| format!("{column} DESC NULLS LAST, ")).collect();
    format!("(row_number() OVER (PARTITION BY {columns} ORDER BY {newest}{then}rowid DESC) = 1)")
}
