//! Valid configurations and their values, and malformed configurations and their errors.

mod support;

use std::fmt::Write as _;
use std::path::PathBuf;

use metaxy_core::config::{Environment, FeatureSelection, MetaxyConfig, StoreConfig};
use metaxy_core::{AccessMode, Error, FeatureGraph, HashAlgorithm, Result, VersioningEngine};

const DELTA: &str = "metaxy.ext.metadata_stores.delta.DeltaMetadataStore";

/// Files in a separate directory.
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
    case("METAXY_CONFIG names a missing file", &[]).env(&[("METAXY_CONFIG", "/nowhere/metaxy.toml")]),
    case("extended file is missing", &[("metaxy.toml", "store = \"dev\"\nextend = \"base.toml\"\n")]),
    case("extended file is a directory", &[("metaxy.toml", "extend = \"base\"\n"), ("base", "<directory>")]),
    case("extend is a number", &[("metaxy.toml", "extend = 3\n")]),
    case("extend is a list", &[("metaxy.toml", "extend = [\"a.toml\"]\n")]),
    case("extend by a missing variable", &[("metaxy.toml", "extend = \"${BASE}/a.toml\"\n")]),
    case("extended pyproject.toml has no section", &[("metaxy.toml", "extend = \"pyproject.toml\"\n"), ("pyproject.toml", "[project]\nname = \"x\"\n")]),
    case("extends itself", &[("metaxy.toml", "extend = \"metaxy.toml\"\n")]),
    case("extends in a cycle", &[("metaxy.toml", "extend = \"conf/b.toml\"\n"), ("conf/b.toml", "extend = \"c.toml\"\n"), ("conf/c.toml", "store = \"x\"\nextend = \"../metaxy.toml\"\n")]),
    case("an error in an extended file names that file", &[("metaxy.toml", "extend = \"base.toml\"\n"), ("base.toml", "\n\nsync = \"perhaps\"\n")]),
    case("tool.metaxy is not a table", &[("pyproject.toml", "[tool]\nmetaxy = \"dev\"\n")]),
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
    case("port that the backend refuses", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\n[stores.dev.config]\nroot_path = \"m\"\nport = 0\n")]).open("dev"),
    case("port is a word", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nport = \"http\"\n")]).open("dev"),
    case("ratio is an array", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nratio = [1]\n")]).open("dev"),
    case("ratio that only opening refuses", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\n\n[stores.dev.config]\nroot_path = \"m\"\nratio = 7\n")]).open("dev"),
    case("ratio in the environment that only opening refuses", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\n")]).env(&[("METAXY_STORES__DEV__CONFIG__RATIO", "1.5")]).open("dev"),
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
    case("fallbacks in a cycle", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nfallback_stores = [\"staging\"]\n[stores.staging]\ntype = \"memory\"\nroot_path = \"s\"\nfallback_stores = [\"dev\"]\n")]).open("dev"),
    case("fallbacks in a cycle further down", &[("metaxy.toml", "[stores.a]\ntype = \"memory\"\nroot_path = \"a\"\nfallback_stores = [\"b\"]\n[stores.b]\ntype = \"memory\"\nroot_path = \"b\"\nfallback_stores = [\"d\", \"c\"]\n[stores.c]\ntype = \"memory\"\nroot_path = \"c\"\nfallback_stores = [\"b\"]\n[stores.d]\ntype = \"memory\"\nroot_path = \"d\"\n")]).open("a"),
    case("a bad setting in a fallback", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nfallback_stores = [\"prod\"]\n[stores.prod]\ntype = \"memory\"\n[stores.prod.config]\nroot = \"p\"\n")]).open("dev"),
    case("an unknown type in a fallback", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nfallback_stores = [\"prod\"]\n[stores.prod]\ntype = \"delta\"\n")]).open("dev"),
    case("mixed hash algorithms", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nfallback_stores = [\"prod\"]\n[stores.prod]\ntype = \"memory\"\nroot_path = \"p\"\nhash_algorithm = \"sha256\"\n")]).open("dev"),
    case("mixed default hash algorithms, two down", &[("metaxy.toml", "[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\nfallback_stores = [\"staging\"]\n[stores.staging]\ntype = \"memory\"\nroot_path = \"p\"\nfallback_stores = [\"prod\"]\n[stores.prod]\ntype = \"ledger\"\nroot_path = \"q\"\n")]).open("dev"),
    case("the graph keeps another length", &[("metaxy.toml", "hash_truncation_length = 16\n[stores.dev]\ntype = \"memory\"\nroot_path = \"m\"\n")]).open("dev"),
];

/// Checks every malformed configuration against its error in `config_errors.txt`. With `UPDATE_EXPECT=1` in the
/// environment the file is rewritten; read the difference before you commit it.
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
    expect_test::expect_file!["config_errors.txt"].assert_eq(&found);
    assert!(MALFORMED.len() >= 60, "{}", MALFORMED.len());
    assert!(
        !found.contains("=> hunter2") && !found.lines().any(|line| line.starts_with("=>") && line.contains("hunter2"))
    );
}

// ---- good ones -----------------------------------------------------------------------------------------------------
// "Python:" is the result of metaxy 0.1.11 for the same files (`MetaxyConfig.load(auto_discovery_start=..)`).

#[test]
fn defaults() {
    // Python: the same, also without a file. `auto_create_tables` is False there; here the default depends on the
    // backend.
    let config = Project::new(&[]).load("", &[]).unwrap();
    assert_eq!((config.store(), config.project(), config.hash_truncation_length()), ("dev", None, 8));
    assert_eq!((config.sync(), config.locked(), config.enable_map_datatype()), (true, None, false));
    assert_eq!((config.auto_create_tables(), config.file(), config.stores().count()), (None, None, 0));
    assert!(config.extra_features().is_empty());
}

#[test]
fn discovery() {
    let store = |files: &[(&str, &str)], start: &str| {
        let project = Project::new(&[files, &[("deep/er/keep", "")]].concat());
        project.load(start, &[]).unwrap().store().to_owned()
    };
    let own = ("metaxy.toml", "store = 'own'");
    // Python: 'own'.
    assert_eq!(store(&[own, ("pyproject.toml", "[tool.metaxy]\nstore = 'py'")], ""), "own");
    assert_eq!(store(&[own], "deep/er"), "own");
    // Python: 'py', the nearer one wins.
    assert_eq!(store(&[own, ("deep/pyproject.toml", "[tool.metaxy]\nstore = 'py'")], "deep/er"), "py");
    // Python: 'own', for both.
    assert_eq!(store(&[own, ("deep/pyproject.toml", "[tool.black]\nx = 1")], "deep/er"), "own");
    assert_eq!(store(&[own, ("deep/pyproject.toml", "[tool.metaxy]")], "deep/er"), "own");

    let project = Project::new(&[own, ("deep/keep", "")]);
    let alone =
        MetaxyConfig::loader().directory(project.path("deep")).environment(Environment::empty()).search_parents(false);
    assert_eq!(alone.load().unwrap().store(), "dev");
    let config = MetaxyConfig::load_from(project.path("metaxy.toml")).unwrap();
    assert_eq!((config.store(), config.file()), ("own", Some(project.path("metaxy.toml").as_path())));
    // Python: METAXY_CONFIG wins over discovery, too.
    let named = project.path("metaxy.toml").display().to_string();
    assert_eq!(
        Project::new(&[("metaxy.toml", "store = 'x'")]).load("", &[("METAXY_CONFIG", &named)]).unwrap().store(),
        "own"
    );
}

/// Python refuses it as TOML.
#[test]
fn a_byte_order_mark_is_ignored() {
    assert_eq!(load("\u{feff}store = 'x'\r\nsync = false\r\n", &[]).unwrap().store(), "x");
}

#[test]
fn extend() {
    // Python: store 'c', project 'pp', stores x (type T2, no settings left), y, n; entrypoints ['a', 'b'].
    let project = Project::new(&[
        (
            "metaxy.toml",
            "extend = 'base/base.toml'\nstore = 'c'\nextra_features = [{ projects = ['b'] }]\n[stores.x]\ntype = 'T2'\n[stores.n]\ntype = 'T'",
        ),
        (
            "base/base.toml",
            "extend = '../pyproject.toml'\nstore = 'p'\nextra_features = [{ projects = ['a'] }]\n[stores.x]\ntype = 'T1'\n[stores.x.config]\nz = 1\n[stores.y]\ntype = 'T'",
        ),
        ("pyproject.toml", "[tool.metaxy]\nproject = 'pp'\nstore = 'q'\nlocked = true"),
    ]);
    let config = project.load("", &[]).unwrap();
    assert_eq!((config.store(), config.project(), config.locked()), ("c", Some("pp"), Some(true)));
    let projects: Vec<_> = config.extra_features().iter().flat_map(|one| one.projects.clone()).collect();
    assert_eq!(projects, ["a", "b"]);
    assert_eq!(config.stores().map(|(name, _)| name).collect::<Vec<_>>(), ["x", "y", "n"]);
    let x = config.store_config("x").unwrap();
    assert_eq!((x.kind(), x.settings().len()), ("T2", 0));
}

#[test]
fn extend_accepts_variables_and_absolute_paths() {
    // Python: refuses `${..}` in `extend` ("does not exist: .../${XX}").
    let project = Project::new(&[("metaxy.toml", "extend = '${BASE}/b.toml'"), ("b.toml", "store = 'x'")]);
    let base = project.directory.path().display().to_string();
    assert_eq!(project.load("", &[("BASE", &base)]).unwrap().store(), "x");
}

#[test]
fn variables() {
    let expand = |text: &str, environment: &[(&str, &str)]| {
        let config = load(&format!("store = '{text}'"), environment)?;
        Ok::<_, Error>(config.store().to_owned())
    };
    let set = [("A", "1"), ("EMPTY", ""), ("NESTED", "${A}")];
    for (text, expected) in [
        ("${A}", "1"),
        ("x-${A}-${A}.db", "x-1-1.db"),
        ("${NOPE:-d}", "d"),
        ("${NOPE:-}", ""),
        ("${NOPE:-a:-b}", "a:-b"),
        // Python: ''. A variable that is set and empty is set.
        ("${EMPTY:-d}", ""),
        // Python: '$1', '$A', '{A}'.
        ("$${A}", "$1"),
        ("$A", "$A"),
        ("{A}", "{A}"),
        // Python: '${HOME}' for `${NOPE_X:-${HOME}}`; a default contains no variable.
        ("${NOPE:-${A}}", "${A}"),
        // The value of a variable is not expanded again.
        ("${NESTED}", "${A}"),
    ] {
        assert_eq!(expand(text, &set).unwrap(), expected, "{text}");
    }
    // Python: ''. An empty password or path is useless.
    assert!(expand("${NOPE}", &set).is_err());
}

#[test]
fn a_missing_variable_is_an_error_only_if_it_is_needed() {
    let text = "[stores.dev]\ntype = 'memory'\nroot_path = 'm'\n[stores.prod]\ntype = 'memory'\nroot_path = '${PROD}'\n\
                hash_algorithm = '${HASH}'\n[ext.sqlmodel]\nx = '${NOPE}'";
    let config = load(text, &[]).unwrap();
    config.store_config("dev").unwrap().backend_settings().unwrap();
    assert!(config.store_config("prod").unwrap().backend_settings().is_err());
    assert!(config.check().is_err());
    // An overridden one is not needed.
    let overrides = [("METAXY_STORES__PROD__CONFIG__ROOT_PATH", "/p"), ("METAXY_STORES__PROD__HASH_ALGORITHM", "md5")];
    load(text, &overrides).unwrap().store_config("prod").unwrap().backend_settings().unwrap();
}

#[tokio::test]
async fn a_missing_variable_of_a_fallback_is_an_error_when_the_fallback_is_needed() {
    let text = "[stores.dev]\ntype = 'memory'\nroot_path = 'late-dev'\nfallback_stores = ['prod']\n\
                [stores.prod]\ntype = 'memory'\nroot_path = 'late-prod'\npassword = '${PROD_PASSWORD}'";
    let log = support::Log::default();
    let guard = log.start();
    let config = load(text, &[]).unwrap();
    let store = config.open_store("dev", FeatureGraph::new([]).unwrap(), AccessMode::ReadOnly).await.unwrap();
    drop(guard);
    assert!(log.text().contains("PROD_PASSWORD is not set"), "{}", log.text());
    assert!(!store.has_feature("raw/video").await.unwrap());
    let error = store.store_of("raw/video").await.unwrap_err().to_string();
    assert!(error.contains(":8: `stores.prod.password`: the environment variable PROD_PASSWORD is not set"), "{error}");
    assert_eq!(config.check().unwrap_err().to_string(), error);
}

#[test]
fn environment_over_files() {
    let text = "store = 'dev'\nhash_truncation_length = 8\n[stores.Prod]\ntype = 'memory'\n[stores.Prod.config]\nroot_path = '/a'\n\
                storage_options = { AWS_REGION = 'eu' }";
    let config = load(
        text,
        &[
            ("METAXY_STORE", "Prod"),
            ("METAXY_HASH_TRUNCATION_LENGTH", "12"),
            // Python: 'no' and '1' are booleans.
            ("METAXY_SYNC", "no"),
            ("METAXY_LOCKED", "1"),
            // Python: finds stores with lower-case names only, and warns of an incomplete store 'prod'.
            ("METAXY_STORES__PROD__CONFIG__ROOT_PATH", "/b"),
            // Python: refuses a setting without CONFIG, as it does in the file.
            ("METAXY_STORES__PROD__PORT", "5432"),
            ("METAXY_STORES__PROD__CONFIG__STORAGE_OPTIONS__AWS_REGION", "us"),
            ("METAXY_STORES__PROD__CONFIG__STORAGE_OPTIONS__NEW", "x"),
            // Python: keeps the text, and refuses it when the store is created.
            ("METAXY_STORES__PROD__CONFIG__FALLBACK_STORES", r#"["other"]"#),
            ("METAXY_STORES__OTHER", r#"{"type": "ledger", "root_path": "/o"}"#),
            ("METAXY_EXTRA_FEATURES", r#"[{"all": true}]"#),
            // Python: ignores both.
            ("METAXY_STOR", "x"),
            ("METAXY_PROJECT_X", "y"),
            // Python: warns, and ignores the store.
            ("METAXY_STORES__GHOST__CONFIG__ROOT_PATH", "/g"),
            ("METAXY_STORES____X", "1"),
        ],
    )
    .unwrap();
    assert_eq!((config.store(), config.hash_truncation_length()), ("Prod", 12));
    assert_eq!((config.sync(), config.locked()), (false, Some(true)));
    assert!(config.extra_features()[0].all);
    assert_eq!(config.stores().map(|(name, _)| name).collect::<Vec<_>>(), ["Prod", "other"]);
    let prod = config.store_config("Prod").unwrap();
    assert_eq!(prod.settings()["root_path"].as_str(), Some("/b"));
    assert_eq!(prod.settings()["port"].as_str(), Some("5432"));
    assert_eq!(prod.settings()["storage_options"].to_string(), r#"{ AWS_REGION = "us", new = "x" }"#);
    assert_eq!(prod.common().unwrap().fallback_stores, ["other"]);
    assert_eq!(config.store_config("other").unwrap().settings()["root_path"].as_str(), Some("/o"));
    (prod.registration().unwrap().create)(prod.backend_settings().unwrap()).unwrap();
}

#[test]
fn environment_over_settings_beside_the_type() {
    let config = load(
        "[stores.dev]\ntype = 'memory'\nroot_path = '/a'",
        &[
            ("METAXY_STORES__DEV__CONFIG__ROOT_PATH", "/b"),
            // Python: merges JSON the same way.
            ("METAXY_STORES__DEV__CONFIG", r#"{"layout": "flat", "tags": null}"#),
        ],
    )
    .unwrap();
    assert_eq!(config.store_config("dev").unwrap().settings().to_string(), "root_path = \"/b\"\nlayout = \"flat\"\n");
    // Python: '${HOME}'; the value of a variable is not expanded.
    assert_eq!(load("", &[("METAXY_STORE", "${HOME}")]).unwrap().store(), "${HOME}");
}

/// Python: the same stores, with the same settings.
#[test]
fn stores_from_the_environment() {
    let config = load(
        "[stores.dev]\ntype = 'memory'\n[stores.dev.config]\nroot_path = '/a'\n[stores.prod]\ntype = 'memory'\n[stores.prod.config]\nroot_path = '/p'",
        &[
            ("METAXY_STORES__NEW__TYPE", "ledger"),
            ("METAXY_STORES__NEW__CONFIG__ROOT_PATH", "/n"),
            ("METAXY_STORES", r#"{"dev": {"config": {"layout": "flat"}}}"#),
            ("METAXY_STORES__PROD", r#"{"type": "ledger"}"#),
            ("metaxy_store", "prod"),
        ],
    )
    .unwrap();
    let stores = config.stores().map(|(name, store)| format!("{name} {} {}", store.kind(), store.settings()));
    let expected = [
        "dev memory root_path = \"/a\"\nlayout = \"flat\"\n",
        "prod ledger root_path = \"/p\"\n",
        "new ledger root_path = \"/n\"\n",
    ];
    assert_eq!(stores.collect::<Vec<_>>(), expected);
    assert_eq!(config.store(), "prod");
}

#[test]
fn text_is_accepted_for_numbers_and_booleans() {
    // Python: the same for fields ("12", "no"; 8.0, 1 and 0.0 below).
    let config = load("hash_truncation_length = 8.0\nsync = 0.0\nlocked = 1", &[]).unwrap();
    assert_eq!((config.hash_truncation_length(), config.sync(), config.locked()), (8, false, Some(true)));
    let config = load("hash_truncation_length = '12'\nsync = 'off'\nlocked = 'TRUE'", &[]).unwrap();
    assert_eq!((config.hash_truncation_length(), config.sync(), config.locked()), (12, false, Some(true)));
    let text = "[stores.dev]\ntype = 'memory'\nroot_path = 'm'\nport = '${PORT}'\nverify = '1'\nratio = '0.5'\ntags = '[\"a\"]'\n\
                pool = '{\"size\": 3}'\nauto_create_tables = 'true'";
    let config = load(text, &[("PORT", " 5432 ")]).unwrap();
    config.check().unwrap();
    assert_eq!(config.store_config("dev").unwrap().common().unwrap().auto_create_tables, Some(true));
}

/// The example of the Python package's documentation, with its type strings. Python 0.1.11 refuses it unchanged
/// ("stores.dev.root_path: Extra inputs are not permitted"), and accepts it with the settings in `config` tables.
#[tokio::test]
async fn the_documented_example() {
    for (dev, prod) in [("", ""), ("\n[stores.dev.config]", "\n[stores.prod.config]")] {
        let text = format!(
            "store = \"dev\"\n[stores.dev]\ntype = \"{DELTA}\"{dev}\nroot_path = \"${{HOME}}/.metaxy/dev\"\n\
             fallback_stores = [\"prod\"]\n\n[stores.prod]\ntype = \"{DELTA}\"{prod}\nroot_path = \"s3://bucket/metaxy\"\n"
        );
        let config = load(&text, &[("HOME", "/home/ada")]).unwrap();
        let dev = config.store_config("dev").unwrap();
        assert_eq!(dev.settings()["root_path"].as_str(), Some("/home/ada/.metaxy/dev"));
        let store = config.open_default_store(FeatureGraph::new([]).unwrap(), AccessMode::ReadWrite).await.unwrap();
        assert_eq!(store.name(), "dev");
        // A fallback is opened when it is first needed.
        assert_eq!(support::space("s3://bucket/metaxy").opened.load(std::sync::atomic::Ordering::SeqCst), 0);
        assert!(!store.has_feature("raw/video").await.unwrap());
    }
}

#[tokio::test]
async fn settings_of_the_python_package_are_accepted() {
    let log = support::Log::default();
    let text = format!(
        "entrypoints = ['films.features']\ntheme = 'dark'\nmetaxy_lock_path = 'x.lock'\n[ext.sqlmodel]\nenable = true\n\
         [stores.dev]\ntype = \"{DELTA}\"\n[stores.dev.config]\nroot_path = 'python'\nversioning_engine = 'polars'\n\
         [stores.dev.config.delta_write_options]\nschema_mode = 'merge'"
    );
    let _guard = log.start();
    let config = load(&text, &[("METAXY_PROJEKT", "x")]).unwrap();
    open(&config, "dev").await.unwrap();
    let log = log.text();
    assert!(log.contains("settings=\"entrypoints, theme, ext\""), "{log}");
    assert!(log.contains("store=\"stores.dev\" settings=\"delta_write_options\""), "{log}");
    assert!(log.contains("METAXY_PROJEKT") && log.contains("did you mean METAXY_PROJECT?"), "{log}");
    assert_eq!(config.store_config("dev").unwrap().common().unwrap().versioning_engine, VersioningEngine::Arrow);
}

#[test]
fn in_code() {
    let dev =
        StoreConfig::new("memory").setting("root_path", "m").fallback_store("prod").hash_algorithm(HashAlgorithm::Md5);
    let prod = StoreConfig::new("ledger").setting("root_path", "p").setting("root_path", "q");
    let config = MetaxyConfig::builder()
        .store("dev")
        .project("films")
        .hash_truncation_length(16)
        .auto_create_tables(true)
        .enable_map_datatype(true)
        .sync(false)
        .locked(true)
        .extra_features(FeatureSelection { projects: vec!["a".to_owned()], ..FeatureSelection::default() })
        .add_store("dev", dev)
        .add_store("prod", prod)
        .build()
        .unwrap();
    config.check().unwrap();
    assert_eq!((config.project(), config.hash_truncation_length()), (Some("films"), 16));
    assert_eq!((config.auto_create_tables(), config.sync(), config.locked()), (Some(true), false, Some(true)));
    assert_eq!(config.extra_features()[0].projects, ["a"]);
    assert_eq!(config.store_config("dev").unwrap().common().unwrap().fallback_stores, ["prod"]);
    assert_eq!(config.store_config("prod").unwrap().settings()["root_path"].as_str(), Some("q"));

    let told = |config: std::result::Result<MetaxyConfig, Error>| config.unwrap_err().to_string();
    assert_eq!(
        told(MetaxyConfig::builder().project("a b").build()),
        "`project`: the project's name may hold letters, digits, `_` and `-` only"
    );
    let odd = StoreConfig::new("memory").setting("hash_algorithm", 3);
    assert_eq!(
        told(MetaxyConfig::builder().add_store("dev", odd).build()),
        "`stores.dev.config.hash_algorithm`: expected a string, found 3"
    );
}

#[test]
fn printing_masks_secrets() {
    let text = "[stores.pg]\ntype = 'ledger'\n[stores.pg.config]\nconnection_string = 'postgresql://ada:${PW}@db/meta'\n\
                [stores.pg.config.connection_params]\nuser = 'ada'\npassword = '${PW}'\nport = 5432\n\
                [stores.s3]\ntype = 'memory'\nroot_path = 's3://bucket/x'\nfallback_stores = ['pg']\n\
                storage_options = { AWS_SECRET_ACCESS_KEY = '${PW}', AWS_REGION = 'eu' }";
    let config = load(text, &[("PW", "hunter2")]).unwrap();
    let printed = config.to_toml().unwrap();
    assert_eq!(
        printed,
        r#"store = "dev"
hash_truncation_length = 8
enable_map_datatype = false
sync = true

[stores.pg]
type = "ledger"

[stores.pg.config]
connection_string = "postgresql://ada:***@db/meta"

[stores.pg.config.connection_params]
user = "ada"
password = "***"
port = 5432

[stores.s3]
type = "memory"

[stores.s3.config]
root_path = "s3://bucket/x"
fallback_stores = ["pg"]

[stores.s3.config.storage_options]
AWS_SECRET_ACCESS_KEY = "***"
AWS_REGION = "eu"
"#
    );
    let settings = config.store_config("s3").unwrap().backend_settings().unwrap();
    for shown in [format!("{config:?}"), format!("{:?}", config.store_config("pg")), format!("{settings:?}")] {
        assert!(!shown.contains("hunter2") && shown.contains("***"), "{shown}");
    }
    // The printed text is a configuration. Python loads it, too.
    assert_eq!(load(&printed, &[]).unwrap().to_toml().unwrap(), printed);
}
