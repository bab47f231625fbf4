//! A store for programs without async code.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::{Error, Result};
use crate::fence;

use super::MetadataStore;

/// The threads of a store's runtime. They wait for storage systems; computations have threads of their own.
const THREADS: usize = 2;

/// A store whose calls block, for programs without async code. It has a runtime of its own, and is cheap to clone.
///
/// ```
/// use metaxy_core::{AccessMode, BlockingStore, FeatureGraph, FeatureSpec, MetadataStore, Result, structs};
/// use metaxy_sqlite::SqliteBackend;
///
/// #[derive(serde::Serialize)]
/// struct Video {
///     video_id: i64,
///     default: String,
/// }
///
/// fn main() -> Result<()> {
///     let graph = FeatureGraph::new([
///         FeatureSpec::builder("raw/video").id_columns(["video_id"]).build()?,
///         FeatureSpec::builder("processed/transcript").id_columns(["video_id"]).dep("raw/video").build()?,
///     ])?;
///     let builder = MetadataStore::builder(SqliteBackend::in_memory(), graph);
///     let store = BlockingStore::open(builder.open(AccessMode::ReadWrite))?;
///
///     let videos = [Video { video_id: 1, default: "a1".to_owned() }];
///     let rows = structs(&videos).versions_in([("default", "default")]);
///     store.run(|store| store.write_rows("raw/video", rows))?;
///     let increment = store.run(|store| store.resolve_update("processed/transcript"))?;
///     println!("{increment}");
///     println!("{}", store.run(|store| store.read("raw/video").filter("video_id < 10").rows())?);
///     store.run(|store| store.delete("raw/video").filter("video_id = 1"))?;
/// #   assert_eq!(increment.new.num_rows(), 1);
/// #   assert!(store.run(|store| store.read("raw/video").rows())?.is_empty());
///     Ok(())
/// }
/// ```
///
/// Its calls may be made anywhere. In async code they block the thread, so other tasks on it wait.
#[derive(Clone, Debug)]
pub struct BlockingStore {
    runtime: Arc<OwnRuntime>,
    store: MetadataStore,
}

impl BlockingStore {
    /// Opens a store: [`StoreBuilder::open`](super::StoreBuilder::open), or a store of a
    /// [configuration](crate::MetaxyConfig::open_store).
    ///
    /// # Errors
    /// The errors of the call, and [`Error::Task`] if no thread can be started.
    pub fn open(opening: impl Future<Output = Result<MetadataStore>> + Send) -> Result<Self> {
        let runtime = OwnRuntime::start()?;
        let store = runtime.wait(opening)??;
        Ok(Self { runtime: Arc::new(runtime), store })
    }

    /// Runs any call of a [`MetadataStore`], and returns its result.
    ///
    /// # Errors
    /// The errors of the call, and [`Error::Task`] if no thread can be started.
    pub fn run<'a, T, R>(&'a self, call: impl FnOnce(&'a MetadataStore) -> R) -> Result<T>
    where
        T: Send,
        R: IntoFuture<Output = Result<T>, IntoFuture: Send>,
    {
        self.runtime.wait(call(&self.store).into_future())?
    }

    /// Iterates over a stream of the store: that of a [`read`](MetadataStore::read), or of a
    /// [`LazyIncrement`](crate::LazyIncrement).
    pub fn iter<T: Send>(
        &self,
        mut stream: impl Stream<Item = Result<T>> + Send + Unpin,
    ) -> impl Iterator<Item = Result<T>> {
        let runtime = self.runtime.clone();
        std::iter::from_fn(move || runtime.wait(stream.next()).unwrap_or_else(|error| Some(Err(error))))
    }

    /// Returns the store.
    pub fn store(&self) -> &MetadataStore {
        &self.store
    }
}

/// A runtime that may be used and dropped in async code.
#[derive(Debug)]
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).thread_name("metaxy").enable_all().build();
        runtime.map(|runtime| Self(Some(runtime))).map_err(|error| cannot_start(&error))
    }

    /// Waits for a call. A thread that runs async code cannot wait for another runtime, so a thread of its own does.
    fn wait<T: Send>(&self, call: impl Future<Output = T> + Send) -> Result<T> {
        let Some(runtime) = &self.0 else { return Err(Error::Task("the runtime has ended".to_owned())) };
        let wait = || runtime.block_on(fence::catch_async(call));
        let outcome = match Handle::try_current() {
            Err(_) => wait(),
            Ok(_) => std::thread::scope(|scope| {
                let thread = std::thread::Builder::new().name("metaxy-wait".to_owned()).spawn_scoped(scope, wait);
                let ended = thread.map_err(|error| cannot_start(&error))?.join();
                ended.map_err(|_| Error::Task("the thread that waits for the call has panicked".to_owned()))
            })?,
        };
        Ok(outcome?)
    }
}

impl Drop for OwnRuntime {
    /// Does not wait for tasks, because that is not allowed in async code.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn cannot_start(error: &std::io::Error) -> Error {
    Error::Task(format!("a thread of a blocking store cannot be started: {error}"))
}
