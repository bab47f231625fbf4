//! A store that the Python package wrote, one in each of its storage systems, and what it has to answer.
//!
//! The rows are the same in all of them, so one recording serves them all; the store itself is test data of the crate
//! that reads it. `stores/appended.json` goes on from there: rows are written beside those of the package, and all of them
//! read and resolved.

use std::io;
use std::path::Path;

use metaxy_core::SharedBackend;

use crate::clock::ManualClock;
use crate::scenario::{Failure, Scenario, Step, run, run_by};

const EXPECTED: &str = include_str!("../stores/expected.json");
const APPENDED: &str = include_str!("../stores/appended.json");

/// From the start of a [`ManualClock`] to a time after the package's last write, in seconds.
const LATER: i64 = 2 * 365 * 24 * 3600;

/// The recording as a scenario: the features of the store, and what the Python package has read and resolved.
///
/// # Panics
/// Never: the recording comes with this crate.
pub fn recording() -> Scenario {
    serde_json::from_str(EXPECTED).expect("a scenario")
}

/// Writes that go into the same store, and what is read and resolved then.
///
/// # Panics
/// Never: the steps come with this crate.
pub fn appended() -> Scenario {
    let steps: Vec<Step> = serde_json::from_str(APPENDED).expect("the steps of a scenario");
    Scenario { steps, ..recording() }
}

/// Resolves and reads as the Python package did, and compares.
///
/// # Errors
/// The step that answers otherwise.
pub async fn answers_as_recorded(backend: SharedBackend) -> Result<(), Failure> {
    run(&recording(), "stores/expected.json", backend).await
}

/// Writes to a copy of the package's store, and compares what is read and resolved then.
///
/// # Errors
/// The step that answers otherwise.
pub async fn can_be_appended_to(backend: SharedBackend) -> Result<(), Failure> {
    let clock = ManualClock::new();
    clock.advance(LATER);
    run_by(&clock, &appended(), "stores/appended.json", backend).await
}

/// Copies a directory with all that is in it: a test must not change the data that it came with.
///
/// # Errors
/// What the file system says.
pub fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
