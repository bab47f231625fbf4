//! Invalid input and unusable servers cause typed errors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::*;
use metaxy_core::{AccessMode, Error, StoreBackend};
use metaxy_postgres::PostgresBackend;
use metaxy_testkit::fixtures::tables::{append, batch, key, read};

use super::support::{config, database, open};

fn one() -> RecordBatch {
    batch([("x", Arc::new(Int64Array::from(vec![1])) as ArrayRef)])
}

async fn open_error(url: &str) -> Error {
    open_error_within(60.0, url).await
}

async fn open_error_within(seconds: f64, url: &str) -> Error {
    let mut config = config(url);
    config.connect_timeout = Some(seconds);
    PostgresBackend::new(config).unwrap().open(AccessMode::ReadWrite).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_denied_and_never_shown() {
    let database = database();
    let role = format!("reader_{}", std::process::id());
    database.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'right'")).unwrap();
    let error = open_error(&database.url_as(&role, "n0t-right")).await;
    database.sql(&format!("DROP ROLE {role}")).unwrap();
    assert!(matches!(error, Error::AccessDenied { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("n0t-right"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_server_is_unreachable() {
    let refused = open_error("postgresql://me@127.0.0.1:1/x").await;
    assert!(matches!(refused, Error::Unreachable { .. }), "{refused}");
    // No host responds there (RFC 5737); some networks refuse at once.
    let start = Instant::now();
    let silent = open_error_within(2.0, "postgresql://me@192.0.2.1:5432/x").await;
    assert!(matches!(silent, Error::Unreachable { .. }), "{silent}");
    assert!(start.elapsed() < Duration::from_secs(30));
    // A program other than PostgreSQL that never responds.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = format!("postgresql://me@127.0.0.1:{}/x", listener.local_addr().unwrap().port());
    let mute = open_error_within(2.0, &mute).await;
    assert!(matches!(mute, Error::Unreachable { .. }), "{mute}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_database_is_not_found() {
    let database = database();
    let missing = format!("{}_missing", database.url());
    let error = open_error(&missing).await;
    assert!(matches!(error, Error::LocationNotFound { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_role_is_denied_to_write() {
    let database = database();
    append(&open(database.url()).await, "t", &one()).await.unwrap();
    let role = format!("looker_{}", std::process::id());
    database.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT SELECT ON t TO {role}")).unwrap();
    let reader = open(&database.url_as(&role, "x")).await;
    assert_eq!(read(&reader, "t").await.unwrap().num_rows(), 1);
    let write = append(&reader, "t", &one()).await.unwrap_err();
    let create = append(&reader, "other", &one()).await.unwrap_err();
    let drop = reader.drop_table(&key("t")).await.unwrap_err();
    reader.close().await.unwrap();
    database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
    for error in [write, create, drop] {
        assert!(matches!(error, Error::AccessDenied { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_opened_for_reading_writes_nothing() {
    let database = database();
    append(&open(database.url()).await, "t", &one()).await.unwrap();
    let backend = PostgresBackend::new(config(database.url())).unwrap();
    backend.open(AccessMode::ReadOnly).await.unwrap();
    let error = append(&backend, "t", &one()).await.unwrap_err();
    assert!(matches!(error, Error::AccessDenied { .. }), "{error}");
    assert_eq!(read(&backend, "t").await.unwrap().num_rows(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_on_a_closed_store_fail() {
    let database = database();
    let backend = PostgresBackend::new(config(database.url())).unwrap();
    assert!(matches!(backend.schema(&key("t")).await, Err(Error::Closed { .. })));
    backend.open(AccessMode::ReadWrite).await.unwrap();
    backend.close().await.unwrap();
    backend.close().await.unwrap();
    assert!(matches!(append(&backend, "t", &one()).await, Err(Error::Closed { .. })));
    backend.open(AccessMode::ReadWrite).await.unwrap();
    append(&backend, "t", &one()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_server_are_distinguished() {
    let database = database();
    let backend = open(database.url()).await;
    append(&backend, "t", &one()).await.unwrap();
    database
        .sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''refused'' \
             USING ERRCODE = (SELECT code FROM refusal); END'; CREATE TABLE refusal (code text); \
             INSERT INTO refusal VALUES ('53100'); \
             CREATE TRIGGER refuse BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .unwrap();
    let refused = async |code: &str| {
        database.sql(&format!("UPDATE refusal SET code = '{code}'")).unwrap();
        let error = append(&backend, "t", &one()).await.unwrap_err();
        assert!(error.to_string().contains("refused"), "{code}: {error}");
        error
    };
    let full = refused("53100").await;
    assert!(matches!(full, Error::StorageFull { .. }) && full.is_transient(), "{full:?}");
    for code in ["42501", "28000", "25006"] {
        assert!(matches!(refused(code).await, Error::AccessDenied { .. }), "{code}");
    }
    for code in ["XX001", "XX002", "58P01"] {
        assert!(matches!(refused(code).await, Error::Corrupt { .. }), "{code}");
    }
    for code in ["57P01", "53300", "08006"] {
        assert!(matches!(refused(code).await, Error::Unreachable { .. }), "{code}");
    }
    for (code, passes) in [("53200", true), ("40001", true), ("55P03", true), ("57014", true), ("23505", false)] {
        let error = refused(code).await;
        assert!(matches!(error, Error::Backend { .. }) && error.is_transient() == passes, "{code}: {error:?}");
    }
    assert_eq!(read(&backend, "t").await.unwrap().num_rows(), 1);
}
