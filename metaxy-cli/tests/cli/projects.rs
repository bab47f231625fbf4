//! Features of other projects: from the store and from the lock file.

#![cfg(feature = "sqlite")]

use serde_json::{Value, json};

use crate::support::{Project, VERSIONS};

const SUBTITLES: &str = "[[feature]]\nkey = \"subtitles\"\nid_columns = [\"video_id\"]\n\
                         deps = [\"processed/transcript\"]\n";

/// Returns the project of videos, whose definitions are pushed, and one whose feature is made from its transcripts.
fn two_projects() -> (Project, Project) {
    let films = Project::processed("sqlite");
    films.ok("metaxy push");
    let other = Project::empty();
    other.ok("mkdir features");
    other.write("features/subtitles.toml", SUBTITLES);
    let database = films.path("metaxy.db");
    other.write(
        "metaxy.toml",
        &format!(
            "project = \"subtitles\"\n[ext.rust]\nfeatures = [\"features/*.toml\"]\n[stores.dev]\ntype = \"sqlite\"\n\
             [stores.dev.config]\ndatabase = \"{}\"\n",
            database.display()
        ),
    );
    (films, other)
}

/// Returns the features that a project lists, with whether they are external.
fn listed(project: &Project) -> Vec<(String, bool)> {
    let features = project.json("metaxy list features")["features"].clone();
    let feature = |one: &Value| (one["feature"].as_str().unwrap().to_owned(), one["external"].as_bool().unwrap());
    features.as_array().unwrap().iter().map(feature).collect()
}

/// Changes the definition of transcripts, and pushes it.
fn redefine(films: &Project) {
    films.change("features/video.toml", "code_version = \"1\"", "code_version = \"2\"");
    films.ok("metaxy push");
}

#[test]
fn from_the_store() {
    let (films, other) = two_projects();
    let all = [("processed/transcript", true), ("raw/video", true), ("subtitles", false)];
    assert_eq!(listed(&other), all.map(|(feature, external)| (feature.to_owned(), external)));
    assert_eq!(other.json("metaxy resolve subtitles")["new"], 3);
    // Only its own features are pushed, and its version does not change with those of others.
    let pushed = other.json("metaxy push");
    assert_eq!(pushed["features"], json!(["subtitles"]));
    redefine(&films);
    let again = other.json("metaxy push");
    assert_eq!(again["project_version"], pushed["project_version"]);
    assert_eq!(other.json("metaxy resolve subtitles")["new"], 0, "the other project has no rows of its new version");
}

#[test]
fn without_the_store() {
    let (_films, other) = two_projects();
    other.change("metaxy.toml", "project =", "sync = false\nproject =");
    let ended = other.exits("metaxy resolve subtitles", 2);
    assert!(ended.stderr.contains("features/subtitles.toml:4:"), "{ended:?}");
    other.change("metaxy.toml", "sync = false", "sync = true");
    other.ok("metaxy lock");
    other.change("metaxy.toml", "sync = true", "sync = false");
    assert_eq!(other.json("metaxy resolve subtitles")["new"], 3, "the lock file has what is needed");
}

#[test]
fn a_lock_file_is_written_and_checked() {
    let (films, other) = two_projects();
    other.exits("metaxy lock --check", 1);
    assert!(!other.path("metaxy.lock").exists(), "`--check` writes nothing");
    let locked = other.json("metaxy lock");
    assert_eq!((&locked["features"], &locked["written"]), (&json!(2), &json!(true)));
    let change = |locked: &Value, at: usize| {
        ["feature", "project", "change"].map(|key| locked["changes"][at][key].as_str().unwrap().to_owned())
    };
    assert_eq!(change(&locked, 0), ["processed/transcript", "films", "added"]);
    assert_eq!(other.json("metaxy lock")["written"], false);
    other.ok("metaxy lock --check");
    assert_eq!(other.exits("metaxy status", 0).stderr, "");

    redefine(&films);
    let ended = other.exits("metaxy list features", 0);
    assert!(ended.stderr.contains("`processed/transcript` of another project has the version "), "{ended:?}");
    other.change("metaxy.toml", "project =", "locked = true\nproject =");
    let ended = other.exits("metaxy list features", 2);
    assert!(ended.stderr.contains("have other versions") && ended.stderr.contains("metaxy lock"), "{ended:?}");
    let checked = other.exits("metaxy lock --check --format json", 1);
    assert_eq!(change(&serde_json::from_str(&checked.stdout).unwrap(), 0)[2], "recomputed");
    other.ok("metaxy lock");
    other.ok("metaxy list features");
}

/// A feature of another project that the own files define too, and what they expect of it.
#[test]
fn an_expected_definition() {
    let (films, other) = two_projects();
    let transcript = "[[feature]]\nkey = \"processed/transcript\"\nid_columns = [\"video_id\"]\ndeps = [\"raw/video\"]\n\
                      external = \"error\"\n\
                      fields = [{ key = \"text\", code_version = \"1\", deps = [\"raw/video.audio\"] }]\n";
    other.write("features/films.toml", transcript);
    assert_eq!(other.exits("metaxy resolve subtitles", 0).stderr, "");
    assert_eq!(listed(&other).iter().filter(|(_, external)| *external).count(), 2);
    assert_eq!(other.json("metaxy push")["features"], json!(["subtitles"]));
    assert_eq!(other.json("metaxy lock")["features"], 2);
    other.ok("rm metaxy.lock");

    redefine(&films);
    let ended = other.exits("metaxy resolve subtitles", 2);
    assert!(ended.stderr.contains("have other versions"), "{ended:?}");
    other.change("features/films.toml", "\"error\"", "\"warn\"");
    let ended = other.exits("metaxy resolve subtitles --format json", 0);
    assert!(ended.stderr.contains("warning: `processed/transcript` of another project"), "{ended:?}");
    let resolved: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(resolved["new"], 0, "the definition of the store counts");
    other.change("features/films.toml", "\"warn\"", "\"perhaps\"");
    let ended = other.exits("metaxy list features", 2);
    assert!(ended.stderr.contains("features/films.toml:5:12: `perhaps` is neither `warn` nor `error`"), "{ended:?}");
    // Without the store the definition in the file counts.
    other.change("features/films.toml", "\"perhaps\"", "\"warn\"");
    other.change("features/films.toml", "[\"raw/video\"]", "[]");
    other.change("features/films.toml", ", deps = [\"raw/video.audio\"]", "");
    other.change("metaxy.toml", "project =", "sync = false\nproject =");
    assert_eq!(listed(&other), [("processed/transcript".to_owned(), true), ("subtitles".to_owned(), false)]);
}

#[test]
fn extra_features() {
    let (films, other) = two_projects();
    other.write("features/subtitles.toml", "[[feature]]\nkey = \"alone\"\nid_columns = [\"id\"]\n");
    assert_eq!(listed(&other).len(), 1);
    other.change("metaxy.toml", "project =", "extra_features = [{ keys = [\"raw/video\"] }]\nproject =");
    assert_eq!(listed(&other).len(), 2);
    other.change("metaxy.toml", "keys = [\"raw/video\"]", "projects = [\"films\"]");
    assert_eq!(listed(&other).len(), 3);
    assert_eq!(other.json("metaxy lock")["features"], 2);
    other.change("metaxy.toml", "projects = [\"films\"]", "keys = [\"raw/none\"]");
    let ended = other.exits("metaxy list features", 0);
    assert!(ended.stderr.contains("does not have the feature `raw/none`"), "{ended:?}");
    let ended = other.exits("metaxy lock", 3);
    assert!(ended.stderr.contains("no pushed definitions of `raw/none`"), "{ended:?}");
    // Rows of other projects can be read, and are written by the command of any project.
    drop(films);
}

#[test]
fn unusable_lock_files() {
    let (_films, other) = two_projects();
    other.change("metaxy.toml", "project =", "metaxy_lock_path = \"locks/films.lock\"\nproject =");
    other.ok("mkdir locks && metaxy lock && test -s locks/films.lock");
    other.write("locks/films.lock", "[features.x]\nvresion = 1\n");
    let ended = other.exits("metaxy list features", 2);
    assert!(ended.stderr.contains("locks/films.lock") && ended.stderr.contains("metaxy lock"), "{ended:?}");
    let lock = include_str!("other.lock").replace("key = \"other/clip\"", "key = \"other/film\"");
    other.write("locks/films.lock", &lock);
    let ended = other.exits("metaxy list features", 2);
    assert!(ended.stderr.contains("its `spec` defines `other/film`"), "{ended:?}");
    let unset = Project::new("sqlite");
    unset.ok(&format!("metaxy write raw/video videos.csv {VERSIONS}"));
    unset.change("metaxy.toml", "project = \"films\"", "");
    let ended = unset.exits("metaxy lock", 2);
    assert!(ended.stderr.contains("`project` is not set"), "{ended:?}");
}
