//! The time of the newest row of a table, and the indexes by which the server finds it without reading the table.
//!
//! Each write asks for that time. Other programs may write to the same tables, so it must be read from the table.

use metaxy_core::Result;
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::catalog::TableName;
use crate::connection::{Connection, Session};
use crate::error::{During, UNDEFINED_COLUMN, UNDEFINED_TABLE, code};
use crate::sql::alter::{TIMES, create_index, lock};
use crate::sql::names::{literal, quoted};

/// The time that the creation of an index waits for writers of the table, which it blocks.
const LOCK_TIMEOUT: &str = "2s";

/// Returns the time of the newest row, in microseconds from 1970; `None` if there is no table, row or time.
pub(crate) async fn newest_stamp(connection: &mut Connection<'_>, name: &TableName) -> Result<Option<i64>> {
    match ask(connection, name, &TIMES).await? {
        Answer::Newest(newest) => Ok(newest),
        Answer::NoTable => Ok(None),
        Answer::NoColumn => {
            let mut newest = None;
            for time in TIMES {
                if let Answer::Newest(found) = ask(connection, name, &[time]).await? {
                    newest = newest.max(found);
                }
            }
            Ok(newest)
        }
    }
}

/// The server's result for the columns of a table.
enum Answer {
    Newest(Option<i64>),
    NoTable,
    NoColumn,
}

async fn ask(connection: &mut Connection<'_>, name: &TableName, times: &[&str]) -> Result<Answer> {
    for question in [newest(name, times), newest_finite(name, times)] {
        let during = During::table("read", &name.plain);
        let rows = match connection.try_rows(&question).await {
            Err(error) if code(&error) == UNDEFINED_TABLE => return Ok(Answer::NoTable),
            Err(error) if code(&error) == UNDEFINED_COLUMN => return Ok(Answer::NoColumn),
            rows => rows.map_err(|error| connection.failed(during, error))?,
        };
        let answer = rows.first().map(read).transpose().map_err(|error| connection.failed(during, error))?;
        if let Some((true, newest)) = answer {
            return Ok(Answer::Newest(newest));
        }
    }
    Ok(Answer::Newest(None))
}

fn read(row: &PgRow) -> sqlx::Result<(bool, Option<i64>)> {
    Ok((row.try_get("finite")?, row.try_get("newest")?))
}

/// Returns a query for the newest time. Without conditions on the maxima the server finds each by an index or, if there
/// is none, all of them in one scan.
fn newest(name: &TableName, times: &[&str]) -> String {
    let maxima = times.iter().map(|time| format!("max({}) AS {}", quoted(time), quoted(time)));
    let finite = times.iter().map(|time| format!("coalesce(isfinite({}), true)", quoted(time)));
    let micros = times.iter().map(|time| micros(&quoted(time)));
    format!(
        "SELECT {} AS finite, greatest({}) AS newest FROM (SELECT {} FROM {}) AS t",
        finite.collect::<Vec<_>>().join(" AND "),
        micros.collect::<Vec<_>>().join(", "),
        maxima.collect::<Vec<_>>().join(", "),
        name.quoted
    )
}

/// Returns the query for a table that has `infinity`, after which no row can be stamped.
fn newest_finite(name: &TableName, times: &[&str]) -> String {
    let newest = times.iter().map(|time| {
        let time = quoted(time);
        let maximum = micros(&format!("max({time})"));
        format!("(SELECT {maximum} FROM {} WHERE {time} > '-infinity' AND {time} < 'infinity')", name.quoted)
    });
    format!("SELECT true AS finite, greatest({}) AS newest", newest.collect::<Vec<_>>().join(", "))
}

fn micros(time: &str) -> String {
    format!("CASE WHEN isfinite({time}) THEN (extract(epoch FROM {time}) * 1000000)::bigint END")
}

/// Adds missing indexes to a table, if this role may. Without them the store works too, but writes become slower as the
/// table grows: an error does not fail the write.
pub(crate) async fn index(session: &Session, name: &TableName) {
    if !session.is_first_write(&name.plain) {
        return;
    }
    if let Err(error) = add_indexes(session, name).await {
        tracing::warn!(
            table = name.plain,
            %error,
            "the table has no index on its times, and none could be created; without it each write reads all rows"
        );
    }
}

async fn add_indexes(session: &Session, name: &TableName) -> Result<()> {
    let mut connection = session.connection().await?;
    if missing(&mut connection, name).await?.is_empty() {
        connection.done();
        return Ok(());
    }
    let during = During::table("index", &name.plain);
    connection.begin_with(during, &format!("SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; ")).await?;
    connection.execute(during, &lock(name)).await?;
    // Another writer may have added them.
    for time in missing(&mut connection, name).await? {
        connection.execute(during, &create_index(name, &time)).await?;
    }
    connection.commit(during).await
}

/// Returns the columns of times for which an index is missing and can be created.
async fn missing(connection: &mut Connection<'_>, name: &TableName) -> Result<Vec<String>> {
    let during = During::table("index", &name.plain);
    let question = format!(
        "SELECT a.attname::text AS name FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped \
         WHERE c.oid = pg_catalog.to_regclass({table}) AND c.relkind IN ('r', 'p') \
         AND pg_catalog.pg_has_role(c.relowner, 'USAGE') \
         AND pg_catalog.has_schema_privilege(c.relnamespace, 'CREATE') \
         AND a.attname IN ({times}) AND a.atttypid IN ('timestamp'::regtype, 'timestamptz'::regtype) \
         AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
           JOIN pg_catalog.pg_am m ON m.oid = x.relam AND m.amname = 'btree' \
           WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum AND i.indisvalid AND (i.indpred IS NULL \
           OR pg_catalog.pg_get_expr(i.indpred, c.oid) = pg_catalog.format('(%I IS NOT NULL)', a.attname)))",
        table = literal(&name.quoted),
        times = TIMES.map(literal).join(", "),
    );
    let rows = connection.rows(during, &question).await?;
    let names = rows.iter().map(|row| row.try_get("name")).collect::<sqlx::Result<_>>();
    names.map_err(|error| connection.failed(during, error))
}
