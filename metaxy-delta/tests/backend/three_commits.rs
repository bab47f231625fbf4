//! A store with one table of three commits, whose files are changed without this crate.

use std::fs;
use std::path::PathBuf;

use metaxy_delta::DeltaBackend;
use tempfile::TempDir;

use crate::{append, local, opened, rows};

pub struct ThreeCommits {
    pub root: TempDir,
}

impl ThreeCommits {
    pub async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let backend = opened(&local(root.path())).await;
        for number in 0..3 {
            append(&backend, rows([number])).await.unwrap();
        }
        Self { root }
    }

    /// Returns a backend that has not read the table yet.
    pub async fn backend(&self) -> DeltaBackend {
        opened(&local(self.root.path())).await
    }

    pub fn table(&self) -> PathBuf {
        self.root.path().join("raw/video.delta")
    }

    pub fn commit(&self, version: u64) -> PathBuf {
        self.table().join(format!("_delta_log/{version:020}.json"))
    }

    pub fn data_file(&self) -> PathBuf {
        let mut files = fs::read_dir(self.table()).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| path.extension().is_some_and(|end| end == "parquet")).unwrap()
    }

    /// Changes the text of a commit.
    pub fn edit(&self, version: u64, change: impl Fn(&str) -> String) {
        let commit = self.commit(version);
        let text = fs::read_to_string(&commit).unwrap();
        let changed = change(&text);
        assert_ne!(text, changed, "the test has changed nothing");
        fs::write(commit, changed).unwrap();
    }
}
