//! The conformance suite of all backends, on a schema of a temporary server: once with each engine.

use std::sync::Arc;

use async_trait::async_trait;
use metaxy_core::store::StoreBuilder;
use metaxy_core::{Error, FeatureKey, HashAlgorithm, SharedBackend, VersioningEngine};
use metaxy_postgres::{PostgresBackend, PostgresConfig};
use metaxy_testkit::servers::postgres::{self, Schema};
use metaxy_testkit::{Load, Location, Result};

struct Place {
    schema: Schema,
    engine: VersioningEngine,
    hash: HashAlgorithm,
}

#[async_trait]
impl Location for Place {
    async fn backend(&self) -> Result<SharedBackend> {
        let mut config = PostgresConfig::new(self.schema.url());
        config.schema = Some(self.schema.name().to_owned());
        Ok(Arc::new(PostgresBackend::new(config)?))
    }

    fn settings(&self) -> toml::Table {
        let settings = [("connection_string", self.schema.url()), ("schema", self.schema.name())];
        settings.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
    }

    fn environment(&self) -> Vec<(String, String)> {
        postgres::environment().expect("a server that runs")
    }

    fn configure(&self, store: StoreBuilder) -> StoreBuilder {
        store.versioning_engine(self.engine).hash_algorithm(self.hash)
    }

    async fn delete_elsewhere(&self, table: &FeatureKey, time: i64) -> Result<bool> {
        let table = format!("{}.\"{}\"", self.schema.name(), table.table_name());
        let deleted = format!("jsonb_build_object('metaxy_deleted_at', to_timestamp({time} / 1e6))");
        let copied = format!("SELECT (jsonb_populate_record(r, {deleted})).* FROM {table} AS r LIMIT 1");
        let done = self.schema.sql(&format!("INSERT INTO {table} {copied}"));
        done.map(|_| true).map_err(|reason| Error::backend("postgres", "write with psql", reason))
    }

    fn variant(&self) -> Option<String> {
        let engine = if self.engine == VersioningEngine::Arrow { "Arrow" } else { "native" };
        Some(format!("postgres, {engine} engine"))
    }

    fn secrets(&self) -> Vec<String> {
        let url = url::Url::parse(self.schema.url()).expect("the server has a URL");
        url.password().map(str::to_owned).into_iter().collect()
    }

    fn load(&self) -> Load {
        Load::default().tiny_writes(2_000)
    }
}

async fn place(engine: VersioningEngine, hash: HashAlgorithm) -> Result<Place> {
    let schema = tokio::task::spawn_blocking(postgres::schema).await?;
    let schema = schema.map_err(|reason| Error::Unsupported { what: "testing PostgreSQL".to_owned(), hint: reason })?;
    Ok(Place { schema, engine, hash })
}

/// Increments are computed by the Arrow engine.
async fn with_arrow() -> Result<Place> {
    place(VersioningEngine::Arrow, HashAlgorithm::Xxhash32).await
}

/// Increments are computed by the server if possible: it has this hash.
async fn with_server() -> Result<Place> {
    place(VersioningEngine::Auto, HashAlgorithm::Md5).await
}

metaxy_testkit::conformance!(arrow, with_arrow);
metaxy_testkit::conformance!(native, with_server);
