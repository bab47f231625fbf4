//! The backend keeps every promise, and `metaxy.toml` finds it.

use std::sync::Arc;

use metaxy_core::{AccessMode, FeatureGraph, MetaxyConfig, SharedBackend};
use metaxy_parquet_dir::ParquetDir;
use metaxy_testkit::{Location, Result, Support};

struct Directory(tempfile::TempDir);

async fn directory() -> Result<Directory> {
    Ok(Directory(tempfile::tempdir().expect("a temporary directory can be made")))
}

#[async_trait::async_trait]
impl Location for Directory {
    async fn backend(&self) -> Result<SharedBackend> {
        Ok(Arc::new(ParquetDir::new(self.0.path())))
    }

    fn settings(&self) -> toml::Table {
        toml::Table::from_iter([("path".to_owned(), self.0.path().display().to_string().into())])
    }

    fn support(&self) -> Support {
        Support::default().refuses(["interval"]).tiny_writes(500)
    }
}

metaxy_testkit::conformance!(parquet_dir, directory);

#[tokio::test]
async fn configured() -> Result<()> {
    let text = format!("[stores.dev]\ntype = \"parquet-dir\"\n{}", directory().await?.settings());
    let config = MetaxyConfig::from_toml_str(&text)?;
    let store = config.open_store("dev", FeatureGraph::new([])?, AccessMode::ReadWrite).await?;
    assert_eq!(store.backend().info().kind, "parquet-dir");
    Ok(())
}
