//! The examples in the help of every command run as they stand.

use std::collections::BTreeSet;

use crate::support::{Project, VERSIONS};

/// The stores of the examples: one to work with, and one to copy to.
const BACKUP: &str = "\n[stores.backup]\ntype = \"sqlite\"\n[stores.backup.config]\ndatabase = \"backup.db\"\n";

#[cfg(feature = "sqlite")]
#[test]
fn examples_run() {
    let commands = commands();
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        let help = Project::empty().ok(&format!("metaxy {command} --help"));
        let examples: Vec<&str> = help.lines().map(str::trim).filter(|line| is_example(line)).collect();
        assert!(!examples.is_empty(), "the help of `{command}` has no example:\n{help}");
        let project = prepared();
        for example in examples {
            // A rebase names a version that only this project has.
            let version = project.json("metaxy describe processed/transcript")["feature_version"].clone();
            project.ok(&example.replace("2bd4a1c0", version.as_str().unwrap()));
        }
    }
}

fn is_example(line: &str) -> bool {
    line.starts_with("metaxy ") || line.starts_with("cat ")
}

/// Returns a project in which there is something to do for every example.
fn prepared() -> Project {
    let project = Project::processed("sqlite");
    let config = project.read("metaxy.toml");
    project.write("metaxy.toml", &(config + BACKUP));
    project.ok("metaxy push");
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
        match inner.is_empty() {
            true => all.push(command),
            false => all.extend(inner.iter().map(|inner| format!("{command} {inner}"))),
        }
    }
    all
}

/// Returns the commands that the help of a command lists.
fn listed(command: &str) -> BTreeSet<String> {
    let help = Project::empty().ok(&format!("metaxy {command} --help"));
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Only lines with a name: longer descriptions go on below.
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}
