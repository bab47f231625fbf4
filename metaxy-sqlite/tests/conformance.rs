//! The conformance suite of all backends, on a file.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use metaxy_core::SharedBackend;
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

    fn directory(&self) -> Option<PathBuf> {
        Some(self.0.path().to_owned())
    }
}

async fn directory() -> Result<Directory> {
    Ok(Directory(tempfile::tempdir().expect("a temporary directory")))
}

metaxy_testkit::conformance!(sqlite, directory);
