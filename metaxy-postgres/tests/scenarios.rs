//! Recorded results of the Python package, and a comparison of both engines.

use std::path::Path;
use std::sync::Arc;

use metaxy_core::{HashAlgorithm, SharedBackend};
use metaxy_postgres::{PostgresBackend, PostgresConfig};
use metaxy_testkit::fixtures::stores;
use metaxy_testkit::scenario::{self, Scenario};
use metaxy_testkit::servers::postgres;

fn backend(url: &str, schema: &str) -> SharedBackend {
    let mut config = PostgresConfig::new(url);
    config.schema = Some(schema.to_owned());
    Arc::new(PostgresBackend::new(config).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_python_package_is_read() {
    let database = postgres::database().unwrap_or_else(|reason| panic!("{reason}"));
    let backend = || backend(database.url(), "public");
    database.load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/store.postgres.sql")).unwrap();
    // The server's engine takes part if it can; the Arrow engine must return the same results.
    let recorded = stores::recording();
    let hash = recorded.hash_algorithm;
    let resolved = scenario::compare_engines(&recorded, "expected.json", backend(), hash).await;
    assert_eq!(resolved.unwrap_or_else(|failure| panic!("{failure}")), 4);
    let answers = async {
        stores::answers_as_recorded(backend()).await?;
        stores::can_be_appended_to(backend()).await
    };
    answers.await.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Runs both engines, step by step, on every scenario, with a hash of the server.
#[tokio::test(flavor = "multi_thread")]
async fn both_engines_agree() {
    let mut resolved = 0;
    let mut failures = Vec::new();
    for (number, scenario) in Scenario::bundled().into_iter().enumerate() {
        let hash = if number % 2 == 0 { HashAlgorithm::Md5 } else { HashAlgorithm::Sha256 };
        let schema = postgres::schema().unwrap_or_else(|reason| panic!("{reason}"));
        let backend = backend(schema.url(), schema.name());
        match scenario::compare_engines(&scenario, &scenario.name, backend, hash).await {
            Ok(count) => resolved += count,
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(resolved > 60, "only {resolved} resolves ran in the server");
}
