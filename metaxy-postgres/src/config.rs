//! The settings of a store.

use std::fmt;
use std::time::Duration;

use metaxy_core::{Error, Result};
use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;

use crate::server::conninfo::{Parameters, Target};

/// The default of `connect_timeout`, in seconds.
const CONNECT_TIMEOUT: f64 = 30.0;
/// The default of `stall_timeout`, in seconds.
const STALL_TIMEOUT: f64 = 60.0;

/// The settings of a PostgreSQL store, as in `metaxy.toml`.
///
/// ```
/// let config = metaxy_postgres::PostgresConfig::new("postgresql://metaxy:secret@db.example.org/corpus");
/// assert!(!format!("{config:?}").contains("secret"));
/// ```
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// `postgresql://user:password@host:port/database?sslmode=…`, or `host=… port=… dbname=… user=… password=…`.
    pub connection_string: Option<String>,
    /// The parts of a connection, instead of `connection_string`.
    pub connection_params: Option<ConnectionParams>,
    /// `disable`, `allow`, `prefer` (the default), `require`, `verify-ca` or `verify-full`.
    pub sslmode: Option<String>,
    /// The file of the root certificates that `verify-ca` and `verify-full` trust, or `system`.
    pub sslrootcert: Option<String>,
    /// The maximum number of open connections, including those of streams; 8 by default.
    pub pool_size: Option<u32>,
    /// The time limit for opening a connection, in seconds; 30 by default.
    pub connect_timeout: Option<f64>,
    /// The time in seconds that a connection may be silent before the server is asked, over another connection, whether
    /// it still works on it; if it does not, the call ends with [`Error::Unreachable`]. 60 by default, 0 for never.
    pub stall_timeout: Option<f64>,
    /// Whether writes notify those who watch a feature, and whether watching listens, on a connection of its own; on by
    /// default. Without notifications, changes are looked for.
    pub notifications: Option<bool>,
    /// The schema of the tables; by default the first in the connection's search path, usually `public`.
    pub schema: Option<String>,
    /// The prefix of all table names.
    pub table_prefix: Option<String>,
    /// Whether a write may create a table; off by default.
    pub auto_create_tables: Option<bool>,
    /// Whether columns of structs, maps and nested lists are stored as `jsonb` (the default) or refused. The system
    /// columns are always `jsonb`.
    pub auto_cast_struct_for_jsonb: Option<bool>,
}

/// The parts of a connection. Missing parts come from libpq's environment variables (`PGHOST`, `PGPASSWORD`, …), its
/// password file, or its defaults.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionParams {
    /// A name, an address, or the directory of a Unix socket; several are separated by commas.
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
    /// See [`PostgresConfig::schema`].
    pub schema: Option<String>,
    /// See [`PostgresConfig::sslmode`].
    pub sslmode: Option<String>,
}

/// Checked settings.
pub(crate) struct Settings {
    pub(crate) target: Target,
    pub(crate) pool_size: u32,
    pub(crate) connect_timeout: Duration,
    pub(crate) stall_timeout: Option<Duration>,
    pub(crate) notifications: bool,
    pub(crate) schema: Option<String>,
    pub(crate) table_prefix: String,
    pub(crate) auto_create_tables: bool,
    pub(crate) nested_as_jsonb: bool,
    /// The location of the store, without the password.
    pub(crate) location: String,
}

impl PostgresConfig {
    /// Creates settings for a database, from its URL or from a list `host=… dbname=…`.
    pub fn new(connection_string: impl Into<String>) -> Self {
        Self { connection_string: Some(connection_string.into()), ..Self::default() }
    }

    /// Sets the schema of the tables.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// Sets the prefix of all table names.
    #[must_use]
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.table_prefix = Some(prefix.into());
        self
    }

    /// Sets whether a write may create a table.
    #[must_use]
    pub fn auto_create_tables(mut self, create: bool) -> Self {
        self.auto_create_tables = Some(create);
        self
    }

    /// Sets the maximum number of open connections.
    #[must_use]
    pub fn pool_size(mut self, connections: u32) -> Self {
        self.pool_size = Some(connections);
        self
    }

    /// Sets how the server's certificate is verified: `sslmode`, and the file of the root certificates.
    #[must_use]
    pub fn tls(mut self, sslmode: impl Into<String>, sslrootcert: Option<String>) -> Self {
        self.sslmode = Some(sslmode.into());
        self.sslrootcert = sslrootcert;
        self
    }

    pub(crate) fn check(&self) -> Result<Settings> {
        let (key, parameters) = self.parameters()?;
        let target = parameters.target().map_err(|reason| Error::setting(named(&reason, key), reason))?;
        let schema = self.schema.clone().or_else(|| target.schema.clone());
        let connect_timeout = self.connect_timeout.or(target.connect_timeout).unwrap_or(CONNECT_TIMEOUT);
        let stall_timeout = self.stall_timeout.or(target.stall_timeout).unwrap_or(STALL_TIMEOUT);
        Ok(Settings {
            location: location(&target.hosts, schema.as_deref()),
            pool_size: match self.pool_size {
                Some(0) => return Err(Error::setting("pool_size", "at least one connection is needed")),
                size => size.unwrap_or(8),
            },
            connect_timeout: seconds(connect_timeout)
                .ok_or_else(|| Error::setting("connect_timeout", "give a number of seconds greater than 0"))?,
            stall_timeout: match stall_timeout {
                0.0 => None,
                timeout => {
                    Some(seconds(timeout).ok_or_else(|| {
                        Error::setting("stall_timeout", "give a number of seconds, or 0 for no limit")
                    })?)
                }
            },
            notifications: self.notifications.unwrap_or(true),
            schema,
            table_prefix: self.table_prefix.clone().unwrap_or_default(),
            auto_create_tables: self.auto_create_tables.unwrap_or(false),
            nested_as_jsonb: self.auto_cast_struct_for_jsonb.unwrap_or(true),
            target,
        })
    }

    /// Returns all parameters of the connection, and the name of the setting with them.
    fn parameters(&self) -> Result<(&'static str, Parameters)> {
        let (key, mut parameters) = match (&self.connection_string, &self.connection_params) {
            (Some(text), None) => {
                let parsed = Parameters::parse(text).map_err(|reason| Error::setting("connection_string", reason))?;
                ("connection_string", parsed)
            }
            (None, Some(params)) => ("connection_params", params.parameters()),
            (Some(_), Some(_)) => {
                return Err(Error::setting("connection_params", "give either this or `connection_string`"));
            }
            (None, None) => {
                let hint = "it is missing; give `connection_string = \"postgresql://user:password@host/database\"` or \
                            a table `connection_params`";
                return Err(Error::setting("connection_string", hint));
            }
        };
        parameters.set_some("sslmode", self.sslmode.as_deref());
        parameters.set_some("sslrootcert", self.sslrootcert.as_deref());
        Ok((key, parameters))
    }
}

impl ConnectionParams {
    fn parameters(&self) -> Parameters {
        let mut found = Parameters::default();
        for (name, value) in [
            ("host", &self.host),
            ("port", &self.port.map(|port| port.to_string())),
            ("dbname", &self.database),
            ("user", &self.user),
            ("password", &self.password),
            ("schema", &self.schema),
            ("sslmode", &self.sslmode),
        ] {
            found.set_some(name, value.as_deref());
        }
        found
    }
}

/// Returns the setting that a reason refers to: one of its own, or the whole connection.
fn named(reason: &str, connection: &'static str) -> &'static str {
    let own = ["sslmode", "sslrootcert"].into_iter().find(|name| reason.starts_with(&format!("`{name}")));
    own.unwrap_or(connection)
}

fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().filter(|timeout| !timeout.is_zero())
}

/// Returns the location for messages, without the password.
fn location(hosts: &[PgConnectOptions], schema: Option<&str>) -> String {
    let Some(first) = hosts.first() else { return "postgresql://".to_owned() };
    let place = |options: &PgConnectOptions| match options.get_socket() {
        Some(socket) => format!("{}:{}", socket.display(), options.get_port()),
        None if options.get_host().contains(':') => format!("[{}]:{}", options.get_host(), options.get_port()),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let places: Vec<String> = hosts.iter().map(place).collect();
    let user = first.get_username();
    let database = first.get_database().unwrap_or(user);
    let schema = schema.map(|schema| format!("?schema={schema}")).unwrap_or_default();
    format!("postgresql://{user}@{}/{database}{schema}", places.join(","))
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.check().map(|settings| settings.location);
        f.debug_struct("PostgresConfig")
            .field("location", &place.as_deref().unwrap_or("(invalid settings)"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_never_shown() {
        let mut config = PostgresConfig::new("postgresql+psycopg://me:s3cret@db:5433/corpus?connect_timeout=3");
        config.schema = Some("meta".to_owned());
        let settings = config.check().unwrap();
        assert_eq!(settings.location, "postgresql://me@db:5433/corpus?schema=meta");
        assert!(!format!("{config:?}").contains("s3cret"));
        let broken = PostgresConfig::new("postgresql://me:s3cret@db:99999/corpus").check();
        assert!(broken.is_err_and(|error| !error.to_string().contains("s3cret")));
    }

    #[test]
    fn several_hosts_and_addresses_are_a_location() {
        let place = |url: &str| PostgresConfig::new(url).check().unwrap().location;
        assert_eq!(place("postgresql://me@[::1]:5433/x"), "postgresql://me@[::1]:5433/x");
        assert_eq!(place("postgresql://me@a:1,b:2/x?schema=s"), "postgresql://me@a:1,b:2/x?schema=s");
        assert_eq!(place("host=a,b port=5433 dbname=x user=me"), "postgresql://me@a:5433,b:5433/x");
    }

    #[test]
    fn invalid_settings_are_named() {
        let key = |config: PostgresConfig| match config.check() {
            Err(Error::Config { key, .. }) => key,
            _ => panic!("accepted"),
        };
        let url = || PostgresConfig::new("postgresql://db/corpus");
        assert_eq!(key(PostgresConfig::default()), "connection_string");
        assert_eq!(key(PostgresConfig { sslmode: Some("maybe".to_owned()), ..url() }), "sslmode");
        assert_eq!(key(PostgresConfig { pool_size: Some(0), ..url() }), "pool_size");
        assert_eq!(key(PostgresConfig { connect_timeout: Some(-1.0), ..url() }), "connect_timeout");
        assert_eq!(key(PostgresConfig { stall_timeout: Some(-1.0), ..url() }), "stall_timeout");
        assert_eq!(key(url().tls("require", Some("system".to_owned()))), "sslrootcert");
        assert_eq!(
            key(PostgresConfig { connection_params: Some(ConnectionParams::default()), ..url() }),
            "connection_params"
        );
    }
}
