//! A log is input: its files are read only if they are regular files of its table, and only up to the logged size.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use metaxy_core::{Error, StoreBackend};
use metaxy_delta::DeltaBackend;
use metaxy_testkit::fuzz::{Overlaid, run_changed, run_corpus};
use serde_json::json;

use crate::foreign_rows::{VECTOR, vector_file, vector_in_file};
use crate::three_commits::ThreeCommits;
use crate::{TABLE, actions, append, key, local, opened, read, rows};

/// Returns a table of three commits, and a data file of another table beside it.
async fn attacked() -> ThreeCommits {
    let store = ThreeCommits::new().await;
    std::fs::copy(store.data_file(), store.root.path().join("secret.parquet")).unwrap();
    store
}

/// Replaces a member of the file that a commit adds.
fn edit_add(store: &ThreeCommits, version: u64, member: &str, value: &serde_json::Value) {
    store.edit(version, |text| {
        let lines = text.lines().map(|line| {
            let mut action: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(add) = action.get_mut("add") {
                add[member] = value.clone();
            }
            format!("{action}\n")
        });
        lines.collect()
    });
}

/// Returns the error of a read, which must not hang.
async fn read_error(backend: &DeltaBackend) -> Error {
    let read = tokio::time::timeout(Duration::from_secs(20), read(backend)).await;
    read.expect("the read does not hang").expect_err("the read is refused")
}

fn assert_refused(error: &Error, part: &str) {
    assert!(matches!(error, Error::Corrupt { .. } | Error::Unsupported { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("raw__video") && text.contains(part), "{text} does not speak of {part}");
}

fn outside(root: &Path) -> Vec<String> {
    let secret = root.join("secret.parquet").display().to_string();
    vec![
        secret.clone(),
        secret.replace('/', "%2F"),
        format!("file://{secret}"),
        format!("s3://bucket{secret}"),
        "../../secret.parquet".to_owned(),
        "..%2f..%2fsecret.parquet".to_owned(),
        "%2e%2e/%2E%2E/secret.parquet".to_owned(),
        "part/../../../secret.parquet".to_owned(),
        "./part/..%2F..%2F..%2Fsecret.parquet".to_owned(),
        "/dev/zero".to_owned(),
        String::new(),
    ]
}

#[tokio::test]
async fn a_log_with_paths_outside_its_table() {
    let names = outside(attacked().await.root.path());
    for index in 0..names.len() {
        let store = attacked().await;
        let follower = store.backend().await;
        read(&follower).await.unwrap();
        let name = outside(store.root.path()).swap_remove(index);
        for (version, backend) in [(2, store.backend().await), (3, follower)] {
            match version {
                2 => edit_add(&store, 2, "path", &name.clone().into()),
                _ => drop(std::fs::copy(store.commit(2), store.commit(3)).unwrap()),
            }
            assert_refused(&read_error(&backend).await, "data file");
            let refused = append(&backend, rows([9])).await.unwrap_err();
            assert_refused(&refused, "data file");
        }
    }
}

/// Unusual names can be those of files.
#[tokio::test]
async fn names_with_dots_and_escapes_are_readable() {
    for (stored, logged) in [
        ("a..b.parquet", "a..b.parquet"),
        ("...", "..."),
        ("x=1%2F2/part.parquet", "x=1%252F2/part.parquet"),
        ("deep/er/ü 1.parquet", "deep/er/%C3%BC%201.parquet"),
    ] {
        let store = attacked().await;
        let text = std::fs::read_to_string(store.commit(0)).unwrap();
        let add = text.lines().find_map(|line| line.split_once(r#""path":""#)).unwrap();
        let file = store.table().join(add.1.split('"').next().unwrap());
        let target = store.table().join(stored);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::rename(file, target).unwrap();
        edit_add(&store, 0, "path", &logged.into());
        assert_eq!(read(&store.backend().await).await.unwrap().num_rows(), 3, "{stored}");
    }
}

#[tokio::test]
async fn false_sizes_in_a_log() {
    for size in [0, 1, 100, 1 << 40, i64::MAX, -1, i64::MIN] {
        let store = attacked().await;
        edit_add(&store, 1, "size", &size.into());
        let error = read_error(&store.backend().await).await;
        assert!(matches!(error, Error::Corrupt { .. }), "{size}: {error:?}");
        assert_refused(&error, "data file");
    }
}

#[cfg(unix)]
fn make_pipe(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipes_and_devices_instead_of_files() {
    let put: [fn(&Path); 2] = [make_pipe, |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap()];
    for put in put {
        let store = attacked().await;
        let file = store.data_file();
        std::fs::remove_file(&file).unwrap();
        put(&file);
        assert_refused(&read_error(&store.backend().await).await, "not a regular file");

        let store = attacked().await;
        let follower = store.backend().await;
        read(&follower).await.unwrap();
        put(&store.commit(3));
        assert_refused(&read_error(&follower).await, "not a regular file");
        // A listing omits it, and does not wait for it either.
        let fresh = store.backend().await;
        tokio::time::timeout(Duration::from_secs(20), fresh.schema(&key(TABLE))).await.expect("no hang").unwrap();
    }
}

/// Returns a table whose log is a checkpoint with a sidecar at this path below the directory of sidecars. The file lists
/// a table of three rows.
async fn with_sidecar(file: impl Fn(&Path) -> PathBuf, named: impl Fn(&Path) -> String) -> ThreeCommits {
    let store = ThreeCommits::new().await;
    let listed = local(store.root.path()).checkpoint_interval(NonZeroU64::new(4).unwrap());
    append(&opened(&listed).await, rows([3])).await.unwrap();
    let log = store.table().join("_delta_log");
    let mut top: Vec<serde_json::Value> = actions(&log);
    top.retain(|action| action.get("metaData").is_some());
    let features = ["v2Checkpoint"];
    top.push(json!({"protocol": {
        "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features,
    }}));
    top.push(json!({"checkpointMetadata": {"version": 3}}));
    let file = file(store.root.path());
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::rename(log.join(format!("{:020}.checkpoint.parquet", 3)), &file).unwrap();
    let size = std::fs::metadata(&file).unwrap().len();
    let path = named(store.root.path());
    top.push(json!({"sidecar": {"path": path, "sizeInBytes": size, "modificationTime": 0}}));
    for name in (0..4).map(|version| format!("{version:020}.json")).chain(["_last_checkpoint".to_owned()]) {
        let _ = std::fs::remove_file(log.join(name));
    }
    let lines: String = top.iter().map(|action| format!("{action}\n")).collect();
    let name = format!("{:020}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json", 3);
    std::fs::write(log.join(name), lines).unwrap();
    store
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_outside_of_the_table() {
    let inside = |root: &Path| root.join("raw/video.delta/_delta_log/_sidecars/s.parquet");
    let store = with_sidecar(inside, |_| "s.parquet".to_owned()).await;
    assert_eq!(read(&store.backend().await).await.unwrap().num_rows(), 4);
    let outside = |root: &Path| root.join("secret.parquet");
    let names: [fn(&Path) -> String; 3] = [
        |_| "../../../../secret.parquet".to_owned(),
        |root| format!("file://{}/secret.parquet", root.display()),
        |root| format!("{}/secret.parquet", root.display()),
    ];
    for name in names {
        let store = with_sidecar(outside, name).await;
        let error = read_error(&store.backend().await).await;
        assert_refused(&error, "outside of the table");
    }
}

/// A prefix of its path leads to the vector.
#[tokio::test]
async fn deletion_vectors_outside_of_the_table() {
    for prefix in ["inside", "../..", "..%2f..", "%2e%2e/..", "x/../../..", "/", "file:///"] {
        let store = attacked().await;
        let inside = store.table().join("inside");
        std::fs::create_dir(&inside).unwrap();
        for directory in [&inside, store.root.path()] {
            std::fs::write(directory.join(VECTOR), vector_file(&[0])).unwrap();
        }
        store.edit(0, |text| {
            let features = json!(["deletionVectors"]);
            let versions = r#""minReaderVersion":1,"minWriterVersion":2"#;
            let with = r#""minReaderVersion":3,"minWriterVersion":7"#;
            text.replace(versions, &format!(r#"{with},"readerFeatures":{features},"writerFeatures":{features}"#))
        });
        edit_add(&store, 1, "deletionVector", &vector_in_file(prefix, &[0]));
        match read(&store.backend().await).await {
            Ok(rows) => assert_eq!((prefix, rows.num_rows()), ("inside", 2)),
            Err(error) => {
                assert_ne!(prefix, "inside", "{error}");
                assert!(matches!(error, Error::Corrupt { .. } | Error::Unsupported { .. }), "{prefix}: {error:?}");
            }
        }
    }
}

/// A vacuum removes the files that the log has removed, but none outside of the table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vacuum_of_files_outside_of_the_table() {
    let names = outside(attacked().await.root.path());
    for index in 0..names.len() {
        let store = attacked().await;
        let secret = store.root.path().join("secret.parquet");
        let name = outside(store.root.path()).swap_remove(index);
        let remove = json!({"remove": {"path": name, "deletionTimestamp": 1, "dataChange": true, "size": 1}});
        std::fs::write(store.commit(3), format!("{remove}\n")).unwrap();
        let backend = store.backend().await;
        // It may be refused.
        let _ = backend.vacuum(&key(TABLE), Duration::ZERO).await;
        assert!(secret.exists(), "{name}");
        backend.drop_table(&key(TABLE)).await.unwrap();
        assert!(secret.exists(), "{name}");
    }
}

/// The target `delta_log` of `cargo fuzz`, on its corpus and on inputs that are made of pieces of it.
#[test]
fn fuzzed_logs() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let store = Overlaid::new(fuzz.join("seeds/delta"), "t.delta");
    let run = |data: &[u8]| store.run(data, |root| Arc::new(DeltaBackend::new(local(root)).unwrap()));
    let corpus = fuzz.join("corpus/delta_log");
    run_corpus(&corpus, run);
    run_changed(&corpus, 100, 1, run);
}
