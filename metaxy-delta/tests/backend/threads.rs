//! A store needs no blocking thread of the user's runtime, and damage prints no panic.

use std::path::{Path, PathBuf};
use std::time::Duration;

use metaxy_core::{Error, StoreBackend, col};
use metaxy_testkit::process;
use tokio::runtime::Builder;

use crate::{TABLE, append, key, local, on_s3, opened, read, read_ids, rows};

const LONG: Duration = Duration::from_secs(120);

/// Makes every call of a store once.
async fn all_operations(settings: metaxy_delta::DeltaConfig) {
    let backend = opened(&settings).await;
    for number in 0..3 {
        append(&backend, rows([number])).await.unwrap();
    }
    let schema = backend.schema(&key(TABLE)).await.unwrap().unwrap();
    let predicate = col("id").eq(1).bind(&schema).unwrap();
    assert_eq!(backend.delete(&key(TABLE), &predicate).await.unwrap(), 1);
    backend.compact(&key(TABLE)).await.unwrap();
    backend.vacuum(&key(TABLE), Duration::ZERO).await.unwrap();
    assert_eq!(backend.tables().await.unwrap(), ["raw__video"]);
    assert_eq!(read_ids(&opened(&settings).await).await.unwrap(), [0, 2]);
    backend.drop_table(&key(TABLE)).await.unwrap();
    assert!(backend.schema(&key(TABLE)).await.unwrap().is_none());
}

/// The caller occupies the only blocking thread.
#[test]
fn a_runtime_without_a_free_blocking_thread() {
    let (root, bucket) = (tempfile::tempdir().unwrap(), metaxy_testkit::servers::s3::bucket().unwrap());
    for settings in [local(root.path()), on_s3(&bucket)] {
        let runtime =
            Builder::new_multi_thread().worker_threads(2).max_blocking_threads(1).enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        runtime.block_on(async {
            let work = tokio::task::spawn_blocking(move || handle.block_on(all_operations(settings)));
            tokio::time::timeout(LONG, work).await.expect("no hang").unwrap();
        });
        runtime.shutdown_background();
    }
}

fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.to_str().unwrap().ends_with(ending)).collect();
    paths.sort();
    paths
}

/// Reads a table repeatedly, each time with another byte of a file changed.
async fn damaged(root: &Path, file: &Path) {
    let whole = std::fs::read(file).unwrap();
    let step = whole.len().div_ceil(150).max(1);
    for at in (0..whole.len()).step_by(step) {
        for value in [0xff, whole[at] ^ 0x40] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            std::fs::write(file, bytes).unwrap();
            let backend = opened(&local(root)).await;
            let outcome = tokio::time::timeout(LONG, read(&backend)).await.expect("no hang");
            if let Err(error) = outcome {
                let known =
                    matches!(error, Error::Corrupt { .. } | Error::Unsupported { .. } | Error::TypeMismatch { .. });
                assert!(known, "byte {at} of {}: {error:?}", file.display());
            }
        }
    }
    std::fs::write(file, whole).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_anywhere_is_an_error_and_prints_no_panic() {
    if process::told().is_some() {
        let root = tempfile::tempdir().unwrap();
        let backend = opened(&local(root.path())).await;
        for number in 0..3 {
            append(&backend, rows(number * 50..number * 50 + 50)).await.unwrap();
        }
        backend.compact(&key(TABLE)).await.unwrap();
        append(&backend, rows([1000])).await.unwrap();
        let table = root.path().join("raw/video.delta");
        let log = table.join("_delta_log");
        let checkpoint = files(&log, ".checkpoint.parquet").pop().unwrap();
        let largest = files(&table, ".parquet").into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
        let last = files(&log, ".json").pop().unwrap();
        for file in [checkpoint, largest, last, log.join("_last_checkpoint")] {
            damaged(root.path(), &file).await;
        }
        return;
    }
    let test = "threads::damage_anywhere_is_an_error_and_prints_no_panic";
    let text = process::assert_passes(&mut process::second(test, ""));
    assert!(!text.contains("panicked"), "{text}");
}
