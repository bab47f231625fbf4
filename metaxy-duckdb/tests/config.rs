//! DuckDB stores that are opened by name from a configuration.

use metaxy_core::{AccessMode, Error};
use metaxy_duckdb as _;
use metaxy_testkit::fixtures::configured::{
    dev_leaves_prod_alone, graph, load, no_table_is_made_where_that_is_forbidden, settings_are_refused, videos,
};

/// One file serves the Python package and this program: its type strings and settings, in both forms.
const CHAIN: &str = r#"
auto_create_tables = true

[stores.dev]
type = "metaxy.ext.duckdb.DuckDBMetadataStore"
database = "${HOME}/dev.duckdb"
fallback_stores = ["prod"]

[stores.prod]
type = "metaxy.ext.metadata_stores.duckdb.DuckDBMetadataStore"
[stores.prod.config]
database = "${HOME}/prod.duckdb"
extensions = ["hashfuncs"]
config = { threads = 1, memory_limit = "500MB" }
"#;

#[tokio::test]
async fn a_pipeline_with_its_root_in_prod() {
    let home = tempfile::tempdir().unwrap();
    let config = load(home.path(), CHAIN).unwrap();
    dev_leaves_prod_alone(&config, || std::fs::read(home.path().join("prod.duckdb")).unwrap()).await;
}

#[tokio::test]
async fn invalid_settings_are_reported_with_their_position() {
    let cases = [
        ("databse = 'x.duckdb'", "3: `stores.dev.databse`: unknown key; did you mean `database`?"),
        (
            "database = 'x.duckdb'\ntable_prefix = '1'",
            "4: `stores.dev.table_prefix`: use ASCII letters, digits and `_`, and start with no digit",
        ),
        ("table_prefix = 'x'", "1: `stores.dev`: `database` is missing"),
    ];
    settings_are_refused("duckdb", &cases).await;
}

#[tokio::test]
async fn no_table_is_created_if_the_configuration_forbids_it() {
    let store = "[stores.dev]\ntype = 'duckdb'\ndatabase = '${HOME}/no.duckdb'";
    no_table_is_made_where_that_is_forbidden(store).await;
    // Nor if there is no such setting.
    let home = tempfile::tempdir().unwrap();
    let store = load(home.path(), store).unwrap().open_default_store(graph(), AccessMode::ReadWrite).await.unwrap();
    assert!(matches!(store.write("raw/video", videos(0..1)).await, Err(Error::TableMissing { .. })));
}

/// Values of DuckDB's settings may be secrets.
#[tokio::test]
async fn no_setting_of_duckdb_is_shown() {
    let home = tempfile::tempdir().unwrap();
    let text = "[stores.dev]\ntype = 'duckdb'\n[stores.dev.config]\ndatabase = 'x.duckdb'\n\
                config = { no_such_setting = 'hunter2' }";
    let config = load(home.path(), text).unwrap();
    let error = config.open_default_store(graph(), AccessMode::ReadWrite).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}

/// Database names that are links or connection strings contain tokens and keys.
#[tokio::test]
async fn secrets_in_a_name_are_masked() {
    use metaxy_core::registry::{BackendSettings, find};

    let home = tempfile::tempdir().unwrap();
    std::fs::write(
        home.path().join("text?sig=hunter2"),
        "this is not a database, and long enough to be read as one".repeat(20),
    )
    .unwrap();
    for name in ["missing/x.db?token=hunter2", "text?sig=hunter2", "x://ada:/hunter2@host/x.db"] {
        let database =
            if name.contains("://") { name.to_owned() } else { home.path().join(name).display().to_string() };
        let table = toml::Table::from_iter([("database".to_owned(), database.into())]);
        let backend = match (find("duckdb").unwrap().create)(BackendSettings::from_table(table)) {
            Ok(backend) => backend,
            Err(error) => {
                assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
                continue;
            }
        };
        let error: Error = backend.open(AccessMode::ReadOnly).await.unwrap_err();
        for shown in [format!("{backend:?}"), format!("{:?}", backend.info()), error.to_string(), format!("{error:?}")]
        {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}

/// One file serves the Python package and this program: its class name, and its ways to name the file.
#[tokio::test]
async fn connection_strings_and_class_names_of_the_python_package() {
    use metaxy_core::registry::find;

    for name in [
        "metaxy.ext.duckdb.DuckDBMetadataStore",
        "metaxy.ext.duckdb.metadata_store.DuckDBMetadataStore",
        "metaxy.ext.metadata_stores.duckdb.DuckDBMetadataStore",
    ] {
        assert_eq!(find(name).unwrap().kind, "duckdb", "{name}");
    }
    for (string, file) in [
        ("duckdb://${HOME}/a.db", "a.db"),
        ("DuckDB:${HOME}/b.db", "b.db"),
        ("file://${HOME}/c.duckdb", "c.duckdb"),
        ("${HOME}/d.duckdb", "d.duckdb"),
        ("duckdb://${HOME}/e%20f.db?threads=1&memory_limit=500MB", "e%20f.db"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let text = format!(
            "auto_create_tables = true\n[stores.dev]\ntype = 'metaxy.ext.duckdb.metadata_store.DuckDBMetadataStore'\n\
             [stores.dev.config]\ndatabase = '${{HOME}}/not-this.db'\nconnection_string = '{string}'"
        );
        let store = load(home.path(), &text).unwrap().open_default_store(graph(), AccessMode::ReadWrite).await.unwrap();
        store.write("raw/video", videos(0..1)).await.unwrap();
        store.close().await.unwrap();
        assert!(home.path().join(file).exists(), "{string}");
        assert!(!home.path().join("not-this.db").exists(), "{string}");
    }
    for (string, part) in [
        ("postgresql://u:hunter2@host/db", "does not name a DuckDB file"),
        ("duckdb://x.db?read_only=true", "`read_only`"),
        ("duckdb://md:shared", "md:"),
        ("duckdb://x.db?access_mode=READ_ONLY", "access_mode"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let text = format!("[stores.dev]\ntype = 'duckdb'\nconnection_string = '{string}'");
        let config = load(home.path(), &text).unwrap();
        let error = config.open_default_store(graph(), AccessMode::ReadWrite).await.unwrap_err();
        assert!(error.to_string().contains(part), "{string}: {error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}
