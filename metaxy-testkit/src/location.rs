//! Where a backend's tests keep their rows, and what the backend does not do.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use metaxy_core::Result;
use metaxy_core::backend::SharedBackend;
use metaxy_core::store::StoreBuilder;

/// A location for rows that is empty when a case begins: a temporary directory, a schema of a test database. It is removed
/// when it is dropped.
#[async_trait]
pub trait Location: Send + Sync + 'static {
    /// Returns a backend at this location that is not open. Each call gives another one, and all of them see the same
    /// rows, as several programs do that use one store.
    ///
    /// # Errors
    /// Whatever stands in the way; the case fails with it.
    async fn backend(&self) -> Result<SharedBackend>;

    /// Returns the settings that lead to this location, as `metaxy.toml` has them in `[stores.<name>.config]`.
    fn settings(&self) -> toml::Table;

    /// Returns the settings with which a store opens for reading if none of its files and directories may be
    /// written. By default the same.
    fn settings_without_rights(&self) -> toml::Table {
        self.settings()
    }

    /// Returns what other processes of a test find in their environment, such as the URL of a server that runs already.
    fn environment(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Returns the directory whose files hold the rows, and nothing else, if the backend keeps them in files.
    fn directory(&self) -> Option<PathBuf> {
        None
    }

    /// Returns what the backend does not do, and how much of a load it gets.
    fn support(&self) -> Support {
        Support::default()
    }

    /// Returns the name in the report if one type string is tested in several ways: `delta, flat layout`. By
    /// default the type string.
    fn variant(&self) -> Option<String> {
        None
    }

    /// Sets what every store at this location is opened with, such as a hash algorithm that the storage system can
    /// compute, or an engine. A case that asks for something else gets it.
    fn configure(&self, store: StoreBuilder) -> StoreBuilder {
        store
    }

    /// Returns the passwords, keys and tokens among the settings: no message may show one of them.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A location that is shared.
pub type SharedLocation = Arc<dyn Location>;

/// What a backend does not do, in one list. The suite checks that it refuses cleanly what is named here, and that
/// it does all the rest.
#[derive(Clone, Debug)]
pub struct Support {
    /// Type cases (their names in the group `types`) that the backend refuses with an error that names the column. A
    /// name stands for itself and for all that continue it: `interval` for `interval_day_time` too.
    pub refused_types: Vec<&'static str>,
    /// Whether several backends, in one process or in many, may write to one location at the same time.
    pub several_writers: bool,
    /// When another process can read.
    pub other_processes: OtherProcesses,
    /// How many one-row writes the case of many tiny writes makes at most; 10,000 unless told otherwise. Where they
    /// take longer than 20 seconds, 200 are enough.
    pub tiny_writes: usize,
    /// How many random histories are played and compared with the oracle; 25 unless told otherwise.
    pub histories: usize,
}

/// When another process can read what this one writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherProcesses {
    /// Never: the rows live in this process.
    Never,
    /// Once this one has closed the store.
    AfterClose,
    /// Also while this one writes.
    AtAnyTime,
}

impl Default for Support {
    fn default() -> Self {
        Self {
            refused_types: Vec::new(),
            several_writers: true,
            other_processes: OtherProcesses::AtAnyTime,
            tiny_writes: 10_000,
            histories: 25,
        }
    }
}

impl Support {
    /// Names types that the backend refuses: cases of the group `types`.
    #[must_use]
    pub fn refuses(mut self, types: impl IntoIterator<Item = &'static str>) -> Self {
        self.refused_types.extend(types);
        self
    }

    /// Only one backend at a time may have a location open for writing.
    #[must_use]
    pub fn one_writer(mut self) -> Self {
        self.several_writers = false;
        self
    }

    /// Says when another process can read.
    #[must_use]
    pub fn other_processes(mut self, when: OtherProcesses) -> Self {
        self.other_processes = when;
        self
    }

    /// Makes fewer tiny writes, if each leaves much behind.
    #[must_use]
    pub fn tiny_writes(mut self, count: usize) -> Self {
        self.tiny_writes = count;
        self
    }

    /// Plays another number of random histories.
    #[must_use]
    pub fn histories(mut self, count: usize) -> Self {
        self.histories = count;
        self
    }

    /// Returns whether a type case is among those that are refused.
    pub(crate) fn is_refused(&self, case: &str) -> bool {
        self.refused_types.iter().any(|name| stands_for(name, case))
    }
}

/// Returns whether a name stands for a case: it is equal to it, or its start.
pub(crate) fn stands_for(name: &str, case: &str) -> bool {
    case.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}
