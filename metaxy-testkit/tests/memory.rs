//! The in-memory backend passes the suite; and the suite follows its environment variables.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use metaxy_core::backend::SharedBackend;
use metaxy_testkit::conformance::CASES;
use metaxy_testkit::memory::MemoryBackend;
use metaxy_testkit::scenario::Scenario;
use metaxy_testkit::{Location, Result};

struct Memory(String);

#[async_trait]
impl Location for Memory {
    async fn backend(&self) -> Result<SharedBackend> {
        Ok(Arc::new(MemoryBackend::named(&self.0)))
    }

    fn settings(&self) -> toml::Table {
        toml::Table::from_iter([("name".to_owned(), self.0.clone().into())])
    }
}

async fn memory() -> Result<Memory> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    Ok(Memory(format!("memory-{}", NEXT.fetch_add(1, Ordering::SeqCst))))
}

metaxy_testkit::conformance!(conformance, memory);

/// Runs tests of this binary in a process with another environment; returns whether they pass, and their output.
fn run_again(tests: &str, variable: &str, path: &Path) -> (bool, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .arg(tests)
        .env_remove("METAXY_CONFORMANCE_REPORT")
        .env_remove("METAXY_SCENARIOS")
        .env(variable, path)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), text)
}

#[test]
fn the_report_is_a_table() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.md");
    for group in ["conformance::lineage", "conformance::tables::long_keys", "conformance::history"] {
        let (passed, said) = run_again(group, "METAXY_CONFORMANCE_REPORT", &file);
        assert!(passed, "{said}");
    }
    let table = std::fs::read_to_string(&file).unwrap();
    let [history, lineage] =
        ["history", "lineage"].map(|group| CASES.iter().filter(|case| case.group == group).count());
    let expected = format!(
        "| backend | tables | history | lineage | seconds |\n|---|---|---|---|---|\n| memory | 1 | {history} | {lineage} | "
    );
    let seconds = table.strip_prefix(&expected).unwrap_or_else(|| panic!("{table}"));
    seconds.trim_end_matches(" |\n").parse::<u32>().unwrap();
}

#[test]
fn scenarios_come_from_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let recorded = std::fs::read_dir(recorded).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(recorded).unwrap();
    std::fs::write(directory.path().join("mine.json"), &text).unwrap();
    let (passed, said) = run_again("conformance::scenarios::external", "METAXY_SCENARIOS", directory.path());
    assert!(passed, "{said}");
    // The same with a result that no engine can return.
    let mut wrong: Scenario = serde_json::from_str(&text).unwrap();
    wrong.definitions.project_version = Some("another".to_owned());
    std::fs::write(directory.path().join("wrong.json"), serde_json::to_string(&wrong).unwrap()).unwrap();
    let (passed, said) = run_again("conformance::scenarios::external", "METAXY_SCENARIOS", directory.path());
    assert!(!passed && said.contains("wrong.json") && !said.contains("mine.json"), "{said}");
}
