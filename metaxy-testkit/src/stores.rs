//! A store that the Python package wrote, one in each of its storage systems, and what it has to answer.
//!
//! The rows are the same in all of them, so one recording serves them all; the store itself is test data of the crate
//! that reads it.

use std::io;
use std::path::Path;

use metaxy_core::SharedBackend;

use crate::scenario::{Failure, Scenario, run_text};

const EXPECTED: &str = include_str!("../stores/expected.json");

/// Resolves and reads as the Python package did, and compares.
///
/// # Errors
/// The step that answers otherwise.
pub async fn answers_as_recorded(backend: SharedBackend) -> Result<(), Failure> {
    run_text(EXPECTED, "stores/expected.json", backend).await
}

/// The recording as a scenario, with the features of the store.
pub fn recording() -> Scenario {
    serde_json::from_str(EXPECTED).expect("a scenario")
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
