//! What is measured, and what a backend may add to it.

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

    /// Its name in tables.
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

/// What an extra sees: the store is closed, as the phase has left it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Probe<'a> {
    /// The round's directory, the same that the factory gets.
    pub dir: &'a Path,
    /// The phase that is over.
    pub phase: Phase,
    /// Its scenario.
    pub scenario: Scenario,
    /// Records of each root.
    pub size: usize,
    /// The rows of the roots, as they were written first.
    pub roots: &'a [Vec<RecordBatch>],
    /// The rows of the leaf, as `new` found them; empty before.
    pub leaf: &'a [RecordBatch],
}

/// A store to be measured.
pub struct Subject {
    pub(super) name: String,
    pub(super) factory: Factory,
    pub(super) hash: Option<HashAlgorithm>,
    pub(super) engine: VersioningEngine,
    pub(super) reference: Option<String>,
    pub(super) reference_env: Vec<(String, String)>,
    pub(super) child_env: Vec<(String, String)>,
    pub(super) kept_open: bool,
    pub(super) extras: Vec<(String, Extra)>,
    pub(super) meters: Vec<(String, Meter)>,
    pub(super) cleanup: Option<Cleanup>,
}

impl Subject {
    /// Returns a store whose backend the factory makes. It is called for every phase, with a directory that is fresh
    /// for every round and the same for all phases of one: what the store keeps must be found again by it (a database
    /// server can name a schema after the directory).
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
            extras: Vec::new(),
            meters: Vec::new(),
            cleanup: None,
        }
    }

    /// Returns the engine without a storage system: rows stay in memory. Side by side with a backend it shows what the
    /// backend itself takes.
    pub fn engine_alone() -> Self {
        Self::new("engine alone", |_| Ok(Arc::new(MemoryBackend::new()))).kept_open()
    }

    /// Sets the store of the Python package to compare with: `delta`, `duckdb` or `postgres`. Rows are hashed as that
    /// one hashes them, unless [`Subject::hash`] says otherwise.
    #[must_use]
    pub fn reference(mut self, kind: impl Into<String>) -> Self {
        self.reference = Some(kind.into());
        self
    }

    /// Sets a variable for the Python process (`PGURL` names the database of `postgres`).
    #[must_use]
    pub fn reference_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.reference_env.push((name.into(), value.into()));
        self
    }

    /// Sets a variable for the processes that measure: what `main` has set up and the factory has to know. See
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

    /// Who computes increments.
    #[must_use]
    pub fn versioning_engine(mut self, engine: VersioningEngine) -> Self {
        self.engine = engine;
        self
    }

    /// Keeps one backend for all phases of a round: for stores that forget everything when they are closed.
    #[must_use]
    pub fn kept_open(mut self) -> Self {
        self.kept_open = true;
        self
    }

    /// Something else to be timed after each phase, shown as a row of its own and compared with: the same answer by a
    /// hand-written statement, say. It returns the time that counts, `None` if it has nothing for a phase.
    #[must_use]
    pub fn extra(
        mut self,
        name: impl Into<String>,
        run: impl Fn(&Probe<'_>) -> Result<Option<Duration>, BoxError> + 'static,
    ) -> Self {
        self.extras.push((name.into(), Box::new(run)));
        self
    }

    /// Sets a counter that is read before and after each phase, whose growth is shown: bytes over the wire, say.
    #[must_use]
    pub fn meter(mut self, name: impl Into<String>, read: impl Fn(&Path) -> Result<u64, BoxError> + 'static) -> Self {
        self.meters.push((name.into(), Box::new(read)));
        self
    }

    /// Sets what is done at the end of a round, beside removing the directory.
    #[must_use]
    pub fn cleanup(mut self, clean: impl Fn(&Path) -> Result<(), BoxError> + 'static) -> Self {
        self.cleanup = Some(Box::new(clean));
        self
    }

    /// Returns the hash algorithm that counts, if one is known.
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
