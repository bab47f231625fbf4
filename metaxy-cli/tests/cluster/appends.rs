//! Increments that the cluster appends to the table of their feature.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use arrow::util::display::array_value_to_string;
use metaxy_core::{AccessMode, Error, MetadataStore, columns};

use crate::processes::{Cluster, Process};
use crate::tables::{backend, fill, graph, store};

/// Returns the rows of the feature as lines, without what differs from write to write.
async fn lines(store: &MetadataStore) -> Vec<String> {
    let rows = store.read("both").await.unwrap().collect().await.unwrap();
    let is_own = |name: &str| ![columns::CREATED_AT, columns::UPDATED_AT].contains(&name);
    let mut lines = Vec::new();
    for batch in rows {
        let mut fields: Vec<(&String, usize)> =
            batch.schema_ref().fields().iter().enumerate().map(|(place, field)| (field.name(), place)).collect();
        fields.sort();
        fields.retain(|(name, _)| is_own(name));
        for row in 0..batch.num_rows() {
            let cell = |(name, place): &(&String, usize)| {
                format!("{name}={}", array_value_to_string(batch.column(*place), row).unwrap())
            };
            lines.push(fields.iter().map(cell).collect::<Vec<_>>().join(" "));
        }
    }
    lines.sort();
    lines
}

async fn written(store: &MetadataStore) -> metaxy_core::Result<u64> {
    store.resolve_update("both").lazy().await?.write().await
}

async fn left(store: &MetadataStore) -> [usize; 3] {
    let left = store.resolve_update("both").from_all_rows().await.unwrap();
    [left.new, left.stale, left.orphaned].map(|rows| rows.num_rows())
}

/// Fills two stores, and writes the increment of one on the cluster, that of the other through this process.
async fn compared(cluster: &Cluster, roots: [String; 2], options: BTreeMap<String, String>) {
    let open = async |root: &str, scheduler: Option<&str>| {
        let builder = MetadataStore::builder(backend(root, &options, scheduler), graph());
        builder.open(AccessMode::ReadWrite).await.unwrap()
    };
    let (through_us, filled) = (open(&roots[0], None).await, open(&roots[1], None).await);
    let on_cluster = open(&roots[1], Some(&cluster.url())).await;
    for rows in [400, 1_600] {
        for store in [&through_us, &filled] {
            fill(store, rows).await;
        }
        let changed = left(&through_us).await;
        assert_eq!(left(&on_cluster).await, changed);
        assert!(changed.iter().all(|count| *count > 0), "{changed:?}");
        let count = written(&through_us).await.unwrap();
        assert_eq!(count, (changed[0] + changed[1]) as u64);
        assert_eq!(written(&on_cluster).await.unwrap(), count);
        assert_eq!(lines(&on_cluster).await, lines(&through_us).await);
        assert_eq!(left(&on_cluster).await[..2], [0, 0]);
        assert_eq!(written(&on_cluster).await.unwrap(), 0, "nothing is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_increment_is_appended_to_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let roots = ["ours", "theirs"].map(|name| directory.path().join(name).display().to_string());
    compared(&Cluster::shared(), roots, BTreeMap::new()).await;
    let commits = commits(&directory.path().join("theirs"));
    let appended: Vec<&String> = commits.iter().filter(|commit| commit.contains("\"path\":\"job-")).collect();
    assert_eq!(appended.len(), 2, "one commit for each append of the cluster: {commits:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_increment_is_appended_to_a_bucket() {
    let cluster = Cluster::shared();
    let roots = ["ours", "theirs"].map(|name| format!("{}/appends/{name}", cluster.bucket.url()));
    compared(&cluster, roots, cluster.bucket.storage_options()).await;
}

/// The first rows of a feature create its table; a limit of rows is kept.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_creates_the_table() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::shared();
    let store = store(directory.path(), Some(&cluster.url())).await;
    for root in ["left", "right"] {
        store.write(root, crate::tables::samples(root, 0..300, "1")).await.unwrap();
    }
    assert_eq!(written(&store).await.unwrap(), 300);
    assert_eq!(left(&store).await, [0; 3]);
    assert_eq!(commits(directory.path()).len(), 1);
    store.write("left", crate::tables::samples("left", 0..300, "2")).await.unwrap();
    let limited = store.resolve_update("both").lazy().await.unwrap().limit(7);
    assert_eq!(limited.write().await.unwrap(), 7);
    assert_eq!(left(&store).await, [0, 293, 0]);
}

/// Whatever has become of the job, either all rows are visible or none.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_dies_leaves_all_rows_or_none() {
    const ROWS: i64 = 120_000;
    let directory = tempfile::tempdir().unwrap();
    for root in ["left", "right"] {
        let store = store(directory.path(), None).await;
        for part in 0..4 {
            let ids = ROWS * part / 4..ROWS * (part + 1) / 4;
            store.write(root, crate::tables::samples(root, ids, "1")).await.unwrap();
        }
    }
    for (delay, killed) in [(400, 1), (1_500, 1), (3_000, 1), (1_500, 2)] {
        let _ = std::fs::remove_dir_all(directory.path().join("both.delta"));
        let mut cluster = Cluster::start(2, "-v");
        let on_cluster = store(directory.path(), Some(&cluster.url())).await;
        let append = tokio::spawn(async move { written(&on_cluster).await });
        tokio::time::sleep(Duration::from_millis(delay)).await;
        cluster.executors[..killed].iter_mut().for_each(Process::kill);
        let outcome = tokio::time::timeout(Duration::from_secs(180), append).await.expect("an end").unwrap();
        let reader = store(directory.path(), None).await;
        match outcome {
            Ok(rows) => {
                println!("{killed} killed after {delay} ms: all rows are written");
                assert_eq!((rows, left(&reader).await), (ROWS as u64, [0; 3]));
                assert_eq!(commits(directory.path()).len(), 1);
            }
            Err(error) => {
                println!("{killed} killed after {delay} ms: {error}");
                assert!(matches!(error, Error::Backend { .. } | Error::Unreachable { .. }), "{error:?}");
                assert_eq!(left(&reader).await, [ROWS as usize, 0, 0]);
                assert_eq!(commits(directory.path()), Vec::<String>::new());
                // An executor that lives may still be writing; vacuum removes what it leaves.
                assert!(killed == 1 || jobs(directory.path()) == 0, "files of the job are left");
            }
        }
    }
}

/// Returns the number of directories that jobs have left in the feature's table.
fn jobs(root: &Path) -> usize {
    let Ok(table) = std::fs::read_dir(root.join("both.delta")) else { return 0 };
    table.filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("job-")).count()
}

/// Returns the commits of the feature's table.
fn commits(root: &Path) -> Vec<String> {
    let Ok(log) = std::fs::read_dir(root.join("both.delta/_delta_log")) else { return Vec::new() };
    let commits =
        log.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "json"));
    commits.map(|commit| std::fs::read_to_string(commit).unwrap()).collect()
}
