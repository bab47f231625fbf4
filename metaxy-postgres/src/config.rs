//! Settings, and how a `metaxy.toml` finds this backend.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use metaxy_core::backend::SharedBackend;
use metaxy_core::registry::{BackendRegistration, BackendSettings};
use metaxy_core::{Error, Result};
use serde::Deserialize;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::KIND;
use crate::backend::PostgresBackend;

/// The settings of a PostgreSQL store, as they stand in `metaxy.toml`.
///
/// ```
/// let config = metaxy_postgres::PostgresConfig::from_url("postgresql://metaxy:secret@db.example.org/corpus");
/// assert!(!format!("{config:?}").contains("secret"));
/// ```
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// `postgresql://user:password@host:port/database?sslmode=…`; a socket's folder goes into `?host=/var/run/postgresql`.
    pub connection_string: Option<String>,
    /// The parts of a connection, instead of `connection_string`.
    pub connection_params: Option<ConnectionParams>,
    /// `disable`, `allow`, `prefer` (the default), `require`, `verify-ca` or `verify-full`.
    pub sslmode: Option<String>,
    /// The file of the root certificates that `verify-ca` and `verify-full` trust.
    pub sslrootcert: Option<String>,
    /// The most connections that are open at once; 8 where nothing is said.
    pub pool_size: Option<u32>,
    /// How many seconds a connection may take to come about; 30 where nothing is said.
    pub connect_timeout: Option<f64>,
    /// The schema in which the tables are; by default the first of the connection's search path, mostly `public`.
    pub schema: Option<String>,
    /// What all table names start with.
    pub table_prefix: Option<String>,
    /// Whether a write may create a table; off by default.
    pub auto_create_tables: Option<bool>,
    /// Whether columns of structs, maps and nested lists are stored as `jsonb` (the default), or refused. The system
    /// columns are always `jsonb`.
    pub auto_cast_struct_for_jsonb: Option<bool>,
}

/// The parts of a connection. What is left out comes from libpq's environment variables (`PGHOST`, `PGPASSWORD`, …), its
/// password file, or its defaults.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionParams {
    /// A name, an address, or the folder of a Unix socket.
    pub host: Option<String>,
    /// 5432 by default.
    pub port: Option<u16>,
    /// The database.
    #[serde(alias = "dbname")]
    pub database: Option<String>,
    /// The role.
    #[serde(alias = "username")]
    pub user: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// As [`PostgresConfig::schema`].
    pub schema: Option<String>,
    /// As [`PostgresConfig::sslmode`].
    pub sslmode: Option<String>,
}

/// Settings that have been checked.
pub(crate) struct Settings {
    pub(crate) options: PgConnectOptions,
    pub(crate) pool_size: u32,
    pub(crate) connect_timeout: Duration,
    pub(crate) schema: Option<String>,
    pub(crate) table_prefix: String,
    pub(crate) auto_create_tables: bool,
    pub(crate) nested_as_jsonb: bool,
    /// Where the store is, without the password.
    pub(crate) location: String,
}

impl PostgresConfig {
    /// The settings of a database by its URL.
    pub fn from_url(url: impl Into<String>) -> Self {
        Self { connection_string: Some(url.into()), ..Self::default() }
    }

    pub(crate) fn check(&self) -> Result<Settings> {
        let params = self.connection_params.clone().unwrap_or_default();
        let mut options = match (&self.connection_string, &self.connection_params) {
            (Some(url), None) => from_url(url)?,
            (None, Some(params)) => from_params(params),
            (Some(_), Some(_)) => return Err(invalid("connection_params", "give either this or `connection_string`")),
            (None, None) => {
                let hint = "it is missing; give `connection_string = \"postgresql://user:password@host/database\"` or \
                            a table `connection_params`";
                return Err(invalid("connection_string", hint));
            }
        };
        if let Some(mode) = self.sslmode.as_ref().or(params.sslmode.as_ref()) {
            let known = "use disable, allow, prefer, require, verify-ca or verify-full";
            options = options.ssl_mode(PgSslMode::from_str(mode).map_err(|_| invalid("sslmode", known))?);
        }
        if let Some(file) = &self.sslrootcert {
            options = options.ssl_root_cert(file);
        }
        let seconds = self.connect_timeout.unwrap_or(30.0);
        let connect_timeout = Duration::try_from_secs_f64(seconds).ok().filter(|timeout| !timeout.is_zero());
        let schema = self.schema.clone().or(params.schema);
        Ok(Settings {
            location: location(&options, schema.as_deref()),
            options: options.application_name("metaxy"),
            pool_size: match self.pool_size {
                Some(0) => return Err(invalid("pool_size", "at least one connection is needed")),
                size => size.unwrap_or(8),
            },
            connect_timeout: connect_timeout
                .ok_or_else(|| invalid("connect_timeout", "give a number of seconds greater than 0"))?,
            schema,
            table_prefix: self.table_prefix.clone().unwrap_or_default(),
            auto_create_tables: self.auto_create_tables.unwrap_or(false),
            nested_as_jsonb: self.auto_cast_struct_for_jsonb.unwrap_or(true),
        })
    }
}

fn invalid(key: &str, reason: &str) -> Error {
    Error::Config { file: None, line: None, key: key.to_owned(), reason: reason.to_owned() }
}

/// Reads a URL. What is wrong with it is said without showing it, for it holds the password.
fn from_url(text: &str) -> Result<PgConnectOptions> {
    let bad = |reason: &str| invalid("connection_string", reason);
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| bad("it is no URL; write postgresql://user:password@host:port/database"))?;
    // SQLAlchemy names a driver behind the scheme (`postgresql+psycopg`).
    let scheme = scheme.split('+').next().unwrap_or(scheme);
    if scheme != "postgres" && scheme != "postgresql" {
        return Err(bad("it must start with postgresql:// or postgres://"));
    }
    let mut url = url::Url::parse(&format!("postgresql://{rest}")).map_err(|error| {
        bad(&format!("it is no URL ({error}); characters such as @ : / # in a password are written as %40 %3A %2F %23"))
    })?;
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(key, _)| key != "connect_timeout")
        .map(|(k, v)| (k.into_owned(), v.into_owned()))
        .collect();
    if kept.is_empty() {
        url.set_query(None);
    } else {
        url.query_pairs_mut().clear().extend_pairs(kept);
    }
    PgConnectOptions::from_str(url.as_str())
        .map_err(|_| bad("one of its parts is not understood; check the port and what follows the `?`"))
}

fn from_params(params: &ConnectionParams) -> PgConnectOptions {
    let mut options = PgConnectOptions::new();
    if let Some(host) = &params.host {
        options = if host.starts_with('/') { options.socket(host) } else { options.host(host) };
    }
    if let Some(port) = params.port {
        options = options.port(port);
    }
    if let Some(database) = &params.database {
        options = options.database(database);
    }
    if let Some(user) = &params.user {
        options = options.username(user);
    }
    match &params.password {
        Some(password) => options.password(password),
        None => options,
    }
}

/// The place, for people to read; never with the password.
fn location(options: &PgConnectOptions, schema: Option<&str>) -> String {
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => options.get_host().to_owned(),
    };
    let database = options.get_database().unwrap_or(options.get_username());
    let schema = schema.map(|schema| format!("?schema={schema}")).unwrap_or_default();
    format!("postgresql://{}@{host}:{}/{database}{schema}", options.get_username(), options.get_port())
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.check().map(|settings| settings.location);
        f.debug_struct("PostgresConfig")
            .field("location", &place.as_deref().unwrap_or("(settings that do not fit)"))
            .field("pool_size", &self.pool_size)
            .field("table_prefix", &self.table_prefix)
            .field("auto_create_tables", &self.auto_create_tables)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ConnectionParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionParams")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("database", &self.database)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

fn create(settings: BackendSettings) -> Result<SharedBackend> {
    let config: PostgresConfig = settings.parse()?;
    Ok(Arc::new(PostgresBackend::new(config)?))
}

inventory::submit! {
    BackendRegistration {
        kind: KIND,
        aliases: &[
            "postgresql",
            "metaxy.ext.postgresql.PostgreSQLMetadataStore",
            "metaxy.ext.metadata_stores.postgresql.PostgreSQLMetadataStore",
        ],
        crate_name: "metaxy-postgres",
        ignored_settings: &[],
        create,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_shown_nowhere() {
        let mut config = PostgresConfig::from_url("postgresql+psycopg://me:s3cret@db:5433/corpus?connect_timeout=3");
        config.schema = Some("meta".to_owned());
        let settings = config.check().unwrap();
        assert_eq!(settings.location, "postgresql://me@db:5433/corpus?schema=meta");
        assert!(!format!("{config:?}").contains("s3cret"));
        let broken = PostgresConfig::from_url("postgresql://me:s3cret@db:99999/corpus").check();
        assert!(broken.is_err_and(|error| !error.to_string().contains("s3cret")));
    }

    #[test]
    fn settings_that_do_not_fit_are_named() {
        let key = |config: PostgresConfig| match config.check() {
            Err(Error::Config { key, .. }) => key,
            _ => panic!("accepted"),
        };
        let url = || PostgresConfig::from_url("postgresql://db/corpus");
        assert_eq!(key(PostgresConfig::default()), "connection_string");
        assert_eq!(key(PostgresConfig { sslmode: Some("maybe".to_owned()), ..url() }), "sslmode");
        assert_eq!(key(PostgresConfig { pool_size: Some(0), ..url() }), "pool_size");
        assert_eq!(key(PostgresConfig { connect_timeout: Some(-1.0), ..url() }), "connect_timeout");
        assert_eq!(
            key(PostgresConfig { connection_params: Some(ConnectionParams::default()), ..url() }),
            "connection_params"
        );
    }
}
