//! The backend keeps every promise, and `metaxy.toml` finds it.

use std::path::PathBuf;
use std::sync::Arc;

use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, MetaxyConfig, SharedBackend};
use metaxy_parquet_dir::ParquetDir;
use metaxy_testkit::{Load, Location, Result};

struct Directory(tempfile::TempDir);

async fn directory() -> Result<Directory> {
    Ok(Directory(tempfile::tempdir().expect("a temporary directory can be made")))
}

#[async_trait::async_trait]
impl Location for Directory {
    async fn backend(&self) -> Result<SharedBackend> {
        Ok(Arc::new(ParquetDir::new(self.0.path().join("rows"))))
    }

    fn settings(&self) -> toml::Table {
        toml::Table::from_iter([("path".to_owned(), self.0.path().join("rows").display().to_string().into())])
    }

    fn directory(&self) -> Option<PathBuf> {
        Some(self.0.path().join("rows"))
    }

    fn load(&self) -> Load {
        // The state of a table names all its files: the ten thousandth write would be slow.
        Load::default().tiny_writes(300)
    }
}

metaxy_testkit::conformance!(parquet_dir, directory);

#[tokio::test]
async fn metaxy_toml_finds_it() -> Result<()> {
    let directory = directory().await?;
    let file = directory.0.path().join("metaxy.toml");
    let text = format!("[stores.dev]\ntype = \"parquet-dir\"\n{}", directory.settings());
    std::fs::write(&file, text).expect("a file can be written");
    let graph = FeatureGraph::new([FeatureSpec::builder("raw/video").id_columns(["video_id"]).build()?])?;
    let store = MetaxyConfig::load_from(&file)?.open_store("dev", graph, AccessMode::ReadWrite).await?;
    assert_eq!(store.backend().info().kind, "parquet-dir");
    assert!(!store.has_feature("raw/video").await?);
    store.close().await
}
