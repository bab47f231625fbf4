//! Definitions that one program pushes to a store, and the other loads from it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use metaxy_core::definitions::PushedDefinition;
use metaxy_core::{
    AccessMode, FeatureDep, FeatureGraph, FeatureSpec, FieldSpec, FieldsMapping, Lineage, MetadataStore, MetaxyConfig,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Conversation, Program, Python};

const STEPS: &str = include_str!("pushes.py");

/// The project of the definitions.
const FILMS: &str = "films";

/// A directory with one `metaxy.toml`, and two generations of the definitions of a project: they have every kind of
/// dependency.
#[derive(Debug)]
pub struct Pushes {
    python: Mutex<Conversation>,
    generations: [FeatureGraph; 2],
    directory: TempDir,
}

impl Pushes {
    /// Creates a project with this entry of a `metaxy.toml` as its default store; `${HOME}` in it is the project's
    /// directory.
    ///
    /// # Panics
    /// If the directory cannot be written.
    pub fn new(python: &Python, config: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = config.replace("${HOME}", &directory.path().display().to_string());
        std::fs::write(directory.path().join("metaxy.toml"), config).expect("the file is written");
        let generations = ["1", "2"].map(|version| graph(version).expect("a graph"));
        for (number, graph) in generations.iter().enumerate() {
            let specs: Vec<Value> = graph
                .topological_order()
                .iter()
                .map(|key| serde_json::to_value(graph.spec(key).expect("it is in the graph")).expect("specs are JSON"))
                .collect();
            let text = serde_json::to_string(&specs).expect("specs are JSON");
            std::fs::write(directory.path().join(file(number)), text).expect("the file is written");
        }
        Self { python: Mutex::new(python.start(directory.path(), STEPS)), generations, directory }
    }

    /// Lets both programs push and load definitions in turns.
    ///
    /// # Panics
    /// If one of them does not load what the other has pushed, pushes it again, or writes it in other bytes.
    pub async fn take_turns(&self, first: Program) {
        let second = first.other();
        self.pushes(first, second, 0, 1).await;
        self.pushes(second, first, 1, 2).await;
        self.pushes(first, second, 0, 3).await;
        // The same definitions by the other program.
        assert!(!self.push(second, 0, "other").await, "another project");
        let store = self.store().await;
        let version = self.generations[0].project_version();
        let newest = |rows: Vec<PushedDefinition>| -> BTreeMap<String, PushedDefinition> {
            rows.into_iter().rev().map(|row| (row.feature.to_string(), row)).collect()
        };
        let rows = async |project: &str| {
            let rows = store.definitions().project(project).project_version(version).history().await;
            newest(rows.expect("rows"))
        };
        let (one, other) = (rows(FILMS).await, rows("other").await);
        assert_eq!(one.len(), self.generations[0].features().count());
        for (key, row) in &one {
            let other = &other[key];
            assert_eq!(row.spec_json, other.spec_json, "{key}: {first:?} and {second:?}");
            assert_eq!(row.schema_json, other.schema_json, "{key}");
            assert_eq!(row.feature_version, other.feature_version, "{key}");
            assert_eq!(row.definition_version, other.definition_version, "{key}");
        }
        store.close().await.expect("the store closes");
        self.python_reads(one.values().next().expect("a row")).await;
    }

    /// Checks that the second program finds what the first one pushes, and that both load it; so many pushes of the
    /// project are stored then.
    async fn pushes(&self, first: Program, second: Program, generation: usize, pushes: usize) {
        assert!(!self.push(first, generation, FILMS).await, "{first:?} pushes");
        for program in [second, first] {
            assert!(self.push(program, generation, FILMS).await, "{program:?} pushes what {first:?} has pushed");
            self.loads(program, generation).await;
        }
        let store = self.store().await;
        let found = store.definitions().project(FILMS).pushes().await.expect("pushes");
        store.close().await.expect("the store closes");
        assert_eq!(found.len(), pushes, "{first:?}");
        let tags = found[0].definitions[0].tags().expect("tags");
        assert_eq!(tags["run"], json!({"by": format!("{first:?}"), "text": "é"}), "{tags:?}");
    }

    /// Pushes a generation, and returns whether it was pushed already; then nothing may be recorded.
    async fn push(&self, by: Program, generation: usize, project: &str) -> bool {
        let graph = &self.generations[generation];
        let run = json!({"by": format!("{by:?}"), "text": "é"});
        match by {
            Program::Rust => {
                let store = self.store().await.with_graph(graph.clone()).expect("no collisions");
                let pushed = store.push([("run", run)]).project(project).await.expect("a push");
                store.close().await.expect("the store closes");
                assert_eq!(pushed.project_version, graph.project_version());
                assert_eq!(pushed.features.is_empty(), pushed.already_pushed, "{pushed:?}");
                pushed.already_pushed
            }
            Program::Python => {
                let answer = self.step(json!(["push", file(generation), project, {"run": run}]));
                assert_eq!(answer[0], graph.project_version());
                assert_eq!(answer[2], json!([]), "{answer}");
                answer[1].as_bool().expect("a boolean")
            }
        }
    }

    /// Checks that a program loads a generation.
    async fn loads(&self, by: Program, generation: usize) {
        let expected = &self.generations[generation];
        let versions: BTreeMap<String, String> = match by {
            Program::Rust => {
                let store = self.store().await;
                let loaded = store.definitions().project(FILMS).graph().await.expect("a graph");
                store.close().await.expect("the store closes");
                assert_eq!(loaded.project_version(), expected.project_version());
                versions(&loaded)
            }
            Program::Python => {
                let answer = self.step(json!(["load", FILMS]));
                assert_eq!(answer[1], expected.project_version());
                serde_json::from_value(answer[0].clone()).expect("versions")
            }
        };
        assert_eq!(versions, self::versions(expected), "loaded by {by:?}");
    }

    /// Checks that Python reads the values of a row that are read here.
    async fn python_reads(&self, row: &PushedDefinition) {
        let rows = self.step(json!(["rows", row.project, row.project_version]));
        let rows = rows.as_array().expect("rows");
        let is_it = |theirs: &&Value| {
            theirs["feature_key"] == row.feature.to_string() && theirs["recorded_at"] == row.recorded_at_text()
        };
        let theirs = rows.iter().find(is_it).unwrap_or_else(|| panic!("{row:?} is not in {rows:?}"));
        assert_eq!(theirs["feature_spec"], row.spec_json);
        assert_eq!(theirs["tags"], row.tags_json.clone().expect("tags"));
        assert_eq!(theirs["deleted_at"], "None");
    }

    /// Opens the store in this program. It must be closed again, because another process cannot always open it at the
    /// same time.
    async fn store(&self) -> MetadataStore {
        let config = MetaxyConfig::loader().directory(self.directory.path()).load().expect("a configuration");
        let graph = config.graph_builder().build().expect("an empty graph");
        config.open_default_store(graph, AccessMode::ReadWrite).await.expect("the store opens")
    }

    /// Returns the project's directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn step(&self, step: Value) -> Value {
        let answer = self.python.lock().unwrap_or_else(PoisonError::into_inner).ask(&step.to_string());
        serde_json::from_str(&answer).expect("JSON")
    }
}

fn file(generation: usize) -> String {
    format!("features-{generation}.json")
}

fn versions(graph: &FeatureGraph) -> BTreeMap<String, String> {
    graph.features().map(|plan| (plan.spec.key.to_string(), plan.feature_version.clone())).collect()
}

/// Returns definitions with every kind of dependency, with a code version of the root.
fn graph(version: &str) -> metaxy_core::Result<FeatureGraph> {
    let spec = |key: &str| FeatureSpec::builder(key).id_columns(["id"]);
    let key = |key: &str| key.parse::<metaxy_core::FieldKey>();
    let mapping = [(key("text")?, [key("frames")?, key("audio")?].into()), (key("a")?, [key("sub/titles")?].into())];
    let video = FeatureDep::new("raw/video")
        .select(["z", "y"])
        .rename("zz", "z")
        .rename("aa", "y")
        .filter("size > 1")
        .filter("path = 'é'")
        .fields_mapping(FieldsMapping::Specific(mapping.into()))
        .lineage(Lineage::expansion(["id"]));
    let fields_mapping = FieldsMapping::Default { match_suffix: true, exclude_fields: vec![key("z")?] };
    let text = FeatureDep::new("raw/text").select([""; 0]).fields_mapping(fields_mapping).optional();
    let audio = FieldSpec::new("audio").code_version(version);
    FeatureGraph::new([
        spec("raw/video").field(audio).fields(["frames", "sub/titles"]).metadata("owner", "ü").build()?,
        spec("raw/text").fields(["audio", "z"]).description("Titles: 日本🙂\n\"\\\u{7f}").build()?,
        FeatureSpec::builder("made/clip-one")
            .id_columns(["id", "n"])
            .deps([video, text])
            .field(FieldSpec::new("text").code_version("2"))
            .field("a")
            .field(FieldSpec::new("b").depends_on("raw/video", ["sub/titles", "audio"]).depends_on_all_of("raw/text"))
            .field(FieldSpec::new("c").depends_on_everything())
            .metadata("z", json!([1, 1.0, 1e-7, 1e22, 0.1, null, true]))
            .metadata("a", json!({"y": "é", "b": {}}))
            .build()?,
        spec("made/group")
            .dep(FeatureDep::new("made/clip-one").select([""; 0]).lineage(Lineage::aggregation(["id"])))
            .dep(FeatureDep::new("raw/text").select([""; 0]).fields_mapping(FieldsMapping::None))
            .field("f")
            .build()?,
    ])
}
