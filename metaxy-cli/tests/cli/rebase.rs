//! Rows that are carried over to another version of a definition.

#![cfg(feature = "sqlite")]

use crate::support::Project;

#[test]
fn some_rows_to_any_pushed_version() {
    let project = Project::processed("sqlite");
    let version =
        || project.json("metaxy describe processed/transcript")["feature_version"].as_str().unwrap().to_owned();
    project.ok("metaxy push");
    let first = version();
    project.change("features/video.toml", "code_version = \"1\"", "code_version = \"2\"");
    project.ok("metaxy push");
    let second = version();
    project.write("ids.csv", "video_id\n2\n9\n");
    let rebase = format!("metaxy rebase processed/transcript --from-version {first}");
    let rows = |options: &str| project.json(&format!("{rebase} {options}"))["rows"].as_u64().unwrap();
    assert_eq!((rows("--dry-run"), rows("--dry-run --ids ids.csv")), (3, 1));
    assert_eq!(project.transcripts(), [3, 0, 0], "nothing was written");
    assert_eq!(rows("--ids ids.csv"), 1);
    assert_eq!(project.transcripts(), [2, 0, 0]);
    project.change("features/video.toml", "code_version = \"2\"", "code_version = \"1\"");
    assert_eq!(rows(""), 0, "that is the version they have");
    let rebased = project.json(&format!("{rebase} --to-version {second}"));
    assert_eq!((rebased["rows"].as_u64(), rebased["to_version"].as_str()), (Some(3), Some(second.as_str())));
    let ended = project.exits(&format!("{rebase} --to-version 00000000"), 2);
    assert!(ended.stderr.contains("`metaxy history`"), "{ended:?}");
}
