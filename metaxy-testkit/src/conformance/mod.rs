//! The promises of a backend, each with a case that tests it.
//!
//! [`conformance!`](crate::conformance!) generates a test for every case; [`CASES`] lists them for programs.

mod changed_fields;
mod concurrency;
mod definitions;
mod deletes;
mod downstream;
mod fallback;
mod faults;
mod generated;
mod history;
mod hostile;
mod kit;
mod limits;
mod lineage;
mod list;
mod oracle;
mod positions;
mod processes;
mod read;
mod read_only;
mod report;
mod resolve;
mod second_process;
mod since;
mod tables;
mod types;
mod watching;
mod write;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use metaxy_core::{Capabilities, Result};

use crate::location::{Location, SharedLocation};
use crate::scenario::{self, BUNDLED};

pub use list::CASES;

/// A promise and the case that tests it.
pub struct Case {
    /// The topic of the promise.
    pub group: &'static str,
    /// The name of the test.
    pub name: &'static str,
    /// The promise.
    pub promise: &'static str,
    /// Tests the promise; panics, or returns an error, if it is broken.
    pub run: fn(Bench) -> BoxFuture<'static, Result<Outcome>>,
}

/// The outcome of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The promise holds.
    Passed,
    /// The backend does not support this, and has refused it with this error.
    Refused(String),
}

type Factory = Arc<dyn Fn() -> BoxFuture<'static, Result<SharedLocation>> + Send + Sync>;

/// The locations of a case: an empty one, and further ones on request.
#[derive(Clone)]
pub struct Bench {
    /// The location.
    pub location: SharedLocation,
    /// The full name of the running test, for a second process that runs the same test.
    test: &'static str,
    factory: Factory,
    /// The other locations, which exist until the case ends.
    others: Arc<Mutex<Vec<SharedLocation>>>,
}

impl Bench {
    /// Creates a bench with locations of `factory`.
    ///
    /// # Errors
    /// The errors of the factory.
    pub async fn new<L, F, Fut>(factory: F) -> Result<Self>
    where
        L: Location,
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<L>> + Send + 'static,
    {
        let factory: Factory = Arc::new(move || {
            let location = factory();
            async move { Ok(Arc::new(location.await?) as SharedLocation) }.boxed()
        });
        let location = factory().await?;
        Ok(Self { location, test: "", factory, others: Arc::default() })
    }

    /// Returns the bench for a test of this name.
    #[must_use]
    pub fn for_test(mut self, test: &'static str) -> Self {
        self.test = test;
        self
    }

    /// Returns what the backend under test can do.
    ///
    /// # Errors
    /// Those of the location.
    pub async fn capabilities(&self) -> Result<Capabilities> {
        Ok(self.location.backend().await?.info().capabilities)
    }

    /// Creates another empty location, which exists while it is held.
    ///
    /// # Errors
    /// The errors of the factory.
    pub async fn passing(&self) -> Result<SharedLocation> {
        (self.factory)().await
    }

    /// Creates another empty location, which exists as long as the bench.
    ///
    /// # Errors
    /// The errors of the factory.
    pub async fn fresh(&self) -> Result<SharedLocation> {
        let location = self.passing().await?;
        self.others.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&location));
        Ok(location)
    }
}

/// Runs a case as a test.
///
/// # Panics
/// If the promise is broken.
pub async fn run_case(group: &str, name: &str, bench: Result<Bench>) {
    let case = find_case(group, name);
    run_reported(group, name, case.promise, bench, case.run).await;
}

/// Runs a case and returns its outcome, for programs.
///
/// # Errors
/// The broken promise, and the cause.
///
/// # Panics
/// If there is no such case.
pub async fn try_case(group: &str, name: &str, bench: Bench) -> Result<Outcome, String> {
    let case = find_case(group, name);
    let tested = tested(&bench).await;
    outcome(&tested, case.promise, bench, case.run).await
}

fn find_case(group: &str, name: &str) -> &'static Case {
    let found = CASES.iter().find(|case| case.group == group && case.name == name);
    found.unwrap_or_else(|| panic!("there is no case {group}::{name}"))
}

/// Runs a scenario of this crate as a test.
///
/// # Panics
/// If the result of a step differs from the recording.
pub async fn run_bundled(name: &str, bench: Result<Bench>) {
    let text = BUNDLED.iter().find(|(known, _)| *known == name).expect("the list makes the tests").1;
    run_scenario(name, text.to_owned(), format!("scenarios/{name}.json"), bench).await;
}

/// Runs a scenario file as a test; does nothing if the file no longer exists.
///
/// # Panics
/// If the result of a step differs from the recording.
pub async fn run_external(name: &str, file: &str, bench: Result<Bench>) {
    let wanted = std::env::var_os("METAXY_SCENARIOS").is_some_and(|value| !value.is_empty());
    if let (true, Ok(text)) = (wanted, std::fs::read_to_string(file)) {
        run_scenario(name, text, file.to_owned(), bench).await;
    }
}

/// Runs the scenarios of `METAXY_SCENARIOS` that the build did not know, one after the other.
///
/// # Panics
/// Names every file with a step whose result differs from the recording; or if the directory cannot be read.
pub async fn run_unlisted(listed: &[&str], bench: Result<Bench>) {
    let Some(given) = std::env::var_os("METAXY_SCENARIOS").filter(|value| !value.is_empty()) else { return };
    let bench = bench.unwrap_or_else(|error| panic!("no location for the scenarios: {error}"));
    let directory = found_directory(Path::new(&given));
    let mut failures = Vec::new();
    for file in scenario_files(&directory) {
        let name = file.display().to_string();
        if listed.contains(&name.as_str()) {
            continue;
        }
        let outcome = async {
            let text = std::fs::read_to_string(&file).map_err(|error| format!("{name}: {error}"))?;
            let location = bench.passing().await.map_err(|error| format!("{name}: {error}"))?;
            play(&text, &name, &location).await
        };
        failures.extend(outcome.await.err());
    }
    assert!(failures.is_empty(), "{} scenario(s) fail:\n{}", failures.len(), failures.join("\n"));
}

/// Finds a relative directory: from the one in which cargo was called, the current one, or its parent, because tests
/// run in their package.
fn found_directory(given: &Path) -> PathBuf {
    let bases = [std::env::var_os("PWD").map(PathBuf::from), Some(PathBuf::new()), Some(PathBuf::from(".."))];
    let found = bases.into_iter().flatten().map(|base| base.join(given)).find(|path| path.is_dir());
    let found = found.unwrap_or_else(|| panic!("METAXY_SCENARIOS names {}, which is not a directory", given.display()));
    found.canonicalize().unwrap_or(found)
}

fn scenario_files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| {
        panic!("METAXY_SCENARIOS names {}, which cannot be read: {error}", directory.display())
    });
    let files = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    files
}

/// Runs the text of a scenario on a location.
async fn play(text: &str, file: &str, location: &SharedLocation) -> Result<(), String> {
    let scenario = scenario::parse(text, file).map_err(|failure| failure.to_string())?;
    let backend = location.backend().await.map_err(|error| format!("{file}: {error}"))?;
    let played = scenario::run_configured(&scenario, file, backend, |store| location.configure(store)).await;
    played.map_err(|failure| failure.to_string())
}

async fn run_scenario(name: &str, text: String, file: String, bench: Result<Bench>) {
    run_reported("scenarios", name, "every step answers as the reference did", bench, |bench| {
        async move {
            play(&text, &file, &bench.location).await.unwrap_or_else(|failure| panic!("{failure}"));
            Ok(Outcome::Passed)
        }
        .boxed()
    })
    .await;
}

/// Runs a case, adds its outcome to the report, and fails with the promise if the case fails.
async fn run_reported(
    group: &str,
    name: &str,
    promise: &str,
    bench: Result<Bench>,
    run: impl FnOnce(Bench) -> BoxFuture<'static, Result<Outcome>>,
) {
    let bench = bench.unwrap_or_else(|error| panic!("no location for the case: {error}"));
    let tested = tested(&bench).await;
    let begun = Instant::now();
    let outcome = outcome(&tested, promise, bench, run).await;
    report::record(&tested, group, name, &outcome, begun.elapsed());
    match outcome {
        Ok(Outcome::Passed) => {}
        Ok(Outcome::Refused(why)) => println!("{tested} refuses, as it may: {why}"),
        Err(message) => panic!("{message}"),
    }
}

/// Returns the name of the tested backend in the report.
async fn tested(bench: &Bench) -> String {
    match (bench.location.variant(), bench.location.backend().await) {
        (Some(variant), _) => variant,
        (None, Ok(backend)) => backend.info().kind.to_owned(),
        (None, Err(error)) => panic!("no backend for the case: {error}"),
    }
}

/// Returns the outcome of a case; a panic counts as a broken promise.
async fn outcome(
    tested: &str,
    promise: &str,
    bench: Bench,
    run: impl FnOnce(Bench) -> BoxFuture<'static, Result<Outcome>>,
) -> Result<Outcome, String> {
    let message = match AssertUnwindSafe(run(bench)).catch_unwind().await {
        Ok(Ok(outcome)) => return Ok(outcome),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic_text(&*panic),
    };
    Err(format!("{tested} breaks a promise: {promise}\n{message}"))
}

/// Returns the message of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
}

/// Generates a test for every promise and every scenario, for one backend.
///
/// ```ignore
/// struct Directory(tempfile::TempDir);
///
/// #[async_trait]
/// impl Location for Directory {
///     async fn backend(&self) -> Result<SharedBackend> {
///         Ok(Arc::new(MyBackend::new(self.0.path())))
///     }
///
///     fn settings(&self) -> toml::Table {
///         toml::Table::from_iter([("path".to_owned(), self.0.path().display().to_string().into())])
///     }
/// }
///
/// async fn directory() -> Result<Directory> { .. }
///
/// metaxy_testkit::conformance!(my_backend, directory);
/// ```
///
/// The tests are `my_backend::tables::..`, `my_backend::scenarios::..` and so on. The promise is in the documentation
/// of a test, and in its message if it fails. `METAXY_SCENARIOS` names a directory with more scenarios;
/// `METAXY_CONFORMANCE_REPORT` a file for a table of backends and groups, in Markdown.
#[macro_export]
macro_rules! conformance {
    ($name:ident, $factory:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn bench(test: &'static str) -> $crate::Result<$crate::conformance::Bench> {
                Ok($crate::conformance::Bench::new($factory).await?.for_test(test))
            }

            $crate::__each_case!($crate::__case_tests);

            mod scenarios {
                $crate::__each_scenario!($crate::__scenario_tests);
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __case_tests {
    ($($group:ident { $($case:ident $promise:literal)* })*) => {
        $(mod $group {
            $(
                #[doc = $promise]
                #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let test = concat!(module_path!(), "::", stringify!($case));
                    $crate::conformance::run_case(stringify!($group), stringify!($case), super::bench(test).await).await;
                }
            )*
        })*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __scenario_tests {
    (bundled { $($bundled:ident)* } external { $(($external:ident $file:literal))* }) => {
        $(
            #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $bundled() {
                $crate::conformance::run_bundled(stringify!($bundled), super::bench("").await).await;
            }
        )*
        /// The scenarios of `METAXY_SCENARIOS` that the build has found.
        mod external {
            $(
                #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $external() {
                    $crate::conformance::run_external(stringify!($external), $file, super::super::bench("").await).await;
                }
            )*
            #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn those_that_came_after_the_build() {
                $crate::conformance::run_unlisted(&[$($file),*], super::super::bench("").await).await;
            }
        }
    };
}
