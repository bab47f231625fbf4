//! Tables as DuckDB describes them.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use duckdb::Connection;
use metaxy_core::Result;
use serde::{Deserialize, Serialize};

use crate::arrow_border::schema_from_duckdb;
use crate::error::During;
use crate::sql::{member_names, quoted, text};
use crate::types::{distinct_name, from_text, shown, storage, to_text};

/// What the comments of this project begin with.
const MARK: &str = "metaxy ";

/// What a column's comment says where DuckDB alone cannot tell.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Note {
    /// The column's name, where another column differs from it in case only.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Its Arrow type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    data_type: Option<String>,
}

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct StoredColumn {
    pub(crate) name: String,
    pub(crate) data_type: DataType,
    /// Its name in DuckDB.
    pub(crate) sql_name: String,
    /// Its type as DuckDB calls it.
    pub(crate) sql_type: String,
}

impl StoredColumn {
    /// A column that does not exist yet. `taken` has the names of the others in lower case.
    pub(crate) fn new(field: &Field, taken: &mut HashSet<String>) -> Result<Self, &'static str> {
        let data_type = shown_dictionary(field.data_type());
        let sql_type = storage(&data_type)?.sql;
        if needs_note(&data_type) && to_text(&data_type).is_none() {
            return Err("its names are too unusual to be written down; cast it to a simpler type");
        }
        let name = field.name().clone();
        Ok(Self { sql_name: distinct_name(&name, taken), name, data_type, sql_type })
    }

    /// The same column after its type has grown.
    pub(crate) fn with_type(&self, data_type: DataType) -> Self {
        Self { data_type, ..self.clone() }
    }

    /// Name and type, as a CREATE TABLE has them.
    pub(crate) fn definition(&self) -> String {
        format!("{} {}", quoted(&self.sql_name), self.sql_type)
    }

    /// The statement that writes down what DuckDB alone cannot tell.
    pub(crate) fn comment(&self, table: &str) -> Option<String> {
        let note = Note {
            name: (self.name != self.sql_name).then(|| self.name.clone()),
            data_type: needs_note(&self.data_type).then(|| to_text(&self.data_type)).flatten(),
        };
        if note == Note::default() {
            return None;
        }
        let note = serde_json::to_string(&note).ok()?;
        let column = quoted(&self.sql_name);
        Some(format!("COMMENT ON COLUMN {}.{column} IS {}", quoted(table), text(&format!("{MARK}{note}"))))
    }
}

/// The type in which a column comes back. A batch may hold more values than small dictionary keys can count.
fn shown_dictionary(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(keys, values) if keys.primitive_width().is_some_and(|bytes| bytes < 4) => {
            values.as_ref().clone()
        }
        other => other.clone(),
    }
}

fn needs_note(data_type: &DataType) -> bool {
    storage(data_type).is_ok_and(|storage| shown(&storage.wire) != *data_type)
}

/// A table.
#[derive(Clone, Debug)]
pub(crate) struct StoredTable {
    /// Its name in DuckDB, with the prefix.
    pub(crate) sql_name: String,
    pub(crate) columns: Vec<StoredColumn>,
    /// The columns as the core sees them.
    pub(crate) schema: SchemaRef,
}

impl StoredTable {
    pub(crate) fn new(sql_name: String, columns: Vec<StoredColumn>) -> Self {
        let field = |column: &StoredColumn| Field::new(&column.name, column.data_type.clone(), true);
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        Self { sql_name, columns, schema }
    }

    /// Looks a table up.
    pub(crate) fn find(connection: &Connection, sql_name: &str, during: During<'_>) -> Result<Option<Self>> {
        let described = describe(connection, sql_name).map_err(during.fails())?;
        if described.is_empty() {
            return Ok(None);
        }
        let mut statement =
            connection.prepare(&format!("SELECT * FROM {} LIMIT 0", quoted(sql_name))).map_err(during.fails())?;
        let wire = schema_from_duckdb(&statement.query_arrow([]).map_err(during.fails())?.get_schema())?;
        let columns = described.into_iter().zip(wire.fields()).map(|((sql_name, sql_type, comment), field)| {
            let note = comment.as_deref().and_then(read_note).unwrap_or_default();
            let noted = note.data_type.as_deref().and_then(from_text);
            let fits =
                |noted: &DataType| storage(noted).is_ok_and(|storage| shown(&storage.wire) == shown(field.data_type()));
            let data_type = noted.filter(fits).unwrap_or_else(|| shown(field.data_type()));
            StoredColumn { name: note.name.unwrap_or_else(|| sql_name.clone()), data_type, sql_name, sql_type }
        });
        Ok(Some(Self::new(sql_name.to_owned(), columns.collect())))
    }

    pub(crate) fn column(&self, name: &str) -> Option<&StoredColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// A column's name in quotes.
    pub(crate) fn name_in_sql(&self, name: &str) -> Option<String> {
        self.column(name).map(|column| quoted(&column.sql_name))
    }

    /// A column, or a member of a struct, as an expression.
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

    /// Whether a column has the name of DuckDB's row numbers, which are hidden then.
    pub(crate) fn has_own_rowid(&self) -> bool {
        self.columns.iter().any(|column| column.sql_name.eq_ignore_ascii_case("rowid"))
    }

    /// Whether DuckDB has a column in the type that this project would keep it in. An ENUM or a UUID that somebody else
    /// made is shown as a text, but not compared as one.
    pub(crate) fn is_stored_as_written(&self, name: Option<&String>) -> bool {
        let column = name.and_then(|name| self.column(name));
        column.is_some_and(|column| storage(&column.data_type).is_ok_and(|kept| same_type(&kept.sql, &column.sql_type)))
    }
}

/// DuckDB leaves the quotes of names out where they are not needed.
fn same_type(one: &str, other: &str) -> bool {
    one.replace('"', "") == other.replace('"', "")
}

fn read_note(comment: &str) -> Option<Note> {
    serde_json::from_str(comment.strip_prefix(MARK)?).ok()
}

/// Name, type and comment of each column of a table.
fn describe(connection: &Connection, table: &str) -> duckdb::Result<Vec<(String, String, Option<String>)>> {
    let mut statement = connection.prepare(
        "SELECT column_name, data_type, comment FROM duckdb_columns() WHERE database_name = current_database() \
         AND schema_name = current_schema() AND table_name = ? ORDER BY column_index",
    )?;
    statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

/// The names of all tables.
pub(crate) fn table_names(connection: &Connection) -> duckdb::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() \
         AND schema_name = current_schema() AND NOT internal ORDER BY table_name",
    )?;
    statement.query_map([], |row| row.get(0))?.collect()
}
