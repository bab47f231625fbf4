//! Configurations: what a good one gives, and what a bad one is told.

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use metaxy_core::config::{Environment, FeatureSelection, MetaxyConfig, StoreConfig};
use metaxy_core::{AccessMode, Error, FeatureGraph, HashAlgorithm, Result, VersioningEngine};

const DELTA: &str = "metaxy.ext.metadata_stores.delta.DeltaMetadataStore";

/// Files in a directory of their own.
struct Project {
    directory: tempfile::TempDir,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match *text {
                "<directory>" => std::fs::create_dir(path).unwrap(),
                "<binary>" => std::fs::write(path, [0xff, 0xfe, 0x00]).unwrap(),
                text => std::fs::write(path, text).unwrap(),
            }
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn load(&self, start: &str, environment: &[(&str, &str)]) -> Result<MetaxyConfig> {
        let environment = Environment::from_iter(environment.iter().copied());
        MetaxyConfig::loader().directory(self.path(start)).environment(environment).load()
    }
}

fn load(text: &str, environment: &[(&str, &str)]) -> Result<MetaxyConfig> {
    Project::new(&[("metaxy.toml", text)]).load("", environment)
}

async fn open(config: &MetaxyConfig, name: &str) -> Result<()> {
    config.open_store(name, FeatureGraph::new([])?, AccessMode::ReadOnly).await.map(drop)
}

// ---- malformed ones ------------------------------------------------------------------------------------------------

struct Case {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    environment: &'static [(&'static str, &'static str)],
    /// The store to open once the configuration is loaded.
    open: Option<&'static str>,
}

const fn case(name: &'static str, files: &'static [(&'static str, &'static str)]) -> Case {
    Case { name, files, environment: &[], open: None }
}

impl Case {
    const fn env(mut self, environment: &'static [(&'static str, &'static str)]) -> Self {
        self.environment = environment;
        self
    }

    const fn open(mut self, store: &'static str) -> Self {
        self.open = Some(store);
        self
    }

    async fn error(&self) -> String {
        let project = Project::new(self.files);
        let result = match (project.load("", self.environment), self.open) {
            (Ok(config), Some(store)) => open(&config, store).await,
            (Ok(_), None) => Ok(()),
            (Err(error), _) => Err(error),
        };
        let text = result.expect_err(self.name).to_string();
        let directory = project.directory.path().display().to_string();
        text.replace(&format!("{directory}/"), "")
    }
}

#[rustfmt::skip]
const MALFORMED: &[Case] = &[
    // TOML
    case("no value", &[("metaxy.toml", "store =\n")]),
    case("unclosed string", &[("metaxy.toml", "project = \"films\"\nstore = \"dev\nsync = true\n")]),
    case("unclosed secret", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\npassword = \"hunter2\nport = 1\n")]),
    case("unclosed table header", &[("metaxy.toml", "[stores.dev\ntype = \"memory\"\n")]),
    case("bare word", &[("metaxy.toml", "store = dev\n")]),
    case("key given twice", &[("metaxy.toml", "store = \"a\"\nsync = true\nstore = \"b\"\n")]),
    case("table given twice", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\n[stores.dev]\ntype = \"memory\"\n")]),
    case("number too large", &[("metaxy.toml", "hash_truncation_length = 99999999999999999999\n")]),
    case("JSON", &[("metaxy.toml", "{\"store\": \"dev\"}\n")]),
    case("YAML", &[("metaxy.toml", "store: dev\n")]),
    case("tabs and a stray bracket", &[("metaxy.toml", "\textra_features = [{ all = true }\n")]),
    case("bad TOML in an extended file", &[("metaxy.toml", "extend = \"base.toml\"\n"), ("base.toml", "store = \n")]),
    case("bad TOML in pyproject.toml", &[("pyproject.toml", "[tool.metaxy]\nstore = dev\n")]),
    // files
    case("a directory", &[("metaxy.toml", "<directory>")]),
    case("not text", &[("metaxy.toml", "<binary>")]),
    case("METAXY_CONFIG leads nowhere", &[]).env(&[("METAXY_CONFIG", "/nowhere/metaxy.toml")]),
    case("extended file is missing", &[("metaxy.toml", "store = \"dev\"\nextend = \"base.toml\"\n")]),
    case("extended file is a directory", &[("metaxy.toml", "extend = \"base\"\n"), ("base", "<directory>")]),
    case("extend is a number", &[("metaxy.toml", "extend = 3\n")]),
    case("extend is a list", &[("metaxy.toml", "extend = [\"a.toml\"]\n")]),
    case("extend by a missing variable", &[("metaxy.toml", "extend = \"${BASE}/a.toml\"\n")]),
    case("extended pyproject.toml has no section", &[("metaxy.toml", "extend = \"pyproject.toml\"\n"), ("pyproject.toml", "[project]\nname = \"x\"\n")]),
    case("extends itself", &[("metaxy.toml", "extend = \"metaxy.toml\"\n")]),
    case("extends in a circle", &[("metaxy.toml", "extend = \"conf/b.toml\"\n"), ("conf/b.toml", "extend = \"c.toml\"\n"), ("conf/c.toml", "store = \"x\"\nextend = \"../metaxy.toml\"\n")]),
    case("an error in an extended file names that file", &[("metaxy.toml", "extend = \"base.toml\"\n"), ("base.toml", "\n\nsync = \"perhaps\"\n")]),
    case("tool.metaxy is no table", &[("pyproject.toml", "[tool]\nmetaxy = \"dev\"\n")]),
    // fields
    case("unknown key with a near one", &[("metaxy.toml", "project = \"films\"\nstor = \"dev\"\n")]),
    case("unknown key in capitals", &[("metaxy.toml", "STORE = \"dev\"\n")]),
    case("unknown key far from all", &[("metaxy.toml", "colour = \"blue\"\n")]),
    case("unknown table", &[("metaxy.toml", "[store.dev]\ntype = \"memory\"\n")]),
    case("unknown key in pyproject.toml", &[("pyproject.toml", "[project]\nname = \"x\"\n[tool.metaxy]\nhash_truncation = 8\n")]),
    case("unknown key that needs quotes", &[("metaxy.toml", "\"auto create tables\" = true\n")]),
    case("store is a number", &[("metaxy.toml", "store = 5\n")]),
    case("stores is a list", &[("metaxy.toml", "stores = [\"dev\"]\n")]),
    case("stores is an array of tables", &[("metaxy.toml", "[[stores]]\ntype = \"memory\"\n")]),
    case("project holds a slash", &[("metaxy.toml", "project = \"films/raw\"\n")]),
    case("project holds two underscores", &[("metaxy.toml", "project = \"films__raw\"\n")]),
    case("project is empty", &[("metaxy.toml", "project = \"\"\n")]),
    case("project is a list", &[("metaxy.toml", "project = [\"films\"]\n")]),
    case("hash_truncation_length too short", &[("metaxy.toml", "hash_truncation_length = 4\n")]),
    case("hash_truncation_length negative", &[("metaxy.toml", "hash_truncation_length = -8\n")]),
    case("hash_truncation_length is a fraction", &[("metaxy.toml", "hash_truncation_length = 8.5\n")]),
    case("hash_truncation_length is a word", &[("metaxy.toml", "hash_truncation_length = \"long\"\n")]),
    case("sync is a number", &[("metaxy.toml", "sync = 2\n")]),
    case("sync is a date", &[("metaxy.toml", "sync = 2024-01-01\n")]),
    case("auto_create_tables is a table", &[("metaxy.toml", "[auto_create_tables]\ndev = true\n")]),
    case("extra_features is a string", &[("metaxy.toml", "extra_features = \"all\"\n")]),
    case("extra_features selects nothing", &[("metaxy.toml", "extra_features = [{ all = true }, {}]\n")]),
    case("extra_features has an unknown key", &[("metaxy.toml", "extra_features = [\n  { all = true },\n  { project = [\"a\"] },\n]\n")]),
    case("extra_features has a bad key", &[("metaxy.toml", "extra_features = [{ keys = [\"raw/video\", \"Raw Video\"] }]\n")]),
    // variables
    case("missing variable", &[("metaxy.toml", "store = \"${METAXY_TEST_STORE}\"\n")]),
    case("missing variable in a list", &[("metaxy.toml", "[[extra_features]]\nprojects = [\"a\", \"${OTHER}\"]\n")]),
    case("missing variable in a store that is opened", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\n[stores.dev.storage_options]\nAWS_SECRET_ACCESS_KEY = \"${PROD_SECRET}\"\n")]).open("dev"),
    case("missing variable in a type", &[("metaxy.toml", "[stores.dev]\ntype = \"${KIND}\"\nroot_path = \"m\"\n")]).open("dev"),
    case("missing variable in a fallback", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nfallback_stores = [\"prod\"]\n[stores.prod]\ntype = \"memory\"\nroot_path = \"${PROD_ROOT}\"\n")]).open("dev"),
    case("variable without its dash", &[("metaxy.toml", "store = \"${NAME:dev}\"\n")]),
    case("variable without a name", &[("metaxy.toml", "store = \"${}\"\n")]),
    case("variable that is not closed", &[("metaxy.toml", "store = \"${NAME\"\n")]),
    case("environment: not a number", &[("metaxy.toml", "hash_truncation_length = 8\n")]).env(&[("METAXY_HASH_TRUNCATION_LENGTH", "eight")]),
    case("environment: not a truth value", &[]).env(&[("METAXY_SYNC", "perhaps")]),
    case("environment: stores is not JSON", &[]).env(&[("METAXY_STORES", "dev")]),
    case("environment: a store is not JSON", &[]).env(&[("METAXY_STORES__DEV", "memory")]),
    case("environment: config is not an object", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\n")]).env(&[("METAXY_STORES__DEV__CONFIG", "[1]")]),
    case("environment: unknown setting", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\n")]).env(&[("METAXY_STORES__DEV__CONFIG__ROOTPATH", "n")]).open("dev"),
    case("environment: wrong type", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\n")]).env(&[("METAXY_STORES__DEV__PORT", "hunter2")]).open("dev"),
    case("environment: empty project", &[]).env(&[("METAXY_PROJECT", "")]),
    // stores
    case("store is a string", &[("metaxy.toml", "[stores]\ndev = \"memory\"\n")]),
    case("no type", &[("metaxy.toml", "[stores.dev]\nroot_path = \"m\"\n")]),
    case("type with a slip", &[("metaxy.toml", "[stores.dev]\ntyp = \"memory\"\nroot_path = \"m\"\n")]),
    case("type is a number", &[("metaxy.toml", "[stores.dev]\ntype = 1\n")]),
    case("type is empty", &[("metaxy.toml", "[stores.dev]\ntype = \"\"\n")]).open("dev"),
    case("unknown type", &[("metaxy.toml", "[stores.dev]\ntype = \"parchment\"\n")]).open("dev"),
    case("type near a known one", &[("metaxy.toml", "[stores.dev]\ntype = \"memroy\"\n")]).open("dev"),
    case("type of a crate that is not linked", &[("metaxy.toml", "\n[stores.dev]\ndatabase = \"x.db\"\ntype = \"sqlite\"\n")]).open("dev"),
    case("class of a crate that is not linked", &[("metaxy.toml", "[stores.dev]\ntype = \"metaxy.ext.postgresql.PostgreSQLMetadataStore\"\n")]).open("dev"),
    case("type near one of a crate that is not linked", &[("metaxy.toml", "[stores.dev]\ntype = \"sqllite\"\n")]).open("dev"),
    case("class that exists in Python only", &[("metaxy.toml", "[stores.dev]\ntype = \"metaxy.ext.clickhouse.ClickHouseMetadataStore\"\n")]).open("dev"),
    case("settings in both places", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\n[stores.dev.config]\nlayout = \"flat\"\n")]),
    case("config is a string", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nconfig = \"x.toml\"\n")]),
    case("unknown setting beside type", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_pth = \"m\"\n")]).open("dev"),
    case("unknown setting in config", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\n[stores.dev.config]\nroot_path = \"m\"\nlayuot = \"flat\"\n")]).open("dev"),
    case("unknown setting far from all", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\ncolour = \"blue\"\n")]).open("dev"),
    case("unknown setting in a nested table", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\n[stores.dev.pool]\nsize = 4\nidle_second = 3\n")]).open("dev"),
    case("setting is missing", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\n")]).open("dev"),
    case("setting is missing in a nested table", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\npool = { idle_seconds = 4 }\n")]).open("dev"),
    case("path is a number", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = 7\n")]).open("dev"),
    case("port is too large", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nport = 70000\n")]).open("dev"),
    case("port is a word", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nport = \"http\"\n")]).open("dev"),
    case("ratio is an array", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nratio = [1]\n")]).open("dev"),
    case("verify is a fraction", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nverify = 0.5\n")]).open("dev"),
    case("tags is a string", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\ntags = \"a\"\n")]).open("dev"),
    case("a tag is a number", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\ntags = [\"a\", 2]\n")]).open("dev"),
    case("storage_options is a string", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nstorage_options = \"AWS\"\n")]).open("dev"),
    case("a storage option is a table", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\n[stores.dev.config]\nroot_path = \"m\"\n[stores.dev.config.storage_options]\n\"aws.region\" = { a = 1 }\n")]).open("dev"),
    case("unknown layout", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nlayout = \"nestd\"\n")]).open("dev"),
    case("layout far from all", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nlayout = \"round\"\n")]).open("dev"),
    case("password is a number", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\npassword = [\"hunter2\"]\n")]).open("dev"),
    case("store name that needs quotes", &[("metaxy.toml", "[stores.\"my store\"]\ntype = \"memory\"\nrot_path = \"m\"\n")]).open("my store"),
    case("unknown hash algorithm", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nhash_algorithm = \"xxhash46\"\n")]),
    case("hash algorithm far from all", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nhash_algorithm = \"crc\"\n")]),
    case("hash algorithm is a number", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nhash_algorithm = 32\n")]),
    case("unknown versioning engine", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nversioning_engine = \"spark\"\n")]),
    case("store keeps too few characters", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nhash_truncation_length = 2\n")]),
    // names and chains
    case("no such store", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\n[stores.prod]\ntype = \"memory\"\nroot_path = \"p\"\n")]).open("prd"),
    case("no stores at all", &[("metaxy.toml", "project = \"films\"\n")]).open("dev"),
    case("no configuration at all", &[]).open("dev"),
    case("fallback_stores is a string", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nfallback_stores = \"prod\"\n")]),
    case("fallback_stores holds a table", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nfallback_stores = [{ name = \"prod\" }]\n")]),
    case("no such fallback", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nfallback_stores = [\n  \"stagin\",\n]\n[stores.staging]\ntype = \"memory\"\nroot_path = \"s\"\n")]).open("dev"),
    case("falls back on itself", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nfallback_stores = [\"dev\"]\n")]).open("dev"),
    case("fallbacks in a circle", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nfallback_stores = [\"staging\"]\n[stores.staging]\ntype = \"memory\"\nroot_path = \"s\"\nfallback_stores = [\"dev\"]\n")]).open("dev"),
    case("fallbacks in a circle further down", &[("metaxy.toml", "[stores.a]\ntype = \"memory\"\nroot_path = \"a\"\nfallback_stores = [\"b\"]\n[stores.b]\ntype = \"memory\"\nroot_path = \"b\"\nfallback_stores = [\"d\", \"c\"]\n[stores.c]\ntype = \"memory\"\nroot_path = \"c\"\nfallback_stores = [\"b\"]\n[stores.d]\ntype = \"memory\"\nroot_path = \"d\"\n")]).open("a"),
    case("a bad setting in a fallback", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nfallback_stores = [\"prod\"]\n[stores.prod]\ntype = \"memory\"\n[stores.prod.config]\nroot = \"p\"\n")]).open("dev"),
    case("an unknown type in a fallback", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nfallback_stores = [\"prod\"]\n[stores.prod]\ntype = \"delta\"\n")]).open("dev"),
    case("mixed hash algorithms", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nfallback_stores = [\"prod\"]\n[stores.prod]\ntype = \"memory\"\nroot_path = \"p\"\nhash_algorithm = \"sha256\"\n")]).open("dev"),
    case("mixed default hash algorithms, two down", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nfallback_stores = [\"staging\"]\n[stores.staging]\ntype = \"memory\"\nroot_path = \"p\"\nfallback_stores = [\"prod\"]\n[stores.prod]\ntype = \"ledger\"\nroot_path = \"q\"\n")]).open("dev"),
    case("the graph keeps another length", &[("metaxy.toml", "hash_truncation_length = 16\n[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\n")]).open("dev"),
];

/// Every malformed configuration with what it is told, as in `config_errors.txt`. With `UPDATE=1` in the environment the
/// file is written anew; read the difference before you commit it.
#[tokio::test]
async fn malformed_configurations() {
    let mut found = String::new();
    for case in MALFORMED {
        writeln!(found, "==== {}", case.name).unwrap();
        for (name, text) in case.files {
            writeln!(found, "-- {name}\n{}", text.trim_end()).unwrap();
        }
        for (name, value) in case.environment {
            writeln!(found, "$ export {name}={value:?}").unwrap();
        }
        if let Some(store) = case.open {
            writeln!(found, "$ open {store}").unwrap();
        }
        writeln!(found, "=> {}\n", case.error().await).unwrap();
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config_errors.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    for (expected, found) in expected.split("==== ").zip(found.split("==== ")) {
        assert_eq!(expected, found, "run with UPDATE=1 if that is what it should say");
    }
    assert_eq!(expected.len(), found.len(), "cases were added or removed; run with UPDATE=1");
    assert!(MALFORMED.len() >= 60);
    assert!(!found.contains("=> hunter2") && !found.lines().any(|line| line.starts_with("=>") && line.contains("hunter2")));
}
