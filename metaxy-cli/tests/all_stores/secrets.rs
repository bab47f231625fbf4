//! No store shows a secret that it was given, in whichever form of a URL or an option: neither in what it displays, nor
//! in its errors, nor in a line of the log. What a server or a bucket answers is in the tests of their crates.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::path::Path;

use metaxy_core::{AccessMode, Error, FeatureGraph, FeatureSpec, MetaxyConfig, RecordBatch, columns};
use metaxy_testkit::fixtures::tables::{batch, ints, texts};
use metaxy_testkit::logs::{self, Logs};
use metaxy_testkit::process;

/// Has characters that are escaped in URLs, in TOML, in SQL and in connection strings.
const SECRET: &str = "hun/ter2+of@the:other=%side&'";

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";

/// Stores that cannot be reached, or cannot be opened: `SECRET` is the secret, `ENCODED` the same in a URL.
const STORES: [&str; 25] = [
    "type = 'postgres'\nconnection_string = 'postgresql://ada:ENCODED@NOWHERE/meta'",
    "type = 'postgres'\nconnection_string = 'postgresql+psycopg://ada:ENCODED@NOWHERE/meta?sslmode=disable'",
    "type = 'postgres'\nconnection_string = 'postgresql://ada@NOWHERE/meta?password=ENCODED'",
    "type = 'postgres'\nconnection_string = 'postgresql://NOWHERE/meta?user=ada&sslpassword=ENCODED&password=ENCODED'",
    "type = 'postgres'\nconnection_string = \"host=127.0.0.1 port=1 user=ada dbname=meta password='PLAIN'\"",
    "type = 'postgres'\nconnection_string = 'postgresql://ada:SECRET@NOWHERE/meta'",
    "type = 'postgres'\nconnection_params = { host = '127.0.0.1', port = 1, user = 'ada', password = \"SECRET\" }",
    "type = 'postgres'\nconnection_params = { host = '127.0.0.1', port = 'SECRET', password = ['SECRET'] }",
    "type = 'delta'\nroot_path = 's3://key:ENCODED@bucket/x'\nstorage_options = { max_retries = '0' }",
    "type = 'delta'\nroot_path = 's3://bucket/x?X-Amz-Signature=ENCODED'",
    "type = 'delta'\nroot_path = 's3://bucket/x'\n[stores.dev.storage_options]\nmax_retries = '0'\nAWS_REGION = 'eu'\n\
     AWS_ALLOW_HTTP = 'true'\nAWS_ENDPOINT_URL = 'http://NOWHERE'\nAWS_ACCESS_KEY_ID = 'id'\n\
     aws_secret_access_key = \"SECRET\"\nAWS_SESSION_TOKEN = \"SECRET\"",
    "type = 'delta'\nroot_path = 's3://bucket/x'\nstorage_options = { secret_key = \"SECRET\", token = [\"SECRET\"] }",
    "type = 'delta'\nroot_path = 's3://bucket/x'\nstorage_options = { max_retries = '0', AWS_ENDPOINT_URL = 'http://ada:ENCODED@NOWHERE' }",
    "type = 'delta'\nroot_path = 'az://box/x'\nstorage_options = { azure_storage_account_key = \"SECRET\" }",
    "type = 'delta'\nroot_path = 'abfss://box@x.dfs.core.windows.net/y?sv=1&sig=ENCODED'",
    "type = 'delta'\nroot_path = 'gs://bucket/x'\nstorage_options = { google_service_account_key = \"SECRET\" }",
    "type = 'delta'\nroot_path = 'HOME/delta'\nstorage_options = { azure_storage_sas_token = \"SECRET\" }",
    "type = 'duckdb'\ndatabase = 'md:meta?motherduck_token=ENCODED'",
    "type = 'duckdb'\nconnection_string = 'duckdb://HOME/a.duckdb?s3_secret_access_key=ENCODED'",
    "type = 'duckdb'\n[stores.dev.config]\ndatabase = 'HOME/b.duckdb'\nconfig = { s3_session_token = \"SECRET\", password = \"SECRET\" }",
    "type = 'duckdb'\ndatabase = 'HOME/c.duckdb?token=ENCODED'",
    "type = 'duckdb'\n[stores.dev.config]\ndatabase = 'HOME/d.duckdb'\nconfig = { http_proxy_password = \"SECRET\" }",
    "type = 'sqlite'\ndatabase = 'HOME/a.db?key=ENCODED'",
    "type = 'sqlite'\ndatabase = 'sqlite://ada:ENCODED@host/x.db'",
    "type = 'sqlite'\ndatabase = 'HOME/b.db'\npassword = \"SECRET\"\nkey = [\"SECRET\"]",
];

/// Percent-encodes every reserved character.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn config(store: &str, home: &Path) -> String {
    let store = store.replace("NOWHERE", NOWHERE).replace("HOME", &home.display().to_string());
    // A connection string of libpq has escapes of its own, of which TOML needs another one.
    let libpq = SECRET.replace('\'', "\\\\'");
    let store = store.replace("ENCODED", &encoded(SECRET)).replace("PLAIN", &libpq).replace("SECRET", SECRET);
    format!("store = \"dev\"\n[stores.dev]\n{store}\n")
}

/// The texts in which no secret may be.
struct Said(Vec<String>);

impl Said {
    fn error(&mut self, error: &Error) {
        let sources = std::iter::successors(Some(error as &dyn StdError), |error| StdError::source(*error));
        self.0.extend(sources.flat_map(|error| [error.to_string(), format!("{error:?} {error:#?}")]));
    }

    /// Records the error of a call, if it fails.
    fn outcome<T>(&mut self, outcome: metaxy_core::Result<T>) -> Option<T> {
        outcome.inspect_err(|error| self.error(error)).ok()
    }
}

fn sample() -> RecordBatch {
    let by_field = columns::by_field([("default", texts(&["v"]))]).unwrap();
    columns::with_column(&batch([("id", ints([1]))]), columns::PROVENANCE_BY_FIELD, by_field).unwrap()
}

/// Makes every call that shows the settings of a store, as far as it can be opened; returns whether it can.
async fn use_store(text: &str, said: &mut Said) -> bool {
    let Some(config) = said.outcome(MetaxyConfig::from_toml_str(text)) else { return false };
    said.0.extend([format!("{config:?} {config:#?}"), config.to_toml().unwrap()]);
    said.outcome(config.check());
    if let Some(store) = said.outcome(config.store_config("dev").and_then(|store| store.backend_settings())) {
        said.0.push(format!("{store:?}"));
    }
    let spec = FeatureSpec::builder("raw/video").id_columns(["id"]).build().unwrap();
    let graph = FeatureGraph::new([spec]).unwrap();
    let mut opens = false;
    for mode in [AccessMode::ReadOnly, AccessMode::ReadWrite] {
        let Some(store) = said.outcome(config.open_default_store(graph.clone(), mode).await) else { continue };
        opens = true;
        said.0.push(format!("{store:?} {:?} {}", store.backend(), store.name()));
        said.outcome(store.write("raw/video", sample()).await);
        said.outcome(store.read("raw/video").await);
        said.outcome(store.read("raw/video").filter("no_such_column = 1").await);
        said.outcome(store.resolve_update("raw/video").await);
        said.outcome(store.delete("raw/video").await);
        said.outcome(store.tables().await);
        said.outcome(store.close().await);
    }
    opens
}

/// Returns the lines of the log that show one of these, but for those of dependencies that SECURITY.md lists.
fn lines_with(logs: &Logs, forms: &[String]) -> BTreeSet<String> {
    let security = Path::new(env!("CARGO_MANIFEST_DIR")).join("../SECURITY.md");
    let security = std::fs::read_to_string(security).unwrap();
    let is_listed = |target: &str, level: &str| {
        let name = target.split("::").next().unwrap_or_default();
        !name.starts_with("metaxy")
            && security.lines().any(|row| row.contains(&format!("`{name}`")) && row.contains(level))
    };
    let lines = logs.lines().into_iter();
    let shown = lines.filter(|line| forms.iter().any(|form| line.text.contains(form.as_str())));
    let unknown = shown.filter(|line| !is_listed(&line.target, line.level.as_str()));
    unknown.map(|line| format!("{} {}: {}", line.level, line.target, line.text)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_shown_or_logged() {
    if process::told().is_none() {
        let mut second = process::second("secrets::no_secret_is_shown_or_logged", "");
        // Without keys, a store on S3 would ask for some in its network.
        second.envs([("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_REGION", "eu")]);
        second.envs([("AWS_ENDPOINT_URL", format!("http://{NOWHERE}")), ("AWS_ALLOW_HTTP", "true".to_owned())]);
        process::assert_passes(&mut second);
        return;
    }
    let logs = logs::capture();
    let home = tempfile::tempdir().unwrap();
    let (mut said, mut opened) = (Said(Vec::new()), 0);
    for store in STORES {
        let before = said.0.len();
        opened += usize::from(use_store(&config(store, home.path()), &mut said).await);
        assert!(said.0.len() > before, "{store}");
    }
    assert!(opened >= 3 && !logs.lines().is_empty(), "{opened} stores have been opened");
    let forms = logs::forms(SECRET);
    let shown: Vec<_> = said.0.iter().filter(|text| forms.iter().any(|form| text.contains(form.as_str()))).collect();
    assert!(shown.is_empty(), "{shown:#?}");
    let logged = lines_with(&logs, &forms);
    assert!(logged.is_empty(), "{logged:#?}");
}
