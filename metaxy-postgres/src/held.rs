//! Whether a table has held a row. PostgreSQL does not say, so the table's comment does: a line after what a user wrote.

use metaxy_core::Result;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use crate::catalog::{HELD_MARK, TableName, mark_held};
use crate::session::{self, Session, UNDEFINED_TABLE};
use crate::sql::literal;

fn is_marked(comment: &str) -> bool {
    comment.lines().any(|line| line == HELD_MARK)
}

/// What there is to know of a table.
struct Held {
    has_rows: bool,
    comment: String,
    /// Whether this role may comment on it: views have no rows of their own, and others own some tables.
    may_comment: bool,
}

/// Looks a table up; `None` where there is none.
async fn look(session: &Session, connection: &mut PgConnection, name: &TableName) -> Result<Option<Held>> {
    let failed = |error| session.error("read", Some(&name.plain), error);
    let query = format!(
        "SELECT EXISTS (SELECT 1 FROM {table}), \
                coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), ''), \
                c.relkind IN ('r', 'p') AND pg_catalog.pg_has_role(c.relowner, 'USAGE') \
         FROM pg_catalog.pg_class c WHERE c.oid = {regclass}::pg_catalog.regclass",
        table = name.quoted,
        regclass = literal(&name.quoted),
    );
    let row = match sqlx::query(AssertSqlSafe(query)).fetch_optional(connection).await {
        // It has been dropped since it was looked up.
        Err(error) if session::code(&error) == UNDEFINED_TABLE => return Ok(None),
        row => row.map_err(failed)?,
    };
    let held = |row: sqlx::postgres::PgRow| {
        Ok(Held { has_rows: row.try_get(0)?, comment: row.try_get(1)?, may_comment: row.try_get(2)? })
    };
    row.map(held).transpose().map_err(failed)
}

/// Whether a table has a row, or is known to have had one.
pub(crate) async fn has_held_rows(session: &Session, connection: &mut PgConnection, name: &TableName) -> Result<bool> {
    let held = look(session, connection, name).await?;
    Ok(held.is_some_and(|held| held.has_rows || is_marked(&held.comment)))
}

/// Writes down that a table has held rows if none is left, within the transaction that has removed some.
pub(crate) async fn mark_if_empty(session: &Session, connection: &mut PgConnection, name: &TableName) -> Result<()> {
    let Some(held) = look(session, connection, name).await? else { return Ok(()) };
    if held.has_rows || !held.may_comment || is_marked(&held.comment) {
        return Ok(());
    }
    let comment = if held.comment.is_empty() { HELD_MARK.to_owned() } else { format!("{}\n{HELD_MARK}", held.comment) };
    let done = sqlx::raw_sql(AssertSqlSafe(mark_held(&name.quoted, &comment))).execute(connection).await;
    done.map(drop).map_err(|error| session.error("delete from", Some(&name.plain), error))
}
