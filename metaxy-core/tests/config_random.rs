//! Random configurations: loading, checking and printing them, and opening and reading their stores, return a result or
//! an error, and never panic.

mod support;

use std::cell::Cell;

use metaxy_core::config::{Environment, MetaxyConfig};
use metaxy_core::{AccessMode, Error, FeatureSpec, Result};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const KEYS: [&str; 24] = [
    "store",
    "stores",
    "project",
    "hash_truncation_length",
    "auto_create_tables",
    "sync",
    "locked",
    "extra_features",
    "extend",
    "ext",
    "dev",
    "prod",
    "type",
    "config",
    "root_path",
    "fallback_stores",
    "hash_algorithm",
    "layout",
    "storage_options",
    "port",
    "password",
    "tags",
    "all",
    "\"a.b\"",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec![
            "memory",
            "ledger",
            "dev",
            "prod",
            "md5",
            "${HOME}",
            "${NOPE}",
            "${NOPE:-x}",
            "${",
            "}",
            "[\"dev\"]",
            "{\"a\": 1}",
            "true",
            "7",
            "-1",
            "",
            "postgresql://u:p@h/d",
            "\u{1F600}",
            "metaxy.toml",
            "/",
            "..",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,12}",
    ]
}

fn value() -> impl Strategy<Value = toml::Value> {
    let leaf = prop_oneof![
        text().prop_map(toml::Value::String),
        any::<i64>().prop_map(toml::Value::Integer),
        any::<f64>().prop_map(toml::Value::Float),
        any::<bool>().prop_map(toml::Value::Boolean),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(toml::Value::Array),
            table_of(inner).prop_map(toml::Value::Table),
        ]
    })
}

fn table_of(value: impl Strategy<Value = toml::Value>) -> impl Strategy<Value = toml::Table> {
    let key = prop_oneof![4 => proptest::sample::select(KEYS.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,6}"];
    proptest::collection::vec((key, value), 0..6).prop_map(|entries| entries.into_iter().collect())
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Returns the settings of a store that is almost valid: most have later stores as fallbacks.
fn store(at: usize) -> impl Strategy<Value = toml::Value> {
    let later = proptest::sample::subsequence(NAMES[at + 1..].to_vec(), 0..NAMES.len() - at);
    let anyone = proptest::collection::vec(proptest::sample::select(NAMES.to_vec()), 0..3);
    let fallbacks = prop_oneof![6 => later, 1 => anyone];
    let kind = prop_oneof![8 => Just("memory"), 1 => Just("ledger")];
    let odd = proptest::option::weighted(0.15, (proptest::sample::select(KEYS.to_vec()), value()));
    (kind, fallbacks, any::<bool>(), odd).prop_map(|(kind, fallbacks, nested, odd)| {
        let mut settings = toml::Table::new();
        settings.insert("root_path".to_owned(), "x".into());
        settings.insert("fallback_stores".to_owned(), fallbacks.into());
        settings.extend(odd.map(|(key, value)| (key.to_owned(), value)));
        let mut store =
            if nested { toml::Table::from_iter([("config".to_owned(), settings.into())]) } else { settings };
        store.insert("type".to_owned(), kind.into());
        toml::Value::Table(store)
    })
}

/// Returns stores that are almost valid, so that more code is reached.
fn stores() -> impl Strategy<Value = toml::Table> {
    let stores = (store(0), store(1), store(2), store(3));
    (stores, proptest::sample::subsequence(NAMES.to_vec(), 2..=4)).prop_map(|((a, b, c, d), kept)| {
        let all = NAMES.into_iter().zip([a, b, c, d]);
        all.filter(|(name, _)| kept.contains(name)).map(|(name, store)| (name.to_owned(), store)).collect()
    })
}

fn environment() -> impl Strategy<Value = Vec<(String, String)>> {
    let key = proptest::collection::vec(proptest::sample::select(KEYS.to_vec()), 1..6)
        .prop_map(|keys| format!("METAXY_{}", keys.join("__").to_uppercase()));
    proptest::collection::vec((prop_oneof![4 => key, 1 => "(METAXY|metaxy)_\\PC{0,8}"], text()), 0..6)
}

/// The results of a configuration.
#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    loaded: usize,
    opened: usize,
    /// The number of stores whose fallbacks were searched.
    searched: usize,
}

/// Opens every store, and reads a feature from it and its fallbacks.
fn open_all(config: &MetaxyConfig, seen: &mut Seen) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (name, store) in config.stores() {
        let opened: Result<()> = runtime.block_on(async {
            let video = FeatureSpec::builder("raw/video").id_columns(["id"]).build()?;
            let graph = config.graph_builder().features([video]).build()?;
            let open = config.open_store(name, graph, AccessMode::ReadWrite).await?;
            seen.opened += 1;
            let error = open.read("raw/video").await.map(drop).unwrap_err();
            seen.searched += usize::from(matches!(error, Error::FeatureNotFound { .. }) && has_fallbacks(store));
            open.close().await
        });
        assert!(opened.map_or_else(|error| !error.to_string().is_empty(), |()| true));
    }
}

fn has_fallbacks(store: &metaxy_core::config::StoreConfig) -> bool {
    store.common().is_ok_and(|common| !common.fallback_stores.is_empty())
}

fn try_all(text: &str, variables: Vec<(String, String)>) -> Seen {
    let mut seen = Seen::default();
    let environment = Environment::from_iter(variables);
    let loader = MetaxyConfig::loader().environment(environment).directory("/nowhere");
    let config = match loader.load_text(text) {
        Ok(config) => config,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return seen;
        }
    };
    let _ = (config.check().map_err(|error| error.to_string()), format!("{config:?}"));
    for (_, store) in config.stores() {
        let _ = (store.common(), store.backend_settings(), store.registration().is_ok());
    }
    seen.loaded += 1;
    open_all(&config, &mut seen);
    let printed = config.to_toml().expect("what was read can be printed");
    // A variable's value may contain `${`, which would be expanded when it is loaded again.
    let again = MetaxyConfig::loader().environment(Environment::empty()).load_text(&printed);
    if let (Ok(again), false) = (again, printed.contains("${")) {
        assert_eq!(again.to_toml().unwrap(), printed);
    }
    seen
}

/// Configurations that are almost valid must succeed often enough for the test to be meaningful.
#[test]
fn almost_valid_configurations() {
    let parts = (stores(), table_of(value()), proptest::bool::weighted(0.2), environment());
    let total = Cell::new(Seen::default());
    let tried = TestRunner::new(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })
        .run(&parts, |(stores, rest, with_rest, variables)| {
            let mut table = if with_rest { rest } else { toml::Table::new() };
            table.insert("stores".to_owned(), stores.into());
            let (one, sum) = (try_all(&toml::to_string(&table).unwrap_or_default(), variables), total.get());
            total.set(Seen {
                loaded: sum.loaded + one.loaded,
                opened: sum.opened + one.opened,
                searched: sum.searched + one.searched,
            });
            Ok(())
        });
    tried.unwrap_or_else(|failure| panic!("{failure}"));
    let total = total.get();
    println!("{total:?}");
    assert!(total.loaded >= 200 && total.opened >= 200 && total.searched >= 50, "{total:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn tables(table in table_of(value()), variables in environment()) {
        try_all(&toml::to_string(&table).unwrap_or_default(), variables);
    }

    #[test]
    fn texts(text in "(\\PC|\n|\t|[=\\[\\]{}\"'.#$]){0,60}", variables in environment()) {
        try_all(&text, variables);
    }
}

#[test]
fn deep_configurations() {
    for depth in [10, 100, 10_000] {
        try_all(&format!("stores = {}1{}", "[".repeat(depth), "]".repeat(depth)), Vec::new());
        try_all(&format!("{}x = 1", "a.".repeat(depth)), Vec::new());
        let variable = format!("METAXY_STORES{}", "__A".repeat(depth));
        let json = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        try_all("", vec![(variable, "x".to_owned()), ("METAXY_STORES".to_owned(), json)]);
    }
}
