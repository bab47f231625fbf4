//! The pool of connections, and the transactions on them.
//!
//! A pooler (PgBouncer) may give each transaction another session of the server. So no setting is made for a session:
//! every transaction makes its own settings. No statement is prepared by name: parameters are sent in an open
//! transaction, everything else with the simple protocol.

use std::collections::HashSet;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use metaxy_core::{AccessMode, Error, Result};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow, Postgres};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Row};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::KIND;
use crate::config::Settings;
use crate::error::During;
use crate::server::connect::{Found, check_root_certificates, first_connection, no_schema};
use crate::server::conninfo::SessionAttrs;
use crate::server::liveness::Watch;

/// Counters of the bytes of rows that were transferred.
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
    /// A permit for each connection of the pool. Calls of this program wait here without a time limit: that of the pool
    /// is meant for the server.
    turns: Semaphore,
    /// The servers, in the order in which they are tried.
    targets: Vec<PgConnectOptions>,
    wanted: SessionAttrs,
    /// The server in use.
    current: Mutex<PgConnectOptions>,
    watch: Watch,
    /// A permit for each stream of rows that may hold a connection while it is not read.
    readers: Semaphore,
    /// The tables that this store has written to.
    written: Mutex<HashSet<String>>,
    /// Whether the store is being closed.
    closing: watch::Sender<bool>,
    /// Whether transactions tell of their changes.
    pub(crate) notifies: bool,
    /// The statements that begin a transaction with its settings.
    begin: String,
    /// The schema of all tables.
    pub(crate) schema: String,
    /// The reason why the server cannot hash as this crate does; `None` if it can.
    pub(crate) foreign_encoding: Option<String>,
    pub(crate) location: String,
    pub(crate) counters: Arc<Counters>,
}

impl Session {
    /// Connects, and finds the schema of the tables.
    pub(crate) async fn open(settings: &Settings, mode: AccessMode, counters: Arc<Counters>) -> Result<Self> {
        check_root_certificates(settings)?;
        let timeout = settings.connect_timeout;
        let location = &settings.location;
        let options = |options: &PgConnectOptions| {
            // PgBouncer refuses unknown parameters; rows are transferred in binary form, which does not need this one.
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
            turns: Semaphore::new(settings.pool_size as usize),
            targets,
            wanted,
            current: Mutex::new(chosen),
            watch: Watch { patience: settings.stall_timeout, connect_timeout: timeout },
            readers: Semaphore::new(settings.pool_size as usize / 2),
            written: Mutex::default(),
            closing: watch::Sender::new(false),
            notifies: settings.notifications && found.notifies,
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

    /// Waits until the store is being closed.
    pub(crate) async fn closed(&self) {
        // The sender exists as long as the session.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// Returns a permit for a stream of rows to hold a connection while it is read; `None` if the others are reserved
    /// for other calls.
    pub(crate) fn reader(&self) -> Option<SemaphorePermit<'_>> {
        self.readers.try_acquire().ok()
    }

    /// Returns whether this is the store's first write to a table, and records the write.
    pub(crate) fn is_first_write(&self, table: &str) -> bool {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(table.to_owned())
    }

    /// Returns a connection of the pool that has been tested.
    pub(crate) async fn connection(&self) -> Result<Connection<'_>> {
        let failed = |error| During::store("connect").error(&self.location, error);
        let turn = self.turns.acquire().await.map_err(|_| closed(&self.location))?;
        let acquired = match self.acquire().await {
            Err(error) if self.targets.len() > 1 && !matches!(error, sqlx::Error::PoolClosed) => {
                self.choose_target().await?;
                self.acquire().await
            }
            acquired => acquired,
        };
        Ok(Connection { session: self, inner: Some(acquired.map_err(failed)?), server: None, _turn: turn })
    }

    /// Returns a connection that responds. A connection that became silent while it was idle must not use up the time
    /// limit of another.
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

    /// Returns a connection with an open transaction.
    pub(crate) async fn begin(&self, during: During<'_>) -> Result<Connection<'_>> {
        let mut connection = self.connection().await?;
        connection.begin_with(during, "").await?;
        Ok(connection)
    }

    /// Returns the options of a connection to the server in use.
    pub(crate) fn server(&self) -> PgConnectOptions {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Chooses a server again, because the one in use is gone or has changed its role.
    async fn choose_target(&self) -> Result<()> {
        let timeout = self.watch.connect_timeout;
        let (connection, chosen) = first_connection(&self.targets, self.wanted, &self.location, timeout).await?;
        let _ = connection.close().await;
        self.pool.set_connect_options(chosen.clone());
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = chosen;
        Ok(())
    }

    /// Waits for work on a connection while the connection is alive.
    async fn watched<T>(&self, server: Option<i32>, work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
        self.watch.over(|| self.server(), server, work).await
    }
}

/// A connection. It returns to the pool when its work is [done](Connection::done); otherwise it is closed, and the
/// server rolls back the transaction.
pub(crate) struct Connection<'a> {
    session: &'a Session,
    inner: Option<PoolConnection<Postgres>>,
    /// The server's process, inside a transaction.
    server: Option<i32>,
    _turn: SemaphorePermit<'a>,
}

impl<'a> Connection<'a> {
    /// Begins a transaction with additional settings (each `SET LOCAL …; `).
    pub(crate) async fn begin_with(&mut self, during: During<'_>, settings: &str) -> Result<()> {
        let statements = format!("{}{settings}SELECT pg_catalog.pg_backend_pid() AS server", self.session.begin);
        let rows = self.rows(during, &statements).await?;
        let server = rows.first().map(|row| row.try_get("server")).transpose();
        self.server = server.map_err(|error| self.failed(during, error))?;
        Ok(())
    }

    /// Commits the transaction.
    pub(crate) async fn commit(mut self, during: During<'_>) -> Result<()> {
        self.execute(during, "COMMIT").await?;
        self.done();
        Ok(())
    }

    /// Returns whether transactions tell of their changes.
    pub(crate) fn notifies(&self) -> bool {
        self.session.notifies
    }

    /// Returns the connection to the pool.
    pub(crate) fn done(mut self) {
        self.inner = None;
    }

    /// Runs statements, and returns the number of rows that the last one changed.
    pub(crate) async fn execute(&mut self, during: During<'_>, statements: &str) -> Result<u64> {
        let (session, server) = (self.session, self.server);
        let work = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut **self);
        let result = session.watched(server, work).await.map_err(|error| self.failed(during, error))?;
        Ok(result.rows_affected())
    }

    /// Runs statements and returns their rows.
    pub(crate) async fn rows(&mut self, during: During<'_>, statements: &str) -> Result<Vec<PgRow>> {
        self.try_rows(statements).await.map_err(|error| self.failed(during, error))
    }

    /// Runs statements and returns their rows, or the driver's error.
    pub(crate) async fn try_rows(&mut self, statements: &str) -> sqlx::Result<Vec<PgRow>> {
        let (session, server) = (self.session, self.server);
        let work = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).fetch_all(&mut **self);
        session.watched(server, work).await
    }

    /// Converts an error of work on this connection.
    pub(crate) fn failed(&self, during: During<'_>, error: sqlx::Error) -> Error {
        during.error(&self.session.location, error)
    }

    /// Returns the counters of the bytes of rows.
    pub(crate) fn counters(&self) -> &'a Counters {
        &self.session.counters
    }

    /// Returns a watcher for work that borrows the connection itself.
    pub(crate) fn watcher(&self) -> Watcher<'a> {
        Watcher { session: self.session, server: self.server }
    }
}

/// Watches work on a connection.
#[derive(Clone, Copy)]
pub(crate) struct Watcher<'a> {
    session: &'a Session,
    server: Option<i32>,
}

impl Watcher<'_> {
    /// Waits for work while the connection is alive.
    pub(crate) async fn over<T>(self, during: During<'_>, work: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
        let done = self.session.watched(self.server, work).await;
        done.map_err(|error| during.error(&self.session.location, error))
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        // A connection with unfinished work is closed, and makes room in the pool.
        drop(self.inner.take().map(PoolConnection::detach));
    }
}

impl Deref for Connection<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match &self.inner {
            Some(connection) => connection,
            None => unreachable!("only `done`, `commit` and `drop` empty a connection, and they consume it"),
        }
    }
}

impl DerefMut for Connection<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match &mut self.inner {
            Some(connection) => connection,
            None => unreachable!("only `done`, `commit` and `drop` empty a connection, and they consume it"),
        }
    }
}

/// Returns the error of a call on a store that is being closed.
pub(crate) fn closed(location: &str) -> Error {
    Error::Closed { store: format!("{KIND} at {location}") }
}
