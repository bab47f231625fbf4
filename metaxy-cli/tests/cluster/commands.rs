//! The commands `scheduler` and `executor`, and the setting of stores.

use std::path::Path;
use std::process::Command;

use metaxy_core::{AccessMode, Error, MetadataStore, VersioningEngine};

use crate::processes::{Cluster, Process, free_port};
use crate::tables::{backend, expected, fill, graph, store};

/// Returns the examples in the help of a command.
fn examples(command: &str) -> Vec<String> {
    let help = Command::new(env!("CARGO_BIN_EXE_metaxy")).args([command, "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let below = help.lines().skip_while(|line| !line.starts_with("Examples:")).skip(1);
    below.take_while(|line| !line.is_empty()).map(|line| line.trim().to_owned()).collect()
}

/// Runs an example with free ports in place of its own.
fn start(example: &str, ports: &[(&str, u16)], log: &Path) -> Process {
    let arguments = example.strip_prefix("metaxy ").unwrap();
    let arguments = ports.iter().fold(arguments.to_owned(), |text, (from, to)| text.replace(from, &to.to_string()));
    Process::start(&arguments, &[], log.to_owned())
}

#[test]
fn examples_run_and_end_with_ctrl_c() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let schedulers = examples("scheduler");
    assert!(schedulers.len() > 1, "{schedulers:?}");
    for example in &schedulers[1..] {
        let mut process = start(example, &[("50060", free_port())], &log);
        process.wait_for("(Ctrl-C stops it)");
        assert!(process.interrupt().success(), "{}", process.log());
    }
    let port = free_port();
    let example = format!("{} --port {port}", schedulers[0]);
    let mut scheduler = start(&example, &[], &log);
    scheduler.wait_for("(Ctrl-C stops it)");
    for (number, example) in examples("executor").iter().enumerate() {
        let log = directory.path().join(format!("executor{number}"));
        let mut process = start(&format!("{example} -v"), &[("50050", port), ("50061", free_port())], &log);
        process.wait_for("Starting built-in arrow flight service");
        assert!(process.interrupt().success(), "{}", process.log());
    }
    assert!(scheduler.interrupt().success(), "{}", scheduler.log());
}

#[test]
fn an_executor_says_that_its_scheduler_is_not_there() {
    let port = free_port();
    let ended = Command::new(env!("CARGO_BIN_EXE_metaxy"))
        .args(["executor", "--scheduler", &format!("127.0.0.1:{port}")])
        .output()
        .unwrap();
    let text = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(3), "{text}");
    assert!(text.contains("metaxy scheduler") && text.contains(&port.to_string()), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_arrow_engine_is_refused_beside_a_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let backend = backend(&directory.path().display().to_string(), &Default::default(), Some("df://127.0.0.1:1"));
    let builder = MetadataStore::builder(backend, graph()).versioning_engine(VersioningEngine::Arrow);
    let error = builder.open(AccessMode::ReadWrite).await.unwrap_err();
    assert!(matches!(&error, Error::Config { key, .. } if key == "versioning_engine"), "{error:?}");
}

/// `metaxy resolve` uses the cluster of the store.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_resolves_on_the_cluster() {
    let cluster = Cluster::start(1, "-v");
    let directory = tempfile::tempdir().unwrap();
    fill(&store(&directory.path().join("store"), None).await, 400).await;
    let features = ["left", "right"].map(|key| {
        format!("[[feature]]\nkey = \"{key}\"\nid_columns = [\"id\"]\nfields = [{{ key = \"default\" }}]\n")
    });
    let both = "[[feature]]\nkey = \"both\"\nid_columns = [\"id\"]\ndeps = [{ feature = \"left\" }, { feature = \"right\" }]\n";
    std::fs::write(directory.path().join("features.toml"), features.concat() + both).unwrap();
    let config = format!(
        "store = \"dev\"\nfeatures = [\"features.toml\"]\n\n[stores.dev]\ntype = \"delta\"\n\n[stores.dev.config]\n\
         root_path = \"store\"\nscheduler = \"{}\"\n",
        cluster.url()
    );
    std::fs::write(directory.path().join("metaxy.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_metaxy"));
    let command = command.args(["resolve", "both", "--format", "json"]).current_dir(directory.path());
    let ended = tokio::task::block_in_place(|| command.output().unwrap());
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success(), "{text} {}", String::from_utf8_lossy(&ended.stderr));
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    let counts = ["new", "stale", "orphaned"].map(|kind| found[kind].as_u64().unwrap() as usize);
    assert_eq!(counts, expected(400));
    cluster.scheduler.wait_for("Job finished successfully");
}
