//! Records whether a table has held a row. PostgreSQL does not, so a line after the user's text in the table's comment
//! does.

use metaxy_core::Result;
use metaxy_core::backend::{has_held_mark, with_held_mark};
use sqlx::Row;

use crate::catalog::TableName;
use crate::connection::Connection;
use crate::error::{During, UNDEFINED_TABLE, code};
use crate::sql::alter::set_comment;
use crate::sql::names::literal;

/// The state of a table.
struct Held {
    has_rows: bool,
    comment: String,
    /// Whether this role may comment on it: views have no rows of their own, and tables may have other owners.
    may_comment: bool,
}

/// Reads the state of a table; `None` if it does not exist.
async fn look(connection: &mut Connection<'_>, name: &TableName) -> Result<Option<Held>> {
    let during = During::table("read", &name.plain);
    let question = format!(
        "SELECT EXISTS (SELECT 1 FROM {table}) AS has_rows, \
                coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), '') AS comment, \
                c.relkind IN ('r', 'p') AND pg_catalog.pg_has_role(c.relowner, 'USAGE') AS may_comment \
         FROM pg_catalog.pg_class c WHERE c.oid = {regclass}::pg_catalog.regclass",
        table = name.quoted,
        regclass = literal(&name.quoted),
    );
    let rows = match connection.try_rows(&question).await {
        // It has been dropped since it was found.
        Err(error) if code(&error) == UNDEFINED_TABLE => return Ok(None),
        rows => rows.map_err(|error| connection.failed(during, error))?,
    };
    let held = |row: &sqlx::postgres::PgRow| {
        Ok(Held {
            has_rows: row.try_get("has_rows")?,
            comment: row.try_get("comment")?,
            may_comment: row.try_get("may_comment")?,
        })
    };
    rows.first().map(held).transpose().map_err(|error| connection.failed(during, error))
}

/// Returns whether a table has a row, or is known to have had one.
pub(crate) async fn has_held_rows(connection: &mut Connection<'_>, name: &TableName) -> Result<bool> {
    let held = look(connection, name).await?;
    Ok(held.is_some_and(|held| held.has_rows || has_held_mark(&held.comment)))
}

/// Records that a table has held rows if none is left, within the transaction that removes them.
pub(crate) async fn mark_if_empty(connection: &mut Connection<'_>, name: &TableName) -> Result<()> {
    let Some(held) = look(connection, name).await? else { return Ok(()) };
    if held.has_rows || !held.may_comment {
        return Ok(());
    }
    let Some(comment) = with_held_mark(&held.comment) else { return Ok(()) };
    let during = During::table("delete from", &name.plain);
    connection.execute(during, &set_comment(&name.quoted, &comment)).await.map(drop)
}
