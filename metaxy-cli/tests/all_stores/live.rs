//! This program and the Python package on one store, in turns: the recorded scenarios, on every store that both have.

use metaxy_core::HashAlgorithm;
use metaxy_testkit::python::live::{Companion, Stores, alternate};
use metaxy_testkit::python::{Program, Python};
use metaxy_testkit::scenario::Scenario;
use metaxy_testkit::servers::postgres;

/// A kind of store.
struct Kind {
    /// The type string of the Python package.
    name: &'static str,
    /// What `metaxy.toml` has besides its stores.
    top: &'static str,
    /// The settings of the store, and those of the store for copies.
    settings: [&'static str; 2],
    /// Whether several programs may have the store open.
    shared: bool,
    /// The hash algorithms that both programs have there.
    hashes: &'static [HashAlgorithm],
}

const DELTA: Kind = Kind {
    name: "metaxy.ext.polars.handlers.delta.DeltaMetadataStore",
    top: "",
    settings: ["root_path = \"${HOME}/store\"", "root_path = \"${HOME}/copy\""],
    shared: true,
    hashes: &HashAlgorithm::ALL,
};

const FLAT: [&str; 2] =
    ["root_path = \"${HOME}/store\"\nlayout = \"flat\"", "root_path = \"${HOME}/copy\"\nlayout = \"flat\""];

/// The copy has no partitions.
const PARTITIONED: [&str; 2] = [
    "root_path = \"${HOME}/store\"\ndelta_write_options = { partition_by = [\"metaxy_feature_version\"] }",
    "root_path = \"${HOME}/copy\"",
];

/// The other algorithms are in an extension of DuckDB that the package would have to download.
const DUCKDB: Kind = Kind {
    name: "metaxy.ext.duckdb.DuckDBMetadataStore",
    top: "",
    settings: ["database = \"${HOME}/store.duckdb\"", "database = \"${HOME}/copy.duckdb\""],
    shared: false,
    hashes: &[HashAlgorithm::Md5],
};

/// The package hashes in Polars.
const DUCKDB_POLARS: [&str; 2] = [
    "database = \"${HOME}/store.duckdb\"\nversioning_engine = \"polars\"",
    "database = \"${HOME}/copy.duckdb\"\nversioning_engine = \"polars\"",
];

const POSTGRES: Kind = Kind {
    name: "metaxy.ext.postgresql.PostgreSQLMetadataStore",
    top: "",
    settings: ["connection_string = \"${URL}\"", "connection_string = \"${URL}\"\ntable_prefix = \"copy_\""],
    shared: true,
    hashes: &HashAlgorithm::ALL,
};

const MAPS: &str = "enable_map_datatype = true";

impl Kind {
    /// Returns a `metaxy.toml`.
    fn config(&self, hash: HashAlgorithm, truncation: usize) -> String {
        let store = |name: &str, settings: &str| {
            format!(
                "[stores.{name}]\ntype = \"{}\"\n[stores.{name}.config]\nhash_algorithm = \"{hash}\"\n{settings}\n",
                self.name
            )
        };
        let [settings, copy] = self.settings;
        let top = format!("{}\nstore = \"dev\"\nproject = \"both\"\nauto_create_tables = true", self.top);
        format!("{top}\nhash_truncation_length = {truncation}\n{}{}", store("dev", settings), store("copy", copy))
    }
}

/// Runs a third of the scenarios, one of every kind, or as many as `METAXY_CASES` says; half as many if the store is
/// opened anew for each step. Each other one is begun by the other program.
async fn alternates(kind: Kind, offset: usize) {
    let Some(python) = Python::for_test(&["deltalake", "duckdb", "ibis", "psycopg", "polars_map"]) else { return };
    let mut companion = Companion::start(&python);
    let scenarios = Scenario::bundled();
    let cases = std::env::var("METAXY_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(scenarios.len() / if kind.shared { 3 } else { 6 });
    let stride = (scenarios.len() / cases).max(1);
    let mut failures = Vec::new();
    let (mut first, mut hashes) = (Program::Rust, kind.hashes.iter().cycle().skip(offset));
    for index in 0..cases {
        let scenario = &scenarios[(index * stride + offset) % scenarios.len()];
        let database = kind.settings[0].contains("${URL}").then(|| postgres::database().unwrap());
        let hash = *hashes.next().expect("a cycle");
        let config = kind.config(hash, scenario.hash_truncation_length);
        let config = config.replace("${URL}", database.as_ref().map_or("", |database| database.url()));
        let stores = Stores { config: &config, shared: kind.shared };
        if let Err(failure) = alternate(&mut companion, &stores, scenario, first).await {
            failures.push(format!("{hash}: {failure}"));
        }
        first = if first == Program::Rust { Program::Python } else { Program::Rust };
    }
    assert!(failures.is_empty(), "{} of {cases}:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delta() {
    alternates(DELTA, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delta_in_the_flat_layout() {
    alternates(Kind { settings: FLAT, ..DELTA }, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delta_in_partitions() {
    alternates(Kind { settings: PARTITIONED, ..DELTA }, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delta_with_maps() {
    alternates(Kind { top: MAPS, ..DELTA }, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duckdb() {
    alternates(DUCKDB, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duckdb_with_hashes_of_polars() {
    let hashes = &[HashAlgorithm::Xxhash32, HashAlgorithm::Xxhash64, HashAlgorithm::Xxh3_64];
    alternates(Kind { settings: DUCKDB_POLARS, hashes, ..DUCKDB }, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duckdb_with_maps() {
    alternates(Kind { top: MAPS, ..DUCKDB }, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql() {
    alternates(POSTGRES, 0).await;
}
