//! The examples in the help of every command run as they stand.

#![cfg(feature = "sqlite")]

use std::collections::BTreeSet;

use crate::support::{CLIPS, Project, VERSIONS};

/// The stores of the examples: one to work with, and one to copy to.
const BACKUP: &str = "\n[stores.backup]\ntype = \"sqlite\"\n[stores.backup.config]\ndatabase = \"backup.db\"\n";

#[test]
fn examples_run() {
    let commands = commands();
    assert!(commands.len() > 15, "{commands:?}");
    // Those of `scheduler` and `executor` run until they are stopped: the test `cluster` runs them.
    for command in commands.iter().filter(|command| !["scheduler", "executor"].contains(&command.as_str())) {
        let help = Project::empty().ok(&format!("metaxy {command} --help"));
        let examples = examples(&help);
        assert!(!examples.is_empty(), "the help of `{command}` has no example:\n{help}");
        let project = prepared();
        for example in examples {
            // A rebase names a version that only this project has.
            let version = project.json("metaxy describe processed/transcript")["feature_version"].clone();
            project.ok(&example.replace("2bd4a1c0", version.as_str().unwrap()));
        }
    }
}

/// Returns the lines below "Example:" or "Examples:".
fn examples(help: &str) -> Vec<&str> {
    let below = help.lines().skip_while(|line| !line.starts_with("Example"));
    below.skip(1).take_while(|line| !line.is_empty()).map(str::trim).collect()
}

/// Returns a project in which there is something to do for every example.
fn prepared() -> Project {
    let project = Project::processed("sqlite");
    project.append("metaxy.toml", BACKUP);
    project.append("features/video.toml", CLIPS);
    project.ok("metaxy push");
    project.ok("mkdir videos && echo film > videos/one.mp4");
    project.ok("sed -i.bak 's/,00/,01/' videos.csv");
    project.ok(&format!("metaxy write raw/video videos.csv {VERSIONS}"));
    project.ok("metaxy resolve processed/transcript --out todo");
    project
}

/// Returns the commands, those of commands included, from the help.
fn commands() -> Vec<String> {
    let mut all = Vec::new();
    for command in listed("") {
        let inner = listed(&command);
        // A command that does something itself has examples itself.
        if inner.is_empty() || !examples(&Project::empty().ok(&format!("metaxy {command} --help"))).is_empty() {
            all.push(command.clone());
        }
        all.extend(inner.iter().map(|inner| format!("{command} {inner}")));
    }
    all
}

/// Returns the commands that the help of a command lists.
pub fn listed(command: &str) -> BTreeSet<String> {
    let help = Project::empty().ok(&format!("metaxy {command} --help"));
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Only lines with a name: longer descriptions go on below.
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}
