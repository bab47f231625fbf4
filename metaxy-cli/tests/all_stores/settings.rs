//! Errors of the storage systems for invalid settings, as users see them.

use std::fmt::Write as _;

use metaxy_core::config::Environment;
use metaxy_core::{AccessMode, FeatureGraph, MetaxyConfig};

/// Settings of a store, which end in an invalid one; and environment variables.
type Case = (&'static str, &'static [(&'static str, &'static str)]);

const MALFORMED: &[Case] = &[
    // SQLite
    ("type = \"sqlite\"\n", &[]),
    ("type = \"sqlite\"\ndatabse = \"x.db\"\n", &[]),
    ("type = \"sqlite\"\ndatabase = \"\"\n", &[]),
    ("type = \"sqlite\"\ndatabase = \"x.db\"\nbusy_timeout_ms = -1\n", &[]),
    ("type = \"sqlite\"\ndatabase = \"x.db\"\nbusy_timeout = 10\n", &[]),
    ("type = \"sqlite\"\ndatabase = \"x.db\"\ntable_prefix = \"a-b\"\n", &[]),
    ("type = \"sqlite\"\ndatabase = \"/nowhere/x.db\"\n", &[]),
    ("type = \"sqlite\"\ndatabase = \"/\"\n", &[]),
    // DuckDB
    ("type = \"duckdb\"\n[stores.dev.config]\n", &[]),
    ("type = \"duckdb\"\nroot_path = \"x\"\n", &[]),
    ("type = \"duckdb\"\ndatabase = \"md:corpus\"\n", &[]),
    ("type = \"duckdb\"\ndatabase = \":memory:\"\nconfig = { threads = 2 }\n", &[]),
    (
        "type = \"duckdb\"\n[stores.dev.config]\ndatabase = \":memory:\"\n[stores.dev.config.config]\nthreads = 2\nthread = 2\n",
        &[],
    ),
    (
        "type = \"duckdb\"\n[stores.dev.config]\ndatabase = \":memory:\"\n[stores.dev.config.config]\nmemory_limit = \"a lot\"\n",
        &[],
    ),
    (
        "type = \"duckdb\"\n[stores.dev.config]\ndatabase = \":memory:\"\n[stores.dev.config.config]\nthreads = [2]\n",
        &[],
    ),
    (
        "type = \"duckdb\"\n[stores.dev.config]\ndatabase = \":memory:\"\n[stores.dev.config.config]\naccess_mode = \"READ_ONLY\"\n",
        &[],
    ),
    ("type = \"duckdb\"\ndatabase = \"${TMPDIR:-/tmp}/never-made.duckdb\"\nstorage_version = \"v0\"\n", &[]),
    ("type = \"duckdb\"\ndatabase = \":memory:\"\ntable_prefx = \"a\"\n", &[]),
    (
        "type = \"metaxy.ext.duckdb.DuckDBMetadataStore\"\n[stores.dev.config]\ndatabase = \":memory:\"\nducklake = { alias = \"lake\" }\n",
        &[],
    ),
    ("type = \"duckdb\"\ndatabase = \"/nowhere/x.duckdb\"\n", &[]),
    // Delta
    ("type = \"delta\"\n", &[]),
    ("type = \"delta\"\nroot_pth = \"x\"\n", &[]),
    ("type = \"delta\"\nroot_path = \"\"\n", &[]),
    ("type = \"delta\"\nroot_path = \"ftp://host/x\"\n", &[]),
    ("type = \"delta\"\nroot_path = \"x\"\nlayout = \"Nested\"\n", &[]),
    ("type = \"delta\"\nroot_path = \"x\"\nlayout = \"round\"\n", &[]),
    ("type = \"delta\"\nroot_path = \"x\"\ncheckpoint_interval = 0\n", &[]),
    ("type = \"delta\"\nroot_path = \"x\"\ncheckpoint_intervall = 10\n", &[]),
    ("type = \"delta\"\nroot_path = \"x\"\nstorage_options = \"AWS\"\n", &[]),
    ("type = \"delta\"\nroot_path = \"x\"\n[stores.dev.storage_options]\nAWS_REGION = { name = \"eu\" }\n", &[]),
    (
        "type = \"delta\"\nroot_path = \"s3://bucket/x\"\n[stores.dev.storage_options]\nAWS_ALLOW_HTTP = \"perhaps\"\nAWS_SECRET_ACCESS_KEY = \"hunter2\"\n",
        &[],
    ),
    ("type = \"metaxy.ext.polars.DeltaMetadataStore\"\nroot_path = \"x\"\nstorage_option = {}\n", &[]),
    // PostgreSQL
    ("type = \"postgres\"\n", &[]),
    ("type = \"postgres\"\nconnection_string = \"host=db passwrd=hunter2\"\n", &[]),
    ("type = \"postgres\"\nconnection_string = \"mysql://ada:hunter2@db/meta\"\n", &[]),
    ("type = \"postgres\"\nconnection_string = \"postgresql://ada:hunter2@db:port/meta\"\n", &[]),
    ("type = \"postgres\"\nconection_string = \"postgresql://ada:hunter2@db/meta\"\n", &[]),
    ("type = \"postgres\"\n[stores.dev.connection_params]\nhost = \"db\"\npasword = \"hunter2\"\n", &[]),
    ("type = \"postgres\"\n[stores.dev.connection_params]\nport = 123456\n", &[]),
    (
        "type = \"postgres\"\nconnection_string = \"postgresql://db/meta\"\n[stores.dev.connection_params]\nhost = \"db\"\n",
        &[],
    ),
    ("type = \"postgres\"\nconnection_string = \"postgresql://db/meta\"\nsslmode = \"sometimes\"\n", &[]),
    ("type = \"postgres\"\nconnection_string = \"postgresql://db/meta\"\npool_size = 0\n", &[]),
    ("type = \"postgres\"\nconnection_string = \"postgresql://db/meta\"\nconnect_timeout = -1\n", &[]),
    ("type = \"postgresql\"\nconnection_string = \"${DATABASE_URL}\"\n", &[]),
    ("type = \"postgres\"\n", &[("METAXY_STORES__DEV__CONFIG__CONNECTION_PARAMS__PORT", "hunter2")]),
    // All
    ("type = \"sqlite3\"\n", &[]),
    ("type = \"postgress\"\n", &[]),
    ("type = \"iceberg\"\n", &[]),
    ("type = \"metaxy.ext.delta.DeltaStore\"\n", &[]),
    ("type = \"metaxy.ext.lancedb.LanceDBMetadataStore\"\n", &[]),
];

async fn error(settings: &str, environment: &[(&str, &str)]) -> String {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("metaxy.toml"), format!("[stores.dev]\n{settings}")).unwrap();
    let environment = Environment::from_iter(environment.iter().copied());
    let config = MetaxyConfig::loader().directory(directory.path()).environment(environment).load();
    let opened = match config {
        Ok(config) => config.open_store("dev", FeatureGraph::new([]).unwrap(), AccessMode::ReadWrite).await.map(drop),
        Err(error) => Err(error),
    };
    let error = opened.expect_err(settings).to_string();
    error.replace(&format!("{}/", directory.path().display()), "")
}

/// Checks every case against its error in `settings.txt`. With `UPDATE_EXPECT=1` in the environment the file is
/// rewritten; read the difference before you commit it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_settings() {
    let mut found = String::new();
    for (settings, environment) in MALFORMED {
        writeln!(found, "==== [stores.dev]\n{}", settings.trim_end()).unwrap();
        for (name, value) in *environment {
            writeln!(found, "$ export {name}={value:?}").unwrap();
        }
        let told = error(settings, environment).await;
        assert!(!told.contains("hunter2"), "{told}");
        writeln!(found, "=> {told}\n").unwrap();
    }
    expect_test::expect_file!["settings.txt"].assert_eq(&found);
}
