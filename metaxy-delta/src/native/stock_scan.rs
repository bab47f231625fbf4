//! The stock form of scans: DataFusion's own Parquet source on the URLs of the live files, for tables in which it finds
//! what the readers of this crate find.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use deltalake::datafusion::datasource::file_format::parquet::ParquetFormat;
use deltalake::datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use deltalake::datafusion::datasource::provider_as_source;
use deltalake::datafusion::functions_aggregate::expr_fn::count;
use deltalake::datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, ident, lit};
use metaxy_core::filter::Predicate;
use metaxy_core::{Result, ScanRequest, ScanStage};

use crate::table::files::{Filters, plain_rows};
use crate::table::log::state::DataFile;
use crate::types::{Column, Mapping};

use super::rows::column_name;
use super::stock_condition::condition;
use super::{Declined, Part};

/// The files of a table that a query reads, by their URLs.
pub(super) struct PlainTable {
    part: Arc<Part>,
    files: Vec<ListingTableUrl>,
    /// The columns that are read.
    columns: Vec<Column>,
    /// The number of rows in all files.
    rows: u64,
}

impl PlainTable {
    /// Looks into the files of a table, for all that a request reads.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) async fn new(part: &Arc<Part>, request: &ScanRequest) -> Result<Result<Self, Declined>> {
        let (columns, files) = match (columns(part, request), files(part, request.row_filter.as_ref())) {
            (Ok(columns), Ok(files)) => (columns, files),
            (Err(declined), _) | (_, Err(declined)) => return Ok(Err(declined)),
        };
        let urls = files.iter().map(|file| url(part, file)).collect::<Result<Vec<_>, _>>();
        Ok(match (plain_rows(&part.table, &part.state, &files, &columns).await?, urls) {
            (Ok(rows), Ok(files)) => Ok(Self { part: part.clone(), files, columns, rows }),
            (Err(reason), _) => Err(Declined(format!("a file of `{}`, {reason}", part.key))),
            (_, Err(declined)) => Err(declined),
        })
    }

    /// Returns all rows in the columns of the files.
    fn rows(&self) -> Result<LogicalPlanBuilder, Declined> {
        source(self.files.clone(), self.columns.iter().map(|column| column.in_file.clone()).collect())
    }
}

/// Returns all rows of some files.
fn source(files: Vec<ListingTableUrl>, columns: Vec<FieldRef>) -> Result<LogicalPlanBuilder, Declined> {
    // The ends of their names do not matter.
    let options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension("");
    let config = ListingTableConfig::new_with_multi_paths(files).with_listing_options(options);
    let table = ListingTable::try_new(config.with_schema(Arc::new(Schema::new(columns))))?;
    Ok(LogicalPlanBuilder::scan("rows", provider_as_source(Arc::new(table)), None)?)
}

/// Returns the columns that a request reads.
fn columns(part: &Part, request: &ScanRequest) -> Result<Vec<Column>, Declined> {
    let schema = &part.state.schema;
    if schema.mapping != Mapping::None {
        return Err(Declined(format!("`{}` has column mapping", part.key)));
    }
    let mut names: BTreeSet<String> =
        request.columns_needed(&schema.logical, ScanStage::RowFilter).into_iter().collect();
    names.extend(request.row_filter.iter().flat_map(Predicate::columns));
    let columns: Vec<Column> = names.iter().filter_map(|name| schema.column(name)).cloned().collect();
    match columns.iter().find(|column| column.is_partition) {
        Some(column) => Err(Declined(format!("`{}` is partitioned by `{}`", part.key, column.logical.name()))),
        None => Ok(columns),
    }
}

/// Returns the files that may have rows for which a predicate is true.
fn files(part: &Part, filter: Option<&Predicate>) -> Result<Vec<Arc<DataFile>>, Declined> {
    let filters = Filters { rows: filter.cloned(), ..Filters::default() };
    let all = part.state.files.iter();
    let wanted: Vec<_> =
        all.clone().filter(|file| filters.may_match(&part.state.schema, file.stats())).cloned().collect();
    // A source has at least one file; its rows are filtered again.
    let files = if wanted.is_empty() { all.take(1).cloned().collect() } else { wanted };
    if files.is_empty() { Err(Declined(format!("`{}` has no files", part.key))) } else { Ok(files) }
}

/// Returns the URL of a file.
fn url(part: &Part, file: &DataFile) -> Result<ListingTableUrl, Declined> {
    let mut url = part.root.table_url(&part.key);
    let unknown = |what: &str| Declined(format!("stock executors cannot read `{}`: {what}", part.key));
    if part.root.is_s3() {
        url.set_scheme("s3").map_err(|()| unknown("its URL"))?;
    } else if url.scheme() != "file" {
        return Err(unknown(&format!("they know s3:// and file://, not {}://", url.scheme())));
    }
    url.path_segments_mut().map_err(|()| unknown("its URL"))?.extend(file.name.split('/'));
    let found = ListingTableUrl::try_new(url, None)?;
    if found.prefix().as_ref().ends_with(&file.name) { Ok(found) } else { Err(unknown(&file.name)) }
}

/// The tables that a query reads as plain files.
#[derive(Default)]
pub(super) struct PlainTables(pub(super) Vec<PlainTable>);

impl PlainTables {
    /// Returns the rows of a table for which a predicate is true, with some columns under their names inside of queries.
    pub(super) fn scan(
        &self,
        part: &Arc<Part>,
        names: &[String],
        filter: Option<&Predicate>,
    ) -> Result<LogicalPlanBuilder, Declined> {
        let missing = || Declined(format!("`{}` is not among the tables of the query", part.key));
        let table = self.0.iter().find(|table| Arc::ptr_eq(&table.part, part)).ok_or_else(missing)?;
        let mut query = table.rows()?;
        if let Some(filter) = filter {
            let known = |column: &Column| Ok((column.logical.as_ref().clone(), logical(column)?));
            let wanted = filter.columns();
            let columns = table.columns.iter().filter(|column| wanted.contains(column.logical.name()));
            query = query.filter(condition(filter, &columns.map(known).collect::<Result<Vec<_>, Declined>>()?)?)?;
        }
        let output = |(number, name): (usize, &String)| {
            let column = part.state.schema.column(name).ok_or_else(missing)?;
            Ok(logical(column)?.alias(column_name(number)))
        };
        Ok(query.project(names.iter().enumerate().map(output).collect::<Result<Vec<_>, Declined>>()?)?)
    }

    /// Returns the queries that tell how many rows a cluster sees: one for each bucket, all tables together.
    pub(super) fn counts(&self) -> Result<Vec<Count>, Declined> {
        let mut buckets: BTreeMap<String, (Vec<ListingTableUrl>, u64)> = BTreeMap::new();
        for table in &self.0 {
            let bucket = table.files.first().map(ListingTableUrl::object_store).ok_or("a table has no files")?;
            let (files, rows) = buckets.entry(bucket.as_str().to_owned()).or_default();
            files.extend(table.files.iter().cloned());
            *rows += table.rows;
        }
        buckets.into_values().map(|(files, rows)| Count::new(files, rows)).collect()
    }
}

/// How many rows a cluster has to see: DataFusion leaves out files that it does not find.
pub(super) struct Count {
    pub(super) query: LogicalPlan,
    pub(super) rows: u64,
}

impl Count {
    fn new(files: Vec<ListingTableUrl>, rows: u64) -> Result<Self, Declined> {
        // No column is read.
        let column = Arc::new(Field::new("nothing", DataType::Boolean, true));
        let query = source(files, vec![column])?.aggregate(Vec::<Expr>::new(), [count(lit(1_i64))])?;
        Ok(Self { query: query.build()?, rows })
    }
}

/// Returns the values of a column of a file in the type of the table.
fn logical(column: &Column) -> Result<Expr, Declined> {
    let (stored, wanted) = (&column.stored_type, column.logical.data_type());
    let values = ident(column.in_file.name());
    match (stored, wanted) {
        (stored, wanted) if stored == wanted => Ok(values),
        (stored, wanted) if stored.is_integer() && wanted.is_integer() => Ok(cast(values, wanted.clone())),
        (DataType::Timestamp(unit, Some(_)), DataType::Timestamp(other, Some(_))) if unit == other => {
            Ok(cast(values, wanted.clone()))
        }
        _ => Err(Declined(format!("`{}` is {wanted}, stored as {stored}", column.logical.name()))),
    }
}
