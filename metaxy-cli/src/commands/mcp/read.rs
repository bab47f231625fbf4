//! The tool that returns rows.

use arrow::array::RecordBatch;
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices, take_record_batch};
use arrow::json::WriterBuilder;
use arrow::json::writer::JsonArray;
use metaxy_core::store::ReadRequest;
use metaxy_core::{AccessMode, Error, MetadataStore};
use rmcp::schemars;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Failure, Result};

/// Which rows are asked for.
#[derive(Deserialize, schemars::JsonSchema)]
pub struct Query {
    /// The key of the feature, such as `video/processing`.
    feature_key: String,
    /// The name of the store; by default that of the configuration.
    store_name: Option<String>,
    /// The columns; all if it is left out.
    columns: Option<Vec<String>>,
    /// Filters in the syntax of SQL, all of which must be true.
    filters: Option<Vec<String>>,
    /// Only rows of the current feature version.
    #[serde(default = "yes")]
    current_only: bool,
    /// Only the newest row of each sample.
    #[serde(default = "yes")]
    latest_only: bool,
    /// Deleted samples too.
    #[serde(default)]
    include_soft_deleted: bool,
    /// Whether fallback stores are read if the store does not have the feature.
    #[serde(default = "yes")]
    allow_fallback: bool,
    /// The columns by which the rows are sorted.
    sort_by: Option<Vec<String>>,
    /// Whether they are sorted in descending order: for all columns, or for each.
    #[serde(default)]
    descending: Descending,
    /// The maximum number of rows.
    #[serde(default = "fifty")]
    limit: usize,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
enum Descending {
    All(bool),
    Each(Vec<bool>),
}

impl Default for Descending {
    fn default() -> Self {
        Self::All(false)
    }
}

impl Descending {
    fn of(&self, column: usize) -> bool {
        match self {
            Self::All(descending) => *descending,
            Self::Each(each) => each.get(column).copied().unwrap_or_default(),
        }
    }
}

fn yes() -> bool {
    true
}

fn fifty() -> usize {
    50
}

/// Returns the rows as JSON.
pub async fn rows(context: &Context, query: &Query) -> Result<Value> {
    let store = context.of_store(query.store_name.as_deref()).open(AccessMode::ReadOnly).await?;
    let rows = request(&store, query).await?.rows().await?.to_batch()?;
    let sorted = match &query.sort_by {
        Some(columns) if rows.num_rows() > 0 => sorted(&rows, columns, &query.descending)?,
        _ => rows,
    };
    let shown = sorted.slice(0, sorted.num_rows().min(query.limit));
    let columns: Vec<String> = shown.schema().fields().iter().map(|field| field.name().clone()).collect();
    Ok(json!({"columns": columns, "rows": json_rows(&shown)?, "total_rows": shown.num_rows()}))
}

fn request(store: &MetadataStore, query: &Query) -> ReadRequest {
    let filters = query.filters.iter().flatten();
    let mut request = filters.fold(store.read(query.feature_key.as_str()), |read, filter| read.filter(filter));
    if let Some(columns) = &query.columns {
        request = request.columns(columns);
    }
    if !query.current_only {
        request = request.with_feature_history();
    }
    if !query.latest_only {
        request = request.with_sample_history();
    }
    if query.include_soft_deleted {
        request = request.include_soft_deleted();
    }
    if !query.allow_fallback {
        request = request.without_fallback();
    }
    request
}

fn sorted(rows: &RecordBatch, columns: &[String], descending: &Descending) -> Result<RecordBatch> {
    let column = |(at, name): (usize, &String)| match rows.column_by_name(name) {
        Some(values) => Ok(SortColumn {
            values: values.clone(),
            options: Some(SortOptions { descending: descending.of(at), nulls_first: true }),
        }),
        None => Err(Failure::usage(format!("there is no column `{name}` to sort by"))),
    };
    let columns = columns.iter().enumerate().map(column).collect::<Result<Vec<_>>>()?;
    let order = lexsort_to_indices(&columns, None).map_err(Error::from)?;
    Ok(take_record_batch(rows, &order).map_err(Error::from)?)
}

fn json_rows(rows: &RecordBatch) -> Result<Value> {
    let mut bytes = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(&mut bytes);
    writer.write(rows).and_then(|()| writer.finish()).map_err(Error::from)?;
    Ok(serde_json::from_slice(&bytes).unwrap_or_else(|_| json!([])))
}
