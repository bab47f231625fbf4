//! Connections: how they come about, what they are set to, and what their errors mean.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use metaxy_core::{AccessMode, Error, Result};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgSslMode, Postgres};
use sqlx::{ConnectOptions, Connection as _, Row};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::KIND;
use crate::config::Settings;

/// What a connection is set to. Parameters that a server does not have are left out: that is why this is a query.
const PREPARE: &str = "SELECT set_config(name, CASE lower(name) \
    WHEN 'jit' THEN 'off' WHEN 'client_connection_check_interval' THEN '1s' WHEN 'timezone' THEN 'UTC' ELSE 'on' END, false) \
    FROM pg_catalog.pg_settings WHERE lower(name) IN ('jit', 'client_connection_check_interval', 'timezone', \
    'standard_conforming_strings') \
    UNION ALL SELECT set_config('work_mem', '64MB', false) \
    WHERE pg_size_bytes(current_setting('work_mem')) < 64 * 1024 * 1024";

/// The code with which a server says that its access rules (`pg_hba.conf`) know no such connection.
const ACCESS_RULES: &str = "28000";

/// The server's code for a table that is not there.
pub(crate) const UNDEFINED_TABLE: &str = "42P01";
/// The SQLSTATE of a statement that names a column which is not there.
pub(crate) const UNDEFINED_COLUMN: &str = "42703";

/// Bytes of rows that went over the wire.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Counters {
    pub(crate) fn add_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }
}

/// An open store.
pub(crate) struct Session {
    pool: PgPool,
    /// So many streams of rows share the pool with everything else; more of them have connections of their own.
    most_streams: u32,
    streams: AtomicU32,
    /// Whether the store is being closed.
    closing: watch::Sender<bool>,
    /// The schema of all tables.
    pub(crate) schema: String,
    /// Why the server cannot hash as we do; `None` where it can.
    pub(crate) foreign_encoding: Option<String>,
    pub(crate) location: String,
    pub(crate) counters: Arc<Counters>,
}

impl Session {
    /// Connects, and looks where the tables are.
    pub(crate) async fn open(settings: &Settings, mode: AccessMode, counters: Arc<Counters>) -> Result<Self> {
        let timeout = settings.connect_timeout;
        let location = &settings.location;
        let options = settings.options.clone().disable_statement_logging();
        let (mut first, options) = first_connection(options, location, timeout).await?;
        sqlx::query(PREPARE)
            .fetch_all(&mut first)
            .await
            .map_err(|error| db_error(location, "prepare a connection", None, error))?;
        let found = sqlx::query(
            "SELECT coalesce($1, current_schema())::text AS schema, \
             EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = coalesce($1, current_schema())) AS there, \
             current_setting('server_encoding') AS encoding",
        )
        .bind(&settings.schema)
        .fetch_one(&mut first)
        .await
        .map_err(|error| db_error(location, "open", None, error))?;
        let read = |error| db_error(location, "open", None, error);
        let schema: Option<String> = found.try_get("schema").map_err(read)?;
        let there: bool = found.try_get("there").map_err(read)?;
        let encoding: String = found.try_get("encoding").map_err(read)?;
        let schema = schema.filter(|_| there).ok_or_else(|| Error::LocationNotFound {
            location: location.clone(),
            hint: match &settings.schema {
                Some(schema) => format!("the database has no schema `{schema}`; create it, or change `schema`"),
                None => "the connection's search path names no schema that exists; set `schema`".to_owned(),
            },
        })?;
        let _ = first.close().await;
        let read_only = mode == AccessMode::ReadOnly;
        let pool = PgPoolOptions::new()
            .max_connections(settings.pool_size)
            .acquire_timeout(timeout)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    sqlx::query(PREPARE).fetch_all(&mut *connection).await?;
                    if read_only {
                        sqlx::raw_sql("SET default_transaction_read_only = on").execute(connection).await?;
                    }
                    Ok(())
                })
            })
            .connect_lazy_with(options);
        let foreign_encoding = (encoding != "UTF8")
            .then(|| format!("the database is encoded in {encoding}, and hashes are those of UTF-8"));
        Ok(Self {
            pool,
            most_streams: settings.pool_size / 2,
            streams: AtomicU32::new(0),
            closing: watch::Sender::new(false),
            schema,
            foreign_encoding,
            location: location.clone(),
            counters,
        })
    }

    pub(crate) async fn close(&self) {
        self.closing.send_replace(true);
        self.pool.close().await;
    }

    /// Waits until the store is closed.
    pub(crate) async fn closed(&self) {
        // The sender lives as long as this.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// A connection for rows that may be read slowly, or never to their end: that must not keep others from theirs.
    pub(crate) async fn stream(&self) -> Result<StreamConnection<'_>> {
        let before = self.streams.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(&self.streams);
        let mut connection = self.connection().await?;
        if before >= self.most_streams {
            connection.leave_pool();
        }
        Ok(StreamConnection { connection, _counted: counted })
    }

    /// A connection of the pool, tried before it is given out.
    pub(crate) async fn connection(&self) -> Result<Connection> {
        let inner = self.pool.acquire().await.map_err(|error| db_error(&self.location, "connect", None, error))?;
        Ok(Connection { inner: Some(Inner::Pooled(inner)) })
    }

    /// What an error of the server or of a connection means.
    pub(crate) fn error(&self, operation: &'static str, table: Option<&str>, error: sqlx::Error) -> Error {
        db_error(&self.location, operation, table, error)
    }
}

/// The first connection is made by hand: a pool would try again and again, and then say only that time is up. Comes with
/// the options that led to it.
async fn first_connection(
    options: PgConnectOptions,
    location: &str,
    timeout: Duration,
) -> Result<(PgConnection, PgConnectOptions)> {
    // In a task of its own, for it computes a while; the set ends it where nobody waits any more.
    let mut connecting = JoinSet::new();
    connecting.spawn(connect(options));
    match tokio::time::timeout(timeout, connecting.join_next()).await {
        Ok(Some(connected)) => connected?.map_err(|error| db_error(location, "open", None, error)),
        Ok(None) => Err(Error::Task("nobody connects".to_owned())),
        Err(_) => Err(too_late(location, timeout)),
    }
}

async fn connect(options: PgConnectOptions) -> sqlx::Result<(PgConnection, PgConnectOptions)> {
    // Where other crates of a program bring other providers of cryptography, rustls does not choose by itself, and panics.
    // An error means that the program has chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match PgConnection::connect_with(&options).await {
        // `sslmode=allow`: encrypted where the server wants it so, which its access rules say.
        Err(refused) if matches!(options.get_ssl_mode(), PgSslMode::Allow) && code(&refused) == ACCESS_RULES => {
            let options = options.ssl_mode(PgSslMode::Prefer);
            Ok((PgConnection::connect_with(&options).await?, options))
        }
        connected => Ok((connected?, options)),
    }
}

/// The code of what the server said, empty where it said nothing.
pub(crate) fn code(error: &sqlx::Error) -> String {
    error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned()
}

/// A connection. It goes back to the pool when the work on it is [done](Connection::done); otherwise it is cut, and the
/// server undoes what is half done.
pub(crate) struct Connection {
    inner: Option<Inner>,
}

enum Inner {
    Pooled(PoolConnection<Postgres>),
    Own(Box<PgConnection>),
}

impl Connection {
    pub(crate) fn done(mut self) {
        self.inner = None;
    }

    /// Makes room in the pool for another one.
    fn leave_pool(&mut self) {
        self.inner = self.inner.take().map(|inner| match inner {
            Inner::Pooled(connection) => Inner::Own(Box::new(connection.detach())),
            own => own,
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.leave_pool();
    }
}

/// A connection that a stream of rows comes through.
pub(crate) struct StreamConnection<'a> {
    pub(crate) connection: Connection,
    _counted: Counted<'a>,
}

struct Counted<'a>(&'a AtomicU32);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Deref for Connection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match &self.inner {
            Some(Inner::Pooled(connection)) => connection,
            Some(Inner::Own(connection)) => connection,
            None => unreachable!("only `done` and `drop`, which take it, empty a connection"),
        }
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match &mut self.inner {
            Some(Inner::Pooled(connection)) => connection,
            Some(Inner::Own(connection)) => connection,
            None => unreachable!("only `done` and `drop`, which take it, empty a connection"),
        }
    }
}

fn too_late(location: &str, timeout: Duration) -> Error {
    Error::Unreachable {
        location: location.to_owned(),
        reason: format!("no answer within {} s (`connect_timeout`)", timeout.as_secs_f64()),
    }
}

/// What an error of the server or of a connection means. What PostgreSQL says never holds a password.
fn db_error(location: &str, operation: &'static str, table: Option<&str>, error: sqlx::Error) -> Error {
    let unreachable = |reason: String| Error::Unreachable { location: location.to_owned(), reason };
    let code = code(&error);
    let said = error.as_database_error().map(|error| error.message().to_owned()).unwrap_or_default();
    let denied = |said: String| Error::AccessDenied {
        location: location.to_owned(),
        operation: match table {
            Some(table) => format!("{operation} table `{table}`"),
            None => operation.to_owned(),
        },
        reason: said,
    };
    let missing =
        |hint: &str| Error::LocationNotFound { location: location.to_owned(), hint: format!("{said}; {hint}") };
    let tls = |source: &dyn std::fmt::Display| {
        unreachable(format!("TLS failed: {source}; check `sslmode` and `sslrootcert`"))
    };
    match (&error, code.as_str()) {
        // What rustls thinks of a certificate comes as such an error.
        (sqlx::Error::Io(source), _) if source.kind() == std::io::ErrorKind::InvalidData => tls(source),
        (sqlx::Error::Io(source), _) => unreachable(match source.kind() {
            std::io::ErrorKind::UnexpectedEof
            | std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::ConnectionAborted
            | std::io::ErrorKind::BrokenPipe => {
                format!("the connection was cut ({source}); what was being written is there whole or not at all")
            }
            _ => source.to_string(),
        }),
        (sqlx::Error::Tls(source), _) => tls(source),
        (sqlx::Error::PoolTimedOut, _) => unreachable(
            "no connection became free or could be made within `connect_timeout`; check the server, or raise `pool_size`"
                .to_owned(),
        ),
        (sqlx::Error::PoolClosed, _) => Error::Closed { store: format!("{KIND} at {location}") },
        (_, "28P01" | ACCESS_RULES | "42501" | "25006") => denied(said),
        (_, "3D000") => missing("create the database, or name another"),
        (_, "3F000") => missing("create the schema, or name another"),
        (_, code) if code.starts_with("57P") || code.starts_with("08") || code == "53300" => unreachable(said),
        (_, code) => {
            // Serialization, resources (a full disk among them), locks; a table that somebody has dropped since it was
            // looked up.
            let passing = code.starts_with("40") || code.starts_with("53") || ["55P03", UNDEFINED_TABLE].contains(&code);
            match table {
                Some(table) => Error::table(KIND, operation, table, error).with_transient(passing),
                None => Error::backend(KIND, operation, error).with_transient(passing),
            }
        }
    }
}
