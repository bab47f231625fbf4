//! A backend in memory for the tests of this crate. Its stores exist as long as the process, by their `root_path`.

#[allow(dead_code)]
pub mod films;
#[allow(dead_code)]
pub mod flood;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Once};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::SchemaRef;
use metaxy_core::backend::{closed, stream_of};
use metaxy_core::filter::Predicate;
use metaxy_core::registry::{BackendRegistration, BackendSettings};
use metaxy_core::{
    AccessMode, BackendInfo, Capabilities, Error, FeatureKey, HashAlgorithm, Result, Scan, ScanRequest, ScanStage,
    SharedBackend, StoreBackend,
};
use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Layout {
    #[default]
    Nested,
    Flat,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Settings {
    root_path: PathBuf,
    #[serde(default)]
    layout: Layout,
    #[serde(default)]
    storage_options: HashMap<String, String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    verify: bool,
    #[serde(default)]
    ratio: Option<f64>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    pool: Option<Pool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Pool {
    size: u8,
    #[serde(default)]
    idle_seconds: Option<u32>,
}

inventory::submit! {
    BackendRegistration {
        kind: "memory",
        aliases: &[
            "metaxy.ext.metadata_stores.delta.DeltaMetadataStore",
            "metaxy.ext.polars.handlers.delta.DeltaMetadataStore",
        ],
        crate_name: "metaxy-core-tests",
        ignored_settings: &["delta_write_options"],
        create: |settings| create(settings, HashAlgorithm::Xxhash32),
    }
}

inventory::submit! {
    BackendRegistration {
        kind: "ledger",
        aliases: &["metaxy.ext.duckdb.DuckDBMetadataStore"],
        crate_name: "metaxy-core-tests-2",
        ignored_settings: &[],
        create: |settings| create(settings, HashAlgorithm::Md5),
    }
}

fn create(settings: BackendSettings, hash: HashAlgorithm) -> Result<SharedBackend> {
    let settings: Settings = settings.parse()?;
    if settings.port == Some(0) {
        let reason = "no store listens on port 0".to_owned();
        return Err(Error::Config { file: None, line: None, key: "port".to_owned(), reason });
    }
    let memory = Memory::at(settings.root_path.to_string_lossy(), hash);
    Ok(Arc::new(Memory { ratio: settings.ratio, ..memory }))
}

type Tables = BTreeMap<FeatureKey, (SchemaRef, Vec<RecordBatch>)>;

#[derive(Debug, Default)]
pub struct Space {
    pub tables: Mutex<Tables>,
    pub opened: AtomicUsize,
    pub modes: Mutex<Vec<AccessMode>>,
    pub broken: Mutex<bool>,
}

static SPACES: LazyLock<Mutex<HashMap<String, Arc<Space>>>> = LazyLock::new(Mutex::default);

/// Returns the content of a location.
pub fn space(root: &str) -> Arc<Space> {
    SPACES.lock().unwrap().entry(root.to_owned()).or_default().clone()
}

#[derive(Debug)]
pub struct Memory {
    root: String,
    hash: HashAlgorithm,
    space: Arc<Space>,
    open: Mutex<bool>,
    /// A setting that is only checked when the store is opened, as in some storage systems.
    ratio: Option<f64>,
}

impl Memory {
    pub fn at(root: impl AsRef<str>, hash: HashAlgorithm) -> Self {
        let root = root.as_ref().to_owned();
        Self { space: space(&root), root, hash, open: Mutex::new(false), ratio: None }
    }

    fn check(&self) -> Result<()> {
        if *self.open.lock().unwrap() { Ok(()) } else { Err(closed(&self.info())) }
    }
}

#[async_trait::async_trait]
impl StoreBackend for Memory {
    fn info(&self) -> BackendInfo {
        BackendInfo {
            kind: "memory",
            location: self.root.clone(),
            default_hash: self.hash,
            flat_names: false,
            auto_create_tables: true,
            capabilities: Capabilities::default(),
        }
    }

    async fn open(&self, mode: AccessMode) -> Result<()> {
        if *self.space.broken.lock().unwrap() {
            return Err(Error::unreachable(&self.root, "it is switched off"));
        }
        if self.ratio.is_some_and(|ratio| !(0.0..=1.0).contains(&ratio)) {
            let reason = "give a share from 0 to 1".to_owned();
            return Err(Error::Config { file: None, line: None, key: "ratio".to_owned(), reason });
        }
        self.space.opened.fetch_add(1, Ordering::SeqCst);
        self.space.modes.lock().unwrap().push(mode);
        *self.open.lock().unwrap() = true;
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        *self.open.lock().unwrap() = false;
        Ok(())
    }

    async fn schema(&self, table: &FeatureKey) -> Result<Option<SchemaRef>> {
        self.check()?;
        Ok(self.space.tables.lock().unwrap().get(table).map(|(schema, _)| schema.clone()))
    }

    /// Checks for batches: a table that was created in advance has none, an emptied one has batches without rows.
    async fn has_held_rows(&self, table: &FeatureKey) -> Result<bool> {
        Ok(self.space.tables.lock().unwrap().get(table).is_some_and(|(_, batches)| !batches.is_empty()))
    }

    async fn append(&self, table: &FeatureKey, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
        self.check()?;
        let mut tables = self.space.tables.lock().unwrap();
        let (_, rows) = tables.entry(table.clone()).or_insert_with(|| (schema, Vec::new()));
        rows.extend(batches);
        Ok(())
    }

    async fn scan(&self, table: &FeatureKey, _: &ScanRequest) -> Result<Scan> {
        self.check()?;
        let tables = self.space.tables.lock().unwrap();
        let (schema, batches) = tables.get(table).expect("the core asks for tables that exist");
        Ok(Scan { schema: schema.clone(), stream: stream_of(batches.clone()), applied: ScanStage::Nothing })
    }

    async fn delete(&self, table: &FeatureKey, predicate: &Predicate) -> Result<u64> {
        self.check()?;
        let mut deleted = 0;
        if let Some((_, batches)) = self.space.tables.lock().unwrap().get_mut(table) {
            for batch in batches {
                let gone: BooleanArray =
                    predicate.evaluate(batch)?.iter().map(|gone| Some(gone == Some(true))).collect();
                deleted += gone.true_count() as u64;
                *batch = filter_record_batch(batch, &not(&gone)?)?;
            }
        }
        Ok(deleted)
    }

    async fn drop_table(&self, table: &FeatureKey) -> Result<()> {
        self.check()?;
        self.space.tables.lock().unwrap().remove(table);
        Ok(())
    }

    async fn tables(&self) -> Result<Vec<String>> {
        self.check()?;
        Ok(self.space.tables.lock().unwrap().keys().map(FeatureKey::table_name).collect())
    }
}

/// The log of this thread.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

thread_local! {
    static LOG: RefCell<Log> = RefCell::default();
}

/// Ends the collection.
#[allow(dead_code)]
pub struct Collecting;

impl Drop for Collecting {
    fn drop(&mut self) {
        LOG.take();
    }
}

#[allow(dead_code)]
impl Log {
    /// Collects from now on, until the guard is dropped.
    pub fn start(&self) -> Collecting {
        // One subscriber for all threads, because interest in an event is evaluated only once, by the first thread that
        // emits it.
        static LISTENS: Once = Once::new();
        LISTENS.call_once(|| {
            let here = || LOG.with_borrow(Log::clone);
            let subscriber = tracing_subscriber::fmt().with_writer(here).with_ansi(false).finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
        });
        LOG.set(self.clone());
        Collecting
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
