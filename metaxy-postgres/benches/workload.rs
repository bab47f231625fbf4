//! The paper's workload on a temporary server, with both engines, compared with the Python package on the same server.
//!
//! The server has PostgreSQL's default settings: a commit waits for the disk.

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use metaxy_core::{HashAlgorithm, SharedBackend, VersioningEngine};
use metaxy_postgres::{PostgresBackend, PostgresConfig, Traffic};
use metaxy_testkit::servers::postgres::{Database, Server};
use metaxy_testkit::workload::{self, BoxError, Subject};

/// The variable with the server's URL for the processes that measure.
const URL: &str = "METAXY_BENCH_POSTGRES";

fn main() -> ExitCode {
    if workload::is_child() {
        return workload::run(subjects("", ""));
    }
    match databases() {
        Ok((own, reference)) => workload::run(subjects(own.url(), reference.url())),
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Creates one database for the subjects, and one for the Python package, which empties it.
fn databases() -> Result<(Database, Database), String> {
    let server = Arc::new(Server::start_with(&[])?);
    Ok((server.database()?, server.database()?))
}

fn subjects(own: &str, reference: &str) -> [Subject; 3] {
    let subject = |name: &str| {
        Subject::new(name, backend)
            .meter("bytes of rows sent", |_| Ok(traffic().sent))
            .meter("bytes of rows received", |_| Ok(traffic().received))
            .cleanup(drop_tables)
            .child_env(URL, own)
            .reference("postgres")
            .reference_env("PGURL", reference)
    };
    [
        subject("postgres, Arrow engine").versioning_engine(VersioningEngine::Arrow),
        subject("postgres, native engine").versioning_engine(VersioningEngine::Native).hash(HashAlgorithm::Md5),
        subject("postgres, Arrow engine").versioning_engine(VersioningEngine::Arrow).hash(HashAlgorithm::Md5),
    ]
}

/// Every backend of this process.
static BACKENDS: Mutex<Vec<Arc<PostgresBackend>>> = Mutex::new(Vec::new());

/// Creates a backend whose tables have the name of the round's directory as prefix.
fn backend(dir: &Path) -> Result<SharedBackend, BoxError> {
    let mut config = PostgresConfig::new(std::env::var(URL)?);
    config.table_prefix = Some(prefix(dir));
    let backend = Arc::new(PostgresBackend::new(config)?);
    BACKENDS.lock().unwrap_or_else(PoisonError::into_inner).push(backend.clone());
    Ok(backend)
}

fn prefix(dir: &Path) -> String {
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{}_", name.trim_start_matches('.'))
}

/// Returns the bytes that all backends have transferred.
fn traffic() -> Traffic {
    let backends = BACKENDS.lock().unwrap_or_else(PoisonError::into_inner);
    backends.iter().map(|backend| backend.traffic()).fold(Traffic::default(), |sum, traffic| Traffic {
        sent: sum.sent + traffic.sent,
        received: sum.received + traffic.received,
    })
}

fn drop_tables(dir: &Path) -> Result<(), BoxError> {
    let backend = backend(dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        backend.open(metaxy_core::AccessMode::ReadWrite).await?;
        for table in backend.tables().await? {
            backend.drop_table(&table.replace("__", "/").parse()?).await?;
        }
        backend.close().await?;
        Ok(())
    })
}
