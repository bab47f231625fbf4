//! Which rows of the table count.

use std::collections::BTreeMap;

use super::table::Entry;

/// Returns the newest row of each feature.
pub(super) fn latest_by_feature<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> BTreeMap<&'a str, &'a Entry> {
    newest_by(entries, |entry| entry.feature.as_str())
}

/// Returns the version that each project pushed last.
pub(super) fn latest_versions(entries: &[Entry]) -> BTreeMap<&str, &str> {
    let newest = newest_by(entries, |entry| entry.project.as_str());
    newest.into_iter().map(|(project, entry)| (project, entry.project_version.as_str())).collect()
}

fn newest_by<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
    group: impl Fn(&'a Entry) -> &'a str,
) -> BTreeMap<&'a str, &'a Entry> {
    let mut newest: BTreeMap<&str, &Entry> = BTreeMap::new();
    for entry in entries {
        newest.entry(group(entry)).and_modify(|known| *known = (*known).max(entry)).or_insert(entry);
    }
    newest
}
