//! SQLite stores that are opened by name from a configuration.

use metaxy_sqlite as _;
use metaxy_testkit::fixtures::configured::{
    dev_leaves_prod_alone, load, no_table_is_made_where_that_is_forbidden, settings_are_refused,
};

const CHAIN: &str = r#"
[stores.dev]
type = "sqlite"
database = "${HOME}/dev.db"
fallback_stores = ["prod"]

[stores.prod]
type = "sqlite"
[stores.prod.config]
database = "${HOME}/prod.db"
busy_timeout_ms = "1000"
"#;

#[tokio::test]
async fn a_pipeline_with_its_root_in_prod() {
    let home = tempfile::tempdir().unwrap();
    let config = load(home.path(), CHAIN).unwrap();
    dev_leaves_prod_alone(&config, || std::fs::read(home.path().join("prod.db")).unwrap()).await;
}

#[tokio::test]
async fn invalid_settings_are_reported_with_their_position() {
    let cases = [
        ("databse = 'x.db'", "3: `stores.dev.databse`: unknown key; did you mean `database`?"),
        (
            "database = 'x.db'\nbusy_timeout_ms = -1",
            "4: `stores.dev.busy_timeout_ms`: -1 is out of range; expected a whole number from 0 to 4294967295",
        ),
        (
            "database = 'x.db'\ntable_prefix = '1'",
            "4: `stores.dev.table_prefix`: use ASCII letters, digits and `_`, and start with no digit",
        ),
        ("database = ''", "3: `stores.dev.database`: give the path of a file, or `:memory:`"),
        ("table_prefix = 'x'", "1: `stores.dev`: `database` is missing"),
    ];
    settings_are_refused("sqlite", &cases).await;
}

#[tokio::test]
async fn no_table_is_created_if_the_configuration_forbids_it() {
    let store = "[stores.dev]\ntype = 'sqlite'\ndatabase = '${HOME}/no.db'";
    no_table_is_made_where_that_is_forbidden(store).await;
}

/// Database names that are links or connection strings contain tokens and keys.
#[tokio::test]
async fn secrets_in_a_name_are_masked() {
    use metaxy_core::registry::{BackendSettings, find};
    use metaxy_core::{AccessMode, Error};

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
        let backend = match (find("sqlite").unwrap().create)(BackendSettings::from_table(table)) {
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

/// The same for errors of an open store.
#[tokio::test]
async fn secrets_in_the_name_of_an_open_store_are_masked() {
    use metaxy_core::{AccessMode, ScanRequest, StoreBackend};
    use metaxy_sqlite::{SqliteBackend, SqliteConfig};
    use metaxy_testkit::fixtures::tables::{append, batch, ints, key, read};

    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("store.db?token=hunter2");
    let backend = |path: &std::path::Path| {
        SqliteBackend::new(SqliteConfig::new(path.to_str().unwrap()).busy_timeout_ms(10)).unwrap()
    };
    let store = backend(&path);
    let mut said = Vec::new();
    store.open(AccessMode::ReadWrite).await.unwrap();
    let rows = batch([("id", ints([1]))]);
    append(&store, "t", &rows).await.unwrap();
    said.push(format!("{:?}", store.scan(&key("none"), &ScanRequest::default()).await.unwrap_err()));
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("UPDATE t SET id = 'one'; BEGIN IMMEDIATE").unwrap();
    said.push(format!("{:?}", read(&store, "t").await.unwrap_err()));
    said.push(format!("{:?}", append(&store, "t", &rows).await.unwrap_err()));
    said.push(format!("{store:?} {:?}", store.info()));
    drop(other);
    store.close().await.unwrap();
    said.push(format!("{:?}", append(&store, "t", &rows).await.unwrap_err()));
    store.open(AccessMode::ReadOnly).await.unwrap();
    said.push(format!("{:?}", append(&store, "t", &rows).await.unwrap_err()));
    std::fs::hard_link(&path, home.path().join("second")).unwrap();
    said.push(format!("{:?}", backend(&path).open(AccessMode::ReadWrite).await.unwrap_err()));
    let below = path.join("x.db");
    said.push(format!("{:?}", backend(&below).open(AccessMode::ReadWrite).await.unwrap_err()));
    said.push(format!("{:?}", backend(home.path()).open(AccessMode::ReadWrite).await.unwrap_err()));
    assert!(said.iter().any(|text| text.contains("token=***")), "{said:?}");
    for text in said {
        assert!(!text.contains("hunter2"), "{text}");
    }
}
