//! Logs of the store and of its dependencies contain no secrets.

use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};
use std::path::Path;
use std::process::Command;

use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, MetadataStore, StoreBackend};
use metaxy_postgres::{ConnectionParams, PostgresBackend, PostgresConfig};
use metaxy_testkit::fixtures::tables::{append, batch, ints, key, read};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use url::Url;

use super::support::{config, sample};
use super::tls::Encrypted;

/// The variable with the database of the process whose logs are read.
const CHILD: &str = "METAXY_POSTGRES_LOGGED";
/// A part of every secret of this test.
const SECRET: &str = "s3cret";
/// The password of the role that connects.
const PASSWORD: &str = "/s3cret@p:ss?w+rd#";

/// Prints the log, one line for each event or span.
struct Printer;

#[derive(Default)]
struct Line {
    /// The module, if the `log` crate has logged the event.
    target: Option<String>,
    text: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            self.target = Some(value.to_owned());
        }
        self.record_debug(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.text, " {field}={value:?}");
    }
}

impl Line {
    fn print(self, metadata: &tracing::Metadata<'_>) {
        let target = self.target.as_deref().unwrap_or(metadata.target());
        println!("LOG {} {target}{}", metadata.level(), self.text.replace('\n', " "));
    }
}

impl<S: Subscriber> Layer<S> for Printer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        line.print(event.metadata());
    }

    fn on_new_span(&self, span: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut line = Line::default();
        span.record(&mut line);
        line.print(span.metadata());
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        values.record(&mut line);
        println!("{}", line.text);
    }
}

/// Returns a URL of the same database for a role, with or without its percent-encoded password.
fn url_as(url: &str, role: &str, password: Option<&str>) -> String {
    let mut url = Url::parse(url).unwrap();
    url.set_username(role).unwrap();
    url.set_password(password).unwrap();
    url.into()
}

/// Opens a store, and prints its settings and errors.
async fn tried(config: PostgresConfig) -> bool {
    println!("{config:?}");
    let backend = match PostgresBackend::new(config) {
        Ok(backend) => backend,
        Err(error) => {
            println!("{error} {error:?}");
            return false;
        }
    };
    println!("{backend:?} {}", backend.info().location);
    let opened = backend.open(AccessMode::ReadWrite).await;
    println!("{opened:?} {}", opened.as_ref().err().map(ToString::to_string).unwrap_or_default());
    opened.is_ok()
}

async fn hostile_settings(url: &str) {
    let place = url.split_once('@').unwrap().1;
    for hostile in [
        format!("postgresql://me:{PASSWORD}@{place}"),
        format!("postgresql://me:s3cret@{place}?sslpasword=s3cret"),
        format!("postgresql://me:s3cret@{place}?passfile=s3cret&options=s3cret"),
        format!("postgresql://me:s3cret@{place}?sslmode=s3cret"),
        "postgresql://me:s3cret@db:99999/x".to_owned(),
        "host=db password='s3cret".to_owned(),
        "host=127.0.0.1 port=1 password=s3cret user=me".to_owned(),
        "postgresql://me:%73%33cret%zz@db/x".to_owned(),
        "s3cret".to_owned(),
    ] {
        assert!(!tried(config(&hostile)).await, "{hostile}");
    }
    let parts = ConnectionParams { password: Some(PASSWORD.to_owned()), port: Some(1), ..ConnectionParams::default() };
    println!("{parts:?}");
    assert!(!tried(PostgresConfig { connection_params: Some(parts), ..PostgresConfig::default() }).await);
}

async fn logins(url: &str, role: &str, root: &Path) {
    assert!(tried(config(&url_as(url, role, Some(PASSWORD)))).await, "a password in the URL");
    assert!(tried(config(&url_as(url, role, None))).await, "a password in the password file");
    assert!(!tried(config(&url_as(url, role, Some("wr0ng-s3cret")))).await, "another password");
    assert!(!tried(config(&url_as(url, "n0body", Some("s3cret")))).await, "another role");
    let encrypted = url_as(url, role, Some(PASSWORD)).replace("127.0.0.1", "localhost");
    let root = Some(root.display().to_string());
    assert!(tried(config(&encrypted).tls("verify-full", root.clone())).await, "encrypted");
    let stranger = url_as(url, role, Some(PASSWORD));
    assert!(!tried(config(&stranger).tls("verify-full", root)).await, "a certificate for another name");
}

/// Writes and reads, has a write refused, loses its connections, and continues.
async fn work(url: &str) {
    let graph = FeatureGraph::new([FeatureSpec::builder("raw/video").id_columns(["id"]).build().unwrap()]).unwrap();
    let store = MetadataStore::builder(PostgresBackend::new(config(url).pool_size(2)).unwrap(), graph);
    let store = store.open(AccessMode::ReadWrite).await.unwrap();
    store.write("raw/video", sample()).await.unwrap();
    store.read("raw/video").await.unwrap().rows().await.unwrap();
    store.delete("raw/video").await.unwrap();
    let backend = PostgresBackend::new(config(url)).unwrap();
    backend.open(AccessMode::ReadWrite).await.unwrap();
    append(&backend, "t", &batch([("x", ints(0..5_000))])).await.unwrap();
    println!("{:?}", append(&backend, "noisy", &batch([("x", ints([1]))])).await.unwrap_err());
    println!("{:?}", backend.delete(&key("missing"), &metaxy_core::filter::Predicate::Constant(Some(true))).await);
    wait_for_a_connection(url).await;
    for _ in 0..2 {
        // All connections are closed except the one that closes them.
        println!("{:?}", append(&backend, "cutting", &batch([("x", ints([1]))])).await);
        println!("{:?}", read(&backend, "t").await.unwrap().num_rows());
        println!("{:?}", store.write("raw/video", sample()).await);
    }
    backend.close().await.unwrap();
    store.close().await.unwrap();
}

/// Writes to a slow table over the only connection, for which another write has to wait.
async fn wait_for_a_connection(url: &str) {
    let backend = PostgresBackend::new(config(url).pool_size(1)).unwrap();
    backend.open(AccessMode::ReadWrite).await.unwrap();
    let rows = batch([("x", ints([1]))]);
    let (first, second) = tokio::join!(append(&backend, "slow", &rows), append(&backend, "t", &rows));
    println!("{first:?} {second:?}");
    backend.close().await.unwrap();
}

/// Returns the text with all percent escapes decoded.
fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = (*first == b'%').then(|| behind.get(..2)).flatten().and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &behind[2..];
            }
            None => {
                decoded.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Returns the crates and log levels in SECURITY.md.
fn documented() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../SECURITY.md")).unwrap();
    let mut found = Vec::new();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [crates, levels, ..] = cells.as_slice() else { continue };
        for name in crates.split(',').map(|name| name.trim().trim_matches('`')) {
            found.extend(levels.split(',').map(|level| (name.to_owned(), level.trim().to_owned())));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_holds_a_secret() {
    if let Ok(told) = std::env::var(CHILD) {
        tracing_subscriber::registry().with(Printer).init();
        let [url, role, root] = told.split('\n').collect::<Vec<_>>().try_into().unwrap();
        hostile_settings(url).await;
        logins(url, role, Path::new(root)).await;
        return work(&url_as(url, role, Some(PASSWORD))).await;
    }
    let server = Encrypted::start();
    let (url, role) = (server.database.url(), "logged");
    prepare(&server, role);
    let folder = tempfile::tempdir().unwrap();
    let passfile = folder.path().join("pgpass");
    write_private(&passfile, &passwords(url, role));
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "logs::no_log_holds_a_secret", "--nocapture"]).env("PGPASSFILE", &passfile);
    child.env_remove("PGPASSWORD").env(CHILD, format!("{url}\n{role}\n{}", server.root().display()));
    let output = child.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    // The test shows the output of the process even if an assertion would print secrets.
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    for shown in [text.to_lowercase(), percent_decoded(&text).to_lowercase()] {
        let secret = shown.lines().find(|line| line.contains(SECRET));
        assert_eq!(secret, None);
    }
    assert_documented(&text);
}

/// Creates a role, and tables whose triggers make the server log, refuse writes, and close connections.
fn prepare(server: &Encrypted, role: &str) {
    let quoted = PASSWORD.replace('\'', "''");
    let trigger = |table: &str, body: &str| {
        format!(
            "CREATE TABLE {table} (x bigint); CREATE FUNCTION {table}_says() RETURNS trigger LANGUAGE plpgsql \
             SECURITY DEFINER AS $$ BEGIN {body}; RETURN NEW; END $$; CREATE TRIGGER says BEFORE INSERT ON {table} \
             FOR EACH ROW EXECUTE FUNCTION {table}_says(); "
        )
    };
    let cut = "PERFORM pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = 'metaxy' AND pid <> pg_backend_pid()";
    let noise = "RAISE NOTICE 'a notice'; RAISE WARNING 'a warning'; RAISE EXCEPTION 'refused'";
    let sql = format!(
        "CREATE ROLE {role} LOGIN PASSWORD '{quoted}'; GRANT ALL ON SCHEMA public TO {role}; {}{}{}\
         GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
        trigger("noisy", noise),
        trigger("slow", "PERFORM pg_sleep(2.5)"),
        trigger("cutting", cut),
    );
    server.database.sql(&sql).unwrap();
}

/// Returns a password file with invalid lines and the valid one.
fn passwords(url: &str, role: &str) -> String {
    let url = Url::parse(url).unwrap();
    let (host, port, database) = (url.host_str().unwrap(), url.port().unwrap(), url.path().trim_start_matches('/'));
    let escaped = PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
    format!(
        "# a comment with s3cret\ns3cret\n{host}:{port}:{role}-s3cret\n{host}:{port}:{database}\\q\\s3cret\n\
         {host}:{port}:{database}:{role}:{escaped}\n"
    )
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    #[cfg(unix)]
    {
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, private).unwrap();
    }
}

/// Checks that every crate that has logged is in the table of SECURITY.md, with the level.
fn assert_documented(text: &str) {
    let seen: BTreeSet<(&str, &str)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("LOG ")?.split(' ');
            let (level, target) = (words.next()?, words.next()?);
            Some((target.split("::").next()?, level))
        })
        .filter(|(name, _)| !name.starts_with("metaxy"))
        .collect();
    println!("{seen:?}");
    assert!(seen.iter().any(|(name, _)| name.starts_with("sqlx")), "the driver has logged nothing: {seen:?}");
    let documented = documented();
    for (name, level) in seen {
        let is_named = |(known, at): &(String, String)| name.starts_with(known.as_str()) && at == level;
        assert!(documented.iter().any(is_named), "SECURITY.md does not say that {name} logs at {level}");
    }
}
