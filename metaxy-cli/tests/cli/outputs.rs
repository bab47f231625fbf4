//! What commands print, as snapshots: `UPDATE_EXPECT=1 cargo test` rewrites them. The JSON is that of the README.

#![cfg(feature = "sqlite")]

use expect_test::{Expect, expect};

use crate::support::Project;

fn prints(project: &Project, line: &str, expected: Expect) {
    expected.assert_eq(&without_times(&project.ok(line)));
}

/// Replaces times, which differ from run to run.
fn without_times(text: &str) -> String {
    let is_time = |word: &str| word.len() == 15 && word.chars().all(|c| c.is_ascii_digit() || ":.".contains(c));
    let is_date = |word: &str| word.len() == 10 && word.starts_with("20") && word.contains('-');
    let lines = text.lines().map(|line| {
        let words = line.split(' ').map(|word| {
            let bare = word.trim_matches(|c| "\",".contains(c));
            let mask = if is_time(bare) { "<time>" } else if is_date(bare) { "<date>" } else { bare };
            word.replace(bare, mask)
        });
        words.collect::<Vec<_>>().join(" ") + "\n"
    });
    lines.collect()
}

#[test]
fn list() {
    let project = Project::new("sqlite");
    prints(&project, "metaxy list features", expect![[r#"
        FEATURE               VERSION   IDS       FIELDS         MADE FROM
        processed/transcript  dae004df  video_id  text           raw/video
        raw/video             11064acb  video_id  audio, frames
    "#]]);
    prints(&project, "metaxy list features --format csv", expect![[r#"
        feature,version,ids,fields,made from
        processed/transcript,dae004df,video_id,text,raw/video
        raw/video,11064acb,video_id,"audio, frames",
    "#]]);
    prints(&project, "metaxy list features --format json", expect![[r#"
        {
          "project_version": "c716ea14",
          "features": [
            {
              "feature": "processed/transcript",
              "feature_version": "dae004df",
              "id_columns": [
                "video_id"
              ],
              "fields": [
                "text"
              ],
              "deps": [
                "raw/video"
              ],
              "external": false,
              "description": "What is said in a video"
            },
            {
              "feature": "raw/video",
              "feature_version": "11064acb",
              "id_columns": [
                "video_id"
              ],
              "fields": [
                "audio",
                "frames"
              ],
              "deps": [],
              "external": false,
              "description": "Videos as they arrive"
            }
          ]
        }
    "#]]);
    prints(&project, "metaxy list stores", expect![[r#"
        STORE  TYPE    DEFAULT  FALLBACK STORES
        dev    sqlite  yes
    "#]]);
    prints(&project, "metaxy list stores --format json", expect![[r#"
        {
          "stores": [
            {
              "store": "dev",
              "type": "sqlite",
              "default": true,
              "fallback_stores": []
            }
          ]
        }
    "#]]);
}

#[test]
fn describe() {
    let project = Project::new("sqlite");
    prints(&project, "metaxy describe processed/transcript", expect![[r#"
        processed/transcript
          about       What is said in a video
          ids         video_id
          version     dae004df
          definition  bf57f245
          table       processed__transcript
          made from   raw/video (1:1)
          field       text 11077fde (code 1) from raw/video.audio
    "#]]);
    prints(&project, "metaxy describe processed/transcript --format csv", expect![[r#"
        feature,field,version,code version,made from
        processed/transcript,text,11077fde,1,raw/video.audio
    "#]]);
    prints(&project, "metaxy describe processed/transcript --format json", expect![[r#"
        {
          "feature": "processed/transcript",
          "description": "What is said in a video",
          "external": false,
          "id_columns": [
            "video_id"
          ],
          "feature_version": "dae004df",
          "code_version": "fe8df1a5",
          "spec_version": "8dbbd1e9",
          "definition_version": "bf57f245",
          "table": "processed__transcript",
          "fields": [
            {
              "field": "text",
              "code_version": "1",
              "version": "11077fde",
              "made_from": [
                "raw/video.audio"
              ]
            }
          ],
          "deps": [
            {
              "feature": "raw/video",
              "lineage": "1:1",
              "optional": false
            }
          ],
          "dependents": [],
          "spec": {
            "deps": [
              {
                "feature": "raw/video",
                "fields_mapping": {
                  "mapping": {
                    "exclude_fields": [],
                    "match_suffix": false,
                    "type": "default"
                  }
                },
                "lineage": {
                  "relationship": {
                    "type": "1:1"
                  }
                },
                "optional": false,
                "rename": null,
                "select": null,
                "sql_filters": null
              }
            ],
            "description": "What is said in a video",
            "fields": [
              {
                "code_version": "1",
                "deps": [
                  {
                    "feature": "raw/video",
                    "fields": [
                      "audio"
                    ]
                  }
                ],
                "key": "text"
              }
            ],
            "id_columns": [
              "video_id"
            ],
            "key": "processed/transcript",
            "metadata": {}
          }
        }
    "#]]);
}

/// A feature that is made from two others.
const SUMMARY: &str = "\n[[feature]]\nkey = \"report/summary\"\nid_columns = [\"video_id\"]\n\
                       deps = [{ feature = \"raw/video\", select = [\"path\"] }, \"processed/transcript\"]\n\
                       fields = [\"text\"]\n";

#[test]
fn graph() {
    let project = Project::new("sqlite");
    let features = project.read("features/video.toml");
    project.write("features/video.toml", &(features + SUMMARY));
    prints(&project, "metaxy graph", expect![[r#"
        raw/video 11064acb
        ├── processed/transcript dae004df
        │   └── report/summary 9bc7f67e
        └── report/summary 9bc7f67e
    "#]]);
    prints(&project, "metaxy graph --fields", expect![[r#"
        raw/video 11064acb
        │   · audio
        │   · frames
        ├── processed/transcript dae004df
        │   │   · text ← raw/video.audio
        │   └── report/summary 9bc7f67e
        │           · text ← processed/transcript.text, raw/video.audio, raw/video.frames
        └── report/summary 9bc7f67e
                · text ← processed/transcript.text, raw/video.audio, raw/video.frames
    "#]]);
    prints(&project, "metaxy graph processed/transcript", expect![[r#"
        raw/video 11064acb
        ├── processed/transcript dae004df
        │   └── report/summary 9bc7f67e
        └── report/summary 9bc7f67e
    "#]]);
    prints(&project, "metaxy graph --as mermaid", expect![[r#"
        flowchart LR
            raw__video["raw/video"]
            processed__transcript["processed/transcript"]
            report__summary["report/summary"]
            raw__video --> processed__transcript
            raw__video --> report__summary
            processed__transcript --> report__summary
    "#]]);
    prints(&project, "metaxy graph --as mermaid --fields", expect![[r#"
        flowchart LR
            subgraph raw__video["raw/video"]
                raw__video___audio["audio"]
                raw__video___frames["frames"]
            end
            subgraph processed__transcript["processed/transcript"]
                processed__transcript___text["text"]
            end
            subgraph report__summary["report/summary"]
                report__summary___text["text"]
            end
            raw__video___audio --> processed__transcript___text
            raw__video___audio --> report__summary___text
            raw__video___frames --> report__summary___text
            processed__transcript___text --> report__summary___text
    "#]]);
    prints(&project, "metaxy graph --as dot", expect![[r#"
        digraph features {
            rankdir=LR;
            node [shape=box];
            "raw/video";
            "processed/transcript";
            "report/summary";
            "raw/video" -> "processed/transcript";
            "raw/video" -> "report/summary";
            "processed/transcript" -> "report/summary";
        }
    "#]]);
    prints(&project, "metaxy graph --as dot --fields", expect![[r#"
        digraph features {
            rankdir=LR;
            node [shape=box];
            subgraph "cluster_raw/video" {
                label="raw/video";
                "raw/video.audio" [label="audio"];
                "raw/video.frames" [label="frames"];
            }
            subgraph "cluster_processed/transcript" {
                label="processed/transcript";
                "processed/transcript.text" [label="text"];
            }
            subgraph "cluster_report/summary" {
                label="report/summary";
                "report/summary.text" [label="text"];
            }
            "raw/video.audio" -> "processed/transcript.text";
            "raw/video.audio" -> "report/summary.text";
            "raw/video.frames" -> "report/summary.text";
            "processed/transcript.text" -> "report/summary.text";
        }
    "#]]);
    prints(&project, "metaxy graph --format json", expect![[r#"
        {
          "features": [
            {
              "feature": "raw/video",
              "feature_version": "11064acb",
              "external": false,
              "fields": [
                "audio",
                "frames"
              ]
            },
            {
              "feature": "processed/transcript",
              "feature_version": "dae004df",
              "external": false,
              "fields": [
                "text"
              ]
            },
            {
              "feature": "report/summary",
              "feature_version": "9bc7f67e",
              "external": false,
              "fields": [
                "text"
              ]
            }
          ],
          "edges": [
            {
              "from": "raw/video",
              "to": "processed/transcript",
              "fields": [
                [
                  "raw/video.audio",
                  "processed/transcript.text"
                ]
              ]
            },
            {
              "from": "raw/video",
              "to": "report/summary",
              "fields": [
                [
                  "raw/video.audio",
                  "report/summary.text"
                ],
                [
                  "raw/video.frames",
                  "report/summary.text"
                ]
              ]
            },
            {
              "from": "processed/transcript",
              "to": "report/summary",
              "fields": [
                [
                  "processed/transcript.text",
                  "report/summary.text"
                ]
              ]
            }
          ]
        }
    "#]]);
    prints(&project, "metaxy graph --format csv", expect![[r#"
        from,to
        raw/video.audio,processed/transcript.text
        raw/video.audio,report/summary.text
        raw/video.frames,report/summary.text
        processed/transcript.text,report/summary.text
    "#]]);
}

#[test]
fn status() {
    let project = Project::processed("sqlite");
    project.ok("metaxy delete raw/video --filter 'video_id = 3' --yes");
    prints(&project, "metaxy status", expect![[r#"
        FEATURE               STORE  ROWS  NEW  STALE  ORPHANED  PROGRESS  PROBLEM
        raw/video             dev    2     -    -      -         -
        processed/transcript  dev    3     0    0      1         100 %
    "#]]);
    prints(&project, "metaxy status --format json", expect![[r#"
        {
          "store": "dev",
          "in_sync": false,
          "features": [
            {
              "feature": "raw/video",
              "feature_version": "11064acb",
              "store": "dev",
              "rows": 2,
              "new": null,
              "stale": null,
              "orphaned": null,
              "progress": null,
              "problem": null
            },
            {
              "feature": "processed/transcript",
              "feature_version": "dae004df",
              "store": "dev",
              "rows": 3,
              "new": 0,
              "stale": 0,
              "orphaned": 1,
              "progress": 1.0,
              "problem": null
            }
          ]
        }
    "#]]);
}

#[test]
fn rows() {
    let project = Project::processed("sqlite");
    prints(&project, "metaxy read processed/transcript --filter 'video_id < 3'", expect![[r#"
        +----------+-------+
        | video_id | text  |
        +----------+-------+
        | 1        | hello |
        | 2        | you   |
        +----------+-------+
    "#]]);
    prints(&project, "metaxy read processed/transcript --filter 'video_id < 3' --format json", expect![[r#"
        [{"video_id":1,"text":"hello"},{"video_id":2,"text":"you"}]
    "#]]);
    let versions = "--columns video_id,metaxy_provenance_by_field,metaxy_provenance";
    prints(&project, &format!("metaxy read processed/transcript {versions} --format csv"), expect![[r#"
        video_id,metaxy_provenance_by_field,metaxy_provenance
        <time>
        <time>
        <time>
    "#]]);
    prints(&project, "metaxy resolve processed/transcript", expect![[r#"
        FEATURE               NEW  STALE  ORPHANED
        processed/transcript  0    0      0
    "#]]);
    prints(&project, "metaxy resolve processed/transcript --format json", expect![[r#"
        {
          "feature": "processed/transcript",
          "feature_version": "dae004df",
          "new": 0,
          "stale": 0,
          "orphaned": 0,
          "files": []
        }
    "#]]);
    prints(&project, "metaxy delete raw/video --all --cascade --dry-run --format json", expect![[r#"
        {
          "dry_run": true,
          "features": [
            {
              "feature": "processed/transcript",
              "samples": 3
            },
            {
              "feature": "raw/video",
              "samples": 3
            }
          ]
        }
    "#]]);
}

#[test]
fn pushes() {
    let project = Project::new("sqlite");
    prints(&project, "metaxy push --tag git_commit=4f2a91c --format json", expect![[r#"
        {
          "project": "films",
          "project_version": "c716ea14",
          "already_pushed": false,
          "features": [
            "raw/video",
            "processed/transcript"
          ]
        }
    "#]]);
    prints(&project, "metaxy push --format json", expect![[r#"
        {
          "project": "films",
          "project_version": "c716ea14",
          "already_pushed": true,
          "features": []
        }
    "#]]);
    prints(&project, "metaxy history", expect![[r#"
        RECORDED AT                 PROJECT  PROJECT VERSION  FEATURE               VERSION   DEFINITION VERSION  TAGS
        <date> <time>  films    c716ea14         processed/transcript  dae004df  bf57f245            git_commit=4f2a91c
        <date> <time>  films    c716ea14         raw/video             11064acb  0b906546            git_commit=4f2a91c
    "#]]);
    prints(&project, "metaxy history raw/video --format json", expect![[r#"
        {
          "definitions": [
            {
              "recorded_at": "<date> <time>",
              "project": "films",
              "project_version": "c716ea14",
              "feature": "raw/video",
              "feature_version": "11064acb",
              "definition_version": "0b906546",
              "tags": {
                "git_commit": "4f2a91c",
                "metaxy": "{\"version\": \"0.1.0\", \"implementation\": \"rust\"}"
              }
            }
          ]
        }
    "#]]);
}

#[test]
fn config() {
    let project = Project::new("sqlite").with("PASSWORD", "hunter22");
    let secret = "\n[stores.prod]\ntype = \"postgres\"\n[stores.prod.config]\n\
                  connection_string = \"postgresql://films:${PASSWORD}@db/films\"\n";
    let config = project.read("metaxy.toml");
    project.write("metaxy.toml", &(config + secret));
    let ended = project.exits("metaxy config print --format csv | grep -v ext.rust", 0);
    assert!(!ended.stdout.contains("hunter22"), "{ended:?}");
    expect![[r#"
        setting,value
        store,dev
        project,films
        hash_truncation_length,8
        enable_map_datatype,false
        sync,true
        stores.dev.type,sqlite
        stores.dev.config.database,metaxy.db
        stores.prod.type,postgres
        stores.prod.config.connection_string,postgresql://films:***@db/films
    "#]].assert_eq(&ended.stdout);
}
