//! SQLite stores by their names in a configuration.

use metaxy_sqlite as _;
use metaxy_testkit::configured::{
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
async fn a_pipeline_whose_root_lives_in_prod() {
    let home = tempfile::tempdir().unwrap();
    let config = load(home.path(), CHAIN).unwrap();
    dev_leaves_prod_alone(&config, || std::fs::read(home.path().join("prod.db")).unwrap()).await;
}

#[tokio::test]
async fn settings_that_do_not_fit_are_shown_with_their_place() {
    let cases = [
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
    ];
    settings_are_refused("sqlite", &cases).await;
}

#[tokio::test]
async fn no_table_is_made_where_the_configuration_forbids_it() {
    let store = "[stores.dev]\ntype = 'sqlite'\ndatabase = '${HOME}/no.db'";
    no_table_is_made_where_that_is_forbidden(store).await;
}
