//! The conformance suite of all backends, on a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use metaxy_core::{Error, FeatureKey, SharedBackend};
use metaxy_sqlite::SqliteBackend;
use metaxy_testkit::{Location, Result};

struct Directory(tempfile::TempDir);

impl Directory {
    fn file(&self) -> PathBuf {
        self.0.path().join("store.db")
    }
}

#[async_trait]
impl Location for Directory {
    async fn backend(&self) -> Result<SharedBackend> {
        Ok(Arc::new(SqliteBackend::file(self.file())))
    }

    fn settings(&self) -> toml::Table {
        toml::Table::from_iter([("database".to_owned(), self.file().display().to_string().into())])
    }

    fn settings_without_rights(&self) -> toml::Table {
        let mut settings = self.settings();
        settings.insert("immutable".to_owned(), true.into());
        settings
    }

    async fn delete_elsewhere(&self, table: &FeatureKey, time: i64) -> Result<bool> {
        deleted_by_sql(&self.file(), &table.table_name(), time)
            .map(|()| true)
            .map_err(|error| Error::backend("sqlite", "write with the driver", error))
    }

    fn directory(&self) -> Option<PathBuf> {
        Some(self.0.path().to_owned())
    }
}

/// Copies a row of a table as deleted, with the driver's own SQL.
fn deleted_by_sql(file: &Path, table: &str, time: i64) -> rusqlite::Result<()> {
    let connection = rusqlite::Connection::open(file)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    let rows = connection.prepare(&format!("SELECT * FROM \"{table}\""))?;
    let names: Vec<String> = rows.column_names().map(|name| format!("\"{name}\"")).collect();
    let values: Vec<String> = names
        .iter()
        .map(|name| if name == "\"metaxy_deleted_at\"" { time.to_string() } else { name.clone() })
        .collect();
    let [names, values] = [names, values].map(|list| list.join(", "));
    connection.execute(&format!("INSERT INTO \"{table}\" ({names}) SELECT {values} FROM \"{table}\" LIMIT 1"), [])?;
    Ok(())
}

async fn directory() -> Result<Directory> {
    Ok(Directory(tempfile::tempdir().expect("a temporary directory")))
}

metaxy_testkit::conformance!(sqlite, directory);
