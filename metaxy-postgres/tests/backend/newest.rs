//! The newest time of a table: all writers count, and the server finds it by an index.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, MetadataStore, StoreBackend};
use metaxy_postgres::PostgresBackend;
use metaxy_testkit::fixtures::tables::{append, batch, key, texts};
use metaxy_testkit::servers::postgres::Database;

use super::support::{config, database, open, sample};

/// The indexes of the table of `raw/video`.
const INDEXES: &str = "SELECT coalesce(string_agg(indexdef, E'\\n' ORDER BY indexname), '') FROM pg_indexes \
                       WHERE tablename = 'raw__video'";

/// The latest time in the table of `raw/video`, in microseconds.
const NEWEST: &str = "SELECT greatest((extract(epoch FROM max(metaxy_updated_at)) * 1000000)::bigint, \
                      (extract(epoch FROM max(metaxy_deleted_at)) * 1000000)::bigint) FROM raw__video";

/// A table in the form of the Python package, with many rows.
const FOREIGN: &str = "CREATE TABLE raw__video (id varchar, \
                       metaxy_provenance_by_field jsonb, metaxy_provenance varchar, \
                       metaxy_feature_version varchar, metaxy_project_version varchar, \
                       metaxy_data_version_by_field jsonb, metaxy_data_version varchar, \
                       metaxy_created_at timestamptz(6), metaxy_updated_at timestamptz(6), \
                       metaxy_deleted_at timestamptz(6), metaxy_materialization_id varchar); \
                       INSERT INTO raw__video SELECT 'other ' || i, '{\"default\": \"1\"}', 'x', 'y', 'z', \
                       '{\"default\": \"1\"}', 'x', now(), '2026-01-01'::timestamptz + i * interval '1 s', NULL, NULL \
                       FROM generate_series(1, 20000) AS i";

fn graph() -> FeatureGraph {
    FeatureGraph::new([FeatureSpec::builder("raw/video").id_columns(["id"]).build().unwrap()]).unwrap()
}

async fn store(url: &str) -> MetadataStore {
    let backend = PostgresBackend::new(config(url)).unwrap();
    MetadataStore::builder(backend, graph()).open(AccessMode::ReadWrite).await.unwrap()
}

async fn write_once(url: &str) {
    let store = store(url).await;
    store.write("raw/video", sample()).await.unwrap();
    store.close().await.unwrap();
}

async fn newest(backend: &PostgresBackend) -> i64 {
    backend.newest_stamp(&key("raw/video")).await.unwrap().unwrap()
}

/// Returns the plan of the last statement of a store.
fn plan(database: &Database) -> String {
    let last = "SELECT query FROM pg_stat_activity WHERE application_name = 'metaxy' \
                AND datname = current_database() AND query LIKE '%max(%' ORDER BY query_start DESC LIMIT 1";
    database.sql(&format!("EXPLAIN {}", database.sql(last).unwrap())).unwrap()
}

fn count_indexes(database: &Database) -> usize {
    database.sql(INDEXES).unwrap().lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_time_is_found_by_an_index() {
    let database = database();
    write_once(database.url()).await;
    assert_eq!(count_indexes(&database), 2);
    let backend = open(database.url()).await;
    let insert = |number: &str, time: &str| {
        database.sql(&format!(
            "INSERT INTO raw__video (id, {time}) SELECT i, now() + {number} FROM generate_series(1, 20000) AS i"
        ))
    };
    // Rows of another program, the last of which have future times.
    insert("i * interval '1 s'", "metaxy_updated_at").unwrap();
    assert_eq!(newest(&backend).await.to_string(), database.sql(NEWEST).unwrap());
    let found = plan(&database);
    assert!(found.matches("Index Only Scan Backward").count() == 2 && !found.contains("Seq Scan"), "{found}");
    insert("i * interval '1 min'", "metaxy_deleted_at").unwrap();
    assert_eq!(newest(&backend).await.to_string(), database.sql(NEWEST).unwrap());
    let found = plan(&database);
    assert!(found.matches("Index Only Scan Backward").count() == 2 && !found.contains("Seq Scan"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_reads_no_other_rows() {
    let database = database();
    database.sql(FOREIGN).unwrap();
    write_once(database.url()).await;
    let read = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'raw__video'";
    let before: u64 = database.sql(read).unwrap().parse().unwrap();
    let store = store(database.url()).await;
    for _ in 0..3 {
        store.write("raw/video", sample()).await.unwrap();
    }
    // A connection reports what it has read when it ends.
    store.close().await.unwrap();
    for _ in 0..50 {
        let open =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'metaxy' AND datname = current_database()";
        if database.sql(open).unwrap() == "0" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let after: u64 = database.sql(read).unwrap().parse().unwrap();
    assert!(before >= 20_000, "the first write had no index yet, and read {before} rows");
    assert!(after - before < 20_000, "{} rows were read", after - before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_another_program_gets_its_indexes_with_the_first_write() {
    let database = Arc::new(database());
    database.sql(FOREIGN).unwrap();
    assert_eq!(count_indexes(&database), 0);
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move { write_once(database.url()).await })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let indexes = database.sql(INDEXES).unwrap();
    assert_eq!(indexes.lines().count(), 2, "{indexes}");
    write_once(database.url()).await;
    assert_eq!(database.sql(INDEXES).unwrap(), indexes);
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_of_others_are_used() {
    let database = database();
    database.sql(FOREIGN).unwrap();
    // One index that contains the newest time, and two that do not.
    database
        .sql(
            "CREATE INDEX own ON raw__video (metaxy_updated_at DESC, id); \
             CREATE INDEX summary ON raw__video USING brin (metaxy_deleted_at); \
             CREATE INDEX part ON raw__video (metaxy_deleted_at) WHERE id = 'x'",
        )
        .unwrap();
    write_once(database.url()).await;
    let indexes = database.sql(INDEXES).unwrap();
    assert_eq!(indexes.lines().count(), 4, "{indexes}");
    assert_eq!(indexes.matches("(metaxy_updated_at").count(), 1, "{indexes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_may_not_be_indexed_is_scanned() {
    let database = database();
    database.sql(FOREIGN).unwrap();
    let role = format!("writer_{}", std::process::id());
    database
        .sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT SELECT, INSERT ON raw__video TO {role}"))
        .unwrap();
    let url = database.url_as(&role, "x");
    let owns = format!("ALTER TABLE raw__video OWNER TO {role}; REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    for change in ["SELECT 1", owns.as_str()] {
        database.sql(change).unwrap();
        write_once(&url).await;
        let future = "INSERT INTO raw__video (id, metaxy_updated_at) VALUES ('future', now() + interval '1 day')";
        database.sql(future).unwrap();
        let backend = open(&url).await;
        assert_eq!(newest(&backend).await.to_string(), database.sql(NEWEST).unwrap());
        backend.close().await.unwrap();
        assert_eq!(count_indexes(&database), 0);
    }
    database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_is_written_and_indexed_later() {
    let database = Arc::new(database());
    database.sql(FOREIGN).unwrap();
    let busy = {
        let database = database.clone();
        let statement = "BEGIN; INSERT INTO raw__video (id) VALUES ('slow'); SELECT pg_sleep(6); COMMIT";
        std::thread::spawn(move || database.sql(statement).unwrap())
    };
    let started = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(6)%' AND wait_event = 'PgSleep'";
    while database.sql(started).unwrap() == "0" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    write_once(database.url()).await;
    assert!(!busy.is_finished(), "the write has waited for another one");
    assert_eq!(count_indexes(&database), 0);
    busy.join().unwrap();
    write_once(database.url()).await;
    assert_eq!(count_indexes(&database), 2);
    assert_eq!(database.sql("SELECT count(*) FROM raw__video").unwrap(), "20003");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_time_of_tables_with_missing_columns() {
    let database = database();
    let backend = open(database.url()).await;
    let newest = async |table: &str| backend.newest_stamp(&key(table)).await.unwrap();
    database
        .sql(
            "CREATE TABLE updated AS SELECT '2026-01-01 00:00:01+00'::timestamptz AS metaxy_updated_at; \
             CREATE TABLE deleted AS SELECT '1970-01-01 00:00:02'::timestamp AS metaxy_deleted_at; \
             CREATE TABLE empty (metaxy_updated_at timestamptz, metaxy_deleted_at timestamptz); \
             CREATE TABLE endless (metaxy_updated_at timestamptz, metaxy_deleted_at timestamptz); \
             INSERT INTO endless VALUES ('infinity', '-infinity'), ('1970-01-01 00:00:03+00', NULL); \
             CREATE TABLE never AS SELECT '-infinity'::timestamptz AS metaxy_updated_at, \
             'infinity'::timestamptz AS metaxy_deleted_at; \
             CREATE VIEW seen AS SELECT * FROM endless",
        )
        .unwrap();
    append(&backend, "none", &batch([("x", texts(&["a"]))])).await.unwrap();
    assert_eq!(newest("updated").await, Some(1_767_225_601_000_000));
    assert_eq!(newest("deleted").await, Some(2_000_000));
    assert_eq!(newest("endless").await, Some(3_000_000));
    assert_eq!(newest("seen").await, Some(3_000_000));
    for table in ["empty", "never", "none", "missing"] {
        assert_eq!(newest(table).await, None, "{table}");
    }
}

/// Writes to the table of `raw/video`, or reads it and resolves a dependent feature.
const PYTHON: &str = "
import sys, warnings
warnings.simplefilter('ignore')
import metaxy as mx, polars as pl
from metaxy.config import MetaxyConfig
from metaxy._hashing import HashAlgorithm
from metaxy.ext.postgresql import PostgreSQLMetadataStore
url, ids = sys.argv[1], sys.argv[2].split(',')
MetaxyConfig.set(MetaxyConfig(project='default', auto_create_tables=True))
graph = mx.FeatureGraph()
with graph.use():
    spec = mx.FeatureSpec(key='raw/video', id_columns=['id'])
    video = type('Video', (mx.BaseFeature,), {'__metaxy_project__': 'default'}, spec=spec)
    spec = mx.FeatureSpec(key='child', id_columns=['id'], deps=[mx.FeatureDep(feature=video)])
    child = type('Child', (mx.BaseFeature,), {'__metaxy_project__': 'default'}, spec=spec)
    with PostgreSQLMetadataStore(connection_string=url, auto_create_tables=True).open('w') as store:
        rows = pl.DataFrame({'id': ids, 'metaxy_provenance_by_field': [{'default': '1'}] * len(ids)})
        store.write(video, rows)
        new = store.resolve_update(child).to_polars().new
        store.write(child, new)
        print(','.join(sorted(store.read(video).collect().to_polars()['id'])), new.height)
";

/// Returns a Python with the package and its dependencies for PostgreSQL, or prints that there is none.
fn python() -> Option<String> {
    let named = std::env::var("METAXY_REFERENCE_PYTHON").ok().filter(|name| !name.is_empty());
    let python = named.unwrap_or_else(|| "python3".to_owned());
    let found = Command::new(&python).args(["-c", "import metaxy, ibis, psycopg"]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    println!("Skipped: {python} lacks metaxy, ibis or psycopg; set METAXY_REFERENCE_PYTHON to a Python that has them.");
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_package_works_with_the_indexes() {
    let Some(python) = python() else { return };
    let run = |url: &str, ids: &str| {
        let output = Command::new(&python).args(["-c", PYTHON, url, ids]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    // A table of the Python package, and one of this program.
    for first in [true, false] {
        let database = database();
        if first {
            assert_eq!(run(database.url(), "a,b"), "a,b 2");
            assert_eq!(count_indexes(&database), 0);
        }
        write_once(database.url()).await;
        assert_eq!(count_indexes(&database), 2);
        let expected = if first { "1,a,b,c 2" } else { "1,c 2" };
        assert_eq!(run(database.url(), "c"), expected);
        let backend = open(database.url()).await;
        assert_eq!(newest(&backend).await.to_string(), database.sql(NEWEST).unwrap());
        assert_eq!(count_indexes(&database), 2);
    }
}
