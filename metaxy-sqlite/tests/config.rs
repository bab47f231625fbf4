//! SQLite stores by their names in a configuration.

use metaxy_core::{AccessMode, Error};
use metaxy_sqlite as _;
use metaxy_testkit::configured::{dev_leaves_prod_alone, graph, load, videos};

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
async fn a_pipeline_whose_root_lives_in_prod() {
    let home = tempfile::tempdir().unwrap();
    let config = load(home.path(), CHAIN).unwrap();
    dev_leaves_prod_alone(&config, || std::fs::read(home.path().join("prod.db")).unwrap()).await;
}

#[tokio::test]
async fn settings_that_do_not_fit_are_shown_with_their_place() {
    let home = tempfile::tempdir().unwrap();
    for (setting, told) in [
        ("databse = 'x.db'", "3: `stores.dev.databse`: unknown key; did you mean `database`?"),
        (
            "database = 'x.db'\nbusy_timeout_ms = -1",
            "4: `stores.dev.busy_timeout_ms`: -1 does not fit; expected a whole number from 0 to 4294967295",
        ),
        (
            "database = 'x.db'\ntable_prefix = '1'",
            "4: `stores.dev.table_prefix`: use ASCII letters, digits and `_`, and start with no digit",
        ),
        ("database = ''", "3: `stores.dev.database`: give the path of a file, or `:memory:`"),
        ("table_prefix = 'x'", "1: `stores.dev`: `database` is missing"),
    ] {
        let config = load(home.path(), &format!("[stores.dev]\ntype = 'sqlite'\n{setting}")).unwrap();
        let error = config.open_default_store(graph(), AccessMode::ReadWrite).await.unwrap_err();
        assert_eq!(error.to_string(), format!("{}:{told}", home.path().join("metaxy.toml").display()));
    }
}

#[tokio::test]
async fn no_table_is_made_where_the_configuration_forbids_it() {
    let home = tempfile::tempdir().unwrap();
    let store = "[stores.dev]\ntype = 'sqlite'\ndatabase = '${HOME}/no.db'";
    for text in [
        format!("auto_create_tables = false\n{store}"),
        format!("auto_create_tables = true\n{store}\nauto_create_tables = false"),
    ] {
        let config = load(home.path(), &text).unwrap();
        let store = config.open_default_store(graph(), AccessMode::ReadWrite).await.unwrap();
        let error = store.write("raw/video", videos(0..1)).await.unwrap_err();
        assert!(matches!(error, Error::TableMissing { .. }), "{error}");
    }
}
