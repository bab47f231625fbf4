//! Ids of rows, for tables that track them: every row that is added gets a number that no row of the table has had.

use deltalake::kernel::{Action, Add, DomainMetadata, Protocol};
use deltalake::logstore::get_actions;
use metaxy_core::error::{Error, Result};
use serde_json::{Value, json};

use crate::log::{Table, TableState};
use crate::protocol::{OTHER_PROGRAM, features, refused};
use crate::prune::FileStats;

/// The domain of the log that holds the greatest number.
const DOMAIN: &str = "delta.rowTracking";
const GREATEST: &str = "rowIdHighWaterMark";

/// Whether rows of a table have ids.
pub(crate) fn are_tracked(protocol: &Protocol) -> bool {
    features(protocol, "writerFeatures").iter().any(|feature| feature == "rowTracking")
}

/// The actions of the commit that follows a state, with ids for the rows of the files that they add.
pub(crate) async fn assigned(table: &Table, base: &TableState, actions: Vec<Action>) -> Result<Vec<Action>> {
    if !actions.iter().any(|action| matches!(action, Action::Add(_))) {
        return Ok(actions);
    }
    let mut greatest = greatest_id(table, base).await?;
    let version = i64::try_from(base.version).unwrap_or(i64::MAX).saturating_add(1);
    let mut assigned = Vec::with_capacity(actions.len() + 1);
    for action in actions {
        assigned.push(match action {
            Action::Add(add) => {
                let first = greatest + 1;
                greatest += rows(table, &add)?;
                let default_row_commit_version = Some(version);
                Action::Add(Add { base_row_id: Some(first), default_row_commit_version, ..add })
            }
            other => other,
        });
    }
    let configuration = json!({ GREATEST: greatest }).to_string();
    assigned.push(Action::DomainMetadata(DomainMetadata { domain: DOMAIN.to_owned(), configuration, removed: false }));
    Ok(assigned)
}

fn rows(table: &Table, add: &Add) -> Result<i64> {
    let rows = FileStats::parse(add.stats.as_deref()).rows.and_then(|rows| i64::try_from(rows).ok());
    rows.ok_or_else(|| Error::Corrupt {
        table: table.name.clone(),
        reason: format!("the new data file `{}` does not say how many rows it has", add.path),
    })
}

/// The greatest id of the table. Every commit that adds rows states it, so that the last ones suffice.
async fn greatest_id(table: &Table, state: &TableState) -> Result<i64> {
    for version in (0..=state.version).rev() {
        let Some((bytes, _)) = table.commit_at(version).await? else {
            let what = "adding rows to a table with row tracking whose last commits are gone";
            return Err(refused(&table.name, what, OTHER_PROGRAM));
        };
        let actions =
            get_actions(version, &bytes).map_err(|error| table.context.delta("reading the log", &table.name, error))?;
        let stated = actions.iter().find_map(|action| match action {
            Action::DomainMetadata(found) if found.domain == DOMAIN && !found.removed => {
                serde_json::from_str::<Value>(&found.configuration).ok()?[GREATEST].as_i64()
            }
            _ => None,
        });
        if let Some(greatest) = stated {
            return Ok(greatest);
        }
    }
    Ok(-1)
}
