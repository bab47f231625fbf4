//! Increments since a checkpoint, and the fields that have changed.

#![cfg(any(feature = "sqlite", feature = "delta"))]

use serde_json::{Value, json};

use crate::support::{Project, VERSIONS};

const SINCE: &str = "metaxy resolve processed/transcript --since transcript.checkpoint";

/// Changes the audio of the first video, or the frames.
fn change(project: &Project, from: &str, to: &str) {
    project.change("videos.csv", from, to);
    project.ok(&format!("metaxy write raw/video videos.csv {VERSIONS}"));
}

fn since_a_file(kind: &str) {
    let project = Project::processed(kind);
    let first = project.json(SINCE);
    assert_eq!((&first["basis"], &first["stale"]), (&json!({"rows": "all", "keys": null, "reason": null}), &json!(0)));
    assert!(project.path("transcript.checkpoint").is_file());
    assert_eq!(project.json(SINCE)["basis"]["rows"], "none");
    change(&project, ",001,", ",101,");
    let ended = project.exits(&format!("{SINCE} --out todo --format json"), 0);
    let resolved: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&resolved["basis"]["rows"], &resolved["stale"]), (&json!("changed"), &json!(1)));
    assert!(ended.stderr.contains("computed from the "), "{ended:?}");
    assert_eq!(resolved["files"].as_array().unwrap().len(), 3);
    let rows = project.json(&format!("{SINCE} --only stale"));
    assert_eq!(rows.as_array().unwrap().len(), 1, "what is open stays open: {rows}");
    project.ok("grep ^1, transcripts.csv > one.csv; sed -i.bak '1i video_id,text' one.csv");
    project.ok("metaxy write processed/transcript one.csv --made-from todo");
    assert_eq!(project.json(SINCE)["stale"], 0);
    // Without an upstream change nobody need read anything; without the option all rows are read, and no basis is told.
    assert_eq!(project.json("metaxy resolve processed/transcript")["basis"], Value::Null);
}

#[test]
#[cfg(feature = "sqlite")]
fn since_a_file_on_sqlite() {
    since_a_file("sqlite");
}

#[test]
#[cfg(feature = "delta")]
fn since_a_file_on_delta() {
    since_a_file("delta");
}

#[test]
#[cfg(feature = "sqlite")]
fn unusable_files() {
    let project = Project::processed("sqlite");
    project.write("transcript.checkpoint", "nothing");
    let ended = project.exits(SINCE, 2);
    assert!(ended.stderr.starts_with("error: transcript.checkpoint: "), "{ended:?}");
    assert_eq!(project.read("transcript.checkpoint"), "nothing", "a file that is no checkpoint is not replaced");
    project.ok("rm transcript.checkpoint");
    project.ok(SINCE);
    // The checkpoint of another definition is of no use, but no error.
    project.change("features/video.toml", "code_version = \"1\"", "code_version = \"2\"");
    let resolved = project.json(SINCE);
    assert_eq!(resolved["basis"]["rows"], "all");
    assert!(resolved["basis"]["reason"].as_str().unwrap().contains("other definitions"), "{resolved}");
    let ended = project.exits("metaxy resolve raw/video --samples videos.csv --since a.checkpoint", 2);
    assert!(ended.stderr.contains("cannot be used with"), "{ended:?}");
}

#[test]
#[cfg(feature = "sqlite")]
fn checkpoints_of_the_store() {
    let project = Project::processed("sqlite");
    project.change("metaxy.toml", "# checkpoints", "checkpoints");
    let basis = || project.json("metaxy resolve processed/transcript")["basis"]["rows"].clone();
    assert_eq!(basis(), "all");
    assert_eq!(basis(), "none");
    assert!(project.path(".metaxy/checkpoints").is_dir());
    change(&project, ",001,", ",101,");
    assert_eq!(basis(), "changed");
}

#[test]
#[cfg(feature = "sqlite")]
fn changed_fields() {
    let project = Project::processed("sqlite");
    let scenes = "video.audio\"] }, { key = \"scenes\", deps = [\"raw/video.frames\"] }]";
    project.change("features/video.toml", "video.audio\"] }]", scenes);
    let ended = project.exits("metaxy resolve processed/transcript --changed-fields", 2);
    assert!(ended.stderr.contains("--changed-fields"), "{ended:?}");
    let new = project.json("metaxy resolve processed/transcript --changed-fields --only new");
    let lists: Vec<&Value> = new.as_array().unwrap().iter().map(|row| &row["metaxy_changed_fields"]).collect();
    assert_eq!(lists, [&json!(["text", "scenes"]); 3], "rows of another definition are no rows of this one");
    project.ok("metaxy resolve processed/transcript --out todo");
    project.ok("metaxy write processed/transcript transcripts.csv --made-from todo");
    let changed = |only: &str| -> Value {
        let rows = project.json(&format!("metaxy resolve processed/transcript --changed-fields --only {only}"));
        rows.as_array().unwrap().iter().map(|row| row["metaxy_changed_fields"].clone()).collect()
    };
    assert_eq!(changed("stale"), json!([]));
    change(&project, ",f2,", ",f9,");
    assert_eq!(changed("stale"), json!([["scenes"]]));
}
