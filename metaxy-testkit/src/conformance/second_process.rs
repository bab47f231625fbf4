//! A second process: the test binary again, with the same test as its filter. The case runs in both processes.

use std::process::Stdio;

use metaxy_core::registry::{self, BackendSettings};
use metaxy_core::{AccessMode, MetadataStore, Result};
use tokio::process::Command;

use super::Bench;
use super::kit::{builder_over, pair};
use crate::process;

/// The variable with the location of the rows for the second process.
const SETTINGS: &str = "METAXY_CONFORMANCE_CHILD";

/// Returns the store as the second process opens it; `None` in the first process.
pub(super) async fn as_child(bench: &Bench, mode: AccessMode) -> Result<Option<MetadataStore>> {
    let Ok(settings) = std::env::var(SETTINGS) else { return Ok(None) };
    let kind = bench.location.backend().await?.info().kind;
    let settings: toml::Table = settings.parse().expect("the first process has written the settings");
    let backend = (registry::find(kind)?.create)(BackendSettings::from_table(settings))?;
    builder_over(&*bench.location, backend, pair()?).open(mode).await.map(Some)
}

/// Returns a command that runs the current test in a second process, on this location.
pub(super) fn child(bench: &Bench) -> Command {
    child_with(bench, &bench.location.settings())
}

/// Returns the command of [`child`] with other settings.
pub(super) fn child_with(bench: &Bench, settings: &toml::Table) -> Command {
    let name = bench.test.split_once("::").map_or(bench.test, |(_, name)| name);
    let mut command = Command::from(process::command(name));
    command
        .env(SETTINGS, toml::to_string(settings).expect("settings are TOML"))
        .envs(bench.location.environment())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Waits until the second process has passed its part of the case.
pub(super) async fn assert_child_passes(mut command: Command) {
    process::assert_passed(&command.output().await.expect("the second process starts"));
}
