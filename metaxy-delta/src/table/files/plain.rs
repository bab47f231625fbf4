//! Whether any reader of Parquet finds in data files what the readers of this crate find.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use futures::{StreamExt, TryStreamExt};
use metaxy_core::error::Result;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use crate::table::log::Table;
use crate::table::log::state::{DataFile, TableState};
use crate::types::Column;

use super::Filters;
use super::job::Job;
use super::piece::load_metadata;
use super::workers::REMOTE_WORKERS;

/// Returns the number of rows of some files if their columns are as the table states them, or else why they are not.
///
/// # Errors
/// A file cannot be read.
pub(crate) async fn plain_rows(
    table: &Arc<Table>,
    state: &TableState,
    files: &[Arc<DataFile>],
    columns: &[Column],
) -> Result<Result<u64, String>> {
    let job = Arc::new(Job::new(table.clone(), state, &[], Filters::default()));
    let columns: Arc<[Column]> = columns.into();
    let rows = futures::stream::iter(files.to_vec())
        .map(move |file| {
            let (job, columns) = (job.clone(), columns.clone());
            async move { rows_of(&job, &file, &columns).await }
        })
        .buffer_unordered(REMOTE_WORKERS);
    let rows: Vec<Result<u64, String>> = rows.try_collect().await?;
    Ok(rows.into_iter().sum())
}

async fn rows_of(job: &Job, file: &DataFile, columns: &[Column]) -> Result<Result<u64, String>> {
    if file.deletion_vector.is_some() {
        return Ok(Err(format!("`{}`, has rows that count as removed", file.name)));
    }
    let footer = load_metadata(job, file).await?;
    Ok(plain_rows_of(&footer, columns).map_err(|reason| format!("`{}`, {reason}", file.name)))
}

fn plain_rows_of(footer: &ArrowReaderMetadata, columns: &[Column]) -> Result<u64, String> {
    let found = footer.schema().fields();
    for column in columns {
        let name = column.in_file.name();
        match found.iter().find(|other| other.name().eq_ignore_ascii_case(name)) {
            Some(other) if other.name() == name && is_plain(other.data_type(), &column.stored_type) => {}
            Some(other) => return Err(format!("stores `{}` as {}", other.name(), other.data_type())),
            // Other readers, too, find nulls.
            None => {}
        }
    }
    Ok(footer.metadata().file_metadata().num_rows().max(0).cast_unsigned())
}

/// Returns whether values of a file's type are those of the table's type as they are. A struct may lack members, which
/// are null.
fn is_plain(in_file: &DataType, stored: &DataType) -> bool {
    match (in_file, stored) {
        (DataType::Struct(found), DataType::Struct(members)) => {
            let is_member = |other: &FieldRef| {
                let member: Option<&Field> =
                    members.iter().find(|member| member.name() == other.name()).map(AsRef::as_ref);
                member.is_some_and(|member| is_plain(other.data_type(), member.data_type()))
            };
            found.iter().all(is_member)
        }
        (DataType::List(item), DataType::List(other)) => is_plain(item.data_type(), other.data_type()),
        (DataType::Map(_, _), _) => false,
        (in_file, stored) => in_file == stored,
    }
}
