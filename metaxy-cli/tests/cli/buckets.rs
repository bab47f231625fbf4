//! Rows of an increment in a bucket.

#![cfg(feature = "delta")]

use std::collections::BTreeMap;

use metaxy_testkit::servers::s3::{self, Bucket, Fault};

use crate::support::{Project, VERSIONS};

/// Returns a project with samples to process, and a bucket that its commands reach by their environment.
fn prepared() -> (Project, Bucket) {
    let bucket = s3::bucket().unwrap();
    let names = ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ALLOW_HTTP"];
    let options = bucket.storage_options();
    let project = names.into_iter().fold(Project::new("delta"), |project, name| project.with(name, &options[name]));
    project.ok(&format!("metaxy write raw/video videos.csv {VERSIONS}"));
    (project, bucket)
}

/// Returns the objects of a bucket as texts or bytes, by their names.
fn objects(bucket: &Bucket) -> BTreeMap<String, Vec<u8>> {
    bucket.snapshot().into_iter().map(|(key, bytes)| (key, bytes.to_vec())).collect()
}

#[test]
fn objects_are_the_files_of_a_directory() {
    let (project, bucket) = prepared();
    for format in ["parquet", "arrow", "csv", "jsonl"] {
        let resolve = format!("metaxy resolve processed/transcript --file-format {format} --out");
        let mut local = project.json(&format!("{resolve} todo"));
        let remote = project.json(&format!("{resolve} {}/{format}/todo/", bucket.url()));
        let names = ["new", "stale", "orphaned"].map(|kind| format!("todo/{kind}.{format}"));
        let urls: Vec<String> = names.iter().map(|name| format!("{}/{format}/{name}", bucket.url())).collect();
        assert_eq!(remote["files"], serde_json::json!(urls));
        local["files"] = remote["files"].clone();
        assert_eq!(remote, local);
        for name in names {
            let file = std::fs::read(project.path(&name)).unwrap();
            assert_eq!(objects(&bucket)[&format!("{format}/{name}")], file, "{name}");
        }
    }
    assert_eq!(objects(&bucket).len(), 12);
}

#[test]
fn the_options_of_the_store_come_first() {
    let (project, bucket) = prepared();
    let project = project.with("AWS_SECRET_ACCESS_KEY", "another-secret").with("AWS_ACCESS_KEY_ID", "nobody");
    let resolve = format!("metaxy resolve processed/transcript --out {}/todo", bucket.url());
    let refused = project.exits(&resolve, 3);
    assert!(refused.stderr.contains("cannot be written") && !refused.stderr.contains("another-secret"), "{refused:?}");
    let options = bucket.storage_options();
    let settings =
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| format!("{name} = \"{}\"\n", options[name]));
    project.append("metaxy.toml", &format!("\n[stores.dev.config.storage_options]\n{}", settings.concat()));
    project.ok(&resolve);
    assert_eq!(objects(&bucket).len(), 3);
}

#[test]
fn a_large_object_is_sent_in_parts() {
    let (project, bucket) = prepared();
    let path = "a".repeat(10 << 20);
    project.write("large.csv", &format!("video_id,path,audio_sha256,frames_sha256\n4,{path},1,2\n5,{path},1,2\n"));
    project.ok(&format!("metaxy write raw/video large.csv {VERSIONS}"));
    for target in ["todo", &format!("{}/todo", bucket.url())] {
        let resolved = project.json(&format!("metaxy resolve processed/transcript --file-format arrow --out {target}"));
        assert_eq!(resolved["new"], 5);
    }
    let file = std::fs::read(project.path("todo/new.arrow")).unwrap();
    assert!(file.len() > 20 << 20 && objects(&bucket)["todo/new.arrow"] == file);
}

/// A failure of the store in the middle leaves nothing either, in a directory as in a bucket.
#[test]
fn an_increment_that_fails_leaves_no_file() {
    let (project, bucket) = prepared();
    project.ok("rm $(find metaxy-data -name '*.parquet')");
    for target in ["todo", &format!("{}/todo", bucket.url())] {
        project.exits(&format!("metaxy resolve processed/transcript --out {target}"), 3);
    }
    assert_eq!(project.ok("ls -A todo"), "");
    assert!(objects(&bucket).is_empty());
}

/// Whichever object fails: none is left.
#[test]
fn all_objects_are_written_or_none() {
    let (project, bucket) = prepared();
    let resolve = format!("metaxy resolve processed/transcript --out {}/todo", bucket.url());
    for kind in ["new", "stale", "orphaned"] {
        bucket.break_puts(&format!("{kind}.parquet"), [Fault::Denied]);
        let ended = project.exits(&resolve, 3);
        assert!(ended.stderr.contains(&format!("todo/{kind}.parquet cannot be written")), "{ended:?}");
        assert!(!ended.stderr.contains(&bucket.storage_options()["AWS_SECRET_ACCESS_KEY"]), "{ended:?}");
        assert!(objects(&bucket).is_empty(), "{kind}");
    }
    assert_eq!(bucket.struck(), 3);
    project.ok(&resolve);
    assert_eq!(objects(&bucket).len(), 3);
}

#[test]
fn targets_that_are_not_clear_are_refused() {
    let (project, bucket) = prepared();
    for (target, reason) in [
        (format!("{}/todo?versionId=1", bucket.url()), "`?`"),
        ("s3://".to_owned(), "cannot be used"),
        ("ftp://host/todo".to_owned(), "cannot be used"),
    ] {
        let ended = project.exits(&format!("metaxy resolve processed/transcript --out '{target}'"), 2);
        assert!(ended.stderr.contains(reason), "{target}: {ended:?}");
    }
    let project = project.with("AWS_ENDPOINT_URL", "not a url");
    let ended = project.exits(&format!("metaxy resolve processed/transcript --out {}/todo", bucket.url()), 2);
    assert!(ended.stderr.contains("aws_endpoint_url is not a URL"), "{ended:?}");
}
