//! Processes that are killed while they write.

use std::sync::Arc;

use metaxy_core::SharedBackend;
use metaxy_delta::{DeltaBackend, DeltaConfig};
use metaxy_testkit::crash::{self, Victim};
use metaxy_testkit::servers::s3;

use crate::{local, on_s3};

const KILLS: usize = 50;

fn made(settings: DeltaConfig) -> metaxy_core::Result<SharedBackend> {
    Ok(Arc::new(DeltaBackend::new(settings)?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_leave_complete_writes_in_a_directory() {
    let test = "processes::kills_leave_complete_writes_in_a_directory";
    let root = tempfile::tempdir().unwrap();
    crash::survives_kills(test, Victim::Store, KILLS, root.path(), |root| async move { made(local(&root)) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_leave_complete_writes_on_s3() {
    // The killed process reads the settings of the bucket from this file, beside the locations.
    const FILE: &str = "settings.toml";
    let bucket = s3::bucket().unwrap();
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join(FILE), toml::to_string(&on_s3(&bucket)).unwrap()).unwrap();
    let test = "processes::kills_leave_complete_writes_on_s3";
    crash::survives_kills(test, Victim::Store, KILLS, place.path(), |place| async move {
        let settings = std::fs::read_to_string(place.with_file_name(FILE)).unwrap();
        let mut settings: DeltaConfig = toml::from_str(&settings).unwrap();
        settings.root_path = format!("{}/{}", settings.root_path, place.file_name().unwrap().display());
        made(settings)
    })
    .await;
}
