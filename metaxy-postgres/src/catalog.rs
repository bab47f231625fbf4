//! What the database says of a table, and the statements that make or change one.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use metaxy_core::schema::{convert, grown_schema};
use metaxy_core::{Error, FeatureKey, Result, columns};
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::KIND;
use crate::connection::Connection;
use crate::error::{During, UNDEFINED_COLUMN, UNDEFINED_TABLE, code};
use crate::sql::text::{literal, quote};
use crate::types::comment::{self, Backup};
use crate::types::shape::{self, Shape};
use crate::types::{self, PgType, Storage, Wire};

/// The longest name that PostgreSQL does not cut.
const NAME_BYTES: usize = 63;
/// How many columns a table of PostgreSQL has at most.
const COLUMNS: usize = 1_600;
/// Names that every table of PostgreSQL has already.
const RESERVED: [&str; 6] = ["ctid", "xmin", "cmin", "xmax", "cmax", "tableoid"];

/// The line in a table's comment that says that it has held rows. A new table gets it with its first rows.
pub(crate) const HELD_MARK: &str = "metaxy: has held rows";

/// The statement that gives a table its comment.
pub(crate) fn set_comment(quoted: &str, comment: &str) -> String {
    format!("COMMENT ON TABLE {quoted} IS {};\n", literal(comment))
}

/// A table by its names.
#[derive(Clone, Debug)]
pub(crate) struct TableName {
    pub(crate) key: FeatureKey,
    /// Without the schema.
    pub(crate) plain: String,
    /// With the schema, quoted.
    pub(crate) quoted: String,
    schema: String,
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
        let quoted = format!("{}.{}", quote(schema), quote(&plain));
        Ok(Self { key: key.clone(), plain, quoted, schema: schema.to_owned() })
    }

    pub(crate) fn invalid(&self, column: &str, reason: String) -> Error {
        Error::InvalidColumn { feature: self.key.clone(), column: column.to_owned(), reason }
    }
}

/// A column that exists.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) storage: Storage,
    /// Its number in the table.
    number: i16,
    /// Whether its Arrow type is written down, or follows from its PostgreSQL type.
    is_typed: bool,
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

/// A table that exists.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) columns: Vec<Column>,
    /// Whether rows have a place of their own (`ctid`): views and the like do not.
    pub(crate) is_plain: bool,
    comment: Option<String>,
    /// The highest number that a column has had.
    numbers: i16,
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

/// Looks a table up.
pub(crate) async fn table(connection: &mut Connection<'_>, name: &TableName) -> Result<Option<Table>> {
    let Some(mut table) = look_up(connection, name).await? else { return Ok(None) };
    type_by_field(connection, name, &mut table).await?;
    // The Python package stores structs so, and reads what holds nothing but objects as structs.
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

/// Looks a table up to write rows of a schema. A `jsonb` column whose type is not written down takes nested values too: in
/// the type of what it holds, else in theirs.
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

/// Gives by-field columns of other programs the type of a struct where they hold something else than texts: as texts such
/// values would be written back as other ones, and the hash of a float is that of its own text.
async fn type_by_field(connection: &mut Connection<'_>, name: &TableName, table: &mut Table) -> Result<()> {
    for column in table.columns.iter_mut().filter(|column| column.is_untyped_by_field()) {
        let during = During::table("look up", &name.plain);
        let rows = connection.rows(during, &shape::sample(&name.quoted, &quote(&column.name))).await?;
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

/// What a `jsonb` column holds.
async fn shape(connection: &mut Connection<'_>, name: &TableName, column: &Column) -> Result<Shape> {
    let during = During::table("look up", &name.plain);
    let rows = connection.rows(during, &shape::query(&name.quoted, &quote(&column.name))).await?;
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

/// A column from its row; `None` for a table without any.
fn column(row: &PgRow, backup: &Backup) -> sqlx::Result<Option<Column>> {
    let Some(name) = row.try_get::<Option<String>, _>("name")? else { return Ok(None) };
    let (oid, number): (i64, i16) = (row.try_get("type")?, row.try_get("number")?);
    let pg = PgType { oid: u32::try_from(oid).unwrap_or_default(), modifier: row.try_get("modifier")? };
    let comment: Option<String> = row.try_get("comment")?;
    let written = comment.as_deref().and_then(comment::read).into_iter().chain(backup.find(&name, number));
    let (storage, is_typed) = types::existing(&name, pg, row.try_get("sql")?, written);
    Ok(Some(Column { name, storage, number, is_typed }))
}

/// The names of all tables of a schema.
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

/// The time of the newest row, in microseconds from 1970; `None` for no table, no rows, or rows without times.
pub(crate) async fn newest_stamp(connection: &mut Connection<'_>, name: &TableName) -> Result<Option<i64>> {
    let newest = |column: &str| {
        let column = quote(column);
        format!("(extract(epoch FROM max({column}) FILTER (WHERE isfinite({column}))) * 1000000)::bigint")
    };
    let (updated, deleted) = (newest(columns::UPDATED_AT), newest(columns::DELETED_AT));
    let question = format!("SELECT greatest({updated}, {deleted}) AS answer FROM {}", name.quoted);
    ask(connection, name, &question).await.map(Option::flatten)
}

/// The answer to a question about a table; `None` where there is no such table or column.
async fn ask<T>(connection: &mut Connection<'_>, name: &TableName, question: &str) -> Result<Option<T>>
where
    T: for<'a> sqlx::Decode<'a, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let during = During::table("read", &name.plain);
    let rows = match connection.try_rows(question).await {
        Err(error) if [UNDEFINED_TABLE, UNDEFINED_COLUMN].contains(&code(&error).as_str()) => return Ok(None),
        rows => rows.map_err(|error| connection.failed(during, error))?,
    };
    let answer = rows.first().map(|row| row.try_get("answer")).transpose();
    answer.map_err(|error| connection.failed(during, error))
}

/// How rows are written: the columns in their order, and what has to be done to the table first.
pub(crate) struct WritePlan {
    pub(crate) columns: Vec<Column>,
    /// Statements that create or change the table; empty where it fits.
    pub(crate) changes: String,
}

/// Compares a schema to write with the table that is there.
pub(crate) fn plan_write(
    name: &TableName,
    table: Option<&Table>,
    schema: &Schema,
    nested_as_jsonb: bool,
) -> Result<WritePlan> {
    let mut changes = Changes { next: table.map_or(0, |table| table.numbers), ..Changes::default() };
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        check_name(name, field.name())?;
        columns.push(match table.and_then(|table| table.find(field.name())) {
            Some(column) => {
                let grown = grown(name, column, field)?;
                if grown.storage.data_type != column.storage.data_type {
                    changes.comment(name, &grown);
                }
                grown
            }
            None => changes.add(name, field, nested_as_jsonb)?,
        });
    }
    let count = changes.added.len() + table.map_or(0, |table| table.columns.len());
    if count > COLUMNS {
        return Err(Error::LimitExceeded {
            what: format!("table `{}` of {count} columns", name.plain),
            limit: format!("{COLUMNS} columns in PostgreSQL"),
            hint: "nest some of them in a struct".to_owned(),
        });
    }
    Ok(WritePlan { columns, changes: changes.sql(name, table) })
}

/// What a write changes about a table.
#[derive(Default)]
struct Changes {
    /// Definitions of new columns.
    added: Vec<String>,
    /// Statements that write down types.
    comments: String,
    /// Columns whose types are written down.
    commented: Vec<Column>,
    /// The number of the last column.
    next: i16,
}

impl Changes {
    fn add(&mut self, name: &TableName, field: &Field, nested_as_jsonb: bool) -> Result<Column> {
        self.next += 1;
        let column = new_column(field, self.next, nested_as_jsonb)?;
        self.added.push(format!("{} {}", quote(&column.name), column.storage.sql));
        if types::needs_comment(&column.storage) {
            self.comment(name, &column);
        }
        Ok(column)
    }

    fn comment(&mut self, name: &TableName, column: &Column) {
        let Some(text) = comment::write(&column.storage.data_type) else { return };
        let quoted = quote(&column.name);
        self.comments.push_str(&format!("COMMENT ON COLUMN {}.{quoted} IS {};\n", name.quoted, literal(&text)));
        self.commented.push(column.clone());
    }

    fn sql(self, name: &TableName, table: Option<&Table>) -> String {
        let mut sql = match table {
            None => format!("CREATE TABLE {} ({});\n", name.quoted, self.added.join(", ")),
            Some(_) if self.added.is_empty() => String::new(),
            Some(_) => {
                let added: Vec<String> = self.added.iter().map(|column| format!("ADD COLUMN {column}")).collect();
                format!("ALTER TABLE {} {};\n", name.quoted, added.join(", "))
            }
        };
        sql.push_str(&self.comments);
        if let Some(comment) = self.table_comment(table) {
            sql.push_str(&set_comment(&name.quoted, &comment));
        }
        sql
    }

    /// The new comment of the table. Another program may write its own comments on columns, so the types stand there too.
    fn table_comment(&self, table: Option<&Table>) -> Option<String> {
        let comment = table.map_or(Some(HELD_MARK), |table| table.comment.as_deref());
        if self.commented.is_empty() {
            return comment.filter(|_| table.is_none()).map(str::to_owned);
        }
        let comment = comment.unwrap_or_default();
        let mut backup = Backup::read(comment);
        for column in &self.commented {
            backup.set(&column.name, column.number, &column.storage.data_type);
        }
        Some(backup.write(comment))
    }
}

fn check_name(name: &TableName, column: &str) -> Result<()> {
    if column.len() > NAME_BYTES {
        let reason = format!("its name has {} bytes, and PostgreSQL keeps {NAME_BYTES}; rename it", column.len());
        return Err(name.invalid(column, reason));
    }
    if column.contains('\0') {
        return Err(name.invalid(column, "its name holds a NUL character; rename it".to_owned()));
    }
    if RESERVED.contains(&column) {
        return Err(name.invalid(column, "PostgreSQL keeps this name for itself; rename it".to_owned()));
    }
    Ok(())
}

fn new_column(field: &Field, number: i16, nested_as_jsonb: bool) -> Result<Column> {
    let storage = types::storage(field.name(), field.data_type())?;
    if storage.wire == Wire::Jsonb && !nested_as_jsonb && !columns::is_system(field.name()) {
        return Err(Error::UnsupportedType {
            backend: KIND,
            column: field.name().clone(),
            data_type: field.data_type().to_string(),
            hint: "`auto_cast_struct_for_jsonb` is off; switch it on, or write the value as text".to_owned(),
        });
    }
    Ok(Column { name: field.name().clone(), storage, number, is_typed: true })
}

/// A column that exists, in the type that it has with values of a field.
fn grown(name: &TableName, column: &Column, field: &Field) -> Result<Column> {
    let stored = &column.storage.data_type;
    let mismatch = || Error::TypeMismatch {
        table: name.plain.clone(),
        column: column.name.clone(),
        stored: format!("{stored} ({})", column.storage.sql),
        given: field.data_type().to_string(),
    };
    if column.storage.wire == Wire::Other {
        return Err(mismatch());
    }
    let own = Schema::new(vec![Field::new(&column.name, stored.clone(), true)]);
    let given = Schema::new(vec![field.clone()]);
    let grown = grown_schema(&name.key, &own, &given).map_err(|_| mismatch())?;
    let data_type = grown.field(0).data_type().clone();
    if data_type != *stored {
        types::storage(&column.name, &data_type)?;
    }
    let storage = Storage { data_type, ..column.storage.clone() };
    Ok(Column { storage, ..column.clone() })
}

/// The batches in the types of the columns that they are written to.
pub(crate) fn conform(name: &TableName, columns: &[Column], batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let field = |column: &Column| Field::new(&column.name, column.storage.data_type.clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let conformed = |batch: RecordBatch| {
        let arrays = columns
            .iter()
            .zip(batch.columns())
            .map(|(column, array)| convert(&name.key, &column.name, array, &column.storage.data_type));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(schema.clone(), arrays.collect::<Result<_>>()?, &options)?)
    };
    batches.into_iter().map(conformed).collect()
}

/// The statement that makes writers who create or change one table wait for each other, until the transaction ends.
pub(crate) fn lock(name: &TableName) -> String {
    let key = literal(&format!("metaxy:{}.{}", name.schema, name.plain));
    format!("SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended({key}, 0))")
}
