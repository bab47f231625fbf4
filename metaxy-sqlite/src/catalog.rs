//! The catalog: the tables of a store, and the Arrow types of their columns.
//!
//! SQLite has four kinds of values, and its names are not case-sensitive. So the table `metaxy$tables` has the exact
//! schema of each table, and the name of each of its columns in SQLite, which nearly always equals the column's own
//! name.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef, TimeUnit};
use metaxy_core::schema::{distinct_name, plain_type};
use metaxy_core::{Error, FeatureKey, Result, columns, ipc};
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::{CATALOG, During, corrupt};
use crate::sql::quoted;
use crate::types::{declared_type, storage};

/// The version of the catalog's format.
const FORMAT: i64 = 1;

const CREATE_CATALOG: &str = "CREATE TABLE IF NOT EXISTS metaxy$tables (
  prefix TEXT NOT NULL,        -- the store's table_prefix
  feature TEXT NOT NULL,       -- the feature's table name, without the prefix
  sql_table TEXT NOT NULL UNIQUE, -- the table that holds its rows
  sql_columns TEXT NOT NULL,   -- JSON: the columns of that table, in the order of the schema
  schema BLOB NOT NULL,        -- the Arrow schema, as an IPC stream
  format INTEGER NOT NULL,     -- the version of this description
  PRIMARY KEY (prefix, feature)
)";

/// A table as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredTable {
    /// Its name in SQLite.
    pub(crate) name: String,
    pub(crate) schema: SchemaRef,
    /// The names of its columns in SQLite, in the order of the schema.
    pub(crate) columns: Vec<String>,
}

/// The rows of a table that were seen: the number of the last row, and the latest time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SeenRows {
    last: i64,
    pub(crate) newest: Option<i64>,
}

impl StoredTable {
    /// Returns a column's name in SQLite, quoted, and its field.
    pub(crate) fn column(&self, name: &str) -> Option<(String, &FieldRef)> {
        let (position, field) = self.schema.fields().iter().enumerate().find(|(_, field)| field.name() == name)?;
        Some((quoted(self.columns.get(position)?), field))
    }

    /// Returns the table's name in SQLite, quoted.
    pub(crate) fn quoted_name(&self) -> String {
        quoted(&self.name)
    }
}

/// The tables of one store in a file.
pub(crate) struct Catalog<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) prefix: &'a str,
    pub(crate) during: During<'a>,
}

impl Catalog<'_> {
    fn exists(&self) -> Result<bool> {
        self.has_sql_table(CATALOG)
    }

    fn has_sql_table(&self, name: &str) -> Result<bool> {
        let found = self
            .connection
            .prepare_cached("SELECT 1 FROM sqlite_master WHERE name = ?1 COLLATE NOCASE")
            .and_then(|mut statement| statement.exists([name]));
        found.map_err(|error| self.during.error(error))
    }

    /// Returns the table of a feature, if there is one.
    pub(crate) fn find(&self, key: &FeatureKey) -> Result<Option<StoredTable>> {
        let feature = &key.table_name();
        let Some(Entry { name, columns, schema, format }) = self.entry(feature)? else { return Ok(None) };
        if format != FORMAT {
            return Err(Error::Unsupported {
                what: format!("table `{feature}`, which a newer version of metaxy-sqlite has written,"),
                hint: "update metaxy-sqlite".to_owned(),
            });
        }
        let columns: Vec<String> = serde_json::from_str(&columns)
            .map_err(|error| corrupt(feature, format!("its column list: {error}")).with_source(error))?;
        let schema = plain(&*ipc::decode_schema(feature, &schema)?);
        if columns.len() != schema.fields().len() {
            return Err(corrupt(feature, "its schema and its column list differ in length"));
        }
        for field in schema.fields() {
            if storage(field.data_type()).is_none() {
                return Err(corrupt(feature, format!("column `{}` has the type {}", field.name(), field.data_type())));
            }
        }
        Ok(Some(StoredTable { name, schema: Arc::new(schema), columns }))
    }

    fn entry(&self, feature: &str) -> Result<Option<Entry>> {
        if !self.exists()? {
            return Ok(None);
        }
        let sql = "SELECT sql_table, sql_columns, schema, format FROM metaxy$tables WHERE prefix = ?1 AND feature = ?2";
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Entry { name: row.get(0)?, columns: row.get(1)?, schema: row.get(2)?, format: row.get(3)? })
        };
        let row = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row(params![self.prefix, feature], read).optional());
        row.map_err(|error| self.during.error(error))
    }

    /// Returns the names of all tables.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        if !self.exists()? {
            return Ok(Vec::new());
        }
        let names = self
            .connection
            .prepare_cached("SELECT feature FROM metaxy$tables WHERE prefix = ?1 ORDER BY feature")
            .and_then(|mut statement| statement.query_map([self.prefix], |row| row.get(0))?.collect());
        names.map_err(|error| self.during.error(error))
    }

    /// Creates the table of a feature, or adds the missing columns. `schema` has all columns of the table. Called
    /// within a transaction.
    pub(crate) fn evolve(
        &self,
        key: &FeatureKey,
        stored: Option<StoredTable>,
        schema: SchemaRef,
    ) -> Result<StoredTable> {
        let feature = &key.table_name();
        match stored {
            Some(stored) if stored.schema == schema => Ok(stored),
            Some(stored) => self.extend(feature, stored, schema),
            None => self.create(feature, schema),
        }
    }

    fn create(&self, feature: &str, schema: SchemaRef) -> Result<StoredTable> {
        self.execute(CREATE_CATALOG)?;
        let name = table_name(self.prefix, feature);
        if self.has_sql_table(&name)? {
            return Err(Error::Unsupported {
                what: format!("storing `{feature}` in the table `{name}`, which another program has created,"),
                hint: "set `table_prefix`, or use another file".to_owned(),
            });
        }
        let table = StoredTable { columns: column_names(&schema, Vec::new()), name, schema };
        let columns: Vec<String> = table
            .columns
            .iter()
            .zip(table.schema.fields())
            .map(|(column, field)| format!("{}{}", quoted(column), declared_type(field.data_type())))
            .collect();
        self.execute(&format!("CREATE TABLE {} ({})", table.quoted_name(), columns.join(", ")))?;
        self.save(feature, &table)?;
        Ok(table)
    }

    fn extend(&self, feature: &str, stored: StoredTable, schema: SchemaRef) -> Result<StoredTable> {
        let table =
            StoredTable { columns: column_names(&schema, stored.columns.clone()), name: stored.name.clone(), schema };
        let added = table.columns.iter().zip(table.schema.fields()).skip(stored.columns.len());
        for (column, field) in added {
            let (column, data_type) = (quoted(column), declared_type(field.data_type()));
            self.execute(&format!("ALTER TABLE {} ADD COLUMN {column}{data_type}", table.quoted_name()))?;
        }
        self.save(feature, &table)?;
        Ok(table)
    }

    fn save(&self, feature: &str, table: &StoredTable) -> Result<()> {
        let columns = serde_json::Value::from(table.columns.clone()).to_string();
        let schema = ipc::encode_schema(&table.schema)?;
        let saved = self.connection.execute(
            "INSERT INTO metaxy$tables (prefix, feature, sql_table, sql_columns, schema, format)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (prefix, feature) DO UPDATE SET sql_columns = excluded.sql_columns, schema = excluded.schema",
            params![self.prefix, feature, table.name, columns, schema, FORMAT],
        );
        saved.map(|_| ()).map_err(|error| self.during.error(error))
    }

    /// Returns the latest time of a table's rows. Rows that were seen before are not read again: later rows have
    /// greater numbers, unless the last rows were removed in the meantime.
    pub(crate) fn newest_stamp(&self, table: &StoredTable, seen: SeenRows) -> Result<SeenRows> {
        let times = [columns::UPDATED_AT, columns::DELETED_AT].map(|name| table.column(name));
        let [Some((updated, first)), Some((deleted, second))] = times else { return Ok(SeenRows::default()) };
        let last = format!("SELECT max(rowid) FROM {}", table.quoted_name());
        let rows = format!("SELECT max({updated}), max({deleted}) FROM {} WHERE rowid > ?1", table.quoted_name());
        let look = || -> rusqlite::Result<SeenRows> {
            let last: Option<i64> = self.connection.prepare_cached(&last)?.query_row([], |row| row.get(0))?;
            let last = last.unwrap_or_default();
            let seen = if last < seen.last { SeenRows::default() } else { seen };
            let times = |row: &rusqlite::Row<'_>| {
                Ok(microseconds(row.get(0)?, first.data_type()).max(microseconds(row.get(1)?, second.data_type())))
            };
            let found = self.connection.prepare_cached(&rows)?.query_row([seen.last], times)?;
            Ok(SeenRows { last, newest: seen.newest.max(found) })
        };
        look().map_err(|error| self.during.error(error))
    }

    /// Removes a table, and returns its name in SQLite, if there is one. Called within a transaction.
    pub(crate) fn drop(&self, key: &FeatureKey) -> Result<Option<String>> {
        let feature = key.table_name();
        // Only the name is read, so that a table with a damaged schema can be dropped.
        let Some(entry) = self.entry(&feature)? else { return Ok(None) };
        self.execute(&format!("DROP TABLE IF EXISTS {}", quoted(&entry.name)))?;
        let removed = self
            .connection
            .execute("DELETE FROM metaxy$tables WHERE prefix = ?1 AND feature = ?2", params![self.prefix, feature]);
        removed.map(|_| Some(entry.name)).map_err(|error| self.during.error(error))
    }

    fn execute(&self, sql: &str) -> Result<()> {
        self.connection.execute(sql, []).map(|_| ()).map_err(|error| self.during.error(error))
    }
}

/// Returns a time in microseconds, rounded up.
fn microseconds(time: Option<i64>, data_type: &DataType) -> Option<i64> {
    let DataType::Timestamp(unit, _) = data_type else { return None };
    time.map(|time| match unit {
        TimeUnit::Second => time.saturating_mul(1_000_000),
        TimeUnit::Millisecond => time.saturating_mul(1_000),
        TimeUnit::Microsecond => time,
        TimeUnit::Nanosecond => time.div_euclid(1_000).saturating_add(1),
    })
}

/// A row of the catalog.
struct Entry {
    name: String,
    columns: String,
    schema: Vec<u8>,
    format: i64,
}

/// Returns the schema without dictionaries, which earlier versions wrote into the catalog.
fn plain(schema: &Schema) -> Schema {
    let fields = schema
        .fields()
        .iter()
        .map(|field| Arc::new(field.as_ref().clone().with_data_type(plain_type(field.data_type()))));
    Schema::new_with_metadata(fields.collect::<Vec<FieldRef>>(), schema.metadata().clone())
}

/// Returns the name of a feature's table in SQLite, which reserves names that start with `sqlite_`.
fn table_name(prefix: &str, feature: &str) -> String {
    let name = format!("{prefix}{feature}");
    if name.to_ascii_lowercase().starts_with("sqlite_") { format!("metaxy${name}") } else { name }
}

/// Returns the names in SQLite for the columns of a schema, the first of which are known: the column's own name, or
/// that name with a number if SQLite does not distinguish it from another.
fn column_names(schema: &Schema, known: Vec<String>) -> Vec<String> {
    let mut taken: HashSet<String> = known.iter().map(|name| name.to_ascii_lowercase()).collect();
    // The names by which SQLite numbers rows.
    taken.extend(["rowid", "oid", "_rowid_"].map(str::to_owned));
    let mut names = known;
    for field in schema.fields().iter().skip(names.len()) {
        let own = field.name().replace('\0', "$");
        names.push(distinct_name(&own, "$", str::to_ascii_lowercase, &mut taken));
    }
    names
}
