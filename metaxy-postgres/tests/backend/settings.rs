//! All ways to specify a database and its tables.

use std::sync::Arc;

use arrow::array::*;
use metaxy_core::{AccessMode, Error, FeatureGraph, FeatureSpec, MetadataStore, StoreBackend};
use metaxy_postgres::{ConnectionParams, PostgresBackend, PostgresConfig};
use metaxy_testkit::fixtures::tables::{append, batch, read};
use metaxy_testkit::servers::postgres::Server;
use url::Url;

use super::support::{config, database, open, sample};

fn one() -> RecordBatch {
    batch([("x", Arc::new(Int64Array::from(vec![1])) as ArrayRef)])
}

fn graph(keys: &[&str]) -> FeatureGraph {
    FeatureGraph::new(keys.iter().map(|key| FeatureSpec::builder(*key).id_columns(["id"]).build().unwrap())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn separate_parameters_lead_to_the_same_database() {
    let database = database();
    append(&open(database.url()).await, "t", &one()).await.unwrap();
    let url = Url::parse(database.url()).unwrap();
    let parts = ConnectionParams {
        host: url.host_str().map(str::to_owned),
        port: url.port(),
        database: Some(url.path().trim_start_matches('/').to_owned()),
        user: Some(url.username().to_owned()),
        password: url.password().map(str::to_owned),
        schema: Some("public".to_owned()),
        sslmode: Some("prefer".to_owned()),
    };
    assert!(!format!("{parts:?}").contains(url.password().unwrap()));
    let config = PostgresConfig { connection_params: Some(parts), ..PostgresConfig::default() };
    let backend = PostgresBackend::new(config).unwrap();
    backend.open(AccessMode::ReadOnly).await.unwrap();
    assert_eq!(read(&backend, "t").await.unwrap(), one());
}

#[tokio::test(flavor = "multi_thread")]
async fn prefixes_and_schemas_separate_stores() {
    let database = database();
    database.sql("CREATE SCHEMA \"Meta Data\"").unwrap();
    let mut config = config(database.url());
    config.schema = Some("Meta Data".to_owned());
    config.table_prefix = Some("dev_".to_owned());
    let own = PostgresBackend::new(config.clone()).unwrap();
    own.open(AccessMode::ReadWrite).await.unwrap();
    append(&own, "raw/video", &one()).await.unwrap();
    assert_eq!(own.tables().await.unwrap(), ["raw__video"]);
    assert!(open(database.url()).await.tables().await.unwrap().is_empty());
    assert_eq!(database.sql("SELECT x FROM \"Meta Data\".dev_raw__video").unwrap(), "1");
    config.schema = Some("nowhere".to_owned());
    let error = PostgresBackend::new(config).unwrap().open(AccessMode::ReadWrite).await.unwrap_err();
    assert!(matches!(error, Error::LocationNotFound { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_created_only_if_allowed() {
    let database = database();
    let store = async |create: Option<bool>| {
        let config = PostgresConfig { auto_create_tables: create, ..config(database.url()) };
        let backend = PostgresBackend::new(config).unwrap();
        MetadataStore::builder(backend, graph(&["raw/video"])).open(AccessMode::ReadWrite).await.unwrap()
    };
    for refusing in [None, Some(false)] {
        let error = store(refusing).await.write("raw/video", sample()).await.unwrap_err();
        assert!(matches!(&error, Error::TableMissing { table, .. } if table == "raw__video"), "{error}");
        assert!(error.to_string().contains("auto_create_tables"), "{error}");
    }
    store(Some(true)).await.write("raw/video", sample()).await.unwrap();
    // If the table exists, nothing has to be created.
    assert_eq!(store(Some(false)).await.write("raw/video", sample()).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn structs_are_refused_without_jsonb() {
    let database = database();
    let config = PostgresConfig { auto_cast_struct_for_jsonb: Some(false), ..config(database.url()) };
    let backend = PostgresBackend::new(config).unwrap();
    let store = MetadataStore::builder(backend, graph(&["raw/video"])).open(AccessMode::ReadWrite).await.unwrap();
    store.write("raw/video", sample()).await.unwrap();
    let mut columns = vec![("box", Arc::new(StructArray::from(one())) as ArrayRef)];
    let sample = sample();
    columns
        .extend(["id", "metaxy_provenance_by_field"].map(|name| (name, sample.column_by_name(name).unwrap().clone())));
    let error = store.write("raw/video", batch(columns)).await.unwrap_err();
    assert!(matches!(&error, Error::UnsupportedType { column, .. } if column == "box"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn features_with_the_same_table_are_refused() {
    let database = database();
    let backend = PostgresBackend::new(config(database.url())).unwrap();
    let opened = MetadataStore::builder(backend, graph(&["raw/my-video", "raw/my_video"])).open(AccessMode::ReadWrite);
    let error = opened.await.unwrap_err();
    assert!(matches!(error, Error::TableCollision { .. }), "{error}");
}

async fn opened(config: PostgresConfig) -> metaxy_core::Result<PostgresBackend> {
    let backend = PostgresBackend::new(config)?;
    backend.open(AccessMode::ReadWrite).await?;
    Ok(backend)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_connection_string_leads_to_the_database() {
    let server = Arc::new(Server::start_with(&["fsync=off", "listen_addresses=127.0.0.1,::1"]).unwrap());
    let database = server.database().unwrap();
    database.sql("CREATE SCHEMA s; CREATE TABLE s.t AS SELECT 1::bigint AS x").unwrap();
    let url = Url::parse(database.url()).unwrap();
    let (user, password, port) = (url.username(), url.password().unwrap(), url.port().unwrap());
    let name = url.path().trim_start_matches('/');
    let mut strings = vec![
        format!("postgresql://{user}:{password}@127.0.0.1:1,127.0.0.1:{port}/{name}?schema=s"),
        format!("postgresql://{user}:{password}@/{name}?host=127.0.0.1:1&host=127.0.0.1:{port}&schema=s"),
        format!("host=127.0.0.1 port={port} dbname={name} user={user} password='{password}' schema=s"),
        format!("postgresql://{user}:{password}@127.0.0.1:{port}/{name}?schema=s&target_session_attrs=read-write"),
        format!("postgresql://{user}:{password}@127.0.0.1:{port}/{name}?schema=s&target_session_attrs=prefer-standby"),
        format!(
            "postgresql://{user}:{password}@127.0.0.1:{port}/{name}?schema=s&gssencmode=disable&keepalives_idle=30"
        ),
    ];
    if std::net::TcpStream::connect(("::1", port)).is_ok() {
        strings.push(format!("postgresql://{user}:{password}@[::1]:{port}/{name}?schema=s"));
    }
    for string in strings {
        let backend = opened(config(&string)).await.unwrap_or_else(|error| panic!("{string}: {error}"));
        assert_eq!(read(&backend, "t").await.unwrap(), one(), "{string}");
        append(&backend, "u", &one()).await.unwrap();
    }
    let standby = format!("postgresql://{user}:{password}@127.0.0.1:{port}/{name}?target_session_attrs=standby");
    let error = opened(config(&standby)).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { reason, .. } if reason.contains("target_session_attrs")), "{error}");
}

#[test]
fn unsupported_parameters_are_refused_by_name() {
    for (parameter, named) in [
        ("sslpasword=s3cret", "sslpasword"),
        ("currentSchema=s", "schema"),
        ("target_session_attrs=any-one", "target_session_attrs"),
        ("sslrootcert=system&sslmode=require", "sslrootcert"),
        ("gssencmode=require", "gssencmode"),
        ("channel_binding=require", "channel_binding"),
        ("load_balance_hosts=random", "load_balance_hosts"),
        ("service=s3cret", "service"),
    ] {
        let url = format!("postgresql://me:s3cret@db/x?{parameter}");
        let error = PostgresBackend::new(config(&url)).unwrap_err().to_string();
        assert!(error.contains(named) && !error.contains("s3cret"), "{parameter}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn system_certificates_require_full_verification() {
    let database = database();
    let error = opened(config(&format!("{}?sslrootcert=system", database.url()))).await.unwrap_err().to_string();
    assert!(error.contains("TLS") || error.contains("ca-certificates"), "{error}");
    let missing = config(database.url()).tls("verify-full", Some("/nowhere/root.crt".to_owned()));
    let error = opened(missing).await.unwrap_err();
    assert!(matches!(&error, Error::Config { key, .. } if key == "sslrootcert"), "{error}");
}
