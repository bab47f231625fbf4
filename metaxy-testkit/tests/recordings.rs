//! Keys, versions and hashes, compared with the recordings of the reference.

use std::collections::BTreeMap;
use std::path::Path;

use metaxy_core::hash::RowHasher;
use metaxy_core::{FeatureGraph, HashAlgorithm};
use metaxy_testkit::scenario::{Definitions, Scenario, Step, Versions};

fn scenarios() -> Vec<Scenario> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.map(|file| serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()).collect()
}

/// Returns the definitions at the start of a scenario, and all later ones.
fn definitions(scenario: &Scenario) -> impl Iterator<Item = &Definitions> {
    let later = scenario.steps.iter().filter_map(|step| match step {
        Step::Redefine(definitions) => Some(definitions),
        _ => None,
    });
    std::iter::once(&scenario.definitions).chain(later)
}

fn graphs() -> impl Iterator<Item = (String, Definitions, FeatureGraph)> {
    scenarios().into_iter().flat_map(|scenario| {
        let graph = |definitions: &Definitions| definitions.graph(scenario.hash_truncation_length).unwrap();
        definitions(&scenario)
            .map(|definitions| (scenario.name.clone(), definitions.clone(), graph(definitions)))
            .collect::<Vec<_>>()
    })
}

#[test]
fn there_are_39_recordings() {
    assert_eq!(scenarios().len(), 39);
}

#[test]
fn versions_of_every_feature_are_as_recorded() {
    let mut checked = 0;
    for (name, definitions, graph) in graphs() {
        for (feature, expected) in &definitions.versions {
            assert_eq!(&Versions::of(&graph, feature).unwrap(), expected, "{name}: {feature}");
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} features have recorded versions");
}

#[test]
fn project_versions_are_as_recorded() {
    for (name, definitions, graph) in graphs() {
        assert_eq!(Some(graph.project_version()), definitions.project_version.as_deref(), "{name}");
    }
}

#[test]
fn the_json_form_of_a_spec_reads_back() {
    for (name, definitions, _) in graphs() {
        for spec in definitions.features {
            let read = metaxy_core::FeatureSpec::from_json(&spec.to_json()).unwrap();
            assert_eq!(read, spec, "{name}");
        }
    }
}

#[test]
fn row_hashes_are_as_recorded() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("hash_vectors.json")).unwrap();
    let vectors: Vec<BTreeMap<String, String>> = serde_json::from_str(&text).unwrap();
    assert!(!vectors.is_empty());
    for vector in vectors {
        let input = &vector["input"];
        for algorithm in HashAlgorithm::ALL {
            let full = &vector[algorithm.name()];
            assert_eq!(&RowHasher::new(algorithm, 64).unwrap().hash(input), full, "{algorithm} of {input:?}");
            let cut: String = full.chars().take(8).collect();
            assert_eq!(RowHasher::new(algorithm, 8).unwrap().hash(input), cut, "{algorithm} of {input:?}, cut");
        }
    }
}
