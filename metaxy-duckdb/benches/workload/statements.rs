//! The same results, each from one SQL statement that is written for this workload only: no filters, no other lineage,
//! no other types, no history. Opening and closing the database is measured, as for the store.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use duckdb::Connection;
use duckdb::arrow::array as theirs;
use duckdb::arrow::datatypes::{DataType, Field, Schema};
use duckdb::vtab::arrow::{ArrowBatchRegistration, ArrowVTab};
use metaxy_core::columns;
use metaxy_core::error::BoxError;
use metaxy_testkit::workload::{Phase, Probe, Scenario};

use crate::FILE;

/// Times the statement of a phase.
pub(crate) fn run(probe: &Probe<'_>) -> Result<Option<Duration>, BoxError> {
    if !matches!(probe.scenario, Scenario::Simple | Scenario::Wide) {
        return Ok(None);
    }
    match probe.phase {
        Phase::Write => {
            let tables: Vec<&[RecordBatch]> = probe.roots.iter().map(Vec::as_slice).collect();
            write(probe.dir, &tables, probe.scenario.root_fields()).map(Some)
        }
        Phase::WriteLeaf => write(probe.dir, &[probe.leaf], probe.scenario.leaf_fields()).map(Some),
        Phase::New => {
            let (elapsed, rows) = resolve(probe, &new(probe.scenario))?;
            expect(rows, probe.size)?;
            Ok(Some(elapsed))
        }
        Phase::Noop => {
            let (elapsed, rows) = resolve(probe, &compare(probe.scenario))?;
            expect(rows, 0)?;
            Ok(Some(elapsed))
        }
        Phase::Stale => Ok(Some(resolve(probe, &compare(probe.scenario))?.0)),
    }
}

fn expect(found: usize, wanted: usize) -> Result<(), BoxError> {
    if found == wanted { Ok(()) } else { Err(format!("the statement returns {found} rows, not {wanted}").into()) }
}

/// Returns the newest row of each sample of a table.
fn latest(table: &str, columns: &str) -> String {
    format!(
        "(SELECT * FROM (SELECT {columns}, metaxy_deleted_at FROM {table} \
         WHERE metaxy_feature_version = version('{table}') \
         QUALIFY row_number() OVER \
         (PARTITION BY sample_uid ORDER BY coalesce(metaxy_deleted_at, metaxy_updated_at) DESC NULLS LAST) = 1) \
         WHERE metaxy_deleted_at IS NULL)"
    )
}

/// Returns the expected samples of the leaf: `sample_uid`, a hash for each field, and `p`.
fn new(scenario: Scenario) -> String {
    let roots = scenario.roots().len();
    let from: Vec<String> = (0..roots)
        .map(|root| {
            let table = format!("bench__root_{root}");
            let rows = latest(&table, &format!("sample_uid, metaxy_data_version_by_field AS v{root}"));
            format!("{rows} AS r{root}{}", if root == 0 { "" } else { " USING (sample_uid)" })
        })
        .collect();
    let hash = |field: &str| {
        let mut text = format!("'{field}|1'");
        for root in 0..roots {
            for parent in scenario.root_fields() {
                text.push_str(&format!(" || '|bench/root_{root}.{parent}|' || v{root}.{parent}"));
            }
        }
        format!("left(md5({text}), 8) AS {field}")
    };
    let fields = scenario.leaf_fields();
    let hashes: Vec<String> = fields.iter().map(|field| hash(field)).collect();
    format!(
        "SELECT *, left(md5({}), 8) AS p FROM (SELECT sample_uid, {} FROM {})",
        fields.join(" || '|' || "),
        hashes.join(", "),
        from.join(" JOIN ")
    )
}

/// Returns the statement that finds new, stale and orphaned rows.
fn compare(scenario: Scenario) -> String {
    format!(
        "SELECT CASE WHEN c.q IS NULL THEN 'new' WHEN e.p IS NULL THEN 'orphaned' ELSE 'stale' END, sample_uid, {}, p \
         FROM ({}) AS e FULL JOIN {} AS c USING (sample_uid) WHERE e.p IS DISTINCT FROM c.q",
        scenario.leaf_fields().join(", "),
        new(scenario),
        latest("bench__leaf", "sample_uid, metaxy_provenance AS q")
    )
}

/// Opens the store's file, runs a statement, and reads its rows as Arrow. Returns the time and the number of rows.
fn resolve(probe: &Probe<'_>, sql: &str) -> Result<(Duration, usize), BoxError> {
    let path = probe.dir.join(FILE);
    let sql = with_versions(&path, sql)?;
    let start = Instant::now();
    let connection = Connection::open(&path)?;
    let mut statement = connection.prepare(&sql)?;
    let batches = statement.stream_arrow([])?.collect::<Result<Vec<_>, _>>()?;
    drop(statement);
    drop(connection);
    Ok((start.elapsed(), batches.iter().map(theirs::RecordBatch::num_rows).sum()))
}

/// Replaces the feature versions, which a hand-written statement would contain.
fn with_versions(path: &Path, sql: &str) -> Result<String, BoxError> {
    let connection = Connection::open(path)?;
    let mut sql = sql.to_owned();
    for table in ["bench__root_0", "bench__root_1", "bench__leaf"] {
        let call = format!("version('{table}')");
        if sql.contains(&call) {
            let find = format!("SELECT any_value(metaxy_feature_version) FROM {table}");
            let version: String = connection.query_row(&find, [], |row| row.get(0))?;
            sql = sql.replace(&call, &format!("'{version}'"));
        }
    }
    Ok(sql)
}

/// Writes rows from a table of DuckDB into a file, with all columns that the store adds.
fn write(dir: &Path, tables: &[&[RecordBatch]], fields: &[&str]) -> Result<Duration, BoxError> {
    let path = dir.join("statement.duckdb");
    let connection = Connection::open_with_flags(
        &path,
        duckdb::Config::default()
            .with("preserve_insertion_order", "false")?
            .with("storage_compatibility_version", "v1.4.0")?,
    )?;
    connection.execute_batch("ATTACH ':memory:' AS given")?;
    connection.register_table_function::<ArrowVTab>("arrow")?;
    for (number, batches) in tables.iter().enumerate() {
        stage(&connection, number, batches, fields)?;
    }
    let members: Vec<String> = fields.iter().map(|field| format!("'{field}': {field}")).collect();
    let by_field = format!("{{{}}}", members.join(", "));
    let hash = format!("left(md5({}), 8)", fields.join(" || '|' || "));
    let start = Instant::now();
    for number in 0..tables.len() {
        connection.execute_batch(&format!(
            "CREATE TABLE written_{number} AS SELECT sample_uid, {by_field} AS metaxy_provenance_by_field, \
             {hash} AS metaxy_provenance, {by_field} AS metaxy_data_version_by_field, {hash} AS metaxy_data_version, \
             '01234567' AS metaxy_feature_version, '89abcdef' AS metaxy_project_version, now() AS metaxy_created_at, \
             now() AS metaxy_updated_at, NULL::TIMESTAMPTZ AS metaxy_deleted_at, \
             NULL::VARCHAR AS metaxy_materialization_id \
             FROM given.rows_{number}"
        ))?;
    }
    drop(connection);
    let elapsed = start.elapsed();
    std::fs::remove_file(path)?;
    Ok(elapsed)
}

/// Copies rows into a table in memory: the id, and a column for each field.
fn stage(connection: &Connection, number: usize, batches: &[RecordBatch], fields: &[&str]) -> Result<(), BoxError> {
    let columns: Vec<String> = fields.iter().map(|field| format!("{field} VARCHAR")).collect();
    let table = format!("rows_{number}");
    connection.execute_batch(&format!("CREATE TABLE given.{table} (sample_uid BIGINT, {})", columns.join(", ")))?;
    for batch in batches {
        let rows = ArrowBatchRegistration::new(flat(batch, fields)?);
        connection.execute(&format!("INSERT INTO given.{table} SELECT * FROM arrow(?)"), [&rows])?;
    }
    Ok(())
}

/// Converts a batch for DuckDB's binding.
fn flat(batch: &RecordBatch, fields: &[&str]) -> Result<theirs::RecordBatch, BoxError> {
    let ids = batch.column_by_name("sample_uid").ok_or("the rows have no ids")?.as_primitive::<Int64Type>();
    let by_field = batch.column_by_name(columns::PROVENANCE_BY_FIELD).ok_or("the rows have no versions")?.as_struct();
    let mut schema = vec![Field::new("sample_uid", DataType::Int64, true)];
    let mut arrays: Vec<theirs::ArrayRef> =
        vec![Arc::new(theirs::Int64Array::from_iter_values(ids.values().iter().copied()))];
    for field in fields {
        let values = by_field.column_by_name(field).ok_or("a field is missing")?.as_string::<i32>();
        schema.push(Field::new(*field, DataType::Utf8, true));
        arrays.push(Arc::new(theirs::StringArray::from_iter_values((0..values.len()).map(|row| values.value(row)))));
    }
    Ok(theirs::RecordBatch::try_new(Arc::new(Schema::new(schema)), arrays)?)
}
