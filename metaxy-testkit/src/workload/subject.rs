//! The measured stores, and the extras of a backend.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use metaxy_core::error::BoxError;
use metaxy_core::{HashAlgorithm, SharedBackend, VersioningEngine};

use crate::memory::MemoryBackend;

use super::data::Scenario;

type Factory = Box<dyn Fn(&Path) -> Result<SharedBackend, BoxError>>;
type Extra = Box<dyn Fn(&Probe<'_>) -> Result<Option<Duration>, BoxError>>;
type Meter = Box<dyn Fn(&Path) -> Result<u64, BoxError>>;
type Cleanup = Box<dyn Fn(&Path) -> Result<(), BoxError>>;

/// A step of the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// All rows of the roots are written.
    Write,
    /// The leaf is resolved: all samples are new.
    New,
    /// The leaf's rows are written.
    WriteLeaf,
    /// The leaf is resolved: nothing has changed.
    Noop,
    /// The leaf is resolved after the first root has been written again with a tenth of its `audio` changed.
    Stale,
}

impl Phase {
    /// All phases, in their order.
    pub const ALL: [Self; 5] = [Self::Write, Self::New, Self::WriteLeaf, Self::Noop, Self::Stale];

    /// Returns its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::New => "new",
            Self::WriteLeaf => "write_leaf",
            Self::Noop => "noop",
            Self::Stale => "stale",
        }
    }
}

/// The input of an extra: the store is closed, in the state after the phase.
#[derive(Debug)]
#[non_exhaustive]
pub struct Probe<'a> {
    /// The round's directory, as passed to the factory.
    pub dir: &'a Path,
    /// The completed phase.
    pub phase: Phase,
    /// Its scenario.
    pub scenario: Scenario,
    /// The number of records of each root.
    pub size: usize,
    /// The rows of the roots, as in the first write.
    pub roots: &'a [Vec<RecordBatch>],
    /// The rows of the leaf, as returned by `new`; empty before that.
    pub leaf: &'a [RecordBatch],
}

/// A store that is measured.
pub struct Subject {
    pub(super) name: String,
    pub(super) factory: Factory,
    pub(super) hash: Option<HashAlgorithm>,
    pub(super) engine: VersioningEngine,
    pub(super) reference: Option<String>,
    pub(super) reference_env: Vec<(String, String)>,
    pub(super) child_env: Vec<(String, String)>,
    pub(super) kept_open: bool,
    pub(super) streamed: bool,
    pub(super) extras: Vec<(String, Extra)>,
    pub(super) meters: Vec<(String, Meter)>,
    pub(super) cleanup: Option<Cleanup>,
}

impl Subject {
    /// Creates a subject whose backend the factory creates. It is called for every phase, with a directory that is new
    /// for every round and the same for all phases of one: the store must find its rows by it (on a database server, a
    /// schema can have the directory's name).
    pub fn new(name: impl Into<String>, factory: impl Fn(&Path) -> Result<SharedBackend, BoxError> + 'static) -> Self {
        Self {
            name: name.into(),
            factory: Box::new(factory),
            hash: None,
            engine: VersioningEngine::default(),
            reference: None,
            reference_env: Vec::new(),
            child_env: Vec::new(),
            kept_open: false,
            streamed: false,
            extras: Vec::new(),
            meters: Vec::new(),
            cleanup: None,
        }
    }

    /// Returns the engine without a storage system, with rows in memory. Compared with a backend, it shows the share of
    /// the backend itself.
    pub fn engine_alone() -> Self {
        Self::new("engine alone", |_| Ok(Arc::new(MemoryBackend::new()))).kept_open()
    }

    /// Sets the store of the Python package for the comparison: `delta`, `duckdb` or `postgres`. Rows are hashed as in
    /// that store, unless [`Subject::hash`] is called.
    #[must_use]
    pub fn reference(mut self, kind: impl Into<String>) -> Self {
        self.reference = Some(kind.into());
        self
    }

    /// Sets a variable of the Python process (`PGURL` is the database of `postgres`).
    #[must_use]
    pub fn reference_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.reference_env.push((name.into(), value.into()));
        self
    }

    /// Sets a variable of the measuring processes, for values that `main` has set up and the factory needs. See
    /// [`is_child`](super::is_child).
    #[must_use]
    pub fn child_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.child_env.push((name.into(), value.into()));
        self
    }

    /// Sets the hash algorithm.
    #[must_use]
    pub fn hash(mut self, algorithm: HashAlgorithm) -> Self {
        self.hash = Some(algorithm);
        self
    }

    /// Sets the engine that computes increments.
    #[must_use]
    pub fn versioning_engine(mut self, engine: VersioningEngine) -> Self {
        self.engine = engine;
        self
    }

    /// Keeps one backend open for all phases of a round, for stores that lose their rows when they are closed.
    #[must_use]
    pub fn kept_open(mut self) -> Self {
        self.kept_open = true;
        self
    }

    /// Writes from streams and resolves into streams, so that no rows have to fit into memory: drawing the rows is part
    /// of the time of `write`, and resolving again is part of that of `write_leaf`.
    #[must_use]
    pub fn streamed(mut self) -> Self {
        self.streamed = true;
        self
    }

    /// Adds a measurement after each phase, shown and compared in a separate row, such as a hand-written statement with
    /// the same result. It returns the measured time, or `None` for a phase without one.
    #[must_use]
    pub fn extra(
        mut self,
        name: impl Into<String>,
        run: impl Fn(&Probe<'_>) -> Result<Option<Duration>, BoxError> + 'static,
    ) -> Self {
        self.extras.push((name.into(), Box::new(run)));
        self
    }

    /// Adds a counter that is read before and after each phase, whose increase is shown, such as transferred bytes.
    #[must_use]
    pub fn meter(mut self, name: impl Into<String>, read: impl Fn(&Path) -> Result<u64, BoxError> + 'static) -> Self {
        self.meters.push((name.into(), Box::new(read)));
        self
    }

    /// Sets a function that is called at the end of a round, in addition to removing the directory.
    #[must_use]
    pub fn cleanup(mut self, clean: impl Fn(&Path) -> Result<(), BoxError> + 'static) -> Self {
        self.cleanup = Some(Box::new(clean));
        self
    }

    /// Returns the hash algorithm, if one is known.
    pub(super) fn algorithm(&self, asked: Option<HashAlgorithm>) -> Option<HashAlgorithm> {
        let reference = self.reference.as_deref().map(|kind| match kind {
            "duckdb" => HashAlgorithm::Md5,
            _ => HashAlgorithm::Xxhash64,
        });
        asked.or(self.hash).or(reference)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("name", &self.name).field("reference", &self.reference).finish_non_exhaustive()
    }
}
