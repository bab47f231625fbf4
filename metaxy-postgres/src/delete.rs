//! Deleting rows, and whole tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter;
use arrow::datatypes::{DataType, Field, Schema};
use futures::TryStreamExt;
use metaxy_core::Result;
use metaxy_core::filter::Predicate;

use crate::catalog::{Column, Table, TableName};
use crate::connection::{Connection, Session};
use crate::error::During;
use crate::read;
use crate::server::{held, notifications};
use crate::sql;
use crate::types;
use crate::types::rows::RowReader;

/// How many rows a statement names.
const ROWS_PER_DELETE: usize = 10_000;

/// Deletes the rows for which a predicate is true, in the transaction of the connection, and returns their number.
pub(crate) async fn delete(
    mut connection: Connection<'_>,
    name: &TableName,
    table: &Table,
    predicate: &Predicate,
) -> Result<u64> {
    let during = During::table("delete from", &name.plain);
    let deleted = match sql::condition(table, predicate) {
        Ok(condition) => {
            connection.execute(during, &format!("DELETE FROM {} AS t WHERE {condition}", name.quoted)).await?
        }
        Err(_) => delete_by_ctid(&mut connection, during, name, table, predicate).await?,
    };
    if deleted > 0 {
        held::mark_if_empty(&mut connection, name).await?;
    }
    notifications::commit(connection, during, name).await?;
    Ok(deleted)
}

/// Deletes the rows for which a predicate is true that SQL cannot express as the core evaluates it. The rows are read,
/// and deleted by their `ctid`; until then nothing else changes the table.
async fn delete_by_ctid(
    connection: &mut Connection<'_>,
    during: During<'_>,
    name: &TableName,
    table: &Table,
    predicate: &Predicate,
) -> Result<u64> {
    connection.execute(during, &format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", name.quoted)).await?;
    let mut deleted = 0;
    for (part, places) in matching_rows(connection, during, name, table, predicate).await? {
        for places in places.chunks(ROWS_PER_DELETE) {
            let places = places.join(",");
            let condition = format!("tableoid = {part} AND ctid = ANY ('{{{places}}}'::tid[])");
            deleted += connection.execute(during, &format!("DELETE FROM {} WHERE {condition}", name.quoted)).await?;
        }
    }
    Ok(deleted)
}

/// Returns the rows for which a predicate is true: their `ctid` in each partition of the table.
async fn matching_rows(
    connection: &mut Connection<'_>,
    during: During<'_>,
    name: &TableName,
    table: &Table,
    predicate: &Predicate,
) -> Result<BTreeMap<String, Vec<String>>> {
    let names = predicate.columns();
    let columns: Vec<&Column> = table.columns.iter().filter(|column| names.contains(&column.name)).collect();
    let outputs: String = columns.iter().map(|column| format!(", {}", sql::output(column))).collect();
    let query = format!("SELECT t.tableoid::text, t.ctid::text{outputs} FROM {} AS t", name.quoted);
    let text = types::storage("ctid", &DataType::Utf8)?;
    let places = [("tableoid", &text), ("ctid", &text)];
    let sent = columns.iter().map(|column| (column.name.as_str(), &column.storage));
    let reader = RowReader::new(&name.plain, places.into_iter().chain(sent))?;
    let mut rows = read::collect(connection, during, &query, reader).await?;
    let fields = columns.iter().map(|column| Field::new(&column.name, column.storage.data_type.clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let mut found = BTreeMap::<String, Vec<String>>::new();
    while let Some(rows) = rows.try_next().await? {
        let (places, values) = rows.columns().split_at(places.len());
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let batch = RecordBatch::try_new_with_options(schema.clone(), values.to_vec(), &options)?;
        let matches = predicate.evaluate(&batch)?;
        let [parts, places] = [&places[0], &places[1]].map(|array| filter(array, &matches));
        for (part, place) in parts?.as_string::<i32>().iter().zip(places?.as_string::<i32>()) {
            found
                .entry(part.unwrap_or_default().to_owned())
                .or_default()
                .extend(place.map(|place| format!("\"{place}\"")));
        }
    }
    Ok(found)
}

/// Drops a table if it exists. In a transaction: if the call is cancelled, the server rolls back, instead of dropping
/// the table at a later time.
pub(crate) async fn drop_table(session: &Session, name: &TableName) -> Result<()> {
    let during = During::table("drop", &name.plain);
    let mut connection = session.begin(during).await?;
    connection.execute(during, &format!("DROP TABLE IF EXISTS {}", name.quoted)).await?;
    notifications::commit(connection, during, name).await
}
