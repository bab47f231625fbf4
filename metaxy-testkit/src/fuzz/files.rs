//! Files that another program, or an attacker, has changed: those of a spool, and those of a store.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt;
use metaxy_core::{
    AccessMode, BufferedMetadataWriter, Error, FeatureGraph, FeatureKey, FeatureSpec, MetadataStore, Result,
    ScanRequest, SharedBackend, StoreBackend,
};

use super::{RUNTIME, assert_typed};
use crate::fixtures::stores::copy_directory;
use crate::fixtures::tables;
use crate::memory::MemoryBackend;

/// Separates the files of an input.
const SEPARATOR: &[u8] = b"\n====\n";

/// Starts a writer on a spool with this file.
///
/// # Panics
/// If an error has no type.
pub fn spool(data: &[u8]) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("00000000000000000001-0000000000-00000000000000ff.arrow"), data)
        .expect("a file");
    RUNTIME.block_on(async {
        let spec = FeatureSpec::builder("raw/video").id_columns(["id"]).build().expect("a definition");
        let graph = FeatureGraph::new([spec]).expect("a graph");
        let store = MetadataStore::builder(MemoryBackend::new(), graph).open(AccessMode::ReadWrite).await;
        let store = store.expect("the store opens");
        let builder = BufferedMetadataWriter::builder(store).interval(Duration::from_secs(3600));
        match builder.spool(directory.path()).start().await {
            // What the store refuses is given back.
            Ok(writer) => drop(writer.close().await),
            Err(error) => assert_typed(&error),
        }
    });
}

/// The directory of a store, over which the files of inputs are laid.
#[derive(Debug)]
pub struct Overlaid {
    template: PathBuf,
    /// The directory of the table `t`, below that of the store.
    table: &'static str,
}

impl Overlaid {
    /// Lays files over a store in a directory, which has a table `t` of numbers `id`.
    pub fn new(template: impl Into<PathBuf>, table: &'static str) -> Self {
        Self { template: template.into(), table }
    }

    /// Makes every call on a store with the files of an input, each with its name below the table in its first line.
    ///
    /// # Panics
    /// If an error has no type, or a file outside of the table is changed.
    pub fn run(&self, data: &[u8], backend: impl Fn(&Path) -> SharedBackend) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("store");
        copy_directory(&self.template, &root).expect("the store is copied");
        let outside = directory.path().join("outside");
        std::fs::write(&outside, "not of the store").expect("a file");
        for (name, content) in files(data) {
            let path = root.join(self.table).join(name);
            let parent = path.parent().expect("a file has a directory");
            // A name may be that of a directory, or below a file.
            let _ = std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, content));
        }
        RUNTIME.block_on(async {
            if let Err(error) = every_call(&*backend(&root)).await {
                assert_typed(&error);
            }
        });
        assert_eq!(std::fs::read_to_string(&outside).expect("it is still there"), "not of the store");
    }
}

/// Returns the files of an input.
fn files(data: &[u8]) -> Vec<(PathBuf, &[u8])> {
    let mut files = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let end = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        let file = &rest[..end.unwrap_or(rest.len())];
        rest = end.map_or(&[], |end| &rest[end + SEPARATOR.len()..]);
        let (name, content) = file.split_at(file.iter().position(|byte| *byte == b'\n').unwrap_or(file.len()));
        let name = PathBuf::from(String::from_utf8_lossy(name).replace('\0', ""));
        let is_below =
            !name.as_os_str().is_empty() && name.components().all(|part| matches!(part, Component::Normal(_)));
        if is_below && name.as_os_str().len() < 200 {
            files.push((name, content.get(1..).unwrap_or_default()));
        }
    }
    files
}

/// Makes every call; refused ones have an error with a type.
async fn every_call(backend: &dyn StoreBackend) -> Result<()> {
    let table: FeatureKey = tables::key("t");
    backend.open(AccessMode::ReadWrite).await?;
    let outcomes: [Result<()>; 7] = [
        backend.schema(&table).await.map(drop),
        read(backend, &table).await,
        backend.position(&table).await.map(drop),
        tables::append(backend, "t", tables::batch([("id", tables::ints([7]))])).await,
        backend.compact(&table).await,
        backend.vacuum(&table, Duration::ZERO).await.map(drop),
        backend.drop_table(&table).await,
    ];
    outcomes.into_iter().filter_map(Result::err).for_each(|error: Error| assert_typed(&error));
    backend.close().await
}

async fn read(backend: &dyn StoreBackend, table: &FeatureKey) -> Result<()> {
    let scan = backend.scan(table, &ScanRequest::default()).await?;
    scan.stream.try_for_each(|_| std::future::ready(Ok(()))).await
}
