//! The conformance suite of all backends, on DuckDB.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use metaxy_core::{Error, Result, SharedBackend};
use metaxy_duckdb::{DuckDbBackend, DuckDbConfig};
use metaxy_testkit::location::{Load, Location};

struct File(tempfile::TempDir);

impl File {
    fn path(&self) -> String {
        self.0.path().join("store.duckdb").display().to_string()
    }
}

#[async_trait]
impl Location for File {
    async fn backend(&self) -> Result<SharedBackend> {
        Ok(Arc::new(DuckDbBackend::new(DuckDbConfig::new(self.path()).auto_create_tables(true))?))
    }

    fn settings(&self) -> toml::Table {
        toml::Table::from_iter([
            ("database".to_owned(), self.path().into()),
            ("auto_create_tables".to_owned(), true.into()),
        ])
    }

    fn directory(&self) -> Option<PathBuf> {
        Some(self.0.path().to_owned())
    }

    fn load(&self) -> Load {
        Load::default().tiny_writes(500)
    }
}

async fn file() -> Result<File> {
    tempfile::tempdir().map(File).map_err(|error| Error::backend("duckdb", "make a directory", error))
}

metaxy_testkit::conformance!(duckdb, file);
