//! What is open: the pool of connections, and the transactions on them.
//!
//! A pooler (PgBouncer) may give each transaction another session of the server. So nothing is set for a session: every
//! transaction sets what it needs for itself. Nor is a statement prepared by name: parameters go into a transaction that
//! is open, everything else through the simple protocol.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metaxy_core::{AccessMode, Error, Result};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow, PgSslMode, Postgres};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Row};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::JoinSet;

use crate::KIND;
use crate::config::Settings;
use crate::conninfo::SessionAttrs;
use crate::error::{ACCESS_RULES, During, code};
use crate::liveness::Watch;
use crate::sql::text::literal;

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
    /// Where to connect to, in the order in which it is tried.
    targets: Vec<PgConnectOptions>,
    wanted: SessionAttrs,
    /// The target in use.
    current: Mutex<PgConnectOptions>,
    watch: Watch,
    /// A permit for each stream of rows that may hold a connection while it is not read.
    readers: Semaphore,
    /// Whether the store is being closed.
    closing: watch::Sender<bool>,
    /// Begins a transaction, and sets what it needs.
    begin: String,
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
        check_root_certificates(settings)?;
        let timeout = settings.connect_timeout;
        let location = &settings.location;
        let options = |options: &PgConnectOptions| {
            // PgBouncer refuses parameters that it does not know. Rows travel in binary, where digits do not matter.
            options.clone().disable_statement_logging().extra_float_digits(None)
        };
        let targets: Vec<_> = settings.target.hosts.iter().map(options).collect();
        let wanted = settings.target.session;
        let (mut first, chosen) = first_connection(&targets, wanted, location, timeout).await?;
        let failed = |error| During::store("open").error(location, error);
        let found = Found::ask(&mut first, settings.schema.as_deref()).await.map_err(failed)?;
        let schema = found.schema.ok_or_else(|| no_schema(settings))?;
        let _ = first.close().await;
        let pool = PgPoolOptions::new()
            .max_connections(settings.pool_size)
            .acquire_timeout(timeout)
            .test_before_acquire(false)
            .after_connect(move |connection, _| Box::pin(async move { wanted.check(connection).await }))
            .connect_lazy_with(chosen.clone());
        let access = if mode == AccessMode::ReadOnly { "BEGIN READ ONLY" } else { "BEGIN" };
        Ok(Self {
            pool,
            targets,
            wanted,
            current: Mutex::new(chosen),
            watch: Watch { patience: settings.stall_timeout, connect_timeout: timeout },
            readers: Semaphore::new(settings.pool_size as usize / 2),
            closing: watch::Sender::new(false),
            begin: format!("{access}; {}", found.local_settings),
            schema,
            foreign_encoding: found.foreign_encoding,
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

    /// Whether one more stream of rows may hold a connection for as long as it is read: others need some too.
    pub(crate) fn reader(&self) -> Option<SemaphorePermit<'_>> {
        self.readers.try_acquire().ok()
    }

    /// A connection of the pool, tried before it is given out.
    pub(crate) async fn connection(&self) -> Result<Connection<'_>> {
        let failed = |error| During::store("connect").error(&self.location, error);
        let acquired = match self.acquire().await {
            Err(error) if self.targets.len() > 1 && !matches!(error, sqlx::Error::PoolClosed) => {
                self.choose_target().await?;
                self.acquire().await
            }
            acquired => acquired,
        };
        Ok(Connection { session: self, inner: Some(acquired.map_err(failed)?), server: None })
    }

    /// A connection that answers. One that went silent while it was idle must not use up the time for another.
    async fn acquire(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        let start = Instant::now();
        loop {
            let mut connection = self.pool.acquire().await?;
            let answer = tokio::time::timeout(self.watch.connect_timeout / 4, connection.ping()).await;
            if let Ok(Ok(())) = answer {
                return Ok(connection);
            }
            drop(connection.detach());
            if start.elapsed() > self.watch.connect_timeout {
                return Err(sqlx::Error::PoolTimedOut);
            }
        }
    }

    /// A connection with a transaction on it.
    pub(crate) async fn begin(&self, during: During<'_>) -> Result<Connection<'_>> {
        let mut connection = self.connection().await?;
        connection.begin_with(during, "").await?;
        Ok(connection)
    }

    /// Looks for a server again: the one in use is gone, or is not what it was.
    async fn choose_target(&self) -> Result<()> {
        let timeout = self.watch.connect_timeout;
        let (connection, chosen) = first_connection(&self.targets, self.wanted, &self.location, timeout).await?;
        let _ = connection.close().await;
        self.pool.set_connect_options(chosen.clone());
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = chosen;
        Ok(())
    }

    /// Waits for work on a connection as long as the connection lives.
    async fn watched<T>(&self, server: Option<i32>, work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
        let options = || self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.watch.over(options, server, work).await
    }
}

/// What a server says when a store is opened.
struct Found {
    /// The schema of the tables, where it exists.
    schema: Option<String>,
    foreign_encoding: Option<String>,
    /// Statements that set what a transaction needs, each ended by `; `.
    local_settings: String,
}

impl Found {
    async fn ask(connection: &mut PgConnection, schema: Option<&str>) -> sqlx::Result<Self> {
        let schema = schema.map_or_else(|| "current_schema()".to_owned(), literal);
        let question = format!(
            "SELECT (SELECT nspname::text FROM pg_catalog.pg_namespace WHERE nspname = {schema}) AS schema, \
             current_setting('server_encoding') AS encoding, \
             pg_size_bytes(current_setting('work_mem')) < 64 * 1024 * 1024 AS small, \
             current_setting('jit', true) IS NOT NULL AS jit, \
             current_setting('client_connection_check_interval', true) IS NOT NULL AS checks"
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
            local_settings: [
                set("small", "work_mem", "'64MB'")?,
                set("jit", "jit", "off")?,
                set("checks", "client_connection_check_interval", "'1s'")?,
            ]
            .concat(),
        })
    }
}

/// The driver would say only that a file is not there, and not which.
fn check_root_certificates(settings: &Settings) -> Result<()> {
    let Some(file) = &settings.target.root_certificates else { return Ok(()) };
    std::fs::File::open(file).map(drop).map_err(|error| Error::Config {
        file: None,
        line: None,
        key: "sslrootcert".to_owned(),
        reason: format!("{}: {error}", file.display()),
    })
}

fn no_schema(settings: &Settings) -> Error {
    let hint = match &settings.schema {
        Some(schema) => format!("the database has no schema `{schema}`; create it, or change `schema`"),
        None => "the connection's search path names no schema that exists; set `schema`".to_owned(),
    };
    Error::location_not_found(&settings.location, hint)
}

/// The first connection is made by hand: a pool would try again and again, and then say only that time is up. Comes with
/// the options that led to it.
async fn first_connection(
    targets: &[PgConnectOptions],
    wanted: SessionAttrs,
    location: &str,
    timeout: Duration,
) -> Result<(PgConnection, PgConnectOptions)> {
    let mut last = None;
    for wanted in wanted.in_turn() {
        for target in targets {
            // In a task of its own, for it computes a while; the set ends it when it is dropped.
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
    // Where other crates of a program bring other providers of cryptography, rustls does not choose by itself, and panics.
    // An error means that the program has chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (mut connection, options) = match PgConnection::connect_with(&options).await {
        // `sslmode=allow`: encrypted where the server wants it so, which its access rules say.
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
    /// Looks whether a server is of the wanted kind.
    async fn check(self, connection: &mut PgConnection) -> sqlx::Result<()> {
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
    Error::unreachable(location, format!("no answer within {} s (`connect_timeout`)", timeout.as_secs_f64()))
}

/// A connection. It goes back to the pool when the work on it is [done](Connection::done); otherwise it is cut, and the
/// server undoes what is half done.
pub(crate) struct Connection<'a> {
    session: &'a Session,
    inner: Option<PoolConnection<Postgres>>,
    /// The server's process, inside a transaction.
    server: Option<i32>,
}

impl<'a> Connection<'a> {
    /// Begins a transaction, with settings for it alone (each `SET LOCAL …; `).
    pub(crate) async fn begin_with(&mut self, during: During<'_>, settings: &str) -> Result<()> {
        let statements = format!("{}{settings}SELECT pg_catalog.pg_backend_pid() AS server", self.session.begin);
        let rows = self.rows(during, &statements).await?;
        let server = rows.first().map(|row| row.try_get("server")).transpose();
        self.server = server.map_err(|error| self.failed(during, error))?;
        Ok(())
    }

    /// Ends the transaction: what it did is there.
    pub(crate) async fn commit(mut self, during: During<'_>) -> Result<()> {
        self.execute(during, "COMMIT").await?;
        self.done();
        Ok(())
    }

    /// Gives the connection back.
    pub(crate) fn done(mut self) {
        self.inner = None;
    }

    /// Runs statements; gives the number of rows that the last one changed.
    pub(crate) async fn execute(&mut self, during: During<'_>, statements: &str) -> Result<u64> {
        let (session, server) = (self.session, self.server);
        let work = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut **self);
        let result = session.watched(server, work).await.map_err(|error| self.failed(during, error))?;
        Ok(result.rows_affected())
    }

    /// Runs statements and gives their rows.
    pub(crate) async fn rows(&mut self, during: During<'_>, statements: &str) -> Result<Vec<PgRow>> {
        self.try_rows(statements).await.map_err(|error| self.failed(during, error))
    }

    /// As [`Self::rows`], with the error as it comes.
    pub(crate) async fn try_rows(&mut self, statements: &str) -> sqlx::Result<Vec<PgRow>> {
        let (session, server) = (self.session, self.server);
        let work = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).fetch_all(&mut **self);
        session.watched(server, work).await
    }

    /// The error that came of work on this connection.
    pub(crate) fn failed(&self, during: During<'_>, error: sqlx::Error) -> Error {
        during.error(&self.session.location, error)
    }

    /// The watch over work that borrows the connection itself.
    pub(crate) fn watcher(&self) -> Watcher<'a> {
        Watcher { session: self.session, server: self.server }
    }
}

/// Watches over work on a connection.
#[derive(Clone, Copy)]
pub(crate) struct Watcher<'a> {
    session: &'a Session,
    server: Option<i32>,
}

impl Watcher<'_> {
    /// Waits for work as long as the connection lives.
    pub(crate) async fn over<T>(self, during: During<'_>, work: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
        let done = self.session.watched(self.server, work).await;
        done.map_err(|error| during.error(&self.session.location, error))
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        // What is not done is cut, and makes room in the pool for another.
        drop(self.inner.take().map(PoolConnection::detach));
    }
}

impl Deref for Connection<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match &self.inner {
            Some(connection) => connection,
            None => unreachable!("only `done`, `commit` and `drop`, which take it, empty a connection"),
        }
    }
}

impl DerefMut for Connection<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match &mut self.inner {
            Some(connection) => connection,
            None => unreachable!("only `done`, `commit` and `drop`, which take it, empty a connection"),
        }
    }
}

/// The store is closed while work goes on.
pub(crate) fn closed(location: &str) -> Error {
    Error::Closed { store: format!("{KIND} at {location}") }
}
