//! Logs and messages of stores on S3 that are opened, written, read and fail: these crates show no secret, and secrets
//! that dependencies show are listed in SECURITY.md.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use metaxy_core::{AccessMode, Error, FeatureGraph, FeatureSpec, MetadataStore, StoreBackend};
use metaxy_delta::{DeltaBackend, DeltaConfig};
use metaxy_testkit::fixtures::tables;
use metaxy_testkit::logs::{self, Line};
use metaxy_testkit::process;
use metaxy_testkit::servers::s3::{self, Bucket, Fault};

use crate::{key, on_s3, rows};

const KEY: &str = "AWS_SECRET_ACCESS_KEY";
const ENDPOINT: &str = "AWS_ENDPOINT_URL";
const TOKEN: &str = "session/Token+0123456789==";
const PASSWORD: &str = "p4ss/W0rd+of@the:proxy";
const SIGNATURE: &str = "sig/Of+A+Shared%Access&Signature=";

/// The kinds of errors that occur here.
const KINDS: [&str; 5] = ["AccessDenied", "Backend", "Config", "FeatureNotFound", "Unreachable"];

/// The tables whose first commits the server refuses, and the faults.
const BROKEN: [(&str, &str, Fault); 3] = [
    ("denied", "denied.delta/_delta_log/00000000000000000000.json", Fault::Denied),
    ("broken", "broken.delta/_delta_log/00000000000000000000.json", Fault::Broken),
    ("cut", "cut.delta/_delta_log/00000000000000000000.json", Fault::HangUp),
];

/// The server logs its requests, so it runs in the first process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_logged_or_shown() {
    let Some(told) = process::told() else { return serve().await };
    let given: DeltaConfig = toml::from_str(told.to_str().unwrap()).unwrap();
    let logs = logs::capture();
    let mut said = Vec::new();
    let mut failures = BTreeSet::new();
    for settings in variants(&given) {
        use_store(settings, &mut said, &mut failures).await;
    }
    assert_eq!(failures.into_iter().collect::<Vec<_>>(), KINDS);
    let secrets = [given.storage_options[KEY].to_string(), TOKEN.into(), PASSWORD.into(), SIGNATURE.into()];
    let forms: Vec<String> = secrets.iter().flat_map(|secret| logs::forms(secret)).collect();
    let shows = |text: &str| forms.iter().any(|form| text.contains(form.as_str()));
    said.iter().for_each(|text| assert!(!shows(text), "{text}"));
    let lines = logs.lines();
    assert!(lines.iter().any(|line| line.target.starts_with("metaxy_delta")), "these crates have logged nothing");
    let security = Path::new(env!("CARGO_MANIFEST_DIR")).join("../SECURITY.md");
    let security = std::fs::read_to_string(security).unwrap();
    // Secrets that dependencies show are in the table of that file.
    let is_known = |line: &&Line| {
        let name = line.target.split("::").next().unwrap_or_default();
        let is_row = |row: &str| row.contains(&format!("`{name}`")) && row.contains(line.level.as_str());
        !name.starts_with("metaxy") && security.lines().any(is_row)
    };
    let unknown = lines.iter().filter(|line| shows(&line.text) && !is_known(line));
    let unknown: BTreeSet<_> = unknown.map(|line| (&line.target, line.level, &line.text)).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}

/// Starts the second process with a server that refuses some of its requests.
async fn serve() {
    let bucket = s3::bucket().unwrap();
    for (_, commit, fault) in BROKEN {
        bucket.break_requests("PUT", commit, std::iter::repeat_n(fault, 100));
    }
    // Failed removals are only logged.
    bucket.break_requests("DELETE", "", [Fault::Denied, Fault::Broken, Fault::Broken, Fault::HangUp, Fault::HangUp]);
    let given = [("max_retries", "1"), ("retry_timeout", "2s"), ("timeout", "1s"), ("AWS_SESSION_TOKEN", TOKEN)];
    let given = given.into_iter().fold(on_s3(&bucket), |settings, (name, value)| settings.storage_option(name, value));
    let environment = [(ENDPOINT, with_user(&bucket.endpoint())), (KEY, given.storage_options[KEY].to_string())];
    let told = toml::to_string(&given).unwrap();
    let mut second = process::second("secrets::no_secret_is_logged_or_shown", told);
    second.envs(environment).env("AWS_SESSION_TOKEN", TOKEN).env("AWS_ACCESS_KEY_ID", given_id(&bucket));
    tokio::task::spawn_blocking(move || process::assert_passes(&mut second)).await.unwrap();
}

fn given_id(bucket: &Bucket) -> String {
    bucket.storage_options()["AWS_ACCESS_KEY_ID"].clone()
}

/// Percent-encodes every reserved character.
fn encoded(text: &str) -> String {
    let escaped = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escaped).collect()
}

fn with_user(url: &str) -> String {
    url.replacen("://", &format!("://ada:{}@", encoded(PASSWORD)), 1)
}

/// Returns settings with the secrets in all possible places.
fn variants(given: &DeltaConfig) -> Vec<DeltaConfig> {
    let endpoint = |url: &str| given.clone().storage_option(ENDPOINT, url);
    let dead = s3::dead_endpoint().unwrap();
    let rooted = |root_path: String| {
        let mut settings = given.clone();
        settings.root_path = root_path;
        settings
    };
    let mut from_environment = given.clone();
    from_environment.storage_options.retain(|name, _| ![KEY, ENDPOINT, "AWS_SESSION_TOKEN"].contains(&name.as_str()));
    let signature = format!("sv=1&sig={}", encoded(SIGNATURE));
    vec![
        given.clone(),
        given.clone().storage_option("AWS_SESSION_TOKEN", TOKEN.repeat(2)),
        given.clone().storage_option(KEY, format!("{}/{SIGNATURE}", given.storage_options[KEY])),
        endpoint(&with_user(&given.storage_options[ENDPOINT].to_string())),
        endpoint(&with_user(&dead)),
        endpoint(&format!("{dead}/?{signature}")),
        endpoint(&with_user("http://no such host")),
        rooted(format!("{}?{signature}", given.root_path)),
        rooted(with_user(&given.root_path)),
        from_environment,
    ]
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::AccessDenied { .. } => "AccessDenied",
        Error::Backend { .. } => "Backend",
        Error::Config { .. } => "Config",
        Error::FeatureNotFound { .. } => "FeatureNotFound",
        Error::Unreachable { .. } => "Unreachable",
        _ => "another",
    }
}

/// Makes all calls that may fail, and records all messages and kinds of errors.
async fn use_store(settings: DeltaConfig, said: &mut Vec<String>, failures: &mut BTreeSet<&str>) {
    said.push(format!("{settings:?}"));
    let mut fail = |error: Error| {
        failures.insert(kind(&error));
        let sources = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        said.extend(sources.flat_map(|error| [error.to_string(), format!("{error:?} {error:#?}")]));
    };
    let backend = match DeltaBackend::new(settings) {
        Ok(backend) => backend,
        Err(error) => return fail(error),
    };
    let shown = format!("{backend:?} {:?}", backend.info());
    let graph = FeatureSpec::builder("t").id_columns(["id"]).build().and_then(|spec| FeatureGraph::new([spec]));
    match MetadataStore::builder(backend, graph.unwrap()).open(AccessMode::ReadWrite).await {
        Ok(store) => {
            let backend = store.backend();
            for table in ["t", "denied", "broken", "cut", "t"] {
                let key = key(table);
                tables::append(&**backend, table, rows(0..10)).await.unwrap_or_else(&mut fail);
                tables::read(&**backend, table).await.map_or_else(&mut fail, drop);
                backend.compact(&key).await.unwrap_or_else(&mut fail);
                backend.vacuum(&key, Duration::ZERO).await.map_or_else(&mut fail, drop);
                backend.drop_table(&key).await.unwrap_or_else(&mut fail);
            }
            backend.tables().await.map_or_else(&mut fail, drop);
            said.push(format!("{store:?} {shown}"));
        }
        Err(error) => fail(error),
    }
}
