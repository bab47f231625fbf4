//! Compaction, vacuum and checkpoints.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt;
use metaxy_core::{Error, FeatureKey, ScanRequest, StoreBackend, col};
use metaxy_delta::DeltaConfig;
use tempfile::TempDir;

use crate::{DeltaBackend, TABLE, actions, append, key, local, opened, read_ids, rows};

fn table(root: &TempDir) -> PathBuf {
    root.path().join("raw/video.delta")
}

fn files(directory: &Path, ending: &str) -> usize {
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().is_some_and(|name| name.ends_with(ending))).count()
}

fn every(commits: u64, settings: DeltaConfig) -> DeltaConfig {
    settings.checkpoint_interval(NonZeroU64::new(commits).unwrap())
}

/// Returns a table with this number of commits of one row each.
async fn commits(count: i64) -> (TempDir, DeltaBackend) {
    let root = tempfile::tempdir().unwrap();
    let backend = opened(&local(root.path())).await;
    for number in 0..count {
        append(&backend, rows([number])).await.unwrap();
    }
    (root, backend)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_merges_files() {
    let (root, backend) = commits(20).await;
    let other = opened(&local(root.path())).await;
    let begun = other.scan(&key(TABLE), &ScanRequest::default()).await.unwrap();
    backend.compact(&key(TABLE)).await.unwrap();
    let compacted = actions(&table(&root).join("_delta_log"));
    let removed = compacted.iter().filter(|action| action.get("remove").is_some());
    assert_eq!(removed.filter(|action| action["remove"]["dataChange"] == false).count(), 20);
    // A read that has begun continues, another store reads the new version, and a second compaction does nothing.
    let batches: Vec<_> = begun.stream.try_collect().await.unwrap();
    assert_eq!(batches.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 20);
    assert_eq!(read_ids(&other).await.unwrap(), (0..20).collect::<Vec<_>>());
    other.compact(&key(TABLE)).await.unwrap();
    assert_eq!(files(&table(&root), ".parquet"), 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vacuum_removes_files_that_no_version_needs() {
    let (root, backend) = commits(5).await;
    backend.compact(&key(TABLE)).await.unwrap();
    assert_eq!(backend.vacuum(&key(TABLE), Duration::from_secs(3600)).await.unwrap(), 0, "nothing is old enough");
    assert_eq!(backend.vacuum(&key(TABLE), Duration::ZERO).await.unwrap(), 5);
    assert_eq!(files(&table(&root), ".parquet"), 1);
    assert_eq!(read_ids(&backend).await.unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!(read_ids(&opened(&local(root.path())).await).await.unwrap(), [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_file_without_a_commit_is_kept() {
    let root = tempfile::tempdir().unwrap();
    let backend = opened(&local(root.path())).await;
    append(&backend, rows([1])).await.unwrap();
    let under_way = table(&root).join("part-00000-being-written-c000.snappy.parquet");
    std::fs::write(&under_way, "half of it").unwrap();
    backend.vacuum(&key(TABLE), Duration::ZERO).await.unwrap();
    assert!(under_way.exists());
}

/// Returns the version of the last checkpoint.
fn last_checkpoint(log: &Path) -> u64 {
    let text = std::fs::read(log.join("_last_checkpoint")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&text).unwrap()["version"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_are_written_at_the_interval() {
    let root = tempfile::tempdir().unwrap();
    let settings = every(10, local(root.path())).auto_compact(false);
    let backend = opened(&settings).await;
    let log = table(&root).join("_delta_log");
    for number in 0..25 {
        append(&backend, rows([number])).await.unwrap();
    }
    assert_eq!((files(&log, ".checkpoint.parquet"), last_checkpoint(&log)), (2, 19));
    // Earlier commits are no longer needed.
    for version in 0..19 {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    assert_eq!(read_ids(&opened(&settings).await).await.unwrap(), (0..25).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_files_are_merged_over_time() {
    let root = tempfile::tempdir().unwrap();
    let settings = every(10, local(root.path()));
    let backend = opened(&settings).await;
    for number in 0..95 {
        append(&backend, rows([number])).await.unwrap();
    }
    let log = table(&root).join("_delta_log");
    let count = |kind: &str| actions(&log).iter().filter(|action| action.get(kind).is_some()).count();
    let present = count("add") - count("remove");
    assert!(present <= 10, "{present} files are left");
    assert!(last_checkpoint(&log) > 80);
    let all: Vec<i64> = (0..95).collect();
    assert_eq!(read_ids(&backend).await.unwrap(), all);
    assert_eq!(read_ids(&opened(&settings).await).await.unwrap(), all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_are_not_disturbed_by_compactions() {
    let root = tempfile::tempdir().unwrap();
    let settings = every(7, local(root.path()));
    let (writer, keeper) = (opened(&settings).await, opened(&settings).await);
    append(&writer, rows([0])).await.unwrap();
    let writing = async {
        for number in 1..60 {
            append(&writer, rows([number])).await.unwrap();
        }
    };
    let keeping = async {
        for _ in 0..6 {
            keeper.compact(&key(TABLE)).await.unwrap();
            keeper.vacuum(&key(TABLE), Duration::from_secs(3600)).await.unwrap();
        }
    };
    futures::join!(writing, keeping);
    assert_eq!(read_ids(&writer).await.unwrap(), (0..60).collect::<Vec<_>>());
    assert_eq!(read_ids(&keeper).await.unwrap(), (0..60).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_deleted_during_a_compaction_stay_deleted() {
    let root = tempfile::tempdir().unwrap();
    let settings = every(5, local(root.path()));
    let (deleter, keeper) = (opened(&settings).await, opened(&settings).await);
    for number in 0..40 {
        append(&deleter, rows(number * 10..(number + 1) * 10)).await.unwrap();
    }
    let schema = deleter.schema(&key(TABLE)).await.unwrap().unwrap();
    let deleting = async {
        for id in (0..400).step_by(13) {
            let predicate = col("id").eq(id).bind(&schema).unwrap();
            assert_eq!(deleter.delete(&key(TABLE), &predicate).await.unwrap(), 1, "{id}");
            append(&deleter, rows([1000 + id])).await.unwrap();
        }
    };
    let keeping = async {
        for _ in 0..20 {
            keeper.compact(&key(TABLE)).await.unwrap();
        }
    };
    futures::join!(deleting, keeping);
    let (gone, kept): (Vec<i64>, Vec<i64>) = (0..400).partition(|id| id % 13 == 0);
    let expected: Vec<i64> = kept.into_iter().chain(gone.iter().map(|id| 1000 + id)).collect();
    assert_eq!(read_ids(&deleter).await.unwrap(), expected);
    assert_eq!(read_ids(&keeper).await.unwrap(), expected);
}

/// A later commit must not refer to files that a drop has removed, including those of a running write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_survives_a_drop_that_removes_its_files() {
    for pause in [10, 60, 110, 160] {
        let root = tempfile::tempdir().unwrap();
        let (writer, dropper) = (opened(&local(root.path())).await, opened(&local(root.path())).await);
        append(&writer, rows([-1])).await.unwrap();
        let dropping = async {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            dropper.drop_table(&key(TABLE)).await.unwrap();
        };
        let (written, ()) = futures::join!(append(&writer, rows(0..300_000)), dropping);
        written.unwrap();
        for backend in [&writer, &dropper] {
            match read_ids(backend).await {
                // Written before the drop, or for the table that was created afterwards.
                Ok(ids) => assert_eq!(ids, (0..300_000).collect::<Vec<_>>()),
                Err(error) => assert!(matches!(error, Error::FeatureNotFound { .. }), "{error:?}"),
            }
        }
    }
}

#[tokio::test]
async fn maintenance_of_a_missing_table_does_nothing() {
    let root = tempfile::tempdir().unwrap();
    let backend = opened(&local(root.path())).await;
    let missing: FeatureKey = key("not/there");
    backend.compact(&missing).await.unwrap();
    assert_eq!(backend.vacuum(&missing, Duration::ZERO).await.unwrap(), 0);
    backend.drop_table(&missing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_filled_and_emptied_tables_differ() {
    let root = tempfile::tempdir().unwrap();
    let log = table(&root).join("_delta_log");
    std::fs::create_dir_all(&log).unwrap();
    let field =
        |name: &str, kind: &str| serde_json::json!({"name": name, "type": kind, "nullable": true, "metadata": {}});
    let schema = serde_json::json!({"type": "struct", "fields": [field("id", "long"), field("text", "string")]});
    let protocol = serde_json::json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}});
    let metadata = serde_json::json!({"metaData": {
        "id": "6f2a1c1e-0000-4000-8000-000000000001", "format": {"provider": "parquet", "options": {}},
        "schemaString": schema.to_string(), "partitionColumns": [], "configuration": {}, "createdTime": 0,
    }});
    std::fs::write(log.join(format!("{:020}.json", 0)), format!("{protocol}\n{metadata}\n")).unwrap();
    let backend = opened(&local(root.path())).await;
    let held = async |backend: &DeltaBackend| backend.has_held_rows(&key(TABLE)).await.unwrap();
    assert!(!held(&backend).await);
    append(&backend, rows([1, 2])).await.unwrap();
    assert!(held(&backend).await);
    let all = col("id").gt(0).bind(&backend.schema(&key(TABLE)).await.unwrap().unwrap()).unwrap();
    assert_eq!(backend.delete(&key(TABLE), &all).await.unwrap(), 2);
    assert!(held(&backend).await && held(&opened(&local(root.path())).await).await);
}
