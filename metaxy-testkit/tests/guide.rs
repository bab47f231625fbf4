//! The guide's code is the example's code: its blocks, in their order, are the files, and the files compile and pass.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FILES: [&str; 4] = ["Cargo.toml", "src/files.rs", "src/lib.rs", "tests/conformance.rs"];

fn example(file: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/parquet-dir").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the lines of the guide's code blocks by the file that stands above each, as in `**src/lib.rs**`.
fn blocks() -> BTreeMap<String, Vec<String>> {
    let guide = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let mut blocks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut caption = None;
    let mut open: Option<Option<String>> = None;
    for line in guide.lines() {
        match &open {
            Some(_) if line.starts_with("```") => open = None,
            Some(Some(file)) => blocks.entry(file.clone()).or_default().push(line.to_owned()),
            Some(None) => {}
            None if line.starts_with("```") => open = Some(caption.take()),
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
    let blocks = blocks();
    assert_eq!(blocks.keys().map(String::as_str).collect::<Vec<_>>(), FILES);
    for (file, lines) in &blocks {
        let text = example(file);
        let (guide, file_lines) =
            (without_empty_lines(lines.iter().map(String::as_str)), without_empty_lines(text.lines()));
        for (number, (told, is)) in guide.iter().zip(&file_lines).enumerate() {
            assert_eq!(told, is, "{file}: line {} of the guide's blocks, empty ones left out", number + 1);
        }
        assert_eq!(guide.len(), file_lines.len(), "{file}: the guide ends too soon or too late");
    }
}

#[test]
fn a_backend_takes_at_most_300_lines() {
    let lines: usize = ["src/files.rs", "src/lib.rs"].iter().map(|file| example(file).lines().count()).sum();
    assert!(lines <= 300, "{lines} lines");
}

#[test]
fn the_example_depends_on_published_names_only() {
    let manifest: toml::Table = example("Cargo.toml").parse().unwrap();
    for section in ["dependencies", "dev-dependencies"] {
        for (name, dependency) in manifest[section].as_table().unwrap() {
            let version = dependency.as_str().or_else(|| dependency.get("version").and_then(toml::Value::as_str));
            assert!(version.is_some(), "`{name}` has no version");
            for key in ["path", "git", "workspace"] {
                assert!(dependency.get(key).is_none(), "`{name}` is not named as published: it has `{key}`");
            }
        }
    }
}
