//! What is open: the pool of connections, and the transactions on them.
//!
//! A pooler (PgBouncer) may give each transaction another session of the server. So nothing is set for a session: every
//! transaction sets what it needs for itself. Nor is a statement prepared by name: parameters go into a transaction
//! that is open, everything else through the simple protocol.

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
    /// A permit for each connection of the pool. Calls of this program wait here for each other as long as it takes: the time
    /// limit of the pool is one for the server.
    turns: Semaphore,
    /// Where to connect to, in the order in which it is tried.
    targets: Vec<PgConnectOptions>,
    wanted: SessionAttrs,
    /// The target in use.
    current: Mutex<PgConnectOptions>,
    watch: Watch,
    /// A permit for each stream of rows that may hold a connection while it is not read.
    readers: Semaphore,
    /// The tables that this store has written to.
    written: Mutex<HashSet<String>>,
    /// Whether the store is being closed.
    closing: watch::Sender<bool>,
    /// Begins a transaction, and sets what it needs.
    begin: String,
    /// The schema of all tables.
    pub(crate) schema: String,
    /// Why the server cannot hash as we do; `None` if it can.
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
            // PgBouncer refuses parameters that it does not know; rows travel in binary, without a need for this one.
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

    /// Returns a permit for one more stream of rows to hold a connection while it is read; `None` if the rest is for
    /// others.
    pub(crate) fn reader(&self) -> Option<SemaphorePermit<'_>> {
        self.readers.try_acquire().ok()
    }

    /// Returns whether the store has not written to a table before; from now on it has.
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

    /// Returns a connection that answers. One that went silent while it was idle must not use up the time for another.
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

    /// Returns a connection with a transaction on it.
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

/// A connection. It goes back to the pool when the work on it is [done](Connection::done); otherwise it is cut, and the
/// server undoes what is half done.
pub(crate) struct Connection<'a> {
    session: &'a Session,
    inner: Option<PoolConnection<Postgres>>,
    /// The server's process, inside a transaction.
    server: Option<i32>,
    _turn: SemaphorePermit<'a>,
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

    /// Runs statements and returns their rows, or the error as the driver reports it.
    pub(crate) async fn try_rows(&mut self, statements: &str) -> sqlx::Result<Vec<PgRow>> {
        let (session, server) = (self.session, self.server);
        let work = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).fetch_all(&mut **self);
        session.watched(server, work).await
    }

    /// Returns the error that came of work on this connection.
    pub(crate) fn failed(&self, during: During<'_>, error: sqlx::Error) -> Error {
        during.error(&self.session.location, error)
    }

    /// Returns the watch over work that borrows the connection itself.
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

/// Returns the error of work that goes on while the store is closed.
pub(crate) fn closed(location: &str) -> Error {
    Error::Closed { store: format!("{KIND} at {location}") }
}
