//! The recorded scenarios, and the stores that the Python package wrote, through the command: every step is a process.

use std::fs::File;

use arrow::ipc::writer::FileWriter;
use metaxy_testkit::scenario::{
    Definitions, Expected, Read, Resolve, Row, Samples, Scenario, Step, compare, record_batch,
};

use crate::support::Project;

#[cfg(feature = "sqlite")]
#[test]
fn on_sqlite() {
    all_scenarios("sqlite", "database = \"metaxy.db\"");
}

#[cfg(feature = "delta")]
#[test]
fn on_delta() {
    all_scenarios("delta", "root_path = \"data\"");
}

/// The definitions come from the store; there is no feature file.
#[cfg(feature = "delta")]
#[test]
fn a_delta_store_of_the_python_package() {
    let store = concat!(env!("CARGO_MANIFEST_DIR"), "/../metaxy-delta/tests/data/store");
    let project = Project::empty();
    project.ok(&format!("cp -r {store} data"));
    answers_as_recorded(&project, "delta", "root_path = \"data\"");
}

#[cfg(feature = "duckdb")]
#[test]
fn a_duckdb_store_of_the_python_package() {
    let store = concat!(env!("CARGO_MANIFEST_DIR"), "/../metaxy-duckdb/tests/data/store.duckdb");
    let project = Project::empty();
    project.ok(&format!("cp {store} store.duckdb"));
    answers_as_recorded(&project, "duckdb", "database = \"store.duckdb\"");
}

#[cfg(feature = "postgres")]
#[test]
fn a_postgres_store_of_the_python_package() {
    let database = metaxy_testkit::servers::postgres::database().unwrap();
    let dump = concat!(env!("CARGO_MANIFEST_DIR"), "/../metaxy-postgres/tests/data/store.postgres.sql");
    database.load(std::path::Path::new(dump)).unwrap();
    let project = Project::empty().with("METAXY_POSTGRES_URL", database.url());
    answers_as_recorded(&project, "postgres", "connection_string = \"${METAXY_POSTGRES_URL}\"");
}

#[cfg(any(feature = "delta", feature = "duckdb", feature = "postgres"))]
fn answers_as_recorded(project: &Project, kind: &str, settings: &str) {
    let recording = metaxy_testkit::fixtures::stores::recording();
    configure(project, &recording, kind, settings, false);
    let listed = project.json("metaxy list features");
    assert_eq!(listed["project_version"].as_str(), recording.definitions.project_version.as_deref());
    for (at, step) in recording.steps.iter().enumerate() {
        play(project, step).unwrap_or_else(|difference| panic!("{kind}, step {}: {difference}", at + 1));
    }
}

fn all_scenarios(kind: &str, settings: &str) {
    let scenarios = Scenario::bundled();
    assert!(!scenarios.is_empty());
    // Most of the time goes into starting processes.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for part in scenarios.chunks(scenarios.len().div_ceil(threads)) {
            scope.spawn(move || part.iter().for_each(|scenario| run(scenario, kind, settings)));
        }
    });
}

fn run(scenario: &Scenario, kind: &str, settings: &str) {
    let project = Project::empty();
    configure(&project, scenario, kind, settings, true);
    define(&project, &scenario.definitions);
    // A store that does not exist cannot be read.
    project.ok("metaxy push --project scenario");
    for (at, step) in scenario.steps.iter().enumerate() {
        let played = play(&project, step);
        played.unwrap_or_else(|difference| panic!("{}, step {} ({}): {difference}", scenario.name, at + 1, step.op()));
    }
}

/// Writes metaxy.toml.
fn configure(project: &Project, scenario: &Scenario, kind: &str, settings: &str, with_files: bool) {
    let features = if with_files { "ext.rust.features = [\"features.json\"]\n" } else { "" };
    let Scenario { hash_algorithm, hash_truncation_length, .. } = scenario;
    let config = format!(
        "hash_truncation_length = {hash_truncation_length}\n{features}[stores.dev]\ntype = \"{kind}\"\n\
         [stores.dev.config]\n{settings}\nhash_algorithm = \"{hash_algorithm}\"\n"
    );
    project.write("metaxy.toml", &config);
}

fn define(project: &Project, definitions: &Definitions) {
    project.write("features.json", &serde_json::to_string(&definitions.features).unwrap());
}

fn play(project: &Project, step: &Step) -> Result<(), String> {
    match step {
        Step::Write(write) => {
            save(project, &write.samples);
            project.call(&["write", &write.feature, "rows.arrow"]);
        }
        Step::Read(read) => compare("read", &read.expect, &rows(project, &read_arguments(read)))?,
        Step::Delete(delete) => {
            let mut arguments = vec!["delete", delete.feature.as_str(), "--yes"];
            let filters = delete.filters.as_deref().unwrap_or_default();
            filters.iter().for_each(|filter| arguments.extend(["--filter", filter]));
            arguments.extend(filters.is_empty().then_some("--all"));
            arguments.extend((delete.soft == Some(false)).then_some("--hard"));
            project.call(&arguments);
        }
        Step::Resolve(resolve) => play_resolve(project, resolve)?,
        Step::Redefine(definitions) => define(project, definitions),
    }
    Ok(())
}

fn read_arguments(read: &Read) -> Vec<String> {
    let mut arguments = vec!["read".to_owned(), read.feature.clone()];
    for filter in read.filters.iter().flatten() {
        arguments.extend(["--filter".to_owned(), filter.clone()]);
    }
    match &read.columns {
        Some(columns) => arguments.extend(["--columns".to_owned(), columns.join(",")]),
        None => arguments.push("--system".to_owned()),
    }
    let flags = [
        (read.with_feature_history, "--with-feature-history"),
        (read.with_sample_history, "--with-sample-history"),
        (read.include_soft_deleted, "--include-deleted"),
    ];
    arguments.extend(flags.iter().filter(|(set, _)| *set == Some(true)).map(|(_, flag)| (*flag).to_owned()));
    arguments
}

fn play_resolve(project: &Project, resolve: &Resolve) -> Result<(), String> {
    let mut arguments = vec!["resolve".to_owned(), resolve.feature.clone()];
    let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    if let Some(samples) = &resolve.samples {
        save(project, samples);
        add("--samples", "rows.arrow".to_owned());
    }
    for (feature, filters) in resolve.filters.iter().flatten() {
        filters.iter().for_each(|filter| add("--filter", format!("{feature}:{filter}")));
    }
    resolve.target_filters.iter().flatten().for_each(|filter| add("--target-filter", filter.clone()));
    resolve.global_filters.iter().flatten().for_each(|filter| add("--global-filter", filter.clone()));
    resolve.staleness_predicates.iter().flatten().for_each(|filter| add("--stale-if", filter.clone()));
    if resolve.skip_comparison == Some(true) {
        arguments.push("--skip-comparison".to_owned());
    }
    let Expected { new, stale, orphaned } = &resolve.expect;
    for (kind, expected) in [("new", new), ("stale", stale), ("orphaned", orphaned)] {
        let only = ["--only".to_owned(), kind.to_owned()];
        let arguments: Vec<String> = arguments.iter().cloned().chain(only).collect();
        compare(kind, expected, &rows(project, &arguments))?;
    }
    Ok(())
}

/// Returns the rows that a command prints, without the system columns that no recording has.
fn rows(project: &Project, arguments: &[String]) -> Vec<Row> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--format", "json"]).collect();
    let mut rows: Vec<Row> = serde_json::from_str(&project.call(&arguments)).unwrap();
    let is_recorded =
        |name: &str| !metaxy_core::columns::is_system(name) || metaxy_core::columns::VERSIONS.contains(&name);
    rows.iter_mut().for_each(|row| row.retain(|name, _| is_recorded(name)));
    rows
}

fn save(project: &Project, samples: &Samples) {
    let batch = record_batch(samples).unwrap();
    let mut file = FileWriter::try_new(File::create(project.path("rows.arrow")).unwrap(), batch.schema_ref()).unwrap();
    file.write(&batch).unwrap();
    file.finish().unwrap();
}
