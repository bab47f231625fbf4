//! Reads the description of tables from DuckDB.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use duckdb::Connection;
use metaxy_core::schema::plain_type;
use metaxy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::arrow_border::schema_from_duckdb;
use crate::error::During;
use crate::sql::names::{SCHEMA, TableName, distinct_name, member_names, quoted, text};
use crate::types::{MAX_NESTING, from_text, nesting, shown, storage, to_text};

/// The start of the comments of this project.
const MARK: &str = "metaxy ";

/// The content of a column's comment: what DuckDB does not store.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Note {
    /// The name of the column, if another column differs from it in case only.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The Arrow type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    data_type: Option<String>,
}

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct StoredColumn {
    pub(crate) name: String,
    pub(crate) data_type: DataType,
    /// The name in DuckDB.
    pub(crate) sql_name: String,
    /// The type in DuckDB.
    pub(crate) sql_type: String,
}

impl StoredColumn {
    /// Creates the description of a new column. `taken` has the names of the others in lower case.
    pub(crate) fn new(field: &Field, taken: &mut HashSet<String>) -> Result<Self, &'static str> {
        let data_type = plain_type(field.data_type());
        let sql_type = storage(&data_type)?.sql;
        if needs_note(&data_type) && to_text(&data_type).is_none() {
            return Err("its names cannot be recorded in a comment; cast it to a simpler type");
        }
        let name = field.name().clone();
        Ok(Self { sql_name: distinct_name(&name, taken), name, data_type, sql_type })
    }

    /// Returns the same column after its type has grown.
    pub(crate) fn with_type(&self, data_type: DataType) -> Result<Self, &'static str> {
        let sql_type = storage(&data_type)?.sql;
        Ok(Self { data_type, sql_type, ..self.clone() })
    }

    /// Returns the column as the core knows it.
    pub(crate) fn field(&self) -> Field {
        Field::new(&self.name, self.data_type.clone(), true)
    }

    /// Returns whether DuckDB stores the column in the type that this project would use. An ENUM or a UUID of another
    /// program is read as text, but not compared as text.
    pub(crate) fn is_stored_as_written(&self) -> bool {
        storage(&self.data_type).is_ok_and(|kept| same_type(&kept.sql, &self.sql_type))
    }

    /// Returns name and type, as in CREATE TABLE.
    pub(crate) fn definition(&self) -> String {
        format!("{} {}", quoted(&self.sql_name), self.sql_type)
    }

    /// Returns the statement that records what DuckDB does not store.
    pub(crate) fn comment(&self, table: &TableName) -> Option<String> {
        let note = Note {
            name: (self.name != self.sql_name).then(|| self.name.clone()),
            data_type: needs_note(&self.data_type).then(|| to_text(&self.data_type)).flatten(),
        };
        if note == Note::default() {
            return None;
        }
        let note = serde_json::to_string(&note).ok()?;
        let column = quoted(&self.sql_name);
        Some(format!("COMMENT ON COLUMN {table}.{column} IS {}", text(&format!("{MARK}{note}"))))
    }
}

fn needs_note(data_type: &DataType) -> bool {
    storage(data_type).is_ok_and(|storage| shown(&storage.wire) != *data_type)
}

/// A table.
#[derive(Clone, Debug)]
pub(crate) struct StoredTable {
    pub(crate) sql_name: TableName,
    pub(crate) columns: Vec<StoredColumn>,
    /// The columns as the core sees them.
    pub(crate) schema: SchemaRef,
    pub(crate) indexes: Indexes,
    /// About how many rows it has.
    pub(crate) rows: i64,
}

impl StoredTable {
    /// Finds a table.
    pub(crate) fn find(connection: &Connection, sql_name: &TableName, during: During<'_>) -> Result<Option<Self>> {
        let Some((comment, indexes, rows)) = describe_table(connection, sql_name).map_err(during.fails())? else {
            return match is_view(connection, sql_name).map_err(during.fails())? {
                true => Err(view(sql_name, during)),
                false => Ok(None),
            };
        };
        let indexes = Indexes::find(connection, sql_name, comment, indexes).map_err(during.fails())?;
        let described = describe_columns(connection, sql_name).map_err(during.fails())?;
        check_nesting(&described, during)?;
        let mut statement = connection.prepare(&format!("SELECT * FROM {sql_name} LIMIT 0")).map_err(during.fails())?;
        let wire = schema_from_duckdb(&statement.query_arrow([]).map_err(during.fails())?.get_schema())?;
        let mut columns: Vec<_> =
            described.into_iter().zip(wire.fields()).map(|(own, wire)| own.stored(wire)).collect();
        name_apart(&mut columns);
        let schema = Arc::new(Schema::new(columns.iter().map(StoredColumn::field).collect::<Vec<_>>()));
        Ok(Some(Self { sql_name: sql_name.clone(), columns, schema, indexes, rows }))
    }

    pub(crate) fn column(&self, name: &str) -> Option<&StoredColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Returns the name of a column in quotes.
    pub(crate) fn name_in_sql(&self, name: &str) -> Option<String> {
        self.column(name).map(|column| quoted(&column.sql_name))
    }

    /// Returns a column, or a member of a struct, as an expression.
    pub(crate) fn expression(&self, path: &[String]) -> Option<String> {
        let (first, rest) = path.split_first()?;
        let column = self.column(first)?;
        let mut sql = quoted(&column.sql_name);
        let mut data_type = &column.data_type;
        for part in rest {
            let DataType::Struct(members) = data_type else { return None };
            let index = members.iter().position(|member| member.name() == part)?;
            sql = format!("struct_extract({sql}, {})", text(member_names(members).get(index)?));
            data_type = members.get(index)?.data_type();
        }
        Some(sql)
    }

    /// Returns whether a column has the name of DuckDB's row numbers, which are hidden then.
    pub(crate) fn has_own_rowid(&self) -> bool {
        self.columns.iter().any(|column| column.sql_name.eq_ignore_ascii_case("rowid"))
    }

    /// Returns whether a column is [stored as written](StoredColumn::is_stored_as_written).
    pub(crate) fn is_stored_as_written(&self, name: Option<&String>) -> bool {
        name.and_then(|name| self.column(name)).is_some_and(StoredColumn::is_stored_as_written)
    }
}

/// Compares types. DuckDB omits the quotes of names that do not need them.
fn same_type(one: &str, other: &str) -> bool {
    one.replace('"', "") == other.replace('"', "")
}

fn read_note(comment: &str) -> Option<Note> {
    serde_json::from_str(comment.strip_prefix(MARK)?).ok()
}

/// A column as DuckDB describes it.
struct DescribedColumn {
    name: String,
    sql_type: String,
    comment: Option<String>,
}

impl DescribedColumn {
    fn stored(self, wire: &Field) -> StoredColumn {
        let note = self.comment.as_deref().and_then(read_note).unwrap_or_default();
        let noted = note.data_type.as_deref().and_then(from_text);
        let fits =
            |noted: &DataType| storage(noted).is_ok_and(|storage| shown(&storage.wire) == shown(wire.data_type()));
        // Earlier versions recorded dictionaries, whose keys may be too small for later rows.
        let noted = noted.filter(fits).map(|noted| plain_type(&noted));
        let data_type = noted.unwrap_or_else(|| shown(wire.data_type()));
        let name = note.name.unwrap_or_else(|| self.name.clone());
        StoredColumn { name, data_type, sql_name: self.name, sql_type: self.sql_type }
    }
}

/// Makes names from comments distinct: comments are input, and must not make two columns equal.
fn name_apart(columns: &mut [StoredColumn]) {
    let mut names = HashSet::new();
    if !columns.iter().all(|column| names.insert(column.name.clone())) {
        columns.iter_mut().for_each(|column| column.name = column.sql_name.clone());
    }
}

fn check_nesting(columns: &[DescribedColumn], during: During<'_>) -> Result<()> {
    match columns.iter().find(|column| nesting(&column.sql_type) > MAX_NESTING) {
        None => Ok(()),
        Some(column) => Err(Error::LimitExceeded {
            what: format!("table `{}`, column `{}`: the nesting of its type", during.table_name(), column.name),
            limit: format!("{MAX_NESTING} levels"),
            hint: "store the value as JSON text, or its parts in separate columns".to_owned(),
        }),
    }
}

/// Returns the error for a view, which could read any file that DuckDB can open.
fn view(sql_name: &TableName, during: During<'_>) -> Error {
    Error::Unsupported {
        what: format!("the view `{}` in {} as the table of a feature", sql_name.name, during.location),
        hint: format!("make it a table: CREATE TABLE other AS FROM {}; and rename that", quoted(&sql_name.name)),
    }
}

/// Returns the condition on DuckDB's description of what is in its databases that selects that of a table, with two
/// [`parameters`]. `column` holds the table's name.
pub(crate) fn condition(column: &str) -> String {
    format!("database_name = ? AND schema_name = '{SCHEMA}' AND {column} = ?")
}

/// Returns the parameters of a [`condition`].
pub(crate) fn parameters(table: &TableName) -> [&str; 2] {
    [&table.database, &table.name]
}

/// Reads the comment of a table, the number of its indexes and about that of its rows; `None` if there is no such table.
fn describe_table(connection: &Connection, table: &TableName) -> duckdb::Result<Option<(Option<String>, i64, i64)>> {
    let condition = condition("table_name");
    let sql = format!("SELECT comment, index_count, estimated_size FROM duckdb_tables() WHERE {condition}");
    let read = |row: &duckdb::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    connection.prepare(&sql)?.query_map(parameters(table), read)?.next().transpose()
}

fn is_view(connection: &Connection, view: &TableName) -> duckdb::Result<bool> {
    let sql = format!("SELECT count(*) > 0 FROM duckdb_views() WHERE {}", condition("view_name"));
    connection.query_row(&sql, parameters(view), |row| row.get(0))
}

/// Reads the name of a trigger on a table, if there is any.
pub(crate) fn trigger(connection: &Connection, table: &TableName) -> duckdb::Result<Option<String>> {
    let sql = format!("SELECT trigger_name FROM duckdb_triggers() WHERE {}", condition("table_name"));
    connection.prepare(&sql)?.query_map(parameters(table), |row| row.get(0))?.next().transpose()
}

fn describe_columns(connection: &Connection, table: &TableName) -> duckdb::Result<Vec<DescribedColumn>> {
    let mut statement = connection.prepare(&format!(
        "SELECT column_name, data_type, comment FROM duckdb_columns() WHERE {} ORDER BY column_index ASC",
        condition("table_name")
    ))?;
    let read =
        |row: &duckdb::Row<'_>| Ok(DescribedColumn { name: row.get(0)?, sql_type: row.get(1)?, comment: row.get(2)? });
    statement.query_map(parameters(table), read)?.collect()
}

/// Reads the names of all tables of a database.
pub(crate) fn table_names(connection: &Connection, database: &str) -> duckdb::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = ? AND schema_name = '{SCHEMA}' AND NOT internal \
         ORDER BY table_name ASC"
    ))?;
    statement.query_map([database], |row| row.get(0))?.collect()
}

/// The indexes of another program on a table. DuckDB cannot change the type of a column while there are any, so they
/// are dropped for that: their definitions are kept in the table's comment, so that a crash does not lose them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Indexes {
    /// The statements that create them.
    #[serde(rename = "indexes")]
    definitions: Vec<String>,
    /// The rest of the table's comment.
    #[serde(default)]
    comment: Option<String>,
    /// Their names, while they exist.
    #[serde(skip)]
    names: Vec<String>,
}

impl Indexes {
    fn find(connection: &Connection, table: &TableName, comment: Option<String>, count: i64) -> duckdb::Result<Self> {
        if let Some(aside) = comment.as_deref().and_then(Self::noted) {
            return Ok(aside);
        }
        let mut indexes = Self { comment, ..Self::default() };
        if count > 0 {
            let sql = format!("SELECT index_name, sql FROM duckdb_indexes() WHERE {}", condition("table_name"));
            let mut statement = connection.prepare(&sql)?;
            let found = statement.query_map(parameters(table), |row| Ok((row.get(0)?, row.get(1)?)))?;
            for (name, sql) in found.collect::<duckdb::Result<Vec<(String, Option<String>)>>>()? {
                let Some(sql) = sql.filter(|sql| is_index(sql)) else { continue };
                indexes.names.push(name);
                indexes.definitions.push(sql);
            }
        }
        Ok(indexes)
    }

    /// Reads the definitions from the first line of a comment. The lines below belong to the comment.
    fn noted(comment: &str) -> Option<Self> {
        let (first, below) = comment.split_once('\n').map_or((comment, None), |(first, below)| (first, Some(below)));
        let mut aside: Self = serde_json::from_str(first.strip_prefix(MARK)?).ok()?;
        if !aside.definitions.iter().all(|sql| is_index(sql)) {
            return None;
        }
        let lines: Vec<&str> = aside.comment.as_deref().into_iter().chain(below).collect();
        aside.comment = (!lines.is_empty()).then(|| lines.join("\n"));
        Some(aside)
    }

    /// Returns whether DuckDB would refuse to change the type of a column.
    pub(crate) fn are_in_the_way(&self) -> bool {
        !self.names.is_empty()
    }

    /// Returns whether they were dropped.
    pub(crate) fn are_aside(&self) -> bool {
        !self.definitions.is_empty() && self.names.is_empty()
    }

    /// Returns the statements that drop them.
    pub(crate) fn set_aside(&self, table: &TableName) -> Vec<String> {
        let note = serde_json::to_string(self).map(|note| format!("{MARK}{note}")).unwrap_or_default();
        let drops = self.names.iter().map(|name| format!("DROP INDEX {}", quoted(name)));
        std::iter::once(comment_on(table, Some(&note))).chain(drops).collect()
    }

    /// Returns the statements that create them again.
    pub(crate) fn restore(&self, table: &TableName) -> Vec<String> {
        let comment = comment_on(table, self.comment.as_deref());
        self.definitions.iter().cloned().chain([comment]).collect()
    }
}

/// Returns whether a text is one statement that creates an index. Comments are input: no other statement in them is
/// run.
fn is_index(sql: &str) -> bool {
    let upper = sql.trim_start().to_uppercase();
    let creates = upper.starts_with("CREATE INDEX ") || upper.starts_with("CREATE UNIQUE INDEX ");
    creates && !sql.trim_end().trim_end_matches(';').contains(';')
}

fn comment_on(table: &TableName, comment: Option<&str>) -> String {
    let comment = comment.map_or_else(|| "NULL".to_owned(), text);
    format!("COMMENT ON TABLE {table} IS {comment}")
}
