//! A log is input: what it names is read only where it is a regular file of its table, and never beyond its logged size.

use std::path::{Path, PathBuf};
use std::time::Duration;

use metaxy_core::{Error, StoreBackend};
use metaxy_delta::DeltaBackend;
use tempfile::TempDir;

use crate::{TABLE, append, key, local, opened, read, rows};

/// A table of three commits, and a data file of another table beside it.
struct Attacked {
    root: TempDir,
}

impl Attacked {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let backend = opened(&local(root.path())).await;
        for number in 0..3 {
            append(&backend, rows([number])).await.unwrap();
        }
        let attacked = Self { root };
        std::fs::copy(attacked.data_file(), attacked.root.path().join("secret.parquet")).unwrap();
        attacked
    }

    fn table(&self) -> PathBuf {
        self.root.path().join("raw/video.delta")
    }

    fn commit(&self, version: u64) -> PathBuf {
        self.table().join(format!("_delta_log/{version:020}.json"))
    }

    fn data_file(&self) -> PathBuf {
        let mut files = std::fs::read_dir(self.table()).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| path.extension().is_some_and(|end| end == "parquet")).unwrap()
    }

    /// Gives a member of the file that a commit adds another value.
    fn edit(&self, version: u64, member: &str, value: &serde_json::Value) {
        let text = std::fs::read_to_string(self.commit(version)).unwrap();
        let lines = text.lines().map(|line| {
            let mut action: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(add) = action.get_mut("add") {
                add[member] = value.clone();
            }
            format!("{action}\n")
        });
        std::fs::write(self.commit(version), lines.collect::<String>()).unwrap();
    }

    async fn backend(&self) -> DeltaBackend {
        opened(&local(self.root.path())).await
    }
}

/// What a read says, which must not take long.
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
async fn a_log_that_leads_out_of_its_table() {
    let names = outside(Attacked::new().await.root.path());
    for index in 0..names.len() {
        let attacked = Attacked::new().await;
        let follower = attacked.backend().await;
        read(&follower).await.unwrap();
        let name = outside(attacked.root.path()).swap_remove(index);
        for (version, backend) in [(2, attacked.backend().await), (3, follower)] {
            if version == 3 {
                std::fs::copy(attacked.commit(2), attacked.commit(3)).unwrap();
            }
            attacked.edit(version, "path", &name.clone().into());
            assert_refused(&read_error(&backend).await, "data file");
            let refused = append(&backend, rows([9])).await.unwrap_err();
            assert_refused(&refused, "data file");
        }
    }
}

/// Names that only look dangerous are those of files.
#[tokio::test]
async fn names_with_dots_and_escapes_stay_readable() {
    for (stored, logged) in [
        ("a..b.parquet", "a..b.parquet"),
        ("...", "..."),
        ("x=1%2F2/part.parquet", "x=1%252F2/part.parquet"),
        ("deep/er/ü 1.parquet", "deep/er/%C3%BC%201.parquet"),
    ] {
        let attacked = Attacked::new().await;
        let text = std::fs::read_to_string(attacked.commit(0)).unwrap();
        let add = text.lines().find_map(|line| line.split_once(r#""path":""#)).unwrap();
        let file = attacked.table().join(add.1.split('"').next().unwrap());
        let target = attacked.table().join(stored);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::rename(file, target).unwrap();
        attacked.edit(0, "path", &logged.into());
        assert_eq!(read(&attacked.backend().await).await.unwrap().num_rows(), 3, "{stored}");
    }
}

#[tokio::test]
async fn sizes_that_a_log_makes_up() {
    for size in [0, 1, 100, 1 << 40, i64::MAX, -1, i64::MIN] {
        let attacked = Attacked::new().await;
        attacked.edit(1, "size", &size.into());
        let error = read_error(&attacked.backend().await).await;
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
async fn pipes_and_devices_in_the_place_of_files() {
    let put: [fn(&Path); 2] = [make_pipe, |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap()];
    for put in put {
        let attacked = Attacked::new().await;
        let file = attacked.data_file();
        std::fs::remove_file(&file).unwrap();
        put(&file);
        assert_refused(&read_error(&attacked.backend().await).await, "not a regular file");

        let attacked = Attacked::new().await;
        let follower = attacked.backend().await;
        read(&follower).await.unwrap();
        put(&attacked.commit(3));
        assert_refused(&read_error(&follower).await, "not a regular file");
        // A listing leaves it out; who lists does not wait for it either.
        let fresh = attacked.backend().await;
        tokio::time::timeout(Duration::from_secs(20), fresh.schema(&key(TABLE))).await.expect("no hang").unwrap();
    }
}
