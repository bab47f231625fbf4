//! The Python package can read the `metaxy.toml` files in the documentation, and those that this program prints.

use std::path::{Path, PathBuf};
use std::process::Command;

use metaxy_core::MetaxyConfig;
use metaxy_core::config::Environment;

const DOCUMENTS: [&str; 8] = [
    "README.md",
    "metaxy-sqlite/README.md",
    "metaxy-duckdb/README.md",
    "metaxy-delta/README.md",
    "metaxy-postgres/README.md",
    "metaxy-core/README.md",
    "metaxy-core/src/config/mod.rs",
    "metaxy-core/src/guide/chains.md",
];

/// Returns the configurations in a document.
fn shown(document: &str) -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
    let text = std::fs::read_to_string(file).unwrap().replace("//! ", "").replace("//!", "");
    let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.contains("[stores.")).map(str::to_owned).collect()
}

/// Returns the settings beside `type` and `config`, which the Python package refuses.
fn misplaced(text: &str) -> Vec<String> {
    let table: toml::Table = text.parse().unwrap();
    let stores = table["stores"].as_table().unwrap();
    let keys = stores.values().flat_map(|store| store.as_table().unwrap().keys());
    keys.filter(|key| !["type", "config"].contains(&key.as_str())).cloned().collect()
}

fn load(text: &str) -> MetaxyConfig {
    MetaxyConfig::loader().environment(Environment::empty()).load_text(text).unwrap()
}

#[test]
fn settings_are_in_the_config_table() {
    for document in DOCUMENTS {
        let configurations = shown(document);
        assert!(!configurations.is_empty(), "{document} shows no stores");
        for text in configurations {
            assert_eq!(misplaced(&text), Vec::<String>::new(), "{document}:\n{text}");
            load(&text);
        }
    }
    // The printed form does not depend on the original one.
    let beside = load(
        "[stores.dev]\ntype = 'sqlite'\ndatabase = 'dev.db'\nfallback_stores = ['prod']\n[stores.prod]\ntype = 'sqlite'\nconfig.database = 'prod.db'",
    );
    let printed = beside.to_toml().unwrap();
    assert_eq!(misplaced(&printed), Vec::<String>::new(), "{printed}");
    assert_eq!(load(&printed).to_toml().unwrap(), printed);
    assert!(printed.contains("[stores.dev.config]"), "{printed}");
}

#[test]
fn the_python_package_reads_them() {
    let Some(python) = std::env::var_os("METAXY_REFERENCE_PYTHON").map(PathBuf::from) else {
        return eprintln!("not tested: METAXY_REFERENCE_PYTHON names no Python with the package");
    };
    let directory = tempfile::tempdir().unwrap();
    let mut texts: Vec<String> = DOCUMENTS.iter().flat_map(|document| shown(document)).collect();
    let printed = texts.iter().map(|text| load(text).to_toml().unwrap()).collect::<Vec<_>>();
    texts.extend(printed);
    for (number, text) in texts.iter().enumerate() {
        // The short type names are this project's; types are not resolved when a file is read.
        std::fs::write(directory.path().join(format!("{number}.toml")), text).unwrap();
    }
    let script = "import sys, metaxy\nfor name in sys.argv[1:]: metaxy.MetaxyConfig.load(name)";
    let files = (0..texts.len()).map(|number| directory.path().join(format!("{number}.toml")));
    let output = Command::new(python).args(["-c", script]).args(files).env("PGPASSWORD", "x").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
