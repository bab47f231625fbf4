//! Names, predicates and scans as DuckDB's SQL.

use std::collections::HashSet;

use arrow::datatypes::{DataType, TimeUnit};
use metaxy_core::filter::{BoundColumn, Predicate, Scalar, SqlDialect, to_sql};
use metaxy_core::{Error, Result, ScanRequest, ScanStage, columns};

use crate::catalog::StoredTable;
use crate::types::{distinct, storage};

/// Larger conditions are left to the core: DuckDB refuses expressions that are nested deeper than 1000, and takes its
/// time over lists of this length.
const MAX_NODES: usize = 400;
const MAX_LIST: usize = 5_000;

/// A name in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in quotes.
pub(crate) fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// A predicate as SQL; `None` where DuckDB would not give the core's answer.
pub(crate) fn condition(table: &StoredTable, predicate: &Predicate) -> Option<String> {
    let mut nodes = 0;
    if !is_exact(table, predicate, &mut nodes) || nodes > MAX_NODES {
        return None;
    }
    to_sql(predicate, &mut Dialect { table }).ok()
}

/// Whether comparing stored values is comparing the values themselves. Counts the parts.
fn is_exact(table: &StoredTable, predicate: &Predicate, nodes: &mut usize) -> bool {
    *nodes += 1;
    let comparable = |column: &BoundColumn| table.is_stored_as_written(column.path.first());
    match predicate {
        Predicate::Constant(_) | Predicate::Decided { .. } => true,
        Predicate::IsNull(column) => column.value_type() != &DataType::Null && comparable(column),
        Predicate::Column(column) | Predicate::Compare { column, .. } => comparable(column),
        Predicate::In { column, list } => comparable(column) && list.values().len() <= MAX_LIST,
        Predicate::CompareColumns { left, right, .. } => {
            comparable(left) && comparable(right) && compare_alike(left.value_type(), right.value_type())
        }
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().all(|part| is_exact(table, part, nodes)),
        Predicate::Not(inner) => is_exact(table, inner, nodes),
    }
}

/// Whether DuckDB compares two columns without rounding one of them, or as the core rounds.
fn compare_alike(left: &DataType, right: &DataType) -> bool {
    let kept = |data_type: &DataType| storage(data_type).map(|storage| storage.sql).ok();
    (left.is_signed_integer() && right.is_signed_integer()) || (left == right && kept(left).is_some())
}

/// Predicates as DuckDB reads them. Texts are compared byte by byte, for columns have no collation.
struct Dialect<'a> {
    table: &'a StoredTable,
}

impl SqlDialect for Dialect<'_> {
    fn identifier(&self, path: &[String], _: &DataType) -> Result<String> {
        self.table.expression(path).ok_or_else(|| not_in_sql(&path.join(".")))
    }

    fn literal(&mut self, scalar: &Scalar, data_type: &DataType) -> Result<String> {
        let refuse = || not_in_sql(&scalar.to_string());
        Ok(match scalar {
            Scalar::Boolean(value) => value.to_string(),
            Scalar::Int(_) => format!("'{scalar}'::BIGINT"),
            Scalar::UInt(_) => format!("'{scalar}'::UBIGINT"),
            Scalar::Float(value) if value.is_nan() => "'nan'::DOUBLE".to_owned(),
            Scalar::Float(value) => format!("'{value:e}'::DOUBLE"),
            Scalar::Text(value) if value.contains('\0') => return Err(refuse()),
            Scalar::Text(value) => text(value),
            Scalar::Binary(bytes) => {
                let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("unhex('{digits}')")
            }
            Scalar::Date(days) if *data_type == DataType::Date32 => format!("(DATE '1970-01-01' + ({days}))"),
            Scalar::Time { unit, .. } if *unit != TimeUnit::Nanosecond => format!("'{scalar}'::TIME"),
            Scalar::Timestamp { unit, zoned, .. } => {
                let year = scalar.to_datetime().map(|moment| moment.format("%Y").to_string());
                if year.is_none_or(|year| year.len() != 4) {
                    return Err(refuse());
                }
                match (unit, zoned) {
                    (TimeUnit::Nanosecond, _) => format!("'{scalar}'::TIMESTAMP_NS"),
                    (_, true) => format!("'{scalar}+00'::TIMESTAMPTZ"),
                    (_, false) => format!("'{scalar}'::TIMESTAMP"),
                }
            }
            _ => return Err(refuse()),
        })
    }
}

/// Never seen by anybody: the core evaluates such predicates.
fn not_in_sql(what: &str) -> Error {
    Error::Unsupported { what: format!("`{what}` in SQL"), hint: "the core evaluates it".to_owned() }
}

/// The rows of a scan as SQL, as far as DuckDB gives the core's answer.
#[derive(Debug)]
pub(crate) struct Relation {
    /// The table, or a subquery with its columns and `rowid`.
    from: String,
    /// What stands for all columns, `rowid` too, which `*` leaves out of a table.
    all: &'static str,
    condition: Option<String>,
    pub(crate) applied: ScanStage,
}

impl Relation {
    /// Takes as much of a request into SQL as gives the core's answer.
    pub(crate) fn new(table: &StoredTable, request: &ScanRequest) -> Self {
        let from = quoted(&table.sql_name);
        let mut relation = Self { from, all: "*, rowid", condition: None, applied: ScanStage::Nothing };
        if let Some(predicate) = &request.row_filter {
            let Some(condition) = condition(table, predicate) else { return relation };
            relation.condition = Some(condition);
        }
        relation.applied = ScanStage::RowFilter;
        let after = request.filter.as_ref().map(|predicate| condition(table, predicate));
        if let Some(ids) = &request.keep_latest {
            let Some(latest) = keep_latest(table, ids, &relation) else { return relation };
            relation.add_condition(&latest);
        }
        relation.applied = ScanStage::KeepLatest;
        match after {
            Some(None) => return relation,
            Some(Some(condition)) => relation.add_condition(&condition),
            None => {}
        }
        relation.applied = ScanStage::Filter;
        relation
    }

    fn add_condition(&mut self, condition: &str) {
        self.condition = Some(match self.condition.take() {
            Some(before) => format!("{before} AND {condition}"),
            None => condition.to_owned(),
        });
    }

    /// The rows for which a condition on windows is true.
    pub(crate) fn qualified(self, condition: &str) -> Self {
        let from = format!("(SELECT {} {} QUALIFY {condition})", self.all, self.sql());
        Self { from, all: "*", condition: None, applied: self.applied }
    }

    /// With more columns.
    pub(crate) fn with_columns(self, columns: &str) -> Self {
        let from = format!("(SELECT {}, {columns} {})", self.all, self.sql());
        Self { from, all: "*", condition: None, applied: self.applied }
    }

    /// `FROM` and `WHERE`.
    pub(crate) fn sql(&self) -> String {
        match &self.condition {
            Some(condition) => format!("FROM {} WHERE {condition}", self.from),
            None => format!("FROM {}", self.from),
        }
    }
}

/// A scan as a statement.
#[derive(Debug)]
pub(crate) struct Select {
    pub(crate) sql: String,
    /// The columns that are read, by their places in the table's schema.
    pub(crate) columns: Vec<usize>,
    pub(crate) applied: ScanStage,
}

/// The statement that reads what is asked for, and what the core needs to apply the rest.
pub(crate) fn select(table: &StoredTable, request: &ScanRequest) -> Select {
    let relation = Relation::new(table, request);
    let needed: HashSet<String> = request.columns_needed(&table.schema, relation.applied).into_iter().collect();
    let columns: Vec<usize> =
        (0..table.columns.len()).filter(|index| needed.contains(&table.columns[*index].name)).collect();
    let names: Vec<String> = columns.iter().map(|index| quoted(&table.columns[*index].sql_name)).collect();
    let names = if names.is_empty() { "NULL".to_owned() } else { names.join(", ") };
    Select { sql: format!("SELECT {names} {}", relation.sql()), columns, applied: relation.applied }
}

/// Says of a row of a relation that it is the newest of its ids. Naming the rows that are not keeps the columns that are
/// read out of the window's sort, and most often there are none to name.
fn keep_latest(table: &StoredTable, ids: &[String], relation: &Relation) -> Option<String> {
    if table.has_own_rowid() {
        return None;
    }
    let ids = ids.iter().map(|id| table.name_in_sql(id)).collect::<Option<Vec<_>>>()?;
    let newest = newest_of(table, &ids.join(", "));
    Some(format!("rowid NOT IN (SELECT rowid {} QUALIFY NOT {newest})", relation.sql()))
}

/// Says of a row that it was written or deleted last among those that agree in some columns; of several the last one.
pub(crate) fn newest_of(table: &StoredTable, columns: &str) -> String {
    let times = [columns::DELETED_AT, columns::UPDATED_AT];
    let times: Vec<String> = times.into_iter().filter_map(|name| table.name_in_sql(name)).collect();
    let newest = match times.len() {
        0 => String::new(),
        _ => format!("coalesce({}) DESC NULLS LAST, ", times.join(", ")),
    };
    format!("(row_number() OVER (PARTITION BY {columns} ORDER BY {newest}rowid DESC) = 1)")
}

/// The names of a struct's members as DuckDB has them.
pub(crate) fn member_names(members: &arrow::datatypes::Fields) -> Vec<String> {
    distinct(members.iter().map(|member| member.name().as_str()))
}
