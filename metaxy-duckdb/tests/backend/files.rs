//! Locations that are not stores, and files that this DuckDB cannot read.

use std::path::PathBuf;

use metaxy_core::{AccessMode, Error, StoreBackend};
use metaxy_duckdb::{DuckDbBackend, DuckDbConfig};

use super::{append, batch, ints, open, read};

#[tokio::test]
async fn locations_that_are_not_stores() {
    let dir = tempfile::tempdir().unwrap();
    let try_open = async |path: PathBuf, mode| open(&path, mode).await.unwrap_err();
    for mode in [AccessMode::ReadOnly, AccessMode::ReadWrite] {
        let error = try_open(dir.path().join("none/store.duckdb"), mode).await;
        assert!(matches!(error, Error::LocationNotFound { .. }), "{error}");
        let error = try_open(dir.path().to_owned(), mode).await;
        assert!(matches!(error, Error::NotAStore { .. }), "{error}");
        for (name, content) in [
            ("notes.txt", "this is a text file, and has never been anything else ".repeat(1000).into_bytes()),
            ("short.txt", b"short".to_vec()),
            ("zeros.bin", vec![0; 100_000]),
            ("other.db", b"SQLite format 3\0 and more".to_vec()),
            ("table.parquet", b"PAR1 and more of this".to_vec()),
        ] {
            let file = dir.path().join(name);
            std::fs::write(&file, &content).unwrap();
            let error = try_open(file.clone(), mode).await;
            assert!(matches!(error, Error::NotAStore { .. }), "{name}: {error:?}");
            assert_eq!(std::fs::read(&file).unwrap(), content, "{name} is as it was");
        }
    }
    let error = try_open(dir.path().join("missing.duckdb"), AccessMode::ReadOnly).await;
    assert!(matches!(error, Error::LocationNotFound { .. }), "{error}");
    assert!(!dir.path().join("missing.duckdb").exists());
}

#[tokio::test]
async fn invalid_settings() {
    for config in [
        DuckDbConfig::new("a\0b"),
        DuckDbConfig::new("store.duckdb").table_prefix("1x"),
        DuckDbConfig::new("store.duckdb").table_prefix("x\";"),
        DuckDbConfig::new("store.duckdb").setting("access_mode", "read_only"),
        DuckDbConfig::new("store.duckdb").setting("default_collation", "nocase"),
        DuckDbConfig::new("store.duckdb").setting("threads", toml::Value::Array(Vec::new())),
    ] {
        let error = DuckDbBackend::new(config).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error}");
    }
    for remote in ["s3://bucket/store.duckdb", "md:shared"] {
        let error = DuckDbBackend::new(DuckDbConfig::new(remote)).unwrap_err();
        assert!(matches!(&error, Error::Config { key, .. } if key == "database"), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb").display().to_string();
    for config in [
        DuckDbConfig::new(&path).setting("no_such_setting", 1),
        DuckDbConfig::new(&path).setting("memory_limit", "a lot"),
        DuckDbConfig::new(&path).storage_version("v0.0.1"),
    ] {
        let error = DuckDbBackend::new(config).unwrap().open(AccessMode::ReadWrite).await.unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error:?}");
    }
    assert!(!dir.path().join("store.duckdb").exists());
}

/// The position of the version in a file, after a checksum of 8 bytes and the magic `DUCK`.
const VERSION: usize = 12;

/// Returns DuckDB's checksum of a header block, up to a constant: each word is hashed separately.
fn checksum(words: &[u8]) -> u64 {
    let words = words.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    words.fold(0, |sum, word| sum ^ word.wrapping_mul(0xbf58_476d_1ce4_e5b9))
}

#[tokio::test]
async fn a_file_of_a_newer_version() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", batch(vec![("id", ints([1]))])).await.unwrap();
    store.close().await.unwrap();
    let mut file = std::fs::read(&path).unwrap();
    let before = checksum(&file[8..24]);
    file[VERSION..VERSION + 8].copy_from_slice(&9999_u64.to_le_bytes());
    let stored = u64::from_le_bytes(file[..8].try_into().unwrap());
    let sum = stored ^ before ^ checksum(&file[8..24]);
    file[..8].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&path, file).unwrap();
    let error = open(&path, AccessMode::ReadWrite).await.unwrap_err();
    assert!(matches!(&error, Error::NotAStore { reason, .. } if reason.contains("9999")), "{error:?}");
}

#[tokio::test]
async fn a_damaged_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", batch(vec![("id", ints(0..100_000))])).await.unwrap();
    store.close().await.unwrap();
    let mut file = std::fs::read(&path).unwrap();
    file[12 * 1024..].iter_mut().for_each(|byte| *byte ^= 0x55);
    std::fs::write(&path, file).unwrap();
    let error = open(&path, AccessMode::ReadWrite).await.unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. } | Error::Corrupt { .. }), "{error:?}");
}

#[tokio::test]
async fn a_store_can_be_reopened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", batch(vec![("id", ints([1]))])).await.unwrap();
    store.close().await.unwrap();
    store.close().await.unwrap();
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["store.duckdb"], "the write-ahead log is gone once the store is closed");
    let error = append(&store, "t", batch(vec![("id", ints([1]))])).await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    store.open(AccessMode::ReadOnly).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 1);
    let error = append(&store, "t", batch(vec![("id", ints([1]))])).await.unwrap_err();
    assert!(matches!(error, Error::AccessDenied { .. }), "{error}");
}
