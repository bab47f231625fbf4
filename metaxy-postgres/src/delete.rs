//! Deleting rows, and whole tables.

use metaxy_core::filter::Predicate;
use metaxy_core::{Error, Result};

use crate::catalog::{Table, TableName};
use crate::connection::{Connection, Session};
use crate::error::During;
use crate::server::held;
use crate::sql;

/// Deletes the rows for which a predicate is true, in the transaction of the connection, and returns their number.
pub(crate) async fn delete(
    mut connection: Connection<'_>,
    name: &TableName,
    table: &Table,
    predicate: &Predicate,
) -> Result<u64> {
    let during = During::table("delete from", &name.plain);
    let condition = sql::condition(table, predicate).map_err(|reason| Error::Unsupported {
        what: format!("deleting rows of `{}` by this filter", name.plain),
        hint: format!("{reason}; write the filter with other columns"),
    })?;
    let deleted = connection.execute(during, &format!("DELETE FROM {} AS t WHERE {condition}", name.quoted)).await?;
    if deleted > 0 {
        held::mark_if_empty(&mut connection, name).await?;
    }
    connection.commit(during).await?;
    Ok(deleted)
}

/// Drops a table if it exists. In a transaction: if the call is cancelled, the server rolls back, instead of dropping
/// the table at a later time.
pub(crate) async fn drop_table(session: &Session, name: &TableName) -> Result<()> {
    let during = During::table("drop", &name.plain);
    let mut connection = session.begin(during).await?;
    connection.execute(during, &format!("DROP TABLE IF EXISTS {}", name.quoted)).await?;
    connection.commit(during).await
}
