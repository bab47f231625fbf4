//! Appends whose data files other processes write: all of them know the table as it will be, and one commits.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use deltalake::kernel::Add;
use futures::TryStreamExt;
use metaxy_core::backend::BatchStream;
use metaxy_core::{Error, Result, blocking};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::table::log::Table;
use crate::table::log::state::TableState;
use crate::types::{check_storable, with_signed_integers};

use super::{Plan, Target, Written, commit, write_stream};

/// An append that is planned for a table.
pub(crate) struct Elsewhere {
    table: Arc<Table>,
    schema: Schema,
    plan: Plan,
    state: Option<Arc<TableState>>,
    /// The directory of the data files below the table, which no other append has.
    pub(crate) directory: String,
}

impl Elsewhere {
    /// Plans to append rows of a schema.
    pub(crate) async fn new(table: &Arc<Table>, schema: &SchemaRef) -> Result<Self> {
        let schema = with_signed_integers(schema, &[]);
        let (plan, state) = Plan::of_known(table, &schema, &[]).await?;
        let directory = format!("job-{}", uuid::Uuid::new_v4());
        Ok(Self { table: table.clone(), schema, plan, state, directory })
    }

    /// Returns the table as it will be, without files.
    pub(crate) fn target(&self) -> Result<TableState> {
        let before = self.state.as_deref();
        let actions = self.plan.schema_actions(&self.table, before)?;
        TableState::planned(&self.table.name, before, &actions)
    }

    /// Adds the data files to the table, in one commit. If the table has changed in between, that is a conflict.
    pub(crate) async fn commit(self, files: Vec<Add>) -> Result<()> {
        self.remove_all_but(&files).await;
        if files.is_empty() {
            return Ok(());
        }
        let (forms, table) = (self.plan.forms.clone(), self.state.as_deref().map(Target::of));
        let committed = commit(&self.table, &self.schema, Ok(Written { files, forms, table }), None).await;
        if let Err(Error::Conflict { .. }) = committed {
            self.remove_all_but(&[]).await;
        }
        committed
    }

    /// Removes the data files of an append that has failed.
    pub(crate) async fn abandon(self) {
        self.remove_all_but(&[]).await;
    }

    /// Removes data files that no commit will name, such as those of a process that was killed. What is left,
    /// or is being written at this moment, `vacuum` removes.
    async fn remove_all_but(&self, files: &[Add]) {
        if let Some(directory) = self.table.directory.as_ref().filter(|_| files.is_empty()) {
            let directory = directory.join(&self.directory);
            // Unfinished files are removed too.
            let _ = blocking::run(move || Ok(std::fs::remove_dir_all(directory))).await;
            return;
        }
        let (store, used) = (self.table.log.object_store(None), files.iter().map(|file| file.path.as_str()));
        let used: HashSet<&str> = used.collect();
        let mut found = store.list(Some(&Path::from(self.directory.as_str())));
        while let Ok(Some(object)) = found.try_next().await {
            if !used.contains(object.location.as_ref())
                && let Err(error) = store.delete(&object.location).await
            {
                let error = self.table.context.store("remove", Some(&self.table.name), error);
                tracing::debug!(%error, "a data file without a commit stays until vacuum removes it");
            }
        }
    }
}

/// Writes rows into data files in a directory of a table whose state another process has [planned](Elsewhere::target).
pub(crate) async fn write_below(
    table: &Arc<Table>,
    target: &Arc<TableState>,
    directory: &str,
    schema: &Schema,
    rows: BatchStream,
) -> Result<Vec<Add>> {
    let plan = Plan::new(table, Some(target), &with_signed_integers(schema, &[]))?;
    let (key, known) = (table.key.clone(), target.schema.clone());
    let storable = move |rows| std::future::ready(check_storable(&key, Some(&known), &[], &rows).map(|()| rows));
    let rows = Box::pin(rows.and_then(storable));
    write_stream(table.clone(), Arc::new(plan), directory.to_owned(), rows).await
}
