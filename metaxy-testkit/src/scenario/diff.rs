//! Compares rows as multisets, with a readable difference.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use super::Row;
use super::rows::normalized;

/// The maximum number of rows of each kind in a difference.
const SHOWN: usize = 20;

/// Checks that both sides have the same rows, in any order.
///
/// # Errors
/// The difference: the missing rows and the unexpected ones.
pub fn compare(what: &str, expected: &[Row], actual: &[Row]) -> Result<(), String> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for row in expected {
        *counts.entry(line(row)).or_default() += 1;
    }
    for row in actual {
        *counts.entry(line(row)).or_default() -= 1;
    }
    if counts.values().all(|count| *count == 0) {
        return Ok(());
    }
    let mut text = format!("{what}: expected {} row(s), got {}\n", expected.len(), actual.len());
    section(&mut text, "expected, but missing", '-', counts.iter().filter(|(_, count)| **count > 0));
    section(&mut text, "found, but unexpected", '+', counts.iter().filter(|(_, count)| **count < 0));
    Err(text)
}

fn section<'a>(text: &mut String, title: &str, sign: char, rows: impl Iterator<Item = (&'a String, &'a i64)>) {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(text, "  {title}:");
    for (row, count) in rows.iter().take(SHOWN) {
        let times = if count.abs() > 1 { format!(" ({} times)", count.abs()) } else { String::new() };
        let _ = writeln!(text, "  {sign} {row}{times}");
    }
    if rows.len() > SHOWN {
        let _ = writeln!(text, "  {sign} ... and {} more", rows.len() - SHOWN);
    }
}

/// Returns a row as one line, its columns sorted.
fn line(row: &Row) -> String {
    let sorted: BTreeMap<String, Value> = normalized(row).into_iter().collect();
    serde_json::to_string(&sorted).unwrap_or_default()
}
