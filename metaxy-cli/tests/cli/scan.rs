//! Files of a directory as samples.

#![cfg(feature = "sqlite")]

use serde_json::json;

use crate::support::Project;

#[test]
fn files_of_a_directory() {
    let project = Project::new("sqlite");
    project
        .ok("mkdir -p videos/old && echo one > videos/one.mp4 && echo two > videos/old/two.mp4 && echo > videos/a.txt");
    let scan = "metaxy scan raw/video videos --pattern '*.mp4' --by size";
    let counts = |line: &str| {
        let scanned = project.json(line);
        ["files", "new", "stale", "orphaned", "written", "deleted"].map(|key| scanned[key].as_u64().unwrap())
    };
    assert_eq!(counts(&format!("{scan} --write")), [2, 2, 0, 0, 2, 0]);
    assert_eq!(counts(scan), [2, 0, 0, 0, 0, 0]);
    let read = "metaxy read raw/video --columns";
    let rows = project.json(&format!("{read} video_id,location,size,metaxy_provenance_by_field --filter 'size = 4'"));
    let expected = json!({"video_id": "old/two.mp4", "location": "videos/old/two.mp4", "size": 4,
                          "metaxy_provenance_by_field": {"audio": "4", "frames": "4"}});
    assert!(rows.as_array().unwrap().contains(&expected), "{rows}");
    // One file changes, one is gone, one is new.
    project.ok("echo longer > videos/one.mp4 && rm videos/old/two.mp4 && echo > videos/three.mp4");
    assert_eq!(counts(scan), [2, 1, 1, 1, 0, 0]);
    assert_eq!(counts(&format!("{scan} --write --delete-gone --out all.jsonl")), [2, 1, 1, 1, 2, 1]);
    assert_eq!(counts(scan), [2, 0, 0, 0, 0, 0]);
    assert_eq!(project.read("all.jsonl").lines().count(), 2);
    let ids = project.json(&format!("{read} video_id"));
    assert_eq!(ids.as_array().unwrap().len(), 2);
}

/// A misspelled prefix must not delete everything.
#[test]
fn an_empty_prefix_is_refused() {
    let project = Project::new("sqlite");
    project.ok("mkdir -p videos empty && echo one > videos/one.mp4 && metaxy scan raw/video videos --write");
    for prefix in ["empty", "none", "videos --pattern '*.mov'"] {
        let ended = project.exits(&format!("metaxy scan raw/video {prefix} --delete-gone"), 2);
        assert_eq!(ended.stdout, "", "{prefix}");
    }
    assert_eq!(project.json("metaxy status raw/video")["features"][0]["rows"], 1);
}

/// By default the time of a file counts too, so that a change of the same size is seen.
#[test]
fn time_and_size_by_default() {
    let project = Project::new("sqlite");
    project.ok("mkdir videos && echo one > videos/one.mp4 && metaxy scan raw/video videos --write");
    project.ok("touch -d '2020-01-01 00:00:00Z' videos/one.mp4");
    assert_eq!(project.json("metaxy scan raw/video videos")["stale"], 1);
}
