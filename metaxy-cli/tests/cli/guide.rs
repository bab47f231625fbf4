//! The guide of `metaxy-core` shows what the command prints: `UPDATE_EXPECT=1 cargo test` rewrites its sessions.

#![cfg(feature = "sqlite")]

use expect_test::{ExpectFile, expect_file};

use crate::support::Project;

/// Printed after each command of a session.
const END: &str = "(end of the command)\n";

#[test]
fn from_zero() {
    is_as_shown(&start(), &[]);
}

#[test]
fn versions() {
    is_as_shown(&expect_file!["../../../metaxy-core/src/guide/versions.md"], &commands(&start().data()));
}

#[test]
fn operations() {
    is_as_shown(&expect_file!["../../../metaxy-core/src/guide/operations.md"], &commands(&start().data()));
}

/// Returns the chapter whose project the others continue.
fn start() -> ExpectFile {
    expect_file!["../../../metaxy-core/src/guide/start.md"]
}

/// Runs the sessions of a chapter after some commands, and compares what is printed with what is shown.
fn is_as_shown(chapter: &ExpectFile, before: &[&str]) {
    let text = chapter.data();
    let own = commands(&text);
    assert!(!own.is_empty(), "the chapter has no session");
    let script: String = before.iter().chain(&own).map(|command| format!("{command}\nprintf '{END}'\n")).collect();
    let printed = Project::empty().ok(&format!("exec 2>&1\n{script}"));
    let mut printed = printed.split(END).skip(before.len());
    let mut in_session = false;
    let mut shown = String::new();
    for line in text.split_inclusive('\n') {
        let is_output = in_session && line != "```\n";
        in_session = is_output || line == "```console\n";
        if is_output && line.starts_with("$ ") {
            shown += line;
            shown += printed.next().unwrap_or_default();
        } else if !is_output {
            shown += line;
        }
    }
    chapter.assert_eq(&shown);
}

/// Returns the commands in the sessions of a chapter.
fn commands(text: &str) -> Vec<&str> {
    let sessions = text.split("```console\n").skip(1).filter_map(|rest| rest.split("```\n").next());
    sessions.flat_map(str::lines).filter_map(|line| line.strip_prefix("$ ")).collect()
}
