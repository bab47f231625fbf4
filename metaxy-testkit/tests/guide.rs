//! The guide's code is the example's code: its blocks, in their order, are the files, and the files compile and pass.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FILES: [&str; 4] = ["Cargo.toml", "src/files.rs", "src/lib.rs", "tests/conformance.rs"];

/// What the captions of the second example's excerpts begin with, as in `**redb/src/lib.rs**`.
const SECOND: &str = "redb/";

fn example(name: &str, file: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the lines of each of the guide's code blocks by the file that stands above it, as in `**src/lib.rs**`.
fn blocks() -> BTreeMap<String, Vec<Vec<String>>> {
    let guide = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let mut blocks: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    let mut caption = None;
    let mut open: Option<Option<String>> = None;
    for line in guide.lines() {
        match &open {
            Some(_) if line.starts_with("```") => open = None,
            Some(Some(file)) => {
                blocks.get_mut(file).and_then(|blocks| blocks.last_mut()).unwrap().push(line.to_owned())
            }
            Some(None) => {}
            None if line.starts_with("```") => {
                open = Some(caption.take());
                if let Some(Some(file)) = &open {
                    blocks.entry(file.clone()).or_default().push(Vec::new());
                }
            }
            None if line.is_empty() => {}
            None => {
                caption =
                    line.strip_prefix("**").and_then(|rest| rest.split_once("**")).map(|(file, _)| file.to_owned())
            }
        }
    }
    blocks
}

fn without_empty_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    lines.map(str::trim_end).filter(|line| !line.is_empty()).collect()
}

#[test]
fn every_file_of_the_example_is_in_the_guide_and_nothing_else() {
    let mut blocks = blocks();
    blocks.retain(|file, _| !file.starts_with(SECOND));
    assert_eq!(blocks.keys().map(String::as_str).collect::<Vec<_>>(), FILES);
    for (file, lines) in &blocks {
        let text = example("parquet-dir", file);
        let guide = without_empty_lines(lines.iter().flatten().map(String::as_str));
        let file_lines = without_empty_lines(text.lines());
        for (number, (told, is)) in guide.iter().zip(&file_lines).enumerate() {
            assert_eq!(told, is, "{file}: line {} of the guide's blocks, empty ones left out", number + 1);
        }
        assert_eq!(guide.len(), file_lines.len(), "{file}: the guide ends too soon or too late");
    }
}

#[test]
fn excerpts_of_the_second_example_stand_in_its_files() {
    let blocks = blocks();
    let excerpts = blocks.iter().filter_map(|(caption, blocks)| Some((caption.strip_prefix(SECOND)?, blocks)));
    let mut found = 0;
    for (file, excerpt) in excerpts.flat_map(|(file, blocks)| blocks.iter().map(move |block| (file, block))) {
        let excerpt = excerpt.join("\n");
        assert!(example("redb", file).contains(&excerpt), "{file} does not have these lines:\n{excerpt}");
        found += 1;
    }
    assert!(found > 0, "the guide shows nothing of the second example");
}

#[test]
fn a_backend_takes_at_most_300_lines() {
    for (name, files) in [("parquet-dir", ["src/files.rs", "src/lib.rs"]), ("redb", ["src/database.rs", "src/lib.rs"])]
    {
        let lines: usize = files.iter().map(|file| example(name, file).lines().count()).sum();
        assert!(lines <= 300, "{name} has {lines} lines");
    }
}

#[test]
fn the_examples_depend_on_published_names_only() {
    let sections = ["dependencies", "dev-dependencies"];
    for (example_name, section) in ["parquet-dir", "redb"].into_iter().flat_map(|name| sections.map(|of| (name, of))) {
        let manifest: toml::Table = example(example_name, "Cargo.toml").parse().unwrap();
        for (name, dependency) in manifest[section].as_table().unwrap() {
            let version = dependency.as_str().or_else(|| dependency.get("version").and_then(toml::Value::as_str));
            assert!(version.is_some(), "`{name}` has no version");
            for key in ["path", "git", "workspace"] {
                assert!(dependency.get(key).is_none(), "`{name}` is not named as published: it has `{key}`");
            }
        }
    }
}
