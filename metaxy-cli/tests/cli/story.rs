//! One story, told with the command alone, on every store.

use serde_json::json;

use crate::support::{Project, VERSIONS, VIDEOS};

#[cfg(feature = "sqlite")]
#[test]
fn on_sqlite() {
    story(&Project::new("sqlite"));
}

#[cfg(feature = "duckdb")]
#[test]
fn on_duckdb() {
    story(&Project::new("duckdb"));
}

#[cfg(feature = "delta")]
#[test]
fn on_delta() {
    story(&Project::new("delta"));
}

#[cfg(feature = "postgres")]
#[test]
fn on_postgres() {
    let database = metaxy_testkit::servers::postgres::database().unwrap();
    story(&Project::new("postgres").with("METAXY_POSTGRES_URL", database.url()));
}

fn story(project: &Project) {
    videos_arrive(project);
    transcripts_are_made(project);
    sounds_change(project);
    a_video_is_withdrawn(project);
    definitions_change(project);
}

/// The root is written from CSV, and its transcripts are new.
fn videos_arrive(project: &Project) {
    let compared = format!("metaxy resolve raw/video --samples videos.csv {VERSIONS}");
    project.ok("metaxy push --tag day=1");
    assert_eq!(project.json(&compared)["new"], 3);
    assert_eq!(project.json(&format!("metaxy write raw/video videos.csv {VERSIONS}"))["rows"], 3);
    assert_eq!(project.json(&compared)["new"], 0);
    assert_eq!(project.transcripts(), [3, 0, 0]);
    project.exits("metaxy status --assert-in-sync", 1);
}

/// Samples go out as Parquet, results come back as CSV, in two parts.
fn transcripts_are_made(project: &Project) {
    let resolved = project.json("metaxy resolve processed/transcript --out todo");
    assert_eq!(resolved["files"], json!(["todo/new.parquet", "todo/stale.parquet", "todo/orphaned.parquet"]));
    project.ok("head -n 3 transcripts.csv > part.csv");
    project.ok("metaxy write processed/transcript part.csv --made-from todo");
    assert_eq!(project.transcripts(), [1, 0, 0]);
    assert_eq!(project.json("metaxy status processed/transcript")["features"][0]["progress"], json!(2.0 / 3.0));
    project.ok("cat transcripts.csv | metaxy write processed/transcript - --file-format csv --made-from todo");
    assert_eq!(project.transcripts(), [0, 0, 0]);
    project.ok("metaxy status --assert-in-sync");
}

/// A new soundtrack makes a transcript stale, new frames do not.
fn sounds_change(project: &Project) {
    project.write("videos.csv", &VIDEOS.replace(",002,", ",002b,").replace(",f1,", ",f1b,"));
    project.ok(&format!("metaxy write raw/video videos.csv {VERSIONS}"));
    assert_eq!(project.transcripts(), [0, 1, 0]);
    let stale = project.json("metaxy resolve processed/transcript --only stale");
    assert_eq!(stale[0]["video_id"], 2);
    let explained = project.json("metaxy explain processed/transcript 1 2");
    assert_eq!(
        (&explained["samples"][0]["state"], &explained["samples"][1]["state"]),
        (&json!("up_to_date"), &json!("stale"))
    );
    let input = &explained["samples"][1]["inputs"][0]["rows"][0];
    assert_eq!((&input["later"], &input["data_versions"]), (&json!(true), &json!({"audio": "002b"})));
    project.ok("metaxy resolve processed/transcript --out todo --file-format jsonl && rm todo/*.parquet");
    project.write("again.jsonl", "{\"video_id\": 2, \"text\": \"you again\"}\n");
    project.ok("metaxy write processed/transcript again.jsonl --made-from todo");
    assert_eq!(project.transcripts(), [0, 0, 0]);
    let read = project.json("metaxy read processed/transcript --filter 'video_id = 2'");
    assert_eq!(read, json!([{"video_id": 2, "text": "you again"}]));
    let all = project.json("metaxy read processed/transcript --with-sample-history --columns text");
    // Two in the first part, three in the second, and the one that was made again.
    assert_eq!(all.as_array().unwrap().len(), 6);
}

/// A deleted video orphans its transcript; another one is deleted with its transcript.
fn a_video_is_withdrawn(project: &Project) {
    project.ok("metaxy delete raw/video --filter 'video_id = 3' --yes");
    assert_eq!(project.transcripts(), [0, 0, 1]);
    assert_eq!(project.json("metaxy delete processed/transcript --orphaned --yes")["features"][0]["samples"], 1);
    assert_eq!(project.transcripts(), [0, 0, 0]);
    project.write("ids.csv", "video_id\n2\n");
    let cascade = "metaxy delete raw/video --ids ids.csv --cascade";
    let expected = json!([{"feature": "processed/transcript", "samples": 1}, {"feature": "raw/video", "samples": 1}]);
    assert_eq!(project.json(&format!("{cascade} --dry-run"))["features"], expected);
    assert_eq!(project.json("metaxy status")["features"][0]["rows"], 2);
    assert_eq!(project.json(&format!("{cascade} --yes"))["features"], expected);
    assert_eq!(project.json("metaxy status")["features"][0]["rows"], 1);
    project.ok("metaxy status --assert-in-sync");
}

/// Another version of the code makes everything new; rows are rebased, because it returns the same texts.
fn definitions_change(project: &Project) {
    let before = project.json("metaxy describe processed/transcript")["feature_version"].clone();
    project.change("features/video.toml", "code_version = \"1\"", "code_version = \"2\"");
    assert_eq!(project.transcripts(), [1, 0, 0]);
    let impact = project.json("metaxy impact");
    assert_eq!((&impact["outdated"], impact["features"].as_array().unwrap().len()), (&json!(1), 1));
    assert_eq!(project.json("metaxy graph diff")["features"][0]["fields"][0]["to"], "2");
    project.ok("metaxy push --tag day=2");
    assert_eq!(project.json("metaxy impact")["outdated"], 0);
    assert!(project.ok("metaxy graph --as html --status").contains("0 rows · 1 new"));
    let history = project.json("metaxy history processed/transcript");
    assert_eq!(history["definitions"][1]["feature_version"], before);
    assert_eq!(history["definitions"][0]["tags"]["day"], "2");
    let rebased =
        project.json(&format!("metaxy rebase processed/transcript --from-version {}", before.as_str().unwrap()));
    assert_eq!(rebased["rows"], 1);
    assert_eq!(project.transcripts(), [0, 0, 0]);
    let old = format!("metaxy read processed/transcript --feature-version {}", before.as_str().unwrap());
    assert_eq!(project.json(&old), json!([{"video_id": 1, "text": "hello"}]));
    project.ok("metaxy compact && metaxy vacuum");
    // Without feature files the definitions are those that were pushed.
    project.change("metaxy.toml", "features = [\"features/*.toml\"]", "");
    assert_eq!(project.transcripts(), [0, 0, 0]);
    assert_eq!(project.json("metaxy read processed/transcript"), json!([{"video_id": 1, "text": "hello"}]));
}
