//! Positions of tables: the server's snapshot, which is the same again only if no transaction that may have written has
//! ended in between.

use metaxy_core::Result;
use metaxy_core::backend::Position;
use sqlx::Row;

use crate::catalog::TableName;
use crate::connection::Connection;
use crate::error::{During, UNDEFINED_FUNCTION, code};
use crate::sql::names::literal;

/// Returns the position of a table. `None` for relations whose rows do not depend on the server's transactions alone
/// (views, foreign tables, parents of other tables, policies on rows), and for servers without such a function: before
/// PostgreSQL 13, and some that only speak its protocol.
///
/// The number of a transaction is unique until the server starts again, so the time of that is part of the position.
pub(crate) async fn position(connection: &mut Connection<'_>, name: &TableName) -> Result<Option<Position>> {
    let during = During::table("read", &name.plain);
    let question = format!(
        "SELECT pg_catalog.concat_ws(' ', pg_catalog.pg_postmaster_start_time(), \
                pg_catalog.pg_current_snapshot(), coalesce(c.oid, 0)) AS position, \
                c.oid IS NULL OR c.relkind = 'r' AND NOT c.relhassubclass AND NOT c.relrowsecurity AS is_plain \
         FROM (VALUES (pg_catalog.to_regclass({table}))) AS t (oid) \
         LEFT JOIN pg_catalog.pg_class c ON c.oid = t.oid",
        table = literal(&name.quoted),
    );
    let rows = match connection.try_rows(&question).await {
        Err(error) if code(&error) == UNDEFINED_FUNCTION => return Ok(None),
        rows => rows.map_err(|error| connection.failed(during, error))?,
    };
    let read = |row: &sqlx::postgres::PgRow| -> sqlx::Result<(String, bool)> {
        Ok((row.try_get("position")?, row.try_get("is_plain")?))
    };
    let found = rows.first().map(read).transpose().map_err(|error| connection.failed(during, error))?;
    Ok(found.filter(|(_, is_plain)| *is_plain).map(|(position, _)| Position::new(position)))
}
