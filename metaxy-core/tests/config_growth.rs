//! Large configurations, long chains of files, and files that are not regular.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use metaxy_core::config::Environment;
use metaxy_core::{Error, MetaxyConfig, Result};

/// Returns a configuration of this number of stores, on four lines each.
fn stores(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        let _ =
            writeln!(text, "[stores.s{number}]\ntype = 'none'\n[stores.s{number}.config]\ndatabase = '{number}.db'");
        text
    })
}

fn seconds_for(count: usize) -> f64 {
    let text = stores(count);
    let once = || {
        let start = Instant::now();
        let config = MetaxyConfig::loader().environment(Environment::empty()).load_text(&text).unwrap();
        assert_eq!(config.stores().count(), count);
        start.elapsed()
    };
    (0..3).map(|_| once()).min().unwrap_or(Duration::ZERO).as_secs_f64()
}

/// Eight times as many stores once took 64 times as long.
#[test]
fn loading_time_is_linear_in_the_number_of_stores() {
    let (some, many) = (seconds_for(1_000), seconds_for(8_000));
    assert!(many < 24.0 * some, "1,000 stores take {some} s, 8,000 take {many} s");
}

/// Writes files that extend each other, and loads the first one.
fn chain(directory: &Path, files: usize) -> Result<MetaxyConfig> {
    for number in 0..files {
        let extend = if number == 0 { String::new() } else { format!("extend = '{}.toml'\n", number - 1) };
        let text = format!("{extend}[stores.s{number}]\ntype = 'none'\n");
        fs::write(directory.join(format!("{number}.toml")), text).unwrap();
    }
    let last = directory.join(format!("{}.toml", files - 1));
    MetaxyConfig::loader().environment(Environment::empty()).file(last).load()
}

#[test]
fn a_long_chain_of_files_is_read_and_an_endless_one_refused() {
    let directory = tempfile::tempdir().unwrap();
    let config = chain(directory.path(), 60).unwrap();
    assert_eq!(config.stores().count(), 60);
    let names: Vec<&str> = config.stores().map(|(name, _)| name).collect();
    assert_eq!((names[0], names[59]), ("s0", "s59"), "those that are extended come first");
    let error = chain(directory.path(), 3_000).unwrap_err();
    assert!(matches!(&error, Error::LimitExceeded { limit, .. } if limit == "100 files"), "{error}");
    assert!(error.to_string().contains("2900.toml"), "it names the file: {error}");
}

#[cfg(unix)]
#[test]
fn a_broken_link_is_an_error() {
    use std::os::unix::fs::symlink;

    for name in ["metaxy.toml", "pyproject.toml"] {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("below");
        fs::create_dir(&below).unwrap();
        fs::write(directory.path().join("metaxy.toml"), "project = 'above'").unwrap();
        symlink("gone.toml", below.join(name)).unwrap();
        let load = || MetaxyConfig::loader().environment(Environment::empty()).directory(&below).load();
        let error = load().unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("gone.toml"), "{text}");
        fs::write(below.join("gone.toml"), "project = 'here'").unwrap();
        let project = load().unwrap().project().map(str::to_owned);
        assert_eq!(project.as_deref(), Some(if name == "metaxy.toml" { "here" } else { "above" }));
    }
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let text = "extend = '/dev/zero'";
    let load = |text: &str| {
        MetaxyConfig::loader().environment(Environment::empty()).directory(directory.path()).load_text(text)
    };
    let error = load(text).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
    let pipe = directory.path().join("metaxy.toml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = load("extend = 'metaxy.toml'").unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}
