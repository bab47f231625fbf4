//! The first connection of a store: chooses a server, and reads its properties.

use std::io;
use std::time::Duration;

use metaxy_core::{Error, Result};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _, Row};
use tokio::task::JoinSet;

use super::conninfo::SessionAttrs;
use crate::config::Settings;
use crate::error::{ACCESS_RULES, During, code};
use crate::sql::names::literal;

/// The properties of a server, read when a store is opened.
pub(crate) struct Found {
    /// The schema of the tables, if it exists.
    pub(crate) schema: Option<String>,
    pub(crate) foreign_encoding: Option<String>,
    /// Whether the server has notifications; some that only speak its protocol do not.
    pub(crate) notifies: bool,
    /// The settings of each transaction: statements, each ended by `; `.
    pub(crate) local_settings: String,
}

impl Found {
    pub(crate) async fn ask(connection: &mut PgConnection, schema: Option<&str>) -> sqlx::Result<Self> {
        let schema = schema.map_or_else(|| "current_schema()".to_owned(), literal);
        let question = format!(
            "SELECT (SELECT nspname::text FROM pg_catalog.pg_namespace WHERE nspname = {schema}) AS schema, \
             current_setting('server_encoding') AS encoding, \
             pg_size_bytes(current_setting('work_mem')) < 64 * 1024 * 1024 AS small, \
             current_setting('jit', true) IS NOT NULL AS jit, \
             current_setting('client_connection_check_interval', true) IS NOT NULL AS checks, \
             EXISTS (SELECT 1 FROM pg_catalog.pg_proc WHERE proname = 'pg_notify') AS notifies"
        );
        let row = sqlx::raw_sql(AssertSqlSafe(question)).fetch_one(connection).await?;
        let encoding: String = row.try_get("encoding")?;
        let set = |column: &str, name: &str, value: &str| -> sqlx::Result<String> {
            Ok(if row.try_get(column)? { format!("SET LOCAL {name} = {value}; ") } else { String::new() })
        };
        Ok(Self {
            schema: row.try_get("schema")?,
            foreign_encoding: (encoding != "UTF8")
                .then(|| format!("the database is encoded in {encoding}, and hashes are those of UTF-8")),
            notifies: row.try_get("notifies")?,
            local_settings: [
                set("small", "work_mem", "'64MB'")?,
                set("jit", "jit", "off")?,
                set("checks", "client_connection_check_interval", "'1s'")?,
            ]
            .concat(),
        })
    }
}

/// Checks that the file of root certificates can be read: the driver would not name the file.
pub(crate) fn check_root_certificates(settings: &Settings) -> Result<()> {
    let Some(file) = &settings.target.root_certificates else { return Ok(()) };
    let opened = std::fs::File::open(file).map(drop);
    opened.map_err(|error| Error::setting("sslrootcert", format!("{}: {error}", file.display())))
}

pub(crate) fn no_schema(settings: &Settings) -> Error {
    let hint = match &settings.schema {
        Some(schema) => format!("the database has no schema `{schema}`; create it, or change `schema`"),
        None => "the connection's search path names no schema that exists; set `schema`".to_owned(),
    };
    Error::location_not_found(&settings.location, hint)
}

/// Connects for the first time, without the pool, which would retry and then report only a timeout. Returns also the
/// options of the connection.
pub(crate) async fn first_connection(
    targets: &[PgConnectOptions],
    wanted: SessionAttrs,
    location: &str,
    timeout: Duration,
) -> Result<(PgConnection, PgConnectOptions)> {
    let mut last = None;
    for wanted in wanted.in_turn() {
        for target in targets {
            // In a separate task, because it computes for a while; the set cancels it when it is dropped.
            let mut connecting = JoinSet::new();
            connecting.spawn(connect(target.clone(), wanted));
            match tokio::time::timeout(timeout, connecting.join_next()).await {
                Ok(Some(connected)) => match connected? {
                    Ok(connected) => return Ok(connected),
                    Err(error) => last = Some(During::store("open").error(location, error)),
                },
                Ok(None) => {}
                Err(_) => last = Some(too_late(location, timeout)),
            }
        }
    }
    Err(last.unwrap_or_else(|| Error::Task("there is nothing to connect to".to_owned())))
}

async fn connect(options: PgConnectOptions, wanted: SessionAttrs) -> sqlx::Result<(PgConnection, PgConnectOptions)> {
    // If other crates of a program use other providers of cryptography, rustls cannot choose one, and panics. An error
    // means that the program has already chosen one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (mut connection, options) = match PgConnection::connect_with(&options).await {
        // `sslmode=allow`: encrypted if the access rules of the server require it.
        Err(refused) if matches!(options.get_ssl_mode(), PgSslMode::Allow) && code(&refused) == ACCESS_RULES => {
            let options = options.ssl_mode(PgSslMode::Prefer);
            (PgConnection::connect_with(&options).await?, options)
        }
        connected => (connected?, options),
    };
    wanted.check(&mut connection).await?;
    Ok((connection, options))
}

impl SessionAttrs {
    /// Checks that a server is of the wanted kind.
    pub(crate) async fn check(self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let Some(condition) = self.condition() else { return Ok(()) };
        let row = sqlx::raw_sql(AssertSqlSafe(format!("SELECT {condition} AS fits"))).fetch_one(connection).await?;
        if row.try_get("fits")? {
            return Ok(());
        }
        let reason = format!("the server is not `target_session_attrs={}`", self.name());
        Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::ConnectionRefused, reason)))
    }
}

fn too_late(location: &str, timeout: Duration) -> Error {
    Error::unreachable(location, format!("no response within {} s (`connect_timeout`)", timeout.as_secs_f64()))
}
