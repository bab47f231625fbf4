//! Empty locations for stores, and stores on them from a configuration.

use metaxy_core::config::{MetaxyConfig, StoreConfig};
use metaxy_core::{AccessMode, FeatureGraph, HashAlgorithm, MetadataStore};
use metaxy_testkit::servers::postgres::{self, Database};

/// A storage system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    DuckDb,
    Delta,
    Postgres,
}

pub const KINDS: [Kind; 4] = [Kind::Sqlite, Kind::DuckDb, Kind::Delta, Kind::Postgres];

/// The storage of the rows, until it is dropped.
enum Keeper {
    Directory(tempfile::TempDir),
    Database(Database),
}

/// An empty location for a store of a kind.
pub struct Place {
    kind: Kind,
    keeper: Keeper,
}

impl Place {
    pub fn new(kind: Kind) -> Self {
        let keeper = match kind {
            Kind::Postgres => Keeper::Database(postgres::database().unwrap_or_else(|reason| panic!("{reason}"))),
            _ => Keeper::Directory(tempfile::tempdir().unwrap()),
        };
        Self { kind, keeper }
    }

    /// Returns the store's settings.
    pub fn settings(&self) -> StoreConfig {
        let path = |name: &str| match &self.keeper {
            Keeper::Directory(directory) => directory.path().join(name).display().to_string(),
            Keeper::Database(database) => database.url().to_owned(),
        };
        match self.kind {
            Kind::Sqlite => StoreConfig::new("sqlite").setting("database", path("store.db")),
            Kind::DuckDb => StoreConfig::new("duckdb").setting("database", path("store.duckdb")),
            Kind::Delta => StoreConfig::new("delta").setting("root_path", path("store")),
            Kind::Postgres => StoreConfig::new("postgres").setting("connection_string", path("")),
        }
    }

    /// Opens the store alone, with the settings that it has in [`chain`].
    pub async fn open(&self, graph: FeatureGraph, mode: AccessMode) -> MetadataStore {
        chain([self]).open_default_store(graph, mode).await.unwrap()
    }
}

/// Returns stores `s0`, `s1` .. on locations, each the fallback of the previous one, with a hash that is no backend's
/// default.
pub fn chain<'a>(places: impl IntoIterator<Item = &'a Place>) -> MetaxyConfig {
    let places: Vec<&Place> = places.into_iter().collect();
    let mut config = MetaxyConfig::builder().store("s0").auto_create_tables(true);
    for (at, place) in places.iter().enumerate() {
        let store = place.settings().hash_algorithm(HashAlgorithm::Sha256);
        let is_last = at + 1 == places.len();
        let store = if is_last { store } else { store.fallback_store(format!("s{}", at + 1)) };
        config = config.add_store(format!("s{at}"), store);
    }
    config.build().unwrap()
}
