//! Graphs of feature files have the versions that the Python package has recorded, and both programs read one
//! `metaxy.toml`.

use std::path::{Path, PathBuf};
use std::process::Command;

use metaxy_core::config::{Environment, MetaxyConfig};
use metaxy_core::{FeatureGraph, FeatureSpec};
use serde_json::{Map, Value, json};

/// Definitions, and the versions that the Python package gives them.
struct Recording {
    name: String,
    features: Vec<Value>,
    versions: Map<String, Value>,
    project_version: String,
    truncation: u64,
}

/// Returns the recordings of all scenarios, one for every definition of the features.
fn recordings() -> Vec<Recording> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../metaxy-testkit/scenarios");
    let further = std::env::var_os("METAXY_SCENARIOS").map(PathBuf::from);
    let directories = std::iter::once(own).chain(further);
    let files =
        directories.flat_map(|directory| std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()));
    files
        .filter(|file| file.extension().is_some_and(|extension| extension == "json"))
        .flat_map(|file| of_file(&file))
        .collect()
}

fn of_file(file: &Path) -> Vec<Recording> {
    let scenario: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let redefined = scenario["steps"].as_array().unwrap().iter().filter(|step| step["op"] == "redefine");
    let recording = |(index, of): (usize, &Value)| Recording {
        name: format!("{} {index}", file.display()),
        features: of["features"].as_array().unwrap().clone(),
        versions: of["versions"].as_object().unwrap().clone(),
        project_version: of["project_version"].as_str().unwrap().to_owned(),
        truncation: scenario["hash_truncation_length"].as_u64().unwrap_or(8),
    };
    std::iter::once(&scenario).chain(redefined).enumerate().map(recording).collect()
}

impl Recording {
    /// Returns the graph of one feature file, which the configuration names.
    fn graph(&self, name: &str, text: &str) -> FeatureGraph {
        let directory = tempfile::tempdir().unwrap();
        let config = format!("hash_truncation_length = {}\nfeatures = ['features/*']", self.truncation);
        std::fs::write(directory.path().join("metaxy.toml"), config).unwrap();
        std::fs::create_dir(directory.path().join("features")).unwrap();
        std::fs::write(directory.path().join("features").join(name), text).unwrap();
        let loader = MetaxyConfig::loader().directory(directory.path()).environment(Environment::empty());
        loader.load().unwrap().graph().unwrap_or_else(|error| panic!("{}:\n{error}\n{text}", self.name))
    }

    fn check(&self, graph: &FeatureGraph) {
        assert_eq!(graph.features().count(), self.versions.len(), "{}", self.name);
        assert_eq!(graph.project_version(), self.project_version, "{}", self.name);
        for plan in graph.features() {
            let fields = plan.field_versions.iter().map(|(key, version)| (key.to_string(), json!(version)));
            let found = json!({
                "feature_version": plan.feature_version,
                "fields": fields.collect::<Map<_, _>>(),
                "code_version": plan.code_version,
                "spec_version": plan.spec_version,
                "definition_version": plan.definition_version,
                "table_name": plan.spec.key.table_name(),
            });
            assert_eq!(found, self.versions[&plan.spec.key.to_string()], "{}: {}", self.name, plan.spec.key);
        }
    }
}

/// Removes what TOML does not have. Every null of a definition stands for a key that is left out.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// Returns a definition as a person writes it.
fn shortened(feature: &Value) -> Value {
    let mut feature = without_nulls(feature);
    let members = feature.as_object_mut().unwrap();
    members.retain(|key, value| !(["deps", "metadata"].contains(&key.as_str()) && is_empty(value)));
    for list in ["deps", "fields"] {
        let shorten = if list == "deps" { short_dep } else { short_field };
        members.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().for_each(shorten);
    }
    feature
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}

fn short_dep(dep: &mut Value) {
    let Some(members) = dep.as_object_mut() else { return };
    for (key, envelope) in [("lineage", "relationship"), ("fields_mapping", "mapping")] {
        let Some(mut inner) = members.remove(key).map(|outer| outer[envelope].clone()) else { continue };
        let inner_members = inner.as_object_mut().unwrap();
        inner_members.retain(|_, value| *value != json!(false) && !value.as_array().is_some_and(Vec::is_empty));
        let word = inner_members["type"].clone();
        match inner_members.len() {
            1 if word == "1:1" || word == "default" => {}
            1 => drop(members.insert(key.to_owned(), word)),
            _ => drop(members.insert(key.to_owned(), inner)),
        }
    }
    if let Some(filters) = members.remove("sql_filters") {
        members.insert("filters".to_owned(), filters);
    }
    members.retain(|key, value| !(key == "optional" && *value == false));
    if members.len() == 1 {
        *dep = members["feature"].clone();
    }
}

fn short_field(field: &mut Value) {
    let Some(members) = field.as_object_mut() else { return };
    members.retain(|_, value| *value != "__metaxy_initial__" && !is_empty(value));
    match members.get_mut("deps") {
        Some(Value::Array(deps)) => deps.iter_mut().for_each(short_field_dep),
        Some(all) => *all = json!("all"),
        None => {}
    }
    if members.len() == 1 {
        *field = members["key"].clone();
    }
}

fn short_field_dep(dep: &mut Value) {
    let feature = dep["feature"].as_str().unwrap().to_owned();
    match &dep["fields"] {
        Value::String(_) => *dep = json!(feature),
        Value::Array(fields) if fields.len() == 1 => *dep = json!(format!("{feature}.{}", fields[0].as_str().unwrap())),
        _ => {}
    }
}

fn toml_of(features: &[Value]) -> String {
    let table: toml::Table = serde_json::from_value(json!({ "feature": features })).unwrap();
    toml::to_string(&table).unwrap()
}

#[test]
fn versions_equal_the_recorded_ones() {
    let recordings = recordings();
    assert!(recordings.len() >= 39, "{} recordings", recordings.len());
    let mut shorter = 0;
    for recording in &recordings {
        let file = json!({ "features": recording.features });
        recording.check(&recording.graph("all.json", &file.to_string()));
        recording.check(&recording.graph("all.json", &serde_json::to_string_pretty(&recording.features).unwrap()));
        let long: Vec<Value> = recording.features.iter().map(without_nulls).collect();
        recording.check(&recording.graph("all.toml", &toml_of(&long)));
        let short: Vec<Value> = recording.features.iter().map(shortened).collect();
        recording.check(&recording.graph("all.toml", &toml_of(&short)));
        recording.check(&recording.graph("all.json", &json!({ "feature": short }).to_string()));
        shorter += usize::from(toml_of(&short).len() * 2 < toml_of(&long).len());
    }
    assert!(shorter >= 30, "{shorter} files have half of their length");
}

// ---- the Python package --------------------------------------------------------------------------------------------

const SHARED: &str = "\
project = \"films\"

[ext.rust]
features = [\"features/*.toml\"]

[stores.dev]
type = \"metaxy.ext.delta.DeltaMetadataStore\"
config.root_path = \"/nowhere\"
";

const FILE: &str = "\
[[feature]]
key = \"raw/video\"
id_columns = [\"video_id\"]
fields = [\"audio\", { key = \"frames\", code_version = \"2\" }]

[[feature]]
key = \"processed/transcript\"
id_columns = [\"video_id\", \"chunk\"]
description = \"Ünï 🙂\"
deps = [{ feature = \"raw/video\", lineage = { type = \"1:N\", on = [\"video_id\"] }, filters = [\"length > 3\"], rename = { path = \"file\" } }]
fields = [{ key = \"text\", deps = [\"raw/video.audio\"] }, { key = \"all\", deps = \"all\" }]
metadata = { owner = \"speech\", limits = [1, 2.5, true] }
";

/// Runs a script of Python; `None` if there is no Python with the package.
fn python(script: &str, arguments: &[&Path]) -> Option<Result<String, String>> {
    let Some(python) = std::env::var_os("METAXY_REFERENCE_PYTHON") else {
        eprintln!("not tested: METAXY_REFERENCE_PYTHON names no Python with the package");
        return None;
    };
    let output = Command::new(python).args(["-c", script]).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
}

#[test]
fn the_python_package_reads_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, own) = (directory.path().join("metaxy.toml"), directory.path().join("own.toml"));
    std::fs::write(&shared, SHARED).unwrap();
    std::fs::write(&own, "features = [\"features/*.toml\"]").unwrap();
    std::fs::create_dir(directory.path().join("features")).unwrap();
    std::fs::write(directory.path().join("features/all.toml"), FILE).unwrap();
    let config = MetaxyConfig::loader().environment(Environment::empty()).file(&shared).load().unwrap();
    assert_eq!(config.graph().unwrap().features().count(), 2);
    let printed = directory.path().join("printed.toml");
    std::fs::write(&printed, config.to_toml().unwrap()).unwrap();

    let load = "import sys, metaxy\nfor name in sys.argv[1:]: print(metaxy.MetaxyConfig.load(name).project)";
    let Some(read) = python(load, &[&shared, &printed]) else { return };
    assert_eq!(read.unwrap(), "films\nfilms\n");
    // Why the documentation recommends `[ext.rust]`.
    let refused = python(load, &[&own]).unwrap().unwrap_err();
    assert!(refused.contains("Extra inputs are not permitted"), "{refused}");
}

#[test]
fn the_python_package_gives_the_same_versions() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("all.toml");
    std::fs::write(&file, FILE).unwrap();
    let files = metaxy_core::FeatureFiles::read([&file]);
    let graph = files.graph(FeatureGraph::builder()).unwrap();
    let specs = directory.path().join("specs.json");
    let texts: Vec<String> = files.specs().unwrap().into_iter().map(FeatureSpec::to_json).collect();
    std::fs::write(&specs, format!("[{}]", texts.join(","))).unwrap();
    let script = "\
import json, sys
from metaxy.models.feature_spec import FeatureSpec
for spec in json.load(open(sys.argv[1])):
    print(FeatureSpec.model_validate(spec).feature_spec_version)";
    let Some(versions) = python(script, &[&specs]) else { return };
    let versions = versions.unwrap();
    let expected = ["raw/video", "processed/transcript"].map(|key| graph.plan(key).unwrap().spec_version.clone());
    let found: Vec<&str> = versions.lines().map(|version| &version[..8]).collect();
    assert_eq!(found, expected);
}
