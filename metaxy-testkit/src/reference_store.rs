//! The store that the Python package wrote in every storage system, and what has to come out of it.
//!
//! `stores/expected.json` has the package's own answers. `stores/appended.json` goes on from there: rows are written
//! beside those of the package, and both are told apart, read and resolved.

use metaxy_core::Result;
use metaxy_core::backend::SharedBackend;

use crate::clock::ManualClock;
use crate::scenario::{Failure, Scenario, Step, run, run_by};

const EXPECTED: &str = include_str!("../stores/expected.json");
const APPENDED: &str = include_str!("../stores/appended.json");

/// From the start of a [`ManualClock`] to a time after the package's last write, in seconds.
const LATER: i64 = 2 * 365 * 24 * 3600;

/// What the Python package has answered: the features of its store, and reads and resolves.
#[must_use]
pub fn recorded() -> Scenario {
    serde_json::from_str(EXPECTED).expect("stores/expected.json is a scenario")
}

/// Writes that go into the same store, and what is read and resolved then.
#[must_use]
pub fn appended() -> Scenario {
    let steps: Vec<Step> = serde_json::from_str(APPENDED).expect("stores/appended.json has steps");
    Scenario { steps, ..recorded() }
}

/// Checks a copy of the package's store: that it answers as recorded, and that it can be written to. `backend` makes a
/// backend on the copy that is not open.
///
/// # Errors
/// The first step that answers otherwise.
pub async fn check(backend: impl AsyncFn() -> Result<SharedBackend>) -> Result<(), Failure> {
    let made = async || backend().await.map_err(|error| Failure::new("the store", "opening", error.to_string()));
    run(&recorded(), "stores/expected.json", made().await?).await?;
    let clock = ManualClock::new();
    clock.advance(LATER);
    run_by(&clock, &appended(), "stores/appended.json", made().await?).await
}
