//! Two backends with the same type string.

use std::collections::BTreeMap;

use metaxy_core::config::MetaxyConfig;
use metaxy_core::registry::{self, BackendRegistration, BackendSettings};
use metaxy_core::{Error, Result, SharedBackend};

fn create(settings: BackendSettings) -> Result<SharedBackend> {
    Err(settings.invalid("root_path", "nothing is made here"))
}

inventory::submit! {
    BackendRegistration { kind: "stone", aliases: &["a.StoneStore", "stone"], crate_name: "one", ignored_settings: &[], create }
}

inventory::submit! {
    BackendRegistration { kind: "clay", aliases: &["a.StoneStore"], crate_name: "two", ignored_settings: &[], create }
}

#[test]
fn two_backends_of_one_type_are_an_error() {
    let told = "the store type `a.StoneStore` is registered twice, by `two` and by `one`; link only one of them";
    for error in [
        registry::registrations().map(drop).unwrap_err(),
        registry::find("clay").map(drop).unwrap_err(),
        MetaxyConfig::from_toml_str("").map(drop).unwrap_err(),
        MetaxyConfig::builder().build().map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, Error::DuplicateBackend { .. }));
        assert_eq!(error.to_string(), told);
    }
}

#[test]
fn errors_of_settings_in_code() {
    let settings = BackendSettings::from_table(toml::Table::from_iter([("password".to_owned(), "hunter2".into())]));
    assert_eq!(create(settings.clone()).map(drop).unwrap_err().to_string(), "`root_path`: nothing is made here");
    assert!(!format!("{settings:?}").contains("hunter2"));
    let read: Result<BTreeMap<String, String>> = settings.clone().parse();
    assert!(matches!(read, Ok(map) if map["password"] == "hunter2"));
    let read: Result<BTreeMap<String, u16>> = settings.parse();
    assert_eq!(read.unwrap_err().to_string(), "`password`: expected a whole number from 0 to 65535, found a string");
}
