//! The README tells the truth: its story runs, and JSON has the keys that it documents.

#![cfg(feature = "sqlite")]

use std::collections::BTreeSet;

use serde_json::Value;

use crate::help::listed;
use crate::support::{CLIPS, Project, VERSIONS, VIDEOS};

const README: &str = include_str!("../../README.md");

#[test]
fn the_story_runs() {
    let start = README.find("metaxy init films").unwrap();
    let story = &README[start..][..README[start..].find("```").unwrap()];
    let ended = Project::empty().exits(&format!("set -e\n{story}"), 0);
    assert!(ended.stdout.contains("100 %"), "{ended:?}");
}

#[test]
fn every_command_is_named() {
    for name in listed("") {
        let is_named = README.lines().any(|line| line.starts_with("| `") && line.contains(&format!("`{name}")));
        assert!(is_named, "the README's table of commands lacks `{name}`");
    }
}

#[test]
fn json_has_the_documented_keys() {
    let project = Project::processed("sqlite");
    project.append("metaxy.toml", "\n[stores.b]\ntype = \"sqlite\"\nconfig.database = \"b.db\"\n");
    project.append("features/video.toml", CLIPS);
    project.ok("metaxy push --tag a=b");
    let version = project.json("metaxy describe processed/transcript")["feature_version"].clone();
    project.write("videos.csv", &VIDEOS.replace(",001,", ",001b,"));
    project.ok(&format!("metaxy write raw/video videos.csv {VERSIONS}"));
    project.change("features/video.toml", "code_version = \"1\"", "code_version = \"2\"");
    // A feature that this project does not depend on is removed from the file.
    project.write("metaxy.lock", include_str!("other.lock"));
    for (command, arguments) in [
        ("lock", ""),
        ("list features", ""),
        ("list stores", ""),
        ("describe", "processed/transcript"),
        ("graph", ""),
        ("graph diff", ""),
        ("status", ""),
        ("explain", "processed/transcript 1"),
        ("resolve", "processed/transcript --out todo --since transcript.checkpoint"),
        ("write", &format!("raw/video videos.csv {VERSIONS}")),
        ("scan", "raw/clip features"),
        ("delete", "raw/video --all --dry-run"),
        ("impact", ""),
        ("push", ""),
        ("history", ""),
        ("copy", "--from dev --store b"),
        ("rebase", &format!("processed/transcript --from-version {}", version.as_str().unwrap())),
        ("compact", ""),
        ("vacuum", ""),
    ] {
        let mut printed = BTreeSet::new();
        collect(&project.json(&format!("metaxy {command} {arguments}")), &mut printed);
        assert_eq!(printed, documented(command), "metaxy {command}");
    }
}

/// Adds the keys of a value; what is inside of values with free keys is left out.
fn collect(value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(value, keys)),
        Value::Object(members) => {
            for (key, value) in members {
                keys.insert(key.clone());
                if !["spec", "tags", "data_versions"].contains(&key.as_str()) {
                    collect(value, keys);
                }
            }
        }
        _ => {}
    }
}

/// Returns the keys in the README's row of a command.
fn documented(command: &str) -> BTreeSet<String> {
    let start = format!("| `{command}` | `{{");
    let row = README.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_else(|| panic!("no row {start}"));
    let shape = &row[..row.find('`').unwrap()];
    shape.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|key| !key.is_empty()).map(str::to_owned).collect()
}
