//! Sizes at which stores may hang or run out of handles: thousands of concurrent writes, hundreds of unread streams,
//! thousands of features in a process that may open few files. [`sizes!`](crate::sizes!) generates the tests of a
//! backend.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray, StructArray};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};
use metaxy_core::backend::BatchStream;
use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, MetadataStore, Result, ScanRequest, SharedBackend, columns};
use tokio::runtime::{Builder, Runtime};

use crate::fixtures::tables::{append, batch, ints, key, read};

/// The number of concurrent writes.
const WRITES: usize = 2_000;
/// The number of writes if the runtime has no thread for them.
const FEW_WRITES: usize = 100;
/// The number of features that are written.
const WRITTEN: usize = 50;
/// The number of unread streams.
const STREAMS: usize = 600;
/// More rows than a batch has, with any backend.
#[doc(hidden)]
pub const ROWS: usize = 70_000;
/// The number of features that are written, and read by unread streams.
const FEATURES: usize = 2_000;
/// The number of features that are written concurrently.
const TOGETHER: usize = 100;
/// The number of files that a process may open in a test of that; a common limit.
#[doc(hidden)]
pub const HANDLES: usize = 1_024;
/// More threads than a store needs, and fewer than one for each stream.
const THREADS: usize = 256;
/// The time limit of work that does not hang.
const PATIENCE: Duration = Duration::from_secs(300);

/// Generates tests of these sizes for a backend, which an `async fn(PathBuf) -> Result<SharedBackend>` creates for a
/// location. As in [`writer_survives_kills!`](crate::writer_survives_kills!), a second argument sets up what locations
/// share. A third one is a number of rows from which a stream makes more than one batch, if it is less than 70,000.
#[macro_export]
macro_rules! sizes {
    ($backend:path) => {
        fn nothing_to_set_up(_: &std::path::Path) {}
        $crate::sizes!($backend, nothing_to_set_up);
    };
    ($backend:path, $set_up:path) => {
        $crate::sizes!($backend, $set_up, $crate::sizes::ROWS);
    };
    ($backend:path, $set_up:path, $rows:expr) => {
        #[test]
        fn a_runtime_without_a_free_blocking_thread() {
            $crate::sizes::few_threads($set_up, $backend);
        }

        #[test]
        fn two_thousand_concurrent_writes() {
            $crate::sizes::many_writes($set_up, $backend);
        }

        #[cfg(unix)]
        #[test]
        fn six_hundred_unread_streams() {
            if $crate::__is_second!(six_hundred_unread_streams) {
                $crate::sizes::held_streams($set_up, $backend, $rows);
            }
        }

        #[cfg(unix)]
        #[test]
        fn thousands_of_features_in_a_process_with_few_handles() {
            if $crate::__is_second!(thousands_of_features_in_a_process_with_few_handles) {
                $crate::sizes::many_features($set_up, $backend);
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __is_second {
    ($test:ident) => {{
        // The path of a test does not contain the name of the test binary.
        let (_, test) = concat!(module_path!(), "::", stringify!($test)).split_once("::").unwrap();
        $crate::process::is_second(test, $crate::sizes::HANDLES)
    }};
}
/// A location, with everything that is needed to open backends on it.
struct Place<B> {
    path: PathBuf,
    backend: B,
}

impl<B, F> Place<B>
where
    B: Fn(PathBuf) -> F,
    F: Future<Output = Result<SharedBackend>>,
{
    async fn open(&self) -> Result<SharedBackend> {
        let backend = (self.backend)(self.path.clone()).await?;
        backend.open(AccessMode::ReadWrite).await?;
        Ok(backend)
    }

    async fn store(&self, graph: FeatureGraph) -> Result<MetadataStore> {
        let backend = (self.backend)(self.path.clone()).await?;
        MetadataStore::builder(backend, graph).auto_create_tables(true).open(AccessMode::ReadWrite).await
    }
}

/// Sets up a location, runs the work, and checks that it ends.
fn run<B, K, W>(runtime: &Runtime, set_up: impl FnOnce(&Path) -> K, backend: B, work: impl FnOnce(Place<B>) -> W)
where
    W: Future<Output = Result<()>>,
{
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("0");
    std::fs::create_dir(&path).expect("a directory for a store");
    let kept = set_up(directory.path());
    let done = runtime.block_on(async { tokio::time::timeout(PATIENCE, work(Place { path, backend })).await });
    done.expect("the work hangs").expect("the work is done");
    drop(kept);
}

/// A runtime with one thread for blocking calls, and a call that occupies it.
struct Narrow {
    // Dropped first, which ends that call.
    _blocks: mpsc::Sender<()>,
    runtime: Runtime,
}

impl Narrow {
    fn new() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).max_blocking_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (blocks, ends) = mpsc::channel();
        runtime.spawn_blocking(move || ends.recv());
        Self { _blocks: blocks, runtime }
    }
}

#[doc(hidden)]
pub fn few_threads<F, K>(set_up: impl FnOnce(&Path) -> K, backend: impl Fn(PathBuf) -> F)
where
    F: Future<Output = Result<SharedBackend>>,
{
    run(&Narrow::new().runtime, set_up, backend, |place| async move {
        let store = place.store(graph()?).await?;
        store.write(feature(0), sample(0)).await?;
        write_all(&store, 1..=FEW_WRITES).await?;
        assert_eq!(count(&store, &feature(1)).await?, FEW_WRITES / WRITTEN);
        store.delete(feature(0)).hard().await?;
        store.drop_feature(feature(0)).await?;
        store.close().await
    });
}

#[doc(hidden)]
pub fn many_writes<F, K>(set_up: impl FnOnce(&Path) -> K, backend: impl Fn(PathBuf) -> F)
where
    F: Future<Output = Result<SharedBackend>>,
{
    // With the default settings of programs.
    let runtime = Runtime::new().expect("a runtime");
    run(&runtime, set_up, backend, |place| async move {
        let store = place.store(graph()?).await?;
        write_all(&store, 0..WRITES).await?;
        for number in 0..WRITTEN {
            assert_eq!(count(&store, &feature(number)).await?, WRITES / WRITTEN);
        }
        Ok(())
    });
}

/// Writes samples with these numbers, each in its own task.
async fn write_all(store: &MetadataStore, numbers: impl IntoIterator<Item = usize>) -> Result<()> {
    let write = |number: usize| {
        let store = store.clone();
        tokio::spawn(async move { store.write(feature(number % WRITTEN), sample(number)).await })
    };
    let writes: Vec<_> = numbers.into_iter().map(write).collect();
    for written in try_join_all(writes).await? {
        assert_eq!(written?, 1);
    }
    Ok(())
}

fn feature(number: usize) -> String {
    format!("feature/{number}")
}

fn graph() -> Result<FeatureGraph> {
    let spec = |number| FeatureSpec::builder(feature(number)).id_columns(["id"]).field("value").build();
    FeatureGraph::new((0..WRITTEN).map(spec).collect::<Result<Vec<_>>>()?)
}

fn sample(number: usize) -> RecordBatch {
    let text: ArrayRef = Arc::new(StringArray::from(vec![format!("sample {number}")]));
    let provenance = StructArray::from(batch([("value", text.clone())]));
    batch([("id", text), (columns::PROVENANCE_BY_FIELD, Arc::new(provenance) as ArrayRef)])
}

async fn count(store: &MetadataStore, feature: &str) -> Result<usize> {
    Ok(store.read(feature).columns(["id"]).await?.rows().await?.num_rows())
}

#[doc(hidden)]
pub fn held_streams<F, K>(set_up: impl FnOnce(&Path) -> K, backend: impl Fn(PathBuf) -> F, rows: usize)
where
    F: Future<Output = Result<SharedBackend>>,
{
    run(&Narrow::new().runtime, set_up, backend, |place| async move {
        let backend = place.open().await?;
        append(&*backend, "t", batch([("id", ints(0..rows as i64))])).await?;
        let mut held = Vec::new();
        for number in 0..STREAMS {
            // Rows without columns are read faster.
            let request = ScanRequest { columns: (number % 10 != 0).then(Vec::new), ..ScanRequest::default() };
            let mut stream = backend.scan(&key("t"), &request).await?.stream;
            // Some streams have begun, and some have not.
            let first = if number % 3 == 0 { stream.next().await.transpose()? } else { None };
            held.push((stream, first.map_or(0, |batch| batch.num_rows())));
        }
        // Other calls work: writes, reads, and stores that are opened.
        append(&*backend, "t", batch([("id", ints([-1]))])).await?;
        let other = place.open().await?;
        append(&*other, "t", batch([("id", ints([-2]))])).await?;
        for store in [&backend, &other] {
            assert_eq!(read(&**store, "t").await?.num_rows(), rows + 2);
        }
        assert_few_threads();
        // Each stream returns the table as it was when it began.
        for (stream, before) in held.into_iter().step_by(4) {
            assert_eq!(before + rest(stream).await?, rows);
        }
        Ok(())
    });
}

#[doc(hidden)]
pub fn many_features<F, K>(set_up: impl FnOnce(&Path) -> K, backend: impl Fn(PathBuf) -> F)
where
    F: Future<Output = Result<SharedBackend>>,
{
    run(&Narrow::new().runtime, set_up, backend, |place| async move {
        let backend = &*place.open().await?;
        let name = |number: usize| format!("f{number}");
        let write = |number: usize| async move { append(backend, &name(number), batch([("id", ints([1]))])).await };
        let writes = futures::stream::iter(0..FEATURES).map(write).buffer_unordered(TOGETHER);
        writes.try_collect::<Vec<()>>().await?;
        let (keys, request) =
            ((0..FEATURES).map(|number| key(&name(number))).collect::<Vec<_>>(), ScanRequest::default());
        let held = try_join_all(keys.iter().map(|key| backend.scan(key, &request))).await?;
        try_join_all((0..TOGETHER).map(write)).await?;
        assert_few_threads();
        for scan in held {
            assert_eq!(rest(scan.stream).await?, 1);
        }
        assert_eq!(backend.tables().await?.len(), FEATURES);
        assert_eq!(read(backend, &name(0)).await?.num_rows(), 2);
        Ok(())
    });
}

/// Returns the number of remaining rows of a stream.
async fn rest(stream: BatchStream) -> Result<usize> {
    stream.try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows()) }).await
}

/// Checks the number of threads of this process, which Linux reports; it runs nothing else.
fn assert_few_threads() {
    if let Ok(threads) = std::fs::read_dir("/proc/self/task") {
        let threads = threads.count();
        assert!(threads < THREADS, "{threads} threads");
    }
}
