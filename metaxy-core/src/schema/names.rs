//! Names of columns in storage systems that do not distinguish some names.

use std::collections::HashSet;

/// Returns the name under which a column is stored in a system that does not distinguish some names, such as those that
/// differ only in case: its own name or, if that is taken, its name with `separator` and a number. `folded` returns the
/// same text for names that the system does not distinguish; `taken` holds these texts of the other columns, and gains
/// that of this one.
///
/// ```
/// use std::collections::HashSet;
///
/// use metaxy_core::schema::distinct_name;
///
/// let mut taken = HashSet::new();
/// let mut stored = |name| distinct_name(name, "__", str::to_lowercase, &mut taken);
/// assert_eq!([stored("id"), stored("ID"), stored("Id")], ["id", "ID__2", "Id__3"]);
/// ```
pub fn distinct_name(
    name: &str,
    separator: &str,
    folded: impl Fn(&str) -> String,
    taken: &mut HashSet<String>,
) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while candidate.is_empty() || !taken.insert(folded(&candidate)) {
        candidate = format!("{name}{separator}{number}");
        number += 1;
    }
    candidate
}
