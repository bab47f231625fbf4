//! Row ids, for tables that track them: every added row gets a number that no row of the table has had.

use deltalake::kernel::{Action, Add, DomainMetadata, Protocol};
use metaxy_core::error::{Error, Result};
use serde_json::{Value, json};

use super::protocol::has_writer_feature;
use super::statistics::FileStats;

/// The domain of the log with the greatest number.
const DOMAIN: &str = "delta.rowTracking";
const GREATEST: &str = "rowIdHighWaterMark";

/// Returns whether rows of a table have ids.
pub(super) fn are_tracked(protocol: &Protocol) -> bool {
    has_writer_feature(protocol, "rowTracking")
}

/// Returns the actions of a commit in which the rows of added files have ids above `greatest`.
pub(super) fn assigned(table: &str, version: u64, mut greatest: i64, actions: Vec<Action>) -> Result<Vec<Action>> {
    if !actions.iter().any(|action| matches!(action, Action::Add(_))) {
        return Ok(actions);
    }
    let version = i64::try_from(version).unwrap_or(i64::MAX);
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

fn rows(table: &str, add: &Add) -> Result<i64> {
    let rows = FileStats::parse(add.stats.as_deref()).rows.and_then(|rows| i64::try_from(rows).ok());
    rows.ok_or_else(|| {
        Error::corrupt(table, format!("the new data file `{}` does not state its number of rows", add.path))
    })
}

/// Returns the greatest row id, if a commit states it.
pub(super) fn greatest(actions: &[Action]) -> Option<i64> {
    actions.iter().find_map(|action| match action {
        Action::DomainMetadata(found) if found.domain == DOMAIN && !found.removed => {
            serde_json::from_str::<Value>(&found.configuration).ok()?[GREATEST].as_i64()
        }
        _ => None,
    })
}
