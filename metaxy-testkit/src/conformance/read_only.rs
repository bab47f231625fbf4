//! Stores that are opened for reading: without write access to their files, and without leaving files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use metaxy_core::{AccessMode, Result};
use tokio::process::Command;

use super::kit::{LEAF, PASSED, ROOT, increment, pair, read_ids, samples};
use super::second_process::{as_child, assert_child_passes, child_with};
use super::{Bench, Outcome};

/// Returns the files below a directory with their contents.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |path: &Path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    below(directory).into_iter().filter(|path| path.is_file()).map(|path| (path.clone(), read(&path))).collect()
}

/// Returns a directory and everything below it, if they exist.
pub(super) fn paths(directory: &Path) -> Vec<PathBuf> {
    let mut found = below(directory);
    found.retain(|path| path.exists());
    found.sort();
    found
}

/// Returns a directory and everything below it, parents first.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at) {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let entries: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry is listed").path()).collect();
            found.extend(entries);
        }
        at += 1;
    }
    found
}

/// Creates a closed store with two processed samples, and returns the directory of its files.
async fn filled(bench: &Bench) -> Result<Option<PathBuf>> {
    let Some(directory) = bench.location.directory() else { return Ok(None) };
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    super::kit::process(&store, LEAF).await?;
    store.close().await?;
    Ok(Some(directory))
}

const NO_FILES: &str = "its rows are not in local files";

pub(super) async fn reading_leaves_no_trace(bench: Bench) -> Result<Outcome> {
    let Some(directory) = filled(&bench).await? else { return Ok(Outcome::Refused(NO_FILES.to_owned())) };
    let before = files(&directory);
    for closes in [true, false] {
        let store = bench.builder(pair()?).await?.open(AccessMode::ReadOnly).await?;
        assert_eq!(read_ids(&store, ROOT).await?, ["s1", "s2"]);
        assert_eq!(increment(&store, LEAF).await?.concat(), Vec::<String>::new());
        assert!(store.write(ROOT, samples(["s3"], "v1").batch()).await.is_err());
        if closes {
            store.close().await?;
        }
    }
    let after = files(&directory);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "files were added or removed");
    assert!(before == after, "reading has changed a file");
    PASSED
}

pub(super) async fn reading_works_without_write_access(bench: Bench) -> Result<Outcome> {
    if let Some(store) = as_child(&bench, AccessMode::ReadOnly).await? {
        assert_eq!(read_ids(&store, ROOT).await?, ["s1", "s2"]);
        assert_eq!(increment(&store, LEAF).await?.concat(), Vec::<String>::new());
        return PASSED;
    }
    let Some(directory) = filled(&bench).await? else { return Ok(Outcome::Refused(NO_FILES.to_owned())) };
    let before = files(&directory);
    let locked = Locked::new(&directory);
    let mut reader = child_with(&bench, &bench.location.settings_without_rights());
    if std::fs::write(directory.join("probe"), "").is_ok() {
        std::fs::remove_file(directory.join("probe")).expect("what was written can be removed");
        match as_nobody(reader) {
            Some(nobody) => reader = nobody,
            None => {
                return Ok(Outcome::Refused("this user may write to all files".to_owned()));
            }
        }
    }
    assert_child_passes(reader).await;
    drop(locked);
    assert!(before == files(&directory), "reading has changed a file");
    PASSED
}

/// A directory without write access until this is dropped.
struct Locked(Vec<PathBuf>);

impl Locked {
    fn new(directory: &Path) -> Self {
        let paths = below(directory);
        paths.iter().rev().for_each(|path| set_writable(path, false));
        Self(paths)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.0.iter().for_each(|path| set_writable(path, true));
    }
}

#[cfg(unix)]
fn set_writable(path: &Path, writable: bool) {
    use std::os::unix::fs::PermissionsExt;
    let mode = match (path.is_dir(), writable) {
        (true, true) => 0o755,
        (true, false) => 0o555,
        (false, true) => 0o644,
        (false, false) => 0o444,
    };
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("permissions can be set");
}

#[cfg(not(unix))]
fn set_writable(path: &Path, writable: bool) {
    let mut permissions = std::fs::metadata(path).expect("the file is there").permissions();
    permissions.set_readonly(!writable);
    std::fs::set_permissions(path, permissions).expect("permissions can be set");
}

/// Returns the same command, run by a user who is not exempt from permissions, and who may have no access to the path
/// of the test binary.
#[cfg(target_os = "linux")]
fn as_nobody(command: Command) -> Option<Command> {
    const NOBODY: u32 = 65_534;
    let (program, command) = ("/proc/self/exe", command.into_std());
    let mut nobody = Command::new(program);
    nobody.args(command.get_args()).uid(NOBODY).gid(NOBODY).kill_on_drop(true).current_dir("/");
    nobody.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => nobody.env(name, value),
            None => nobody.env_remove(name),
        };
    }
    Some(nobody)
}

#[cfg(not(target_os = "linux"))]
fn as_nobody(_: Command) -> Option<Command> {
    None
}
