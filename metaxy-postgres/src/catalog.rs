//! What the database says of a table, and the statements that make or change one.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use metaxy_core::{Error, FeatureKey, Result, columns};
use sqlx::Row;
use sqlx::postgres::PgConnection;

use crate::KIND;
use crate::session::Session;
use crate::sql::{literal, quote};
use crate::types::{self, PgType, Storage, Wire, comment};

/// The longest name that PostgreSQL does not cut.
const NAME_BYTES: usize = 63;
/// Names that every table of PostgreSQL has already.
const RESERVED: [&str; 6] = ["ctid", "xmin", "cmin", "xmax", "cmax", "tableoid"];

/// The line in a table's comment that says that it has held rows. A new table gets it with its first rows.
pub(crate) const HELD_MARK: &str = "metaxy: has held rows";

/// The statement that gives a table its comment.
pub(crate) fn mark_held(quoted: &str, comment: &str) -> String {
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
    pub(crate) fn new(session: &Session, prefix: &str, key: &FeatureKey) -> Result<Self> {
        let plain = format!("{prefix}{}", key.table_name());
        if plain.len() > NAME_BYTES {
            return Err(Error::Unsupported {
                what: format!("the table name `{plain}` of {} bytes", plain.len()),
                hint: format!("PostgreSQL keeps {NAME_BYTES}; shorten the key of `{key}`, or the `table_prefix`"),
            });
        }
        let quoted = format!("{}.{}", quote(&session.schema), quote(&plain));
        Ok(Self { key: key.clone(), plain, quoted, schema: session.schema.clone() })
    }

    fn invalid(&self, column: &str, reason: String) -> Error {
        Error::InvalidColumn { feature: self.key.clone(), column: column.to_owned(), reason }
    }
}

/// A column that exists.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) storage: Storage,
}

/// A table that exists.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) columns: Vec<Column>,
    /// Whether rows have a place of their own (`ctid`): views and the like do not.
    pub(crate) is_plain: bool,
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
pub(crate) async fn table(connection: &mut PgConnection, session: &Session, name: &TableName) -> Result<Option<Table>> {
    let rows = sqlx::query(
        "SELECT c.relkind::text AS kind, a.attname::text AS name, a.atttypid::int8 AS type, a.atttypmod AS modifier, \
                pg_catalog.format_type(a.atttypid, a.atttypmod) AS sql, \
                pg_catalog.col_description(a.attrelid, a.attnum) AS comment \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY a.attnum",
    )
    .bind(&name.schema)
    .bind(&name.plain)
    .fetch_all(connection)
    .await
    .map_err(|error| session.error("look up", Some(&name.plain), error))?;
    let Some(first) = rows.first() else { return Ok(None) };
    let read = |error| session.error("look up", Some(&name.plain), error);
    let kind: String = first.try_get("kind").map_err(read)?;
    let columns = rows.iter().filter_map(|row| column(row).transpose()).collect::<Result<Vec<_>, _>>().map_err(read)?;
    Ok(Some(Table { columns, is_plain: kind == "r" || kind == "m" }))
}

/// A column from its row; `None` for a table without any.
fn column(row: &sqlx::postgres::PgRow) -> sqlx::Result<Option<Column>> {
    let Some(name) = row.try_get::<Option<String>, _>("name")? else { return Ok(None) };
    let oid: i64 = row.try_get("type")?;
    let pg = PgType { oid: u32::try_from(oid).unwrap_or_default(), modifier: row.try_get("modifier")? };
    let comment: Option<String> = row.try_get("comment")?;
    let data_type = comment.as_deref().and_then(comment::read);
    let storage = types::existing(&name, pg, row.try_get("sql")?, data_type.as_ref());
    Ok(Some(Column { name, storage }))
}

/// How a batch is written: the columns in its order, and what has to be done to the table first.
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
    let mut columns = Vec::with_capacity(schema.fields().len());
    let (mut added, mut comments) = (Vec::new(), String::new());
    for field in schema.fields() {
        check_name(name, field.name())?;
        let (column, comment) = match table.and_then(|table| table.find(field.name())) {
            Some(column) => grown(name, column, field)?,
            None => {
                let column = new_column(field, nested_as_jsonb)?;
                added.push(format!("{} {}", quote(&column.name), column.storage.sql));
                let comment = types::needs_comment(&column.storage);
                (column, comment)
            }
        };
        if let (true, Some(text)) = (comment, comment::write(&column.storage.data_type)) {
            let column = quote(&column.name);
            comments.push_str(&format!("COMMENT ON COLUMN {}.{column} IS {};\n", name.quoted, literal(&text)));
        }
        columns.push(column);
    }
    let mut changes = match table {
        None => format!("CREATE TABLE {} ({});\n{}", name.quoted, added.join(", "), mark_held(&name.quoted, HELD_MARK)),
        Some(_) if added.is_empty() => String::new(),
        Some(_) => {
            let added: Vec<String> = added.iter().map(|column| format!("ADD COLUMN {column}")).collect();
            format!("ALTER TABLE {} {};\n", name.quoted, added.join(", "))
        }
    };
    changes.push_str(&comments);
    Ok(WritePlan { columns, changes })
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

fn new_column(field: &Field, nested_as_jsonb: bool) -> Result<Column> {
    let storage = types::storage(field.name(), field.data_type())?;
    if storage.wire == Wire::Jsonb && !nested_as_jsonb && !columns::is_system(field.name()) {
        return Err(Error::UnsupportedType {
            backend: KIND,
            column: field.name().clone(),
            data_type: field.data_type().to_string(),
            hint: "`auto_cast_struct_for_jsonb` is off; switch it on, or write the value as text".to_owned(),
        });
    }
    Ok(Column { name: field.name().clone(), storage })
}

/// A column that exists, for values of a field; with whether its type has grown.
fn grown(name: &TableName, column: &Column, field: &Field) -> Result<(Column, bool)> {
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
    let given = match field.data_type() {
        DataType::Dictionary(_, value) => value,
        other => other,
    };
    if stored.equals_datatype(given) {
        return Ok((column.clone(), false));
    }
    let merged = merged(stored, given).ok_or_else(mismatch)?;
    let has_grown = merged != *stored;
    let storage = Storage { data_type: merged, ..column.storage.clone() };
    Ok((Column { name: column.name.clone(), storage }, has_grown))
}

/// A struct with the members of both; `None` where they contradict each other.
fn merged(stored: &DataType, given: &DataType) -> Option<DataType> {
    let (DataType::Struct(stored_members), DataType::Struct(given_members)) = (stored, given) else {
        return stored.equals_datatype(given).then(|| stored.clone());
    };
    let mut members: Vec<Arc<Field>> = Vec::with_capacity(given_members.len());
    for member in stored_members {
        members.push(match given_members.iter().find(|other| other.name() == member.name()) {
            Some(other) => {
                Arc::new(member.as_ref().clone().with_data_type(merged(member.data_type(), other.data_type())?))
            }
            None => Arc::new(member.as_ref().clone().with_nullable(true)),
        });
    }
    let is_new = |other: &&Arc<Field>| !stored_members.iter().any(|member| member.name() == other.name());
    members.extend(given_members.iter().filter(is_new).map(|m| Arc::new(m.as_ref().clone().with_nullable(true))));
    Some(DataType::Struct(Fields::from(members)))
}

/// The statement that makes writers who create or change one table wait for each other, until the transaction ends.
pub(crate) fn lock(name: &TableName) -> String {
    let key = literal(&format!("metaxy:{}.{}", name.schema, name.plain));
    format!("SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended({key}, 0))")
}
