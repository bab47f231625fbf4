//! Silent connections.
//!
//! A server that computes for an hour and a server that can no longer be reached look the same: no bytes arrive. The
//! driver does not expose the socket, on which TCP's own timers could be set, and these detect nothing if a proxy or a
//! pooler holds the connection. So a second connection asks whether the server works on the first, or waits for this
//! client.

use std::io;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _, Row};

/// The settings of the check.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    /// The time that a connection may be silent; `None` for any time.
    pub(crate) patience: Option<Duration>,
    /// The time limit of the second connection.
    pub(crate) connect_timeout: Duration,
}

/// The state of the server for a silent connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Works,
    /// It waits for this client, which waits for it, or has forgotten the connection.
    Waits,
}

impl Watch {
    /// Waits for work on a connection, while the server works on it too. `server` is the process that serves the
    /// connection, if it is known.
    ///
    /// # Errors
    /// The errors of the work; [`io::ErrorKind::TimedOut`] for a dead connection.
    pub(crate) async fn over<T>(
        &self,
        options: impl Fn() -> PgConnectOptions,
        server: Option<i32>,
        work: impl Future<Output = sqlx::Result<T>>,
    ) -> sqlx::Result<T> {
        let Some(patience) = self.patience else { return work.await };
        let mut work = std::pin::pin!(work);
        let mut suspected = false;
        loop {
            if let Ok(done) = tokio::time::timeout(patience, &mut work).await {
                return done;
            }
            let finding = tokio::select! {
                biased;
                done = &mut work => return done,
                finding = self.look(options(), server) => finding,
            };
            // The server may have sent its response at this moment: only a state that is found twice counts.
            if finding == Some(Finding::Waits) && !suspected {
                suspected = true;
            } else if finding == Some(Finding::Works) {
                suspected = false;
            } else {
                return Err(sqlx::Error::Io(silent(patience, finding)));
            }
        }
    }

    /// Asks over another connection; `None` if that cannot be opened either.
    async fn look(&self, options: PgConnectOptions, server: Option<i32>) -> Option<Finding> {
        let asked = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            let finding = match server {
                Some(server) => ask(&mut connection, server).await?,
                None => Finding::Works,
            };
            connection.close().await?;
            Ok::<_, sqlx::Error>(finding)
        };
        tokio::time::timeout(self.connect_timeout, asked).await.ok()?.ok()
    }
}

async fn ask(connection: &mut PgConnection, server: i32) -> sqlx::Result<Finding> {
    let question = format!(
        "SELECT count(*) > 0 AS works FROM pg_catalog.pg_stat_activity WHERE pid = {server} AND state = 'active' \
         AND coalesce(wait_event, '') NOT IN ('ClientRead', 'ClientWrite')"
    );
    let row = sqlx::raw_sql(AssertSqlSafe(question)).fetch_one(connection).await?;
    Ok(if row.try_get("works")? { Finding::Works } else { Finding::Waits })
}

fn silent(patience: Duration, finding: Option<Finding>) -> io::Error {
    let seconds = patience.as_secs_f64();
    let reason = match finding {
        Some(_) => "the server waits for this connection, and its response does not arrive",
        None => "and the server does not accept a new connection either",
    };
    let text = format!("the connection has been silent for {seconds} s (`stall_timeout`): {reason}");
    io::Error::new(io::ErrorKind::TimedOut, text)
}
