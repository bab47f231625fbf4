//! A second process: the test binary again, running one of its tests. The test runs in both processes.
//!
//! ```ignore
//! #[test]
//! fn few_files_are_enough() {
//!     if !process::is_second("streams::few_files_are_enough", 256) {
//!         return; // The second process, which may open 256 files, has passed.
//!     }
//!     // ...
//! }
//! ```

use std::ffi::{OsStr, OsString};
use std::process::{Command, Output};

/// The variable with the text for the second process.
const TOLD: &str = "METAXY_SECOND_PROCESS";

/// Returns a command that runs the test of this full name in this test binary.
///
/// # Panics
/// If the test binary has no path.
pub fn command(test: &str) -> Command {
    // A user without access to the path of the test binary can run it by this one.
    let own = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { binary() };
    of_binary(Command::new(own), test)
}

/// Returns a command for the second process of a test, which gets a text ([`told`]).
///
/// # Panics
/// If the test binary has no path.
pub fn second(test: &str, told: impl AsRef<OsStr>) -> Command {
    let mut command = command(test);
    command.env(TOLD, told);
    command
}

/// Returns the command of [`second`] after a shell command that limits the process, such as `ulimit -n 256`.
///
/// # Panics
/// If the test binary has no path.
#[cfg(unix)]
pub fn second_after(limit: &str, test: &str, told: impl AsRef<OsStr>) -> Command {
    let mut shell = Command::new("sh");
    // The shell is replaced by the test binary.
    shell.args(["-c", &format!("{limit} && exec \"$0\" \"$@\"")]).arg(binary()).env(TOLD, told);
    of_binary(shell, test)
}

fn binary() -> OsString {
    std::env::current_exe().expect("the test binary has a path").into()
}

/// Adds the arguments that run one test.
fn of_binary(mut command: Command, test: &str) -> Command {
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env_remove("METAXY_CONFORMANCE_REPORT");
    command
}

/// Returns the text from the first process; `None` in the first process.
pub fn told() -> Option<OsString> {
    std::env::var_os(TOLD)
}

/// Returns whether this is the second process of a test, which may open this number of files. The first process runs
/// it.
///
/// # Panics
/// If the test fails in the second process.
#[cfg(unix)]
pub fn is_second(test: &str, handles: usize) -> bool {
    let is_second = told().is_some();
    if !is_second {
        assert_passes(&mut second_after(&format!("ulimit -n {handles}"), test, ""));
    }
    is_second
}

/// Runs a second process to its end, and returns its output.
///
/// # Panics
/// Unless exactly one test has run, and passed.
pub fn assert_passes(command: &mut Command) -> String {
    assert_passed(&command.output().expect("the second process starts"))
}

/// Returns the output of a second process.
///
/// # Panics
/// Unless exactly one test has run, and passed.
pub fn assert_passed(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    assert!(output.status.success() && text.contains("1 passed"), "the second process fails:\n{text}");
    text
}
