//! Notifications of changed files, for backends whose tables are files that the machine can look at quickly.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::blocking;

/// The time between two looks. A look costs one call of the system for each file.
const INTERVAL: Duration = Duration::from_millis(50);

/// Returns a stream with an item whenever one of these files or directories has another time of modification or another
/// size, is created or removed. This also works on file systems that notify only of the changes of their own machine.
pub fn watch(paths: Vec<PathBuf>) -> BoxStream<'static, ()> {
    let start = (paths, None);
    let changes = stream::unfold(start, |(paths, mut seen)| async move {
        loop {
            let looked = paths.clone();
            let now = blocking::run(move || Ok(looked.iter().map(state).collect::<Vec<_>>())).await.ok()?;
            let has_changed = seen.as_ref().is_some_and(|seen| *seen != now);
            seen = Some(now);
            if has_changed {
                return Some(((), (paths, seen)));
            }
            tokio::time::sleep(INTERVAL).await;
        }
    });
    changes.boxed()
}

/// The time of modification and the size of a file; `None` if there is none.
type State = Option<(Option<SystemTime>, u64)>;

fn state(path: &PathBuf) -> State {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok(), metadata.len()))
}
