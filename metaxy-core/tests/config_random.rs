//! Whatever stands in a configuration, loading, checking and printing it answer, and never panic.

mod support;

use metaxy_core::config::{Environment, MetaxyConfig};
use proptest::prelude::*;

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

/// Stores that are nearly right, so that the way leads further.
fn stores() -> impl Strategy<Value = toml::Table> {
    let names = || proptest::collection::vec(proptest::sample::select(vec!["a", "b", "c", "d"]), 0..3);
    let store = (prop_oneof![Just("memory"), Just("ledger")], names(), any::<bool>(), value(), any::<bool>());
    proptest::collection::vec((proptest::sample::select(vec!["a", "b", "c", "d"]), store), 0..5).prop_map(|stores| {
        let store = |(kind, fallbacks, nested, extra, odd): (&str, Vec<&str>, bool, toml::Value, bool)| {
            let mut settings = toml::Table::new();
            settings.insert("root_path".to_owned(), "x".into());
            settings.insert("fallback_stores".to_owned(), fallbacks.into());
            if odd {
                settings.insert("layout".to_owned(), extra);
            }
            let mut store =
                if nested { toml::Table::from_iter([("config".to_owned(), settings.into())]) } else { settings };
            store.insert("type".to_owned(), kind.into());
            toml::Value::Table(store)
        };
        stores.into_iter().map(|(name, parts)| (name.to_owned(), store(parts))).collect()
    })
}

fn environment() -> impl Strategy<Value = Vec<(String, String)>> {
    let key = proptest::collection::vec(proptest::sample::select(KEYS.to_vec()), 1..6)
        .prop_map(|keys| format!("METAXY_{}", keys.join("__").to_uppercase()));
    proptest::collection::vec((prop_oneof![4 => key, 1 => "(METAXY|metaxy)_\\PC{0,8}"], text()), 0..6)
}

fn try_all(text: &str, variables: Vec<(String, String)>) {
    let environment = Environment::from_iter(variables);
    let loader = MetaxyConfig::loader().environment(environment).directory("/nowhere");
    let config = match loader.load_text(text) {
        Ok(config) => config,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let _ = (config.check().map_err(|error| error.to_string()), format!("{config:?}"));
    for (_, store) in config.stores() {
        let _ = (store.common(), store.backend_settings(), store.registration().is_ok());
    }
    let printed = config.to_toml().expect("what was read can be printed");
    // A variable's value may hold `${`, which would be looked at when it is read again.
    let again = MetaxyConfig::loader().environment(Environment::empty()).load_text(&printed);
    if let (Ok(again), false) = (again, printed.contains("${")) {
        assert_eq!(again.to_toml().unwrap(), printed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn tables(table in table_of(value()), variables in environment()) {
        try_all(&toml::to_string(&table).unwrap_or_default(), variables);
    }

    #[test]
    fn near_configurations(stores in stores(), rest in table_of(value()), with_rest in any::<bool>(), variables in environment()) {
        let mut table = if with_rest { rest } else { toml::Table::new() };
        table.insert("stores".to_owned(), stores.into());
        try_all(&toml::to_string(&table).unwrap_or_default(), variables);
    }

    #[test]
    fn texts(text in "(\\PC|\n|\t|[=\\[\\]{}\"'.#$]){0,60}", variables in environment()) {
        try_all(&text, variables);
    }
}

#[test]
fn deep_ones() {
    for depth in [10, 100, 10_000] {
        try_all(&format!("stores = {}1{}", "[".repeat(depth), "]".repeat(depth)), Vec::new());
        try_all(&format!("{}x = 1", "a.".repeat(depth)), Vec::new());
        let variable = format!("METAXY_STORES{}", "__A".repeat(depth));
        let json = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        try_all("", vec![(variable, "x".to_owned()), ("METAXY_STORES".to_owned(), json)]);
    }
}
