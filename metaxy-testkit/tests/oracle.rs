//! The oracle gives the results of the reference, for all recorded scenarios.

use std::path::Path;

use metaxy_testkit::oracle;
use metaxy_testkit::scenario::{Scenario, Step, compare};

#[test]
fn the_oracle_agrees_with_every_recording() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut played = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let scenario: Scenario = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        played += 1;
        if let Err(message) = check(&scenario) {
            wrong.push(format!("{}: {message}", scenario.name));
        }
    }
    assert!(played >= 39, "only {played} recordings");
    assert!(wrong.is_empty(), "{} of {played} differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn check(recorded: &Scenario) -> Result<(), String> {
    let answered = oracle::answered(recorded)?;
    let same = |what: &str, recorded: &dyn std::fmt::Debug, answered: &dyn std::fmt::Debug| {
        let (recorded, answered) = (format!("{recorded:#?}"), format!("{answered:#?}"));
        if recorded == answered { Ok(()) } else { Err(format!("{what}: recorded {recorded}, answered {answered}")) }
    };
    same("versions", &recorded.definitions.versions, &answered.definitions.versions)?;
    same("project version", &recorded.definitions.project_version, &answered.definitions.project_version)?;
    for (index, pair) in recorded.steps.iter().zip(&answered.steps).enumerate() {
        let at = |what: &str| format!("step {} {what}", index + 1);
        match pair {
            (Step::Read(recorded), Step::Read(answered)) => compare(&at("read"), &recorded.expect, &answered.expect)?,
            (Step::Resolve(recorded), Step::Resolve(answered)) => {
                compare(&at("new"), &recorded.expect.new, &answered.expect.new)?;
                compare(&at("stale"), &recorded.expect.stale, &answered.expect.stale)?;
                compare(&at("orphaned"), &recorded.expect.orphaned, &answered.expect.orphaned)?;
            }
            (Step::Redefine(recorded), Step::Redefine(answered)) => {
                same(&at("versions"), &recorded.versions, &answered.versions)?;
                same(&at("project version"), &recorded.project_version, &answered.project_version)?;
            }
            _ => {}
        }
    }
    Ok(())
}
