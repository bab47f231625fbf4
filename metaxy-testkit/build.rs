//! Makes a test of every scenario: those of this crate, and those of the directory that `METAXY_SCENARIOS` names.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=scenarios");
    println!("cargo::rerun-if-env-changed=METAXY_SCENARIOS");
    let own = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("scenarios");
    let bundled = scenarios(&own);
    let external = external_directory().map(|directory| scenarios(&directory)).unwrap_or_default();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("scenarios.rs"), generated(&bundled, &external)).expect("the target directory can be written");
}

/// Returns the directory of `METAXY_SCENARIOS`, which may be relative to the one where cargo was called.
fn external_directory() -> Option<PathBuf> {
    let given = PathBuf::from(env::var_os("METAXY_SCENARIOS").filter(|value| !value.is_empty())?);
    let from = |base: Option<std::ffi::OsString>| base.map(|base| Path::new(&base).join(&given));
    let directory = [from(env::var_os("PWD")), Some(given.clone())].into_iter().flatten().find(|path| path.is_dir())?;
    println!("cargo::rerun-if-changed={}", directory.display());
    Some(directory)
}

/// Returns the scenario files of a directory, by a name that is valid for a test function.
fn scenarios(directory: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut name: String =
            stem.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            name.insert_str(0, "scenario_");
        }
        while found.contains_key(&name) {
            name.push('_');
        }
        found.insert(name, file.canonicalize().unwrap_or(file));
    }
    found
}

fn generated(bundled: &BTreeMap<String, PathBuf>, external: &BTreeMap<String, PathBuf>) -> String {
    let mut text = String::from(
        "/// The scenarios that come with this crate: name and content.\npub const BUNDLED: &[(&str, &str)] = &[\n",
    );
    for (name, file) in bundled {
        let _ = writeln!(text, "    ({name:?}, include_str!({:?})),", file.display().to_string());
    }
    text.push_str("];\n\n#[doc(hidden)]\n#[macro_export]\nmacro_rules! __each_scenario {\n    ($callback:path) => {\n        $callback! {\n            bundled {");
    for name in bundled.keys() {
        let _ = write!(text, " {name}");
    }
    text.push_str(" }\n            external {");
    for (name, file) in external {
        let _ = write!(text, " ({name} {:?})", file.display().to_string());
    }
    text.push_str(" }\n        }\n    };\n}\n");
    text
}
