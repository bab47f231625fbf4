//! Files with rows of a store can be read by their owner only, whatever the umask: the store may be one that others
//! cannot read.
#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use metaxy_core::spill::Spill;
use metaxy_core::{AccessMode, BufferedMetadataWriter, FeatureGraph, FeatureSpec, MetadataStore, RecordBatch, columns};
use metaxy_testkit::fixtures::tables::{batch, ints, texts};
use metaxy_testkit::memory::MemoryBackend;
use metaxy_testkit::process;

fn graph() -> FeatureGraph {
    let spec = |key: &str| FeatureSpec::builder(key).id_columns(["id"]);
    FeatureGraph::new([spec("raw/video").build().unwrap(), spec("text").dep("raw/video").build().unwrap()]).unwrap()
}

fn sample() -> RecordBatch {
    let by_field = columns::by_field([("default", texts(&["v"]))]).unwrap();
    columns::with_column(&batch([("id", ints([1]))]), columns::PROVENANCE_BY_FIELD, by_field).unwrap()
}

/// Returns the files of a directory and of those in it.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Checks that a directory has files, and that others can read none of them.
fn is_private(directory: &Path) {
    let files = files(directory);
    assert!(!files.is_empty(), "{} has no files", directory.display());
    for file in files {
        let modes = [&file, file.parent().unwrap()].map(|path| path.metadata().unwrap().permissions().mode() & 0o077);
        assert!(modes.contains(&0), "others can read {}", file.display());
        assert_eq!(modes[0], 0, "others can read {}, once they can list its directory", file.display());
    }
}

#[tokio::test]
async fn files_with_rows_are_private() {
    let Some(told) = process::told() else {
        let home = tempfile::tempdir().unwrap();
        let temporary = home.path().join("temporary");
        std::fs::create_dir(&temporary).unwrap();
        let mut second = process::second_after("umask 0", "files_with_rows_are_private", home.path());
        second.env("TMPDIR", &temporary);
        process::assert_passes(&mut second);
        return;
    };
    let home = PathBuf::from(told);
    let [spool, checkpoints, temporary] = ["spool/new", "checkpoints/new", "temporary"].map(|name| home.join(name));
    let builder = MetadataStore::builder(MemoryBackend::named("private"), graph()).checkpoints(&checkpoints);
    let store = builder.open(AccessMode::ReadWrite).await.unwrap();
    let writer = BufferedMetadataWriter::builder(store.clone()).interval(Duration::from_secs(3600));
    let writer = writer.spool(&spool).start().await.unwrap();
    writer.put("raw/video", sample()).await.unwrap();
    is_private(&spool);
    writer.close().await.unwrap();
    store.resolve_update("text").await.unwrap();
    is_private(&checkpoints);
    let mut spill = Spill::new(&sample().schema()).unwrap();
    spill.push(&sample()).unwrap();
    is_private(&temporary);
    drop(spill);
    store.close().await.unwrap();
}
