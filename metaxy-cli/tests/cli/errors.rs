//! Errors: one line on stderr that says what to do, and an exit code.

#![cfg(feature = "sqlite")]

use expect_test::expect;

use crate::support::{Project, VERSIONS};

/// Returns what a line prints to stderr, after checking that it exits with a code and prints nothing to stdout.
fn fails(project: &Project, line: &str, code: i32) -> String {
    let ended = project.exits(line, code);
    assert_eq!(ended.stdout, "", "{line}");
    let directory = project.path("").canonicalize().unwrap();
    let text = ended.stderr.replace(&format!("{}/", directory.display()), "");
    text.replace(&format!("{}", directory.display()), ".")
}

#[test]
fn usage_and_configuration() {
    let project = Project::new("sqlite");
    expect![[r#"
        error: none.toml: the file cannot be read: No such file or directory (os error 2)
    "#]]
    .assert_eq(&fails(&project, "metaxy list features --store prod --config-file none.toml", 2));
    expect![[r#"
        error: metaxy.toml: `stores`: there is no store `prod`; configured stores: dev
    "#]]
    .assert_eq(&fails(&project, "metaxy status --store prod", 2));
    expect![[r#"
        error: feature `raw/vidoe` is not in the graph; did you mean `raw/video`?
    "#]]
    .assert_eq(&fails(&project, "metaxy describe raw/vidoe", 2));
    expect![[r#"
        error: ./metaxy.toml: the file exists already; edit it, or choose another directory
    "#]]
    .assert_eq(&fails(&project, "metaxy init .", 2));
    expect![[r#"
        error: the following required arguments were not provided:
          <--filter <FILTER>|--ids <FILE>|--orphaned|--all>

        Usage: metaxy delete <--filter <FILTER>|--ids <FILE>|--orphaned|--all> <FEATURE>

        For more information, try '--help'.
    "#]]
    .assert_eq(&fails(&project, "metaxy delete raw/video", 2));
    expect![[r#"
        error: `--limit` limits rows; give `--out DIR` or `--only KIND` too
    "#]]
    .assert_eq(&fails(&project, "metaxy resolve processed/transcript --limit 3", 2));
    expect![[r#"
        error: `--status` needs `--as svg` or `--as html`; `metaxy status` prints a table
    "#]]
    .assert_eq(&fails(&project, "metaxy graph --status", 2));
    project.write("features/more.toml", "[[feature]]\nkey = 'a/b'\nid_column = ['a']\n");
    expect![[r#"
        error: features/more.toml:3:1: unknown key `id_column`; did you mean `id_columns`?
    "#]]
    .assert_eq(&fails(&project, "metaxy list features", 2));
}

#[test]
fn no_definitions() {
    let project = Project::new("sqlite");
    project.ok(&format!("metaxy write raw/video videos.csv {VERSIONS}"));
    project.change("metaxy.toml", "features = [\"features/*.toml\"]", "");
    expect![[r#"
        error: there are no features: the configuration names no feature files (`features = ["features/*.toml"]` under [ext.rust]), and store `dev` has no pushed definitions of project `films`; push them first, or ask for others
    "#]].assert_eq(&fails(&project, "metaxy list features", 2));
}

#[test]
fn nothing_was_pushed() {
    let project = Project::processed("sqlite");
    expect![[r#"
        error: there is nothing to compare with: store `dev` has no pushed definitions of project `films`; push them first, or ask for others (`metaxy push`, `metaxy history`)
    "#]].assert_eq(&fails(&project, "metaxy impact", 2));
    expect![[r#"
        error: there is nothing to compare with: store `dev` has no pushed definitions of project `films`; push them first, or ask for others (`metaxy push`, `metaxy history`)
    "#]].assert_eq(&fails(&project, "metaxy graph diff", 2));
}

#[test]
fn files() {
    let project = Project::new("sqlite");
    expect![[r#"
        error: videos.csv: its rows have no versions; name the columns that hold them: `--version audio=COLUMN,frames=COLUMN`
    "#]].assert_eq(&fails(&project, "metaxy write raw/video videos.csv", 2));
    expect![[r#"
        error: `--version` gives the field `frames` of `raw/video` no version; name a column for each of audio, frames
    "#]]
    .assert_eq(&fails(&project, "metaxy write raw/video videos.csv --version audio=etag", 2));
    expect![[r#"
        error: `--version frame=`: feature `raw/video` has no field `frame`; its fields: audio, frames
    "#]]
    .assert_eq(&fails(&project, "metaxy write raw/video videos.csv --version audio=etag,frame=etag", 2));
    expect![[r#"
        error: feature `raw/video`: there is no column `sha` in the file, which `--version` names; columns: video_id, path, audio_sha256, frames_sha256, etag, size
    "#]].assert_eq(&fails(&project, "metaxy write raw/video videos.csv --version audio=etag,frames=sha", 2));
    expect![[r#"
        error: videos.txt: its name tells no format; end it in .parquet, .arrow, .csv or .jsonl, or give `--file-format`
    "#]]
    .assert_eq(&fails(&project, "metaxy write raw/video videos.txt --version audio=etag,frames=etag", 2));
    expect![[r#"
        error: none.csv: No such file or directory (os error 2)
    "#]]
    .assert_eq(&fails(&project, "metaxy write raw/video none.csv --version audio=etag,frames=etag", 2));
    expect![[r#"
        error: stdin has no name that tells its format; give `--file-format`
    "#]]
    .assert_eq(&fails(&project, "metaxy write raw/video - --version audio=etag,frames=etag", 2));
    expect![[r#"
        error: transcripts.csv: its rows have no versions; name the samples that the rows were made from, which `resolve --out todo` writes: `--made-from todo`
    "#]].assert_eq(&fails(&project, "metaxy write processed/transcript transcripts.csv", 2));
    project.write("odd.csv", "video_id,etag\n1,a\n2\n");
    expect![[r#"
        error: odd.csv: it cannot be read: Csv error: Encountered unequal lengths between records on CSV file. Expected 2 records, found 1 records at line 3
    "#]].assert_eq(&fails(&project, "metaxy write raw/video odd.csv --version audio=etag,frames=etag", 2));
    project.write("odd.jsonl", "{\"video_id\": 1,\n");
    expect![[r#"
        error: odd.jsonl: it cannot be read: Json error: Not valid JSON: EOF while parsing a value at line 1 column 15
    "#]]
    .assert_eq(&fails(&project, "metaxy write raw/video odd.jsonl --version audio=etag,frames=etag", 2));
    project.write("odd.parquet", "no parquet");
    expect![[r#"
        error: odd.parquet: it cannot be read: Parquet error: Invalid Parquet file. Corrupt footer
    "#]]
    .assert_eq(&fails(&project, "metaxy write raw/video odd.parquet --version audio=etag,frames=etag", 2));
    project.write("null.csv", "video_id,etag\n1,a\n2,\n");
    expect![[r#"
        error: feature `raw/video`, column `etag`: row 1 of a batch has no value to be a version; give it one
    "#]]
    .assert_eq(&fails(&project, "metaxy write raw/video null.csv --version audio=etag,frames=etag", 2));
}

#[test]
fn store() {
    let project = Project::new("sqlite");
    expect![[r#"
        error: store `dev` does not exist: there is nothing at metaxy.db; `metaxy write` or `metaxy push` creates it
    "#]]
    .assert_eq(&fails(&project, "metaxy read raw/video", 3));
    project.ok("metaxy push 2> pushed.txt > /dev/null");
    expect![[r#"
        error: feature `raw/video` is not in store dev; write it first, or check `fallback_stores`
    "#]]
    .assert_eq(&fails(&project, "metaxy read raw/video", 3));
    project.ok(&format!("metaxy write raw/video videos.csv {VERSIONS}"));
    expect![[r#"
        error: this deletes samples (3 of raw/video); give `--yes`, or `--dry-run` to look first
    "#]]
    .assert_eq(&fails(&project, "metaxy delete raw/video --all", 2));
    expect![[r#"
        error: the filter does not parse: expected a column or a value, but the text ends
          size >
                ^
    "#]]
    .assert_eq(&fails(&project, "metaxy read raw/video --filter 'size >'", 2));
    expect![[r#"
        error: feature `raw/video`: there is no column `sizes` in its table; columns: video_id, path, audio_sha256, frames_sha256, etag, size, metaxy_provenance_by_field, metaxy_provenance, metaxy_data_version_by_field, metaxy_data_version, metaxy_feature_version, metaxy_project_version, metaxy_created_at, metaxy_updated_at, metaxy_deleted_at, metaxy_materialization_id
    "#]].assert_eq(&fails(&project, "metaxy read raw/video --columns sizes", 2));
    expect![[r#"
        error: cannot rebase `raw/video`: it is a root feature, whose provenance no upstream determines; write its samples again under the new definition
    "#]].assert_eq(&fails(&project, "metaxy rebase raw/video --from-version 00000000", 2));
    expect![[r#"
        error: cannot explain samples of `raw/video`: it is a root feature, whose samples come from outside; compare them with `samples` of a resolve
    "#]].assert_eq(&fails(&project, "metaxy explain raw/video 1", 2));
    expect![[r#"
        error: `video_id` is of type Int64; a is not
    "#]]
    .assert_eq(&fails(&project, "metaxy explain processed/transcript a", 2));
    project.write("metaxy.db", "this is no database, but a text that is longer than a page header of SQLite would be");
    expect![[r#"
        error: metaxy.db is not a SQLite database: its header is not that of a SQLite file
    "#]]
    .assert_eq(&fails(&project, "metaxy read raw/video", 3));
}

#[test]
fn verbose_names_causes() {
    let project = Project::new("sqlite");
    project.write("metaxy.db", "this is no database, but a text that is longer than a page header of SQLite would be");
    let ended = project.exits("metaxy -v read raw/video", 3);
    assert!(ended.stderr.starts_with("error: "), "{ended:?}");
}

#[test]
fn a_pipe_that_is_closed_is_no_error() {
    let project = Project::processed("sqlite");
    let ended = project.run("metaxy completions bash | head -n 1");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for format in ["table", "json", "csv"] {
        // The reader has gone before a row is written.
        let read = format!("metaxy read raw/video --format {format} 2> told.txt; echo $? > code.txt");
        project.ok(&format!("(sleep 0.3; {read}) | true"));
        project.ok("until [ -s code.txt ]; do sleep 0.1; done");
        let told = project.read("told.txt");
        assert!(project.read("code.txt") == "0\n" && !told.contains("error"), "{format}: {told}");
        project.ok("rm code.txt");
    }
    // Nor is a message that nobody reads a panic.
    let ended = project.run("metaxy read raw/none 2>&1 | true");
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
}

#[test]
fn an_answer_that_is_no_exits_with_1() {
    let project = Project::processed("sqlite");
    project.ok("metaxy status --assert-in-sync");
    project.ok("metaxy delete processed/transcript --filter 'video_id = 1' --yes");
    let ended = project.exits("metaxy status --assert-in-sync", 1);
    assert_eq!(ended.stderr, "");
    project.ok("metaxy status");
}
