//! What the targets of `cargo fuzz` run: any bytes are accepted, or refused by a typed error, and nothing panics.
//!
//! The targets are in `fuzz/` of the repository, with a corpus each; [`run_corpus`] and [`run_changed`] run one in a test.

mod arrays;
mod batches;
mod changed;
mod files;
mod input;
mod texts;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use metaxy_core::Error;
use tokio::runtime::{Builder, Runtime};

pub use batches::batches;
pub use changed::run_changed;
pub use files::{Overlaid, spool};
pub use texts::{configuration, feature_file, features, filter, spec};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime"));

/// Runs a target on every file of a corpus, in the order of their names.
///
/// # Panics
/// If there is none, or the target panics, with the name of the file.
pub fn run_corpus(directory: &Path, target: impl Fn(&[u8])) {
    for (file, bytes) in files_of(directory) {
        // Shown only if the test fails.
        println!("{}", file.display());
        target(&bytes);
    }
}

/// Returns the files of a corpus, in the order of their names.
fn files_of(directory: &Path) -> impl Iterator<Item = (PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no files", directory.display());
    files.into_iter().map(|file| {
        let bytes = std::fs::read(&file).expect("a file");
        (file, bytes)
    })
}

/// Checks that an error is about the input, and can be shown.
fn assert_typed(error: &Error) {
    assert!(!error.to_string().is_empty() && !matches!(error, Error::Task(_)), "{error:?}");
}
