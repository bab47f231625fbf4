//! Reads the description of tables from the catalog of the database.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use metaxy_core::{Error, FeatureKey, Result, columns};
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::connection::Connection;
use crate::error::During;
use crate::sql::names::{literal, quoted};
use crate::types::comment::{self, Backup};
use crate::types::shape::{self, Shape};
use crate::types::{self, PgType, Storage, Wire};

/// The maximum length of a name; PostgreSQL truncates longer ones.
pub(crate) const NAME_BYTES: usize = 63;

/// The names of a table.
#[derive(Clone, Debug)]
pub(crate) struct TableName {
    pub(crate) key: FeatureKey,
    /// Without the schema.
    pub(crate) plain: String,
    /// With the schema, quoted.
    pub(crate) quoted: String,
    pub(crate) schema: String,
}

impl TableName {
    pub(crate) fn new(schema: &str, prefix: &str, key: &FeatureKey) -> Result<Self> {
        let plain = format!("{prefix}{}", key.table_name());
        if plain.len() > NAME_BYTES {
            return Err(Error::LimitExceeded {
                what: format!("the table name `{plain}` of {} bytes", plain.len()),
                limit: format!("{NAME_BYTES} bytes in PostgreSQL"),
                hint: format!("shorten the key of `{key}`, or the `table_prefix`"),
            });
        }
        let quoted = format!("{}.{}", quoted(schema), quoted(&plain));
        Ok(Self { key: key.clone(), plain, quoted, schema: schema.to_owned() })
    }

    pub(crate) fn invalid(&self, column: &str, reason: String) -> Error {
        Error::InvalidColumn { feature: self.key.clone(), column: column.to_owned(), reason }
    }
}

/// An existing column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) storage: Storage,
    /// Its number in the table.
    pub(crate) number: i16,
    /// Whether its Arrow type is recorded in a comment; otherwise it follows from its PostgreSQL type.
    pub(crate) is_typed: bool,
}

impl Column {
    fn is_untyped_json(&self) -> bool {
        self.holds_json() && self.storage.data_type == DataType::Utf8
    }

    fn is_untyped_by_field(&self) -> bool {
        self.holds_json() && matches!(self.storage.data_type, DataType::Map(_, _))
    }

    fn holds_json(&self) -> bool {
        !self.is_typed && matches!(self.storage.wire, Wire::Jsonb | Wire::Json)
    }
}

/// An existing table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) columns: Vec<Column>,
    /// Whether rows have a location (`ctid`), which views do not have.
    pub(crate) is_plain: bool,
    pub(crate) comment: Option<String>,
    /// The greatest number that a column has had.
    pub(crate) numbers: i16,
}

impl Table {
    pub(crate) fn schema(&self) -> SchemaRef {
        let field = |column: &Column| Field::new(&column.name, column.storage.data_type.clone(), true);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// Finds a table.
pub(crate) async fn table(connection: &mut Connection<'_>, name: &TableName) -> Result<Option<Table>> {
    let Some(mut table) = look_up(connection, name).await? else { return Ok(None) };
    type_by_field(connection, name, &mut table).await?;
    // The Python package stores structs as `jsonb`, and reads columns with only objects as structs.
    if table.find(columns::PROVENANCE).is_some() {
        for column in table.columns.iter_mut().filter(|column| column.is_untyped_json()) {
            let shape = shape(connection, name, column).await?;
            if let Some(data_type) = shape.object_type() {
                column.storage.data_type = data_type;
            }
        }
    }
    Ok(Some(table))
}

/// Finds a table for a write of rows of a schema. A `jsonb` column without a recorded type accepts nested values too:
/// in the type of its values or, if it is empty, in theirs.
pub(crate) async fn for_write(
    connection: &mut Connection<'_>,
    name: &TableName,
    schema: &Schema,
) -> Result<Option<Table>> {
    let Some(mut table) = look_up(connection, name).await? else { return Ok(None) };
    type_by_field(connection, name, &mut table).await?;
    for column in table.columns.iter_mut().filter(|column| column.is_untyped_json()) {
        let Ok(given) = schema.field_with_name(&column.name) else { continue };
        if given.data_type().is_nested() {
            let shape = shape(connection, name, column).await?;
            column.storage.data_type = shape.type_for(given.data_type()).unwrap_or(DataType::Utf8);
        }
    }
    Ok(Some(table))
}

/// Gives by-field columns of other programs the type of a struct if they have values other than texts: as texts they
/// would be written back as different values, and the hash of a float is that of its own text.
async fn type_by_field(connection: &mut Connection<'_>, name: &TableName, table: &mut Table) -> Result<()> {
    for column in table.columns.iter_mut().filter(|column| column.is_untyped_by_field()) {
        let during = During::table("look up", &name.plain);
        let rows = connection.rows(during, &shape::sample(&name.quoted, &quoted(&column.name))).await?;
        let others = rows.first().map(|row| row.try_get("others")).transpose();
        if others.map_err(|error| connection.failed(during, error))? != Some(true) {
            continue;
        }
        if let Some(data_type) = shape(connection, name, column).await?.object_type() {
            column.storage.data_type = data_type;
        }
    }
    Ok(())
}

/// Returns the shape of the values in a `jsonb` column.
async fn shape(connection: &mut Connection<'_>, name: &TableName, column: &Column) -> Result<Shape> {
    let during = During::table("look up", &name.plain);
    let rows = connection.rows(during, &shape::query(&name.quoted, &quoted(&column.name))).await?;
    let mut shape = Shape::default();
    for row in &rows {
        let read = |error| connection.failed(during, error);
        let (path, kind): (String, String) = (row.try_get("path").map_err(read)?, row.try_get("kind").map_err(read)?);
        shape.add(&path, &kind);
    }
    Ok(shape)
}

async fn look_up(connection: &mut Connection<'_>, name: &TableName) -> Result<Option<Table>> {
    let during = During::table("look up", &name.plain);
    let question = format!(
        "SELECT c.relkind::text AS kind, c.relnatts AS numbers, a.attname::text AS name, a.attnum AS number, \
                a.atttypid::int8 AS type, a.atttypmod AS modifier, \
                pg_catalog.format_type(a.atttypid, a.atttypmod) AS sql, \
                pg_catalog.obj_description(c.oid, 'pg_class') AS table_comment, \
                pg_catalog.col_description(a.attrelid, a.attnum) AS comment \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         WHERE n.nspname = {} AND c.relname = {} AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY a.attnum",
        literal(&name.schema),
        literal(&name.plain)
    );
    let rows = connection.rows(during, &question).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    read_table(first, &rows).map(Some).map_err(|error| connection.failed(during, error))
}

fn read_table(first: &PgRow, rows: &[PgRow]) -> sqlx::Result<Table> {
    let kind: String = first.try_get("kind")?;
    let comment: Option<String> = first.try_get("table_comment")?;
    let backup = comment.as_deref().map(Backup::read).unwrap_or_default();
    let columns = rows.iter().filter_map(|row| column(row, &backup).transpose()).collect::<sqlx::Result<Vec<_>>>()?;
    Ok(Table { columns, is_plain: kind == "r" || kind == "m", comment, numbers: first.try_get("numbers")? })
}

/// Reads a column from its row; `None` for a table without columns.
fn column(row: &PgRow, backup: &Backup) -> sqlx::Result<Option<Column>> {
    let Some(name) = row.try_get::<Option<String>, _>("name")? else { return Ok(None) };
    let (oid, number): (i64, i16) = (row.try_get("type")?, row.try_get("number")?);
    let pg = PgType { oid: u32::try_from(oid).unwrap_or_default(), modifier: row.try_get("modifier")? };
    let comment: Option<String> = row.try_get("comment")?;
    let written = comment.as_deref().and_then(comment::read).into_iter().chain(backup.find(&name, number));
    let (storage, is_typed) = types::existing(&name, pg, row.try_get("sql")?, written);
    Ok(Some(Column { name, storage, number, is_typed }))
}

/// Returns the names of all tables of a schema.
pub(crate) async fn tables(connection: &mut Connection<'_>, schema: &str) -> Result<Vec<String>> {
    let during = During::store("list tables");
    let question = format!(
        "SELECT c.relname::text AS name FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = {} AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY c.relname",
        literal(schema)
    );
    let rows = connection.rows(during, &question).await?;
    let names = rows.iter().map(|row| row.try_get("name")).collect::<sqlx::Result<_>>();
    names.map_err(|error| connection.failed(during, error))
}
