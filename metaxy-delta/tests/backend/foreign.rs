//! Tables in the form of other programs: a log of JSON, and Parquet files.

use std::fs;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::local;

/// A store with one table, [`crate::TABLE`], that another program has created.
pub struct Foreign {
    pub root: TempDir,
    version: u64,
}

impl Foreign {
    /// Creates a table with this protocol and metadata, without rows.
    pub fn new(protocol: Value, metadata: Value) -> Self {
        let table = Self { root: tempfile::tempdir().unwrap(), version: 0 };
        fs::create_dir_all(table.directory().join("_delta_log")).unwrap();
        table.with_commit(&[json!({"protocol": protocol}), json!({"metaData": metadata})])
    }

    /// Adds a commit with these actions.
    pub fn with_commit(mut self, actions: &[Value]) -> Self {
        let lines: String = actions.iter().map(|action| format!("{action}\n")).collect();
        fs::write(self.log().join(format!("{:020}.json", self.version)), lines).unwrap();
        self.version += 1;
        self
    }

    pub fn directory(&self) -> PathBuf {
        self.root.path().join("raw/video.delta")
    }

    pub fn log(&self) -> PathBuf {
        self.directory().join("_delta_log")
    }

    pub fn settings(&self) -> metaxy_delta::DeltaConfig {
        local(self.root.path())
    }

    /// Writes rows into a file without a commit.
    pub fn write_parquet(&self, name: &str, rows: &RecordBatch) {
        let path = self.directory().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1_000)).build();
        let file = fs::File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
        writer.write(rows).unwrap();
        writer.close().unwrap();
    }

    /// Returns the action that adds a file of the table's directory.
    pub fn add(&self, name: &str) -> Value {
        let size = fs::metadata(self.directory().join(name)).unwrap().len();
        json!({"add": {"path": name, "size": size, "partitionValues": {}, "modificationTime": 0, "dataChange": true}})
    }
}

/// Returns the protocol of a table without features.
pub fn plain_protocol() -> Value {
    json!({"minReaderVersion": 1, "minWriterVersion": 2})
}

/// Returns the metadata of a table with these columns.
pub fn metadata(fields: &[Value]) -> Value {
    let schema = json!({"type": "struct", "fields": fields});
    json!({
        "id": "2c7dcf46-0a45-4d6b-8a5b-7d1f2f6a0c11",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema.to_string(),
        "partitionColumns": [],
        "configuration": {},
        "createdTime": 0,
    })
}

/// Returns a column of a table.
pub fn field(name: &str, data_type: impl Into<Value>) -> Value {
    json!({"name": name, "type": data_type.into(), "nullable": true, "metadata": {}})
}
