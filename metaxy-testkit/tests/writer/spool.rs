//! A spool directory keeps batches after a crash of the process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array};
use metaxy_core::{BufferedMetadataWriter, Error, MetadataStore, Result, columns};
use metaxy_testkit::faults::{Fault, Operation};

use super::support::{
    Fixture, TEXT, VIDEO, column, eventually, graph, in_time, ints, only_value, texts, videos, with_column,
};

/// Returns the number of batches in a spool directory.
pub fn kept(directory: &Path) -> usize {
    let files = std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "arrow")).count()
}

pub async fn start(store: &MetadataStore, directory: &Path) -> Result<BufferedMetadataWriter> {
    let builder = BufferedMetadataWriter::builder(store.clone()).interval(super::support::NEVER);
    builder.spool(directory).start().await
}

/// Calls [`start`] until the task of a dropped writer has released the spool.
pub async fn restart(store: &MetadataStore, directory: &Path) -> BufferedMetadataWriter {
    let started = async {
        loop {
            match start(store, directory).await {
                Ok(writer) => return writer,
                Err(Error::Locked { .. }) => tokio::time::sleep(Duration::from_millis(2)).await,
                Err(error) => panic!("the writer does not start: {error}"),
            }
        }
    };
    in_time("the lock is let go", started).await
}

/// Puts rows with a writer that cannot write them.
pub async fn leave_behind(
    directory: &Path,
    feature: &str,
    batches: impl IntoIterator<Item = arrow::array::RecordBatch>,
) {
    let broken = Fixture::failing(Fault::fail(Operation::Append).forever()).await;
    let writer = restart(&broken.store, directory).await;
    for batch in batches {
        writer.put(feature, batch).await.expect("a put");
    }
    writer.close().await.expect_err("the store is broken");
}

#[tokio::test]
async fn a_batch_is_on_disk_from_its_put_until_it_is_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let spool = directory.path().join("made").join("by the writer");
    let fixture = Fixture::new().await;
    let writer = start(&fixture.store, &spool).await.expect("it starts");
    writer.put_multi([(VIDEO, videos(0..10)), (TEXT, texts(0..3))]).await.expect("a put");
    assert_eq!(kept(&spool), 2);
    writer.flush().await.expect("a flush");
    eventually("written batches go", || kept(&spool) == 0).await;
    writer.close().await.expect("a close");
}

#[tokio::test]
async fn a_refused_put_leaves_nothing_on_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let fixture = Fixture::new().await;
    let writer = start(&fixture.store, directory.path()).await.expect("it starts");
    writer.put_multi([(VIDEO, videos(0..10)), (TEXT, videos(0..3))]).await.expect_err("the wrong fields");
    assert_eq!(kept(directory.path()), 0);
}

#[tokio::test]
async fn spooled_rows_are_written_at_the_next_start() {
    let directory = tempfile::tempdir().expect("a directory");
    leave_behind(directory.path(), VIDEO, (0..30).map(|number| videos(number * 10..(number + 1) * 10))).await;
    assert_eq!(kept(directory.path()), 30);
    let fixture = Fixture::new().await;
    let writer = restart(&fixture.store, directory.path()).await;
    assert_eq!(writer.pending_rows(), 300);
    writer.flush().await.expect("what was spooled is written");
    assert_eq!(fixture.ids(VIDEO).await, (0..300).collect::<Vec<_>>());
    assert_eq!(fixture.appends(), 1, "not batch by batch");
    writer.close().await.expect("a close");
    assert_eq!(kept(directory.path()), 0);
}

/// A process may be killed when its rows are both in the store and in the spool, and so may the next one.
#[tokio::test]
async fn stored_rows_are_read_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let fixture = Fixture::new().await;
    for _ in 0..3 {
        let score = |value: i64| Arc::new(Int64Array::from(vec![value; 10])) as ArrayRef;
        let batches = [with_column(&videos(0..10), "score", score(1)), with_column(&videos(0..10), "score", score(2))];
        leave_behind(directory.path(), VIDEO, batches).await;
        let writer = restart(&fixture.store, directory.path()).await;
        writer.close().await.expect("what was spooled is written");
    }
    assert_eq!(fixture.ids(VIDEO).await, (0..10).collect::<Vec<_>>());
    assert_eq!(ints(&fixture.store, VIDEO, "score").await, [2; 10], "what was put last counts");
}

#[tokio::test]
async fn a_spooled_row_hides_no_later_one() {
    let directory = tempfile::tempdir().expect("a directory");
    leave_behind(directory.path(), VIDEO, [videos(0..10)]).await;
    let fixture = Fixture::new().await;
    fixture.store.write(VIDEO, videos(0..2)).await.expect("a later write");
    fixture.store.delete(VIDEO).filter("id = 1").await.expect("a later delete");
    let later = only_value(&fixture.store, VIDEO, columns::UPDATED_AT).await;
    let writer = restart(&fixture.store, directory.path()).await;
    writer.close().await.expect("what was spooled is written");
    assert_eq!(fixture.ids(VIDEO).await, [0, 2, 3, 4, 5, 6, 7, 8, 9], "what was deleted since stays so");
    let times = column(&fixture.store, VIDEO, columns::UPDATED_AT).await;
    let newest = (0..times.len()).filter(|row| times.slice(*row, 1).as_ref() == later.as_ref()).count();
    assert_eq!(newest, 1, "the later write of sample 0 counts");
}

/// Rows of other definitions must not count as rows of the current ones.
#[tokio::test]
async fn spooled_rows_keep_their_feature_version() {
    let directory = tempfile::tempdir().expect("a directory");
    leave_behind(directory.path(), VIDEO, [videos(0..10)]).await;
    leave_behind(directory.path(), TEXT, [texts(0..5)]).await;
    let only_video = metaxy_core::FeatureGraph::new([metaxy_core::FeatureSpec::builder(VIDEO)
        .id_columns(["id"])
        .fields(["audio", "frames"])
        .build()
        .expect("a spec")]);
    let fixture = Fixture::with_graph(only_video.expect("a graph")).await;
    let writer = restart(&fixture.store, directory.path()).await;
    writer.close().await.expect("what was spooled is written");
    let current = fixture.store.read(VIDEO).await.expect("it reads").rows().await.expect("it reads");
    assert_eq!(current.num_rows(), 0, "no row of the current version");
    let then = fixture.store.with_graph(graph("1")).expect("the old definitions");
    assert_eq!(super::support::ids(&then, VIDEO).await.len(), 10);
    assert_eq!(super::support::ids(&then, TEXT).await.len(), 5, "a feature that is no longer defined");
}

#[tokio::test]
async fn only_one_writer_uses_a_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let fixture = Fixture::new().await;
    let writer = start(&fixture.store, directory.path()).await.expect("it starts");
    let locked = start(&fixture.store, directory.path()).await.expect_err("a second writer on the same spool");
    assert!(matches!(locked, Error::Locked { .. }), "{locked}");
    writer.close().await.expect("a close");
    start(&fixture.store, directory.path()).await.expect("a closed writer has let go of it");
}

/// A process was killed while it wrote a file, before its put returned.
#[tokio::test]
async fn an_incomplete_file_is_ignored() {
    let directory = tempfile::tempdir().expect("a directory");
    leave_behind(directory.path(), VIDEO, [videos(0..10)]).await;
    let half = directory.path().join("00000000000000000001-0000000000-0000000000000000.part");
    std::fs::write(&half, "ARROW1").expect("a file");
    let fixture = Fixture::new().await;
    let writer = restart(&fixture.store, directory.path()).await;
    writer.close().await.expect("a close");
    assert_eq!(fixture.ids(VIDEO).await.len(), 10);
    assert!(!half.exists());
}

#[tokio::test]
async fn a_damaged_file_is_reported() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("00000000000000000001-0000000000-0000000000000000.arrow");
    std::fs::write(&file, "no Arrow file").expect("a file");
    let fixture = Fixture::new().await;
    let error = start(&fixture.store, directory.path()).await.expect_err("a damaged file");
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
}

/// On Linux a seccomp filter can make syncs fail on a thread and on the threads that it starts.
#[cfg(target_os = "linux")]
#[test]
fn a_batch_that_does_not_reach_the_disk_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let put = || {
        if let Err(error) = forbid(&[libc::SYS_fsync, libc::SYS_fdatasync], libc::EIO) {
            return eprintln!("not tested, since this system takes no seccomp filter: {error}");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let fixture = Fixture::new().await;
            let writer = start(&fixture.store, directory.path()).await.expect("it starts");
            let refused = writer.put(VIDEO, videos(0..10)).await.expect_err("the disk keeps nothing");
            assert!(
                matches!(refused, Error::Backend { .. }),
                "an I/O error of the disk is not a lack of rights: {refused}"
            );
            assert_eq!((writer.pending_rows(), kept(directory.path())), (0, 0));
            writer.close().await.expect("a close");
        });
    };
    std::thread::scope(|scope| scope.spawn(put).join()).expect("a thread of its own, which keeps the ban");
}

/// Makes these calls fail from now on, on this thread and on those that it starts.
#[cfg(target_os = "linux")]
pub fn forbid(calls: &[i64], error: i32) -> Result<(), seccompiler::Error> {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

    let calls = calls.iter().map(|call| (*call, Vec::new())).collect();
    let fails = SeccompAction::Errno(error.cast_unsigned());
    let here = std::env::consts::ARCH.try_into().expect("a processor that seccomp knows");
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, fails, here).expect("a filter");
    apply_filter(&BpfProgram::try_from(filter).expect("a program"))
}
