//! What commands print, as snapshots: `UPDATE_EXPECT=1 cargo test` rewrites them. The JSON is that of the README.

#![cfg(feature = "sqlite")]

use expect_test::expect;

use crate::support::{Project, VERSIONS};

/// Returns what a line prints.
fn prints(project: &Project, line: &str) -> String {
    without_times(&project.ok(line))
}

/// Replaces times, which differ from run to run.
fn without_times(text: &str) -> String {
    let is_time = |word: &str| word.len() == 15 && word.chars().all(|c| c.is_ascii_digit() || ":.".contains(c));
    let is_date = |word: &str| word.len() == 10 && word.starts_with("20") && word.contains('-');
    let lines = text.lines().map(|line| {
        let words = line.split(' ').map(|word| {
            let bare = word.trim_matches(|c| "\",".contains(c));
            let mask = if is_time(bare) {
                "<time>"
            } else if is_date(bare) {
                "<date>"
            } else {
                bare
            };
            word.replace(bare, mask)
        });
        words.collect::<Vec<_>>().join(" ") + "\n"
    });
    lines.collect()
}

#[test]
fn list() {
    let project = Project::new("sqlite");
    expect![[r#"
        FEATURE               VERSION   IDS       FIELDS         MADE FROM
        processed/transcript  dae004df  video_id  text           raw/video
        raw/video             11064acb  video_id  audio, frames
    "#]]
    .assert_eq(&prints(&project, "metaxy list features"));
    expect![[r#"
        feature,version,ids,fields,made_from
        processed/transcript,dae004df,video_id,text,raw/video
        raw/video,11064acb,video_id,"audio, frames",
    "#]]
    .assert_eq(&prints(&project, "metaxy list features --format csv"));
    expect![[r#"
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
    "#]]
    .assert_eq(&prints(&project, "metaxy list features --format json"));
    expect![[r#"
        STORE  TYPE    DEFAULT  FALLBACK STORES
        dev    sqlite  yes
    "#]]
    .assert_eq(&prints(&project, "metaxy list stores"));
    expect![[r#"
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
    "#]]
    .assert_eq(&prints(&project, "metaxy list stores --format json"));
}

#[test]
fn describe() {
    let project = Project::new("sqlite");
    expect![[r#"
        processed/transcript
          about       What is said in a video
          ids         video_id
          version     dae004df
          definition  bf57f245
          table       processed__transcript
          made from   raw/video (1:1)
          field       text 11077fde (code 1) from raw/video.audio
    "#]]
    .assert_eq(&prints(&project, "metaxy describe processed/transcript"));
    expect![[r#"
        feature,field,version,code_version,made_from
        processed/transcript,text,11077fde,1,raw/video.audio
    "#]]
    .assert_eq(&prints(&project, "metaxy describe processed/transcript --format csv"));
    expect![[r#"
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
    "#]]
    .assert_eq(&prints(&project, "metaxy describe processed/transcript --format json"));
}

/// A feature that is made from two others.
const SUMMARY: &str = "\n[[feature]]\nkey = \"report/summary\"\nid_columns = [\"video_id\"]\n\
                       deps = [{ feature = \"raw/video\", select = [\"path\"] }, \"processed/transcript\"]\n\
                       fields = [\"text\"]\n";

#[test]
fn graph() {
    let project = Project::new("sqlite");
    project.append("features/video.toml", SUMMARY);
    expect![[r#"
        raw/video 11064acb
        ├── processed/transcript dae004df
        │   └── report/summary 9bc7f67e
        └── report/summary 9bc7f67e
    "#]]
    .assert_eq(&prints(&project, "metaxy graph"));
    expect![[r#"
        raw/video 11064acb
        │   · audio
        │   · frames
        ├── processed/transcript dae004df
        │   │   · text ← raw/video.audio
        │   └── report/summary 9bc7f67e
        │           · text ← processed/transcript.text, raw/video.audio, raw/video.frames
        └── report/summary 9bc7f67e
                · text ← processed/transcript.text, raw/video.audio, raw/video.frames
    "#]]
    .assert_eq(&prints(&project, "metaxy graph --fields"));
    expect![[r#"
        raw/video 11064acb
        ├── processed/transcript dae004df
        │   └── report/summary 9bc7f67e
        └── report/summary 9bc7f67e
    "#]]
    .assert_eq(&prints(&project, "metaxy graph processed/transcript"));
    expect![[r#"
        flowchart LR
            raw__video["raw/video"]
            processed__transcript["processed/transcript"]
            report__summary["report/summary"]
            raw__video --> processed__transcript
            raw__video --> report__summary
            processed__transcript --> report__summary
    "#]]
    .assert_eq(&prints(&project, "metaxy graph --as mermaid"));
    expect![[r#"
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
    "#]]
    .assert_eq(&prints(&project, "metaxy graph --as mermaid --fields"));
    expect![[r#"
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
    "#]]
    .assert_eq(&prints(&project, "metaxy graph --as dot"));
    expect![[r#"
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
    "#]]
    .assert_eq(&prints(&project, "metaxy graph --as dot --fields"));
    expect![[r#"
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
    "#]]
    .assert_eq(&prints(&project, "metaxy graph --format json"));
    expect![[r#"
        from,to
        raw/video.audio,processed/transcript.text
        raw/video.audio,report/summary.text
        raw/video.frames,report/summary.text
        processed/transcript.text,report/summary.text
    "#]]
    .assert_eq(&prints(&project, "metaxy graph --format csv"));
}

#[test]
fn drawing() {
    let project = Project::processed("sqlite");
    expect![[r#"
        .box{fill:#fff;stroke:#c9cfdb}
        .mark{fill:#9aa3b5}
        .in-sync .mark{fill:#2e9e5b}
        .due .mark{fill:#d9921a}
        .problem .mark{fill:#cc3b3b}
        .name{fill:#1d2330;font-weight:600}
        .state{fill:#687086;font-size:11px}
        .field text{fill:#1d2330}
        .field rect{fill:transparent}
        .edge{fill:none;stroke:#b4bccb;stroke-width:1.5}
        @media (prefers-color-scheme:dark){
        .box{fill:#1d2330;stroke:#4a5368}
        .name,.field text{fill:#e7eaf2}
        .state{fill:#9aa3b5}
        .edge{stroke:#4a5368}
        }
        </style>
        <path class="edge" data-from="raw/video.audio" data-to="processed/transcript.text" d="M250 82 C305 82 305 82 360 82"/>
        <g class="feature unknown" data-feature="raw/video"><title>raw/video: Videos as they arrive</title>
        <rect class="box" x="20" y="20" width="230" height="104" rx="6"/><rect class="mark" x="20" y="20" width="5" height="104" rx="2"/>
        <text class="name" x="34" y="41">raw/video</text><text class="state" x="34" y="59">version 11064acb</text>
        <g class="field" id="raw/video.audio" tabindex="0" role="button"><rect x="28" y="70" width="216" height="24" rx="4"/><text x="38" y="86">audio</text></g>
        <g class="field" id="raw/video.frames" tabindex="0" role="button"><rect x="28" y="94" width="216" height="24" rx="4"/><text x="38" y="110">frames</text></g>
        </g>
        <g class="feature unknown" data-feature="processed/transcript"><title>processed/transcript: What is said in a video</title>
        <rect class="box" x="360" y="20" width="230" height="80" rx="6"/><rect class="mark" x="360" y="20" width="5" height="80" rx="2"/>
        <text class="name" x="374" y="41">processed/transcript</text><text class="state" x="374" y="59">version dae004df</text>
        <g class="field" id="processed/transcript.text" tabindex="0" role="button"><rect x="368" y="70" width="216" height="24" rx="4"/><text x="378" y="86">text</text></g>
        </g>
        </svg>
    "#]].assert_eq(&prints(&project, "metaxy graph --as svg | grep -v '^<svg'"));
    project.ok("metaxy delete raw/video --filter 'video_id = 3' --yes");
    let page = project.ok("metaxy graph --as html --status");
    // The numbers and the colour of what is to be done; nothing is loaded from elsewhere.
    assert!(page.contains("<g class=\"feature due\" data-feature=\"processed/transcript\">"), "{page}");
    assert!(page.contains(">3 rows · 1 orphaned<"), "{page}");
    assert!(!page.contains("://") && !page.contains("{drawing}"), "{page}");
}

#[test]
fn differences() {
    let project = Project::processed("sqlite");
    project.ok("metaxy push 2>/dev/null");
    expect![[r#"
        {
          "from_project_version": "c716ea14",
          "to_project_version": "c716ea14",
          "outdated": 0,
          "features": []
        }
    "#]]
    .assert_eq(&prints(&project, "metaxy impact --format json"));
    project.change("features/video.toml", "code_version = \"1\"", "code_version = \"2\"");
    project.change("features/video.toml", "fields = [\"audio\", \"frames\"]", "fields = [\"audio\", \"size\"]");
    project.change("features/video.toml", "Videos as they", "Films as they");
    expect![[r#"
        FEATURE               CHANGE      SAMPLES  OUTDATED  FIELDS
        raw/video             recomputed  3        3         size (added), frames (removed)
        processed/transcript  recomputed  3        3         text (code 1 → 2)
    "#]]
    .assert_eq(&prints(&project, "metaxy impact"));
    expect![[r#"
        ### 6 samples have to be made again

        Project version c716ea14 → c7c5f2db

        | feature | change | fields | samples | outdated |
        |---|---|---|--:|--:|
        | `raw/video` | recomputed | size (added), frames (removed) | 3 | 3 |
        | `processed/transcript` | recomputed | text (code 1 → 2) | 3 | 3 |
    "#]]
    .assert_eq(&prints(&project, "metaxy impact --markdown"));
    expect![[r#"
        {
          "from_project_version": "c716ea14",
          "to_project_version": "c7c5f2db",
          "outdated": 6,
          "features": [
            {
              "feature": "raw/video",
              "change": "recomputed",
              "fields": [
                {
                  "field": "size",
                  "reason": "added",
                  "from": null,
                  "to": null
                },
                {
                  "field": "frames",
                  "reason": "removed",
                  "from": null,
                  "to": null
                }
              ],
              "rows": 3,
              "outdated": 3
            },
            {
              "feature": "processed/transcript",
              "change": "recomputed",
              "fields": [
                {
                  "field": "text",
                  "reason": "code",
                  "from": "1",
                  "to": "2"
                }
              ],
              "rows": 3,
              "outdated": 3
            }
          ]
        }
    "#]]
    .assert_eq(&prints(&project, "metaxy impact --format json"));
    expect![[r#"
        FEATURE               CHANGE      FIELDS
        raw/video             recomputed  size (added), frames (removed)
        processed/transcript  recomputed  text (code 1 → 2)
    "#]]
    .assert_eq(&prints(&project, "metaxy graph diff"));
    let version = project.json("metaxy list features")["project_version"].clone();
    project.ok("metaxy push");
    expect![[r#"
        feature,change,fields
    "#]]
    .assert_eq(&prints(&project, "metaxy graph diff --format csv"));
    expect![[r#"
            feature,change,fields
            raw/video,recomputed,"size (added), frames (removed)"
            processed/transcript,recomputed,text (code 1 → 2)
        "#]]
    .assert_eq(&prints(
        &project,
        &format!("metaxy graph diff --from c716ea14 --to {} --format csv", version.as_str().unwrap()),
    ));
}

#[test]
fn explanations() {
    let project = Project::processed("sqlite");
    project.ok("sed -i.bak 's/,002,/,002b,/' videos.csv");
    project.ok(&format!("metaxy write raw/video videos.csv {VERSIONS}"));
    project.ok("metaxy delete raw/video --filter 'video_id = 3' --yes");
    expect![[r#"
        processed/transcript video_id=1: up to date
          field text is unchanged (code 1, from raw/video.audio)
          from raw/video video_id=1: audio=001, written <date> <time> UTC, after the sample
        processed/transcript video_id=2: stale, because it was made from something else
          field text has to be made: 25156406 → 38456064 (code 1, from raw/video.audio)
          from raw/video video_id=2: audio=002b, written <date> <time> UTC, after the sample
        processed/transcript video_id=3: orphaned, because nothing upstream asks for it
          field text is unchanged (code 1, from raw/video.audio)
          from raw/video: no row
        processed/transcript video_id=7: neither expected nor stored
          from raw/video: no row
    "#]]
    .assert_eq(&prints(&project, "metaxy explain processed/transcript 1 2 video_id=3 7"));
    expect![[r#"
        {
          "feature": "processed/transcript",
          "feature_version": "dae004df",
          "samples": [
            {
              "sample": "video_id=2",
              "state": "stale",
              "fields": [
                {
                  "field": "text",
                  "code_version": "1",
                  "changed": true,
                  "expected": "38456064",
                  "stored": "25156406",
                  "made_from": [
                    "raw/video.audio"
                  ]
                }
              ],
              "inputs": [
                {
                  "feature": "raw/video",
                  "optional": false,
                  "rows": [
                    {
                      "sample": "video_id=2",
                      "updated_at": "<date> <time> UTC",
                      "later": true,
                      "data_versions": {
                        "audio": "002b"
                      }
                    }
                  ]
                }
              ],
              "other_versions": []
            }
          ]
        }
    "#]]
    .assert_eq(&prints(&project, "metaxy explain processed/transcript 2 --format json"));
    expect![[r#"
        sample,state,field,changed,stored,expected
        video_id=1,up_to_date,text,false,11994116,
        video_id=2,stale,text,true,25156406,38456064
    "#]]
    .assert_eq(&prints(&project, "metaxy explain processed/transcript 1 2 --format csv"));
}

#[test]
fn status() {
    let project = Project::processed("sqlite");
    project.ok("metaxy delete raw/video --filter 'video_id = 3' --yes");
    expect![[r#"
        FEATURE               STORE  ROWS  NEW  STALE  ORPHANED  PROGRESS  PROBLEM
        raw/video             dev    2     -    -      -         -
        processed/transcript  dev    3     0    0      1         100 %
    "#]]
    .assert_eq(&prints(&project, "metaxy status"));
    expect![[r#"
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
    "#]]
    .assert_eq(&prints(&project, "metaxy status --format json"));
}

#[test]
fn rows() {
    let project = Project::processed("sqlite");
    expect![[r#"
        +----------+-------+
        | video_id | text  |
        +----------+-------+
        | 1        | hello |
        | 2        | you   |
        +----------+-------+
    "#]]
    .assert_eq(&prints(&project, "metaxy read processed/transcript --filter 'video_id < 3'"));
    expect![[r#"
        [{"video_id":1,"text":"hello"},{"video_id":2,"text":"you"}]
    "#]]
    .assert_eq(&prints(&project, "metaxy read processed/transcript --filter 'video_id < 3' --format json"));
    let versions = "--columns video_id,metaxy_provenance_by_field,metaxy_provenance";
    expect![[r#"
        video_id,metaxy_provenance_by_field,metaxy_provenance
        1,"{""text"":""11994116""}",29875447
        2,"{""text"":""25156406""}",30994279
        3,"{""text"":""39433439""}",29950727
    "#]]
    .assert_eq(&prints(&project, &format!("metaxy read processed/transcript {versions} --format csv")));
    expect![[r#"
        FEATURE               NEW  STALE  ORPHANED
        processed/transcript  0    0      0
    "#]]
    .assert_eq(&prints(&project, "metaxy resolve processed/transcript"));
    expect![[r#"
        {
          "feature": "processed/transcript",
          "feature_version": "dae004df",
          "new": 0,
          "stale": 0,
          "orphaned": 0,
          "files": [],
          "basis": null
        }
    "#]]
    .assert_eq(&prints(&project, "metaxy resolve processed/transcript --format json"));
    expect![[r#"
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
    "#]]
    .assert_eq(&prints(&project, "metaxy delete raw/video --all --cascade --dry-run --format json"));
}

#[test]
fn pushes() {
    let project = Project::new("sqlite");
    expect![[r#"
        {
          "project": "films",
          "project_version": "c716ea14",
          "already_pushed": false,
          "features": [
            "raw/video",
            "processed/transcript"
          ]
        }
    "#]]
    .assert_eq(&prints(&project, "metaxy push --tag git_commit=4f2a91c --format json"));
    expect![[r#"
        {
          "project": "films",
          "project_version": "c716ea14",
          "already_pushed": true,
          "features": []
        }
    "#]]
    .assert_eq(&prints(&project, "metaxy push --format json"));
    expect![[r#"
        RECORDED AT                 PROJECT  PROJECT VERSION  FEATURE               VERSION   DEFINITION VERSION  TAGS
        <date> <time>  films    c716ea14         processed/transcript  dae004df  bf57f245            git_commit=4f2a91c
        <date> <time>  films    c716ea14         raw/video             11064acb  0b906546            git_commit=4f2a91c
    "#]]
    .assert_eq(&prints(&project, "metaxy history"));
    expect![[r#"
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
    "#]]
    .assert_eq(&prints(&project, "metaxy history raw/video --format json"));
}

#[test]
fn config() {
    let project = Project::new("sqlite").with("PASSWORD", "hunter22");
    let secret = "\n[stores.prod]\ntype = \"postgres\"\n[stores.prod.config]\n\
                  connection_string = \"postgresql://films:${PASSWORD}@db/films\"\n";
    project.append("metaxy.toml", secret);
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
    "#]]
    .assert_eq(&ended.stdout);
}
