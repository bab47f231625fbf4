//! What a release needs: files and settings of each crate, licences of compiled C and C++, headings of the CHANGELOG.

use std::path::{Path, PathBuf};

/// The crates that are published.
const CRATES: [&str; 7] = [
    "metaxy-core",
    "metaxy-sqlite",
    "metaxy-duckdb",
    "metaxy-delta",
    "metaxy-postgres",
    "metaxy-cli",
    "metaxy-testkit",
];

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(file: impl AsRef<Path>) -> String {
    let path = workspace().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn toml(file: impl AsRef<Path>) -> toml::Table {
    read(&file).parse().unwrap_or_else(|error| panic!("{}: {error}", file.as_ref().display()))
}

#[test]
fn every_crate_can_be_published() {
    let license = read("LICENSE");
    for name in CRATES {
        let folder = PathBuf::from(name);
        assert_eq!(read(folder.join("LICENSE")), license, "{name}");
        assert!(read(folder.join("README.md")).starts_with("# "), "{name}");
        let package = toml(folder.join("Cargo.toml"))["package"].as_table().unwrap().clone();
        for key in ["description", "readme", "documentation", "keywords", "categories", "rust-version", "license"] {
            assert!(package.contains_key(key), "{name} has no {key}");
        }
        assert!(package["keywords"].as_array().unwrap().len() <= 5, "crates.io refuses {name}'s keywords");
        let docs = &package["metadata"]["docs"]["rs"];
        assert_eq!(docs["all-features"].as_bool(), Some(true), "docs.rs leaves features of {name} out");
    }
}

#[test]
fn other_members_are_not_published() {
    for member in toml("Cargo.toml")["workspace"]["members"].as_array().unwrap() {
        let member = member.as_str().unwrap();
        let manifest = toml(Path::new(member).join("Cargo.toml"));
        let is_published = manifest["package"].get("publish").and_then(toml::Value::as_bool) != Some(false);
        assert_eq!(is_published, CRATES.contains(&member), "{member}");
    }
}

#[test]
fn compiled_c_is_named_with_its_licence() {
    let third_party = read("THIRD-PARTY.md");
    let lock = toml("Cargo.lock");
    let mut found = 0;
    for package in lock["package"].as_array().unwrap() {
        let dependencies = package.get("dependencies").and_then(toml::Value::as_array).into_iter().flatten();
        let compiles =
            dependencies.filter_map(toml::Value::as_str).any(|dependency| ["cc", "cmake"].contains(&dependency));
        let name = package["name"].as_str().unwrap();
        if compiles && name != "cmake" {
            assert!(third_party.contains(&format!("`{name}`")), "THIRD-PARTY.md does not name `{name}`");
            found += 1;
        }
    }
    assert!(found > 5, "{found}");
}

#[test]
fn a_version_has_its_heading_in_the_changelog() {
    let changelog = read("CHANGELOG.md");
    let headings: Vec<&str> = changelog.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(headings[0], "[Unreleased]");
    let kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Migration"];
    for kind in changelog.lines().filter_map(|line| line.strip_prefix("### ")) {
        assert!(kinds.contains(&kind), "{kind} is not a kind of change of keepachangelog.com");
    }
}
