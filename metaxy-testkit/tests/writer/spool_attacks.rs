//! A spool directory is input: files and changes of others are refused; links are not followed, opening never waits
//! forever, and no other values are decoded.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::ipc::writer::FileWriter;
use metaxy_core::{Error, ipc};

use super::spool::{kept, leave_behind, restart, start};
use super::support::{Fixture, VIDEO, videos};

const NAME: &str = "00000000000000000001-0000000000-00000000000000ff.arrow";

fn only_file(directory: &Path) -> PathBuf {
    let mut files = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    files.find(|path| path.extension().is_some_and(|extension| extension == "arrow")).expect("a file")
}

/// Returns a file in the form of versions without frames.
fn without_frame(file: &Path) -> Vec<u8> {
    let (schema, batches) = ipc::decode("spool", &fs::read(file).expect("a file")).expect("a whole file");
    let mut writer = FileWriter::try_new(Vec::new(), &schema).expect("a file");
    batches.iter().for_each(|batch: &RecordBatch| writer.write(batch).expect("it fits"));
    writer.into_inner().expect("a file")
}

async fn is_refused(directory: &Path) -> Error {
    let fixture = Fixture::new().await;
    let error = super::support::in_time("a start", start(&fixture.store, directory)).await;
    error.expect_err("a file that is not as it was written")
}

#[tokio::test]
async fn every_changed_byte_is_detected() {
    let directory = tempfile::tempdir().expect("a directory");
    leave_behind(directory.path(), VIDEO, [videos(0..3)]).await;
    let file = only_file(directory.path());
    let bytes = fs::read(&file).expect("a file");
    for at in (0..bytes.len()).step_by(1 + bytes.len() / 200) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(matches!(ipc::decode("spool", &changed), Err(Error::Corrupt { .. })), "byte {at}");
        assert!(matches!(ipc::decode("spool", &bytes[..at]), Err(Error::Corrupt { .. })), "cut at {at}");
    }
    let mut changed = bytes.clone();
    changed[bytes.len() / 2] ^= 4;
    fs::write(&file, &changed).expect("a file");
    let error = is_refused(directory.path()).await;
    assert!(matches!(&error, Error::Corrupt { table, .. } if table.contains(&file.display().to_string())), "{error}");
    fs::write(&file, &bytes).expect("a file");
    let fixture = Fixture::new().await;
    restart(&fixture.store, directory.path()).await.close().await.expect("the file is whole again");
    assert_eq!(fixture.ids(VIDEO).await, [0, 1, 2]);
}

#[tokio::test]
async fn files_of_earlier_versions_are_read() {
    let directory = tempfile::tempdir().expect("a directory");
    leave_behind(directory.path(), VIDEO, [videos(0..10)]).await;
    let file = only_file(directory.path());
    let bare = without_frame(&file);
    assert!(bare.starts_with(b"ARROW1"));
    fs::write(&file, bare).expect("a file");
    let fixture = Fixture::new().await;
    let writer = restart(&fixture.store, directory.path()).await;
    writer.close().await.expect("what was spooled is written");
    assert_eq!(fixture.ids(VIDEO).await, (0..10).collect::<Vec<_>>());
    assert_eq!(kept(directory.path()), 0);
}

/// Their lengths may have any value: no memory is allocated for missing bytes, and nothing panics.
#[tokio::test]
async fn damaged_files_of_earlier_versions_are_refused_or_read() {
    let directory = tempfile::tempdir().expect("a directory");
    leave_behind(directory.path(), VIDEO, [videos(0..3)]).await;
    let file = only_file(directory.path());
    let bare = without_frame(&file);
    let fixture = Fixture::new().await;
    let (mut refused, mut read) = (0, 0);
    // The lengths are at the end, and at the beginning of each message; a few other positions are enough.
    let positions = (0..bare.len()).filter(|at| at % 16 < 2 || at + 64 > bare.len());
    for at in positions.clone() {
        let mut changed = bare.clone();
        changed[at] = if at % 2 == 0 { 0x7f } else { 0xff };
        fs::write(&file, changed).expect("a file");
        match start(&fixture.store, directory.path()).await {
            Ok(writer) => {
                read += 1;
                let _ = writer.close().await;
                fs::remove_file(&file).ok();
                fs::remove_dir_all(directory.path().join("rejected")).ok();
            }
            Err(Error::Corrupt { .. }) => refused += 1,
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    assert!(refused > positions.count() / 8, "{refused} refused, {read} read");
}

#[cfg(unix)]
#[tokio::test]
async fn links_and_pipes_are_not_opened() {
    use std::os::unix::fs::symlink;

    let directory = tempfile::tempdir().expect("a directory");
    let elsewhere = tempfile::tempdir().expect("a directory");
    let entry = directory.path().join(NAME);
    leave_behind(elsewhere.path(), VIDEO, [videos(0..3)]).await;
    symlink(only_file(elsewhere.path()), &entry).expect("a link");
    let error = is_refused(directory.path()).await;
    assert!(matches!(&error, Error::Corrupt { reason, .. } if reason.contains("not a regular file")), "{error}");
    fs::remove_file(&entry).expect("a link");

    let pipe = std::process::Command::new("mkfifo").arg(&entry).status().expect("mkfifo");
    assert!(pipe.success());
    let error = is_refused(directory.path()).await;
    assert!(matches!(&error, Error::Corrupt { reason, .. } if reason.contains("not a regular file")), "{error}");
    fs::remove_file(&entry).expect("a pipe");

    let victim = elsewhere.path().join("victim");
    fs::write(&victim, "what it held").expect("a file");
    fs::remove_file(directory.path().join("lock")).ok();
    symlink(&victim, directory.path().join("lock")).expect("a link");
    is_refused(directory.path()).await;
    assert_eq!(fs::read_to_string(&victim).expect("a file"), "what it held");
}

#[tokio::test]
async fn files_of_other_programs_are_not_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    let others = ["lock", "notes.part", "data.arrow", "00000000000000000001-0000000000-xyz.arrow", "a-b-c.part"];
    for name in others {
        fs::write(directory.path().join(name), name).expect("a file");
    }
    let fixture = Fixture::new().await;
    let writer = start(&fixture.store, directory.path()).await.expect("they are none of its own");
    writer.put(VIDEO, videos(0..3)).await.expect("a put");
    writer.close().await.expect("a close");
    for name in others {
        assert_eq!(fs::read_to_string(directory.path().join(name)).expect("a file"), name);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_reads_a_spool() {
    use std::os::unix::fs::PermissionsExt;

    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let directory = tempfile::tempdir().expect("a directory");
    let spool = directory.path().join("spool");
    leave_behind(&spool, VIDEO, [videos(0..3)]).await;
    assert_eq!(mode(&spool), 0o700);
    assert_eq!(mode(&only_file(&spool)), 0o600);
    assert_eq!(mode(&spool.join("lock")), 0o600);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_differs_from_missing_permissions() {
    let fixture = Fixture::new().await;
    // A file system that accepts no files.
    let error =
        start(&fixture.store, Path::new("/proc/metaxy")).await.expect_err("there are no files of ours in /proc");
    assert!(matches!(error, Error::LocationNotFound { .. } | Error::AccessDenied { .. }), "{error}");
    let full = || std::io::Error::from_raw_os_error(libc::ENOSPC);
    let error = Error::of_io("the spool directory", "keep a batch", full());
    assert!(matches!(error, Error::StorageFull { .. }) && error.is_transient(), "{error}");
    type Check = fn(&Error) -> bool;
    let cases: [(i32, Check); 5] = [
        (libc::EDQUOT, |error| matches!(error, Error::StorageFull { .. })),
        (libc::EACCES, |error| matches!(error, Error::AccessDenied { .. })),
        (libc::EROFS, |error| matches!(error, Error::AccessDenied { .. })),
        (libc::ENOENT, |error| matches!(error, Error::LocationNotFound { .. })),
        (libc::EMFILE, |error| matches!(error, Error::Backend { transient: true, .. })),
    ];
    for (code, is_expected) in cases {
        let error = Error::of_io("the spool directory", "keep a batch", std::io::Error::from_raw_os_error(code));
        assert!(is_expected(&error), "{code}: {error:?}");
    }
}

/// A disk that is really full, if a test may create one on this machine.
#[cfg(target_os = "linux")]
#[test]
fn a_put_on_a_full_disk_is_refused_and_works_later() {
    let directory = tempfile::tempdir().expect("a directory");
    let put = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let fixture = runtime.block_on(Fixture::new());
        let writer = runtime.block_on(start(&fixture.store, directory.path())).expect("it starts");
        if let Err(error) = forbid(&[libc::SYS_fsync, libc::SYS_fdatasync], libc::ENOSPC) {
            return eprintln!("not tested, since this system takes no seccomp filter: {error}");
        }
        runtime.block_on(async {
            let refused = writer.put(VIDEO, videos(0..10)).await.expect_err("the disk is full");
            assert!(matches!(refused, Error::StorageFull { .. }), "{refused}");
            assert!(refused.is_transient());
            assert_eq!((writer.pending_rows(), kept(directory.path())), (0, 0));
            tokio::time::timeout(Duration::from_secs(20), writer.close()).await.expect("in time").expect("a close");
        });
    };
    std::thread::scope(|scope| scope.spawn(put).join()).expect("a thread of its own, which keeps the ban");
}

#[cfg(target_os = "linux")]
use super::spool::forbid;
