//! A table as other processes get it: where it is, and all that its log says about the files to be read. Access to the
//! storage system is not a part of it: each process has its own.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use deltalake::kernel::{DeletionVectorDescriptor, Metadata, Protocol};
use futures::lock::Mutex;
use metaxy_core::{AccessMode, Error, FeatureKey, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use url::Url;

use crate::config::DeltaConfig;
use crate::connection::Session;
use crate::error::ErrorContext;
use crate::location::{Layout, Root};
use crate::table::log::state::{DataFile, TableState};

use super::Part;

/// A table at one version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SentPart {
    root: SentRoot,
    pub(super) key: FeatureKey,
    metadata: Metadata,
    protocol: Protocol,
    version: u64,
    files: Vec<SentFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct SentRoot {
    url: String,
    directory: Option<PathBuf>,
    layout: Layout,
}

/// A file, without its statistics: files that they exclude are not sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SentFile {
    name: String,
    size: i64,
    partition_values: HashMap<String, Option<String>>,
    deletion_vector: Option<DeletionVectorDescriptor>,
}

/// A table that another process has named. The parts of a task open it together.
pub(super) struct NamedPart {
    pub(super) sent: Arc<SentPart>,
    opened: OnceCell<Arc<Part>>,
}

impl NamedPart {
    pub(super) fn new(sent: Arc<SentPart>) -> Self {
        Self { sent, opened: OnceCell::new() }
    }

    /// Opens the table, once, with the access that this process has.
    pub(super) async fn open(&self) -> Result<Arc<Part>> {
        self.opened.get_or_try_init(|| self.sent.open()).await.cloned()
    }
}

/// The stores that this process has opened to read for others.
static SESSIONS: LazyLock<Mutex<HashMap<SentRoot, Arc<Session>>>> = LazyLock::new(Mutex::default);

impl SentPart {
    /// Describes a table; `wanted` says which files are read.
    pub(super) fn new(part: &Part, wanted: impl Fn(&DataFile) -> bool) -> Self {
        let state = &part.state;
        let files = state.files.iter().filter(|file| wanted(file)).map(|file| SentFile {
            name: file.name.clone(),
            size: i64::try_from(file.size).unwrap_or(i64::MAX),
            partition_values: file.partition_values.clone(),
            deletion_vector: file.deletion_vector.clone(),
        });
        Self {
            root: SentRoot::new(&part.root),
            key: part.key.clone(),
            metadata: state.metadata.clone(),
            protocol: state.protocol.clone(),
            version: state.version,
            files: files.collect(),
        }
    }

    async fn open(&self) -> Result<Arc<Part>> {
        let session = self.root.open().await?;
        let table = session.table(&self.key)?;
        let file = |file: &SentFile| {
            let (values, vector) = (file.partition_values.clone(), file.deletion_vector.clone());
            DataFile::new(&table.name, file.name.clone(), file.size, None, values, vector)
        };
        let files = self.files.iter().map(file).collect::<Result<_>>()?;
        let (metadata, protocol) = (self.metadata.clone(), self.protocol.clone());
        let state = Arc::new(TableState::new(&table.name, self.version, metadata, protocol, files)?);
        Ok(Arc::new(Part { key: self.key.clone(), root: session.root.clone(), table, state, shares: 1 }))
    }
}

impl SentRoot {
    fn new(root: &Root) -> Self {
        let mut url = root.url.clone();
        // What such a part may hold is for the one process that was given it.
        let _ = (url.set_username(""), url.set_password(None));
        Self { url: url.into(), directory: root.directory.clone(), layout: root.layout }
    }

    async fn open(&self) -> Result<Arc<Session>> {
        let mut sessions = SESSIONS.lock().await;
        if let Some(session) = sessions.get(self) {
            return Ok(session.clone());
        }
        let url = Url::parse(&self.url).map_err(|error| Error::setting("root_path", error.to_string()))?;
        let root = Root { url, directory: self.directory.clone(), layout: self.layout };
        let context = ErrorContext { location: root.display(), secrets: Vec::new() };
        let config = DeltaConfig::new(root.display());
        let session = Arc::new(Session::open(&config, &root, &context, AccessMode::ReadOnly).await?);
        sessions.insert(self.clone(), session.clone());
        Ok(session)
    }
}
