//! Notifications: every transaction that changes a table tells so (`NOTIFY`), and a store that watches features listens.

use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, future};
use metaxy_core::Result;
use sqlx::Row;
use sqlx::postgres::{PgListener, PgNotification, PgPoolOptions};

use crate::catalog::TableName;
use crate::connection::{Connection, Session};
use crate::error::During;
use crate::sql::names::literal;

/// The channel of all notifications. Their payload is a table.
const CHANNEL: &str = "metaxy";

/// Commits a transaction that has changed a table, and tells those who listen.
pub(crate) async fn commit(mut connection: Connection<'_>, during: During<'_>, table: &TableName) -> Result<()> {
    if connection.notifies() {
        let notify = format!("SELECT pg_catalog.pg_notify('{CHANNEL}', {})", literal(&table.quoted));
        connection.execute(during, &notify).await?;
    }
    connection.commit(during).await
}

/// Returns an item for each change of one of the tables, until the store is closed or cannot listen.
pub(crate) fn listen(session: Arc<Session>, tables: Vec<TableName>) -> BoxStream<'static, ()> {
    let listening = session.clone();
    let heard = async move {
        match listener(&listening).await {
            Ok(Some(listener)) => listener.into_stream().boxed(),
            Ok(None) => stream::empty().boxed(),
            Err(error) => {
                tracing::debug!(%error, "changes are looked for, because the server cannot be listened to");
                stream::empty().boxed()
            }
        }
    };
    let is_of_tables = move |heard: sqlx::Result<PgNotification>| {
        let is_one = heard.is_ok_and(|heard| tables.iter().any(|table| table.quoted == heard.payload()));
        future::ready(is_one.then_some(()))
    };
    let closed = async move { session.closed().await };
    stream::once(heard).flatten().filter_map(is_of_tables).take_until(Box::pin(closed)).boxed()
}

/// Returns a listener on a connection of its own; `None` if there is a pooler before the server, which would give the
/// listening session to other clients. A pooler has another port than the server.
async fn listener(session: &Session) -> sqlx::Result<Option<PgListener>> {
    let server = session.server();
    let port = server.get_port().to_string();
    let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None).connect_lazy_with(server);
    let mut listener = PgListener::connect_with(&pool).await?;
    let row = sqlx::raw_sql("SELECT pg_catalog.current_setting('port') AS port").fetch_one(&mut listener).await?;
    if row.try_get::<String, _>("port")? != port {
        return Ok(None);
    }
    listener.listen(CHANNEL).await?;
    Ok(Some(listener))
}
