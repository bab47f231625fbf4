//! Rows in files of every format, out and in again.

#![cfg(feature = "sqlite")]

use serde_json::json;

use crate::support::{Project, VERSIONS};

#[test]
fn every_format_goes_out_and_in() {
    for format in ["parquet", "arrow", "csv", "jsonl"] {
        let project = Project::new("sqlite");
        project.ok(&format!("metaxy write raw/video videos.csv {VERSIONS}"));
        // The samples with their versions are results here.
        project.ok(&format!("metaxy resolve processed/transcript --out todo --file-format {format}"));
        let columns = "--text audio_sha256";
        project.ok(&format!("metaxy write processed/transcript todo/new.{format} {columns}"));
        assert_eq!(project.transcripts(), [0, 0, 0], "{format}");
        let before = project.json("metaxy read raw/video");
        project.ok(&format!("metaxy read raw/video --system --out all.{format}"));
        project.ok("metaxy delete raw/video --all --yes");
        assert_eq!(project.json("metaxy status raw/video")["features"][0]["rows"], 0);
        project.ok(&format!("metaxy write raw/video all.{format}"));
        assert_eq!(project.json("metaxy read raw/video"), before, "{format}");
        assert_eq!(project.transcripts(), [0, 0, 0], "{format}");
    }
}

#[test]
fn stdin_of_every_format() {
    let project = Project::new("sqlite");
    project.ok(&format!("metaxy write raw/video videos.csv {VERSIONS}"));
    for format in ["parquet", "arrow", "csv", "jsonl"] {
        project.ok(&format!("metaxy read raw/video --system --out all.{format}"));
        let line = format!("cat all.{format} | metaxy write raw/video - --file-format {format}");
        assert_eq!(project.json(&line)["rows"], 3, "{format}");
    }
}

/// Versions with leading zeros, and ids that look like numbers, stay as they are.
#[test]
fn texts_that_look_like_numbers() {
    let project = Project::new("sqlite");
    project.write("videos.csv", "video_id,audio_sha256,size\n007,0012,5\n008,0013,6\n");
    project
        .ok("metaxy write raw/video videos.csv --version audio=audio_sha256,frames=audio_sha256+size --text video_id");
    let expected = json!({"video_id": "007", "audio_sha256": "0012"});
    let read = "metaxy read raw/video --filter \"video_id = '007'\" --columns";
    assert_eq!(project.json(&format!("{read} video_id,audio_sha256"))[0], expected);
    let versions = project.json(&format!("{read} metaxy_provenance_by_field"));
    assert_eq!(versions[0]["metaxy_provenance_by_field"], json!({"audio": "0012", "frames": "0012|5"}));
    // The table knows its types now.
    project.write("ids.csv", "video_id\n007\n");
    assert_eq!(project.json("metaxy delete raw/video --ids ids.csv --yes")["features"][0]["samples"], 1);
}

#[test]
fn several_files_are_one_write() {
    let project = Project::new("sqlite");
    project.write("one.csv", "video_id,etag\n1,a\n");
    project.write("two.jsonl", "{\"video_id\": 2, \"etag\": \"b\", \"note\": \"late\"}\n");
    let write = "metaxy write raw/video one.csv two.jsonl --version audio=etag,frames=etag";
    assert_eq!(project.json(write)["rows"], 2);
    // A file that fails leaves nothing of the other.
    project.write("three.csv", "video_id,etag\n3,\n");
    let both = "metaxy write raw/video one.csv three.csv --version audio=etag,frames=etag";
    project.exits(both, 2);
    let history = project.json("metaxy read raw/video --with-sample-history");
    assert_eq!(history.as_array().unwrap().len(), 2);
}

/// Samples of one group stay together under a limit.
#[test]
fn a_limit_divides_no_group() {
    let project = Project::new("sqlite");
    let series = "\n[[feature]]\nkey = \"report/series\"\nid_columns = [\"path\"]\n\
                  deps = [{ feature = \"raw/video\", lineage = \"N:1\" }]\n";
    project.append("features/video.toml", series);
    project.ok("sed -i.bak 's/b.mp4/a.mp4/' videos.csv");
    project.ok(&format!("metaxy write raw/video videos.csv {VERSIONS}"));
    let rows = |limit: usize| {
        let resolved = project.json(&format!("metaxy resolve report/series --out todo --limit {limit}"));
        resolved["new"].as_u64().unwrap()
    };
    assert_eq!([1, 2, 3].map(rows).iter().max(), Some(&3));
    let one = project.json("metaxy resolve report/series --only new --limit 1");
    let paths: Vec<&str> = one.as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap()).collect();
    assert!(paths == ["a.mp4", "a.mp4"] || paths == ["c.mp4"], "{paths:?}");
    // One to one: a limit is exact.
    let two = project.json("metaxy resolve processed/transcript --only new --limit 2");
    assert_eq!(two.as_array().unwrap().len(), 2);
}

#[test]
fn fallback_stores() {
    let project = Project::processed("sqlite");
    let local = "\n[stores.local]\ntype = \"sqlite\"\n[stores.local.config]\ndatabase = \"local.db\"\n\
                 fallback_stores = [\"dev\"]\n";
    project.append("metaxy.toml", local);
    let written = project.json("metaxy copy --from dev --store local processed/transcript");
    assert_eq!(written["features"][0]["rows"], 3);
    let read = "metaxy read raw/video --store local";
    assert_eq!(project.json(read).as_array().unwrap().len(), 3);
    let alone = project.exits(&format!("{read} --no-fallback"), 3);
    assert!(alone.stderr.contains("`raw/video` is not in"), "{alone:?}");
}

/// `script` of util-linux runs a command on a terminal of its own.
#[test]
#[cfg(target_os = "linux")]
fn progress_is_shown_on_a_terminal_only() {
    let project = Project::processed("sqlite");
    // Work that takes a moment: the end of the input comes late.
    let write = format!("(cat videos.csv; sleep 1) | metaxy write raw/video - --file-format csv {VERSIONS}");
    assert_eq!(project.exits(&write, 0).stderr, "");
    let shown = project.ok(&format!("TERM=xterm script -qec '{write}' /dev/null"));
    assert!(shown.contains("writing raw/video: "), "{shown:?}");
    let dumb = project.ok(&format!("TERM=dumb script -qec '{write}' /dev/null"));
    assert!(!dumb.contains("writing raw/video: "), "{dumb:?}");
}
