//! The backend keeps every promise.

use std::path::PathBuf;
use std::sync::Arc;

use metaxy_core::SharedBackend;
use metaxy_redb::Redb;
use metaxy_testkit::{Location, Result};

struct Directory(tempfile::TempDir);

impl Directory {
    fn file(&self) -> PathBuf {
        self.0.path().join("store.redb")
    }
}

async fn directory() -> Result<Directory> {
    Ok(Directory(tempfile::tempdir().expect("a temporary directory can be made")))
}

#[async_trait::async_trait]
impl Location for Directory {
    async fn backend(&self) -> Result<SharedBackend> {
        Ok(Arc::new(Redb::new(self.file())))
    }

    fn settings(&self) -> toml::Table {
        toml::Table::from_iter([("path".to_owned(), self.file().display().to_string().into())])
    }

    fn directory(&self) -> Option<PathBuf> {
        Some(self.0.path().to_owned())
    }
}

metaxy_testkit::conformance!(redb, directory);
