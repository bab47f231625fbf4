//! The Python package, if it is installed: tests compare its results on a store.

pub mod live;
mod project;
mod pushes;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

pub use project::{Program, Project};
pub use pushes::Pushes;

/// The variable with the path of an interpreter; `python3` is used if it is not set.
const INTERPRETER: &str = "METAXY_REFERENCE_PYTHON";

/// A Python interpreter that has the package.
#[derive(Clone, Debug)]
pub struct Python {
    interpreter: PathBuf,
}

impl Python {
    /// Finds an interpreter that has the package and these modules.
    ///
    /// # Errors
    /// What is missing, as a text.
    pub fn find(modules: &[&str]) -> Result<Self, String> {
        let named = std::env::var_os(INTERPRETER).filter(|name| !name.is_empty());
        let interpreter = PathBuf::from(named.clone().unwrap_or_else(|| "python3".into()));
        let lacks = |module: &&str| {
            let answer = Command::new(&interpreter).args(["-W", "ignore", "-c", &format!("import {module}")]).output();
            !answer.is_ok_and(|output| output.status.success())
        };
        match std::iter::once(&"metaxy").chain(modules).find(|module| lacks(module)) {
            None => Ok(Self { interpreter }),
            Some(module) => Err(match named {
                Some(_) => format!("{INTERPRETER} names {}, which has no `{module}`", interpreter.display()),
                None => format!("{INTERPRETER} names no interpreter, and python3 has no `{module}`"),
            }),
        }
    }

    /// Finds an interpreter for a test, or prints what is missing; then the test does nothing.
    pub fn for_test(modules: &[&str]) -> Option<Self> {
        Self::find(modules).inspect_err(|reason| println!("Not tested with the Python package: {reason}.")).ok()
    }

    /// Returns the interpreter.
    pub fn interpreter(&self) -> &Path {
        &self.interpreter
    }

    /// Starts a script in a directory, which answers each line with a line until its input ends. Its error output is
    /// written to a file there.
    fn start(&self, directory: &Path, script: &str) -> Conversation {
        let errors = directory.join("errors.txt");
        let mut command = Command::new(&self.interpreter);
        command.args(["-c", script]).current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(File::create(&errors).expect("the file is made"));
        let mut process = command.spawn().expect("the interpreter starts");
        let answers = BufReader::new(process.stdout.take().expect("a pipe"));
        Conversation { process, answers, errors }
    }

    /// Runs a script with arguments in a directory, and returns what it prints.
    ///
    /// # Panics
    /// If the script fails, with its error output.
    pub fn run(&self, directory: &Path, script: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.interpreter);
        command.args(["-c", script]).args(arguments).current_dir(directory);
        let output = command.output().expect("the interpreter starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}: {said}", output.status);
        String::from_utf8(output.stdout).expect("text")
    }
}

/// A script that answers line by line.
#[derive(Debug)]
struct Conversation {
    process: Child,
    answers: BufReader<ChildStdout>,
    errors: PathBuf,
}

impl Conversation {
    /// Returns the answer to a line.
    ///
    /// # Panics
    /// If the script has ended, with its error output.
    fn ask(&mut self, line: &str) -> String {
        let said = || std::fs::read_to_string(&self.errors).unwrap_or_default();
        let input = self.process.stdin.as_mut().expect("a pipe");
        writeln!(input, "{line}").unwrap_or_else(|error| panic!("{line}: {error}: {}", said()));
        let mut answer = String::new();
        let length = self.answers.read_line(&mut answer).expect("an answer");
        assert!(length > 0, "{line}: {}", said());
        answer
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // It may have ended before.
        let _ = self.process.wait();
    }
}
