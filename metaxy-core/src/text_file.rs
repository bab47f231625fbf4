//! Reads text files that people write.

use std::path::Path;

/// Reads a file of UTF-8 text, without its byte order mark.
///
/// # Errors
/// The reason, if it cannot be read.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    if let Some(reason) = why_no_file(path) {
        return Err(reason);
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Returns why a file cannot be read. A pipe or a device is refused, because it may have no end.
fn why_no_file(path: &Path) -> Option<String> {
    match (std::fs::metadata(path), std::fs::read_link(path)) {
        (Ok(metadata), _) if metadata.is_file() || metadata.is_dir() => None,
        (Ok(_), _) => Some("it is not a regular file".to_owned()),
        (Err(_), Ok(target)) => Some(format!("it is a link to {}, which cannot be read", target.display())),
        (Err(error), Err(_)) => Some(error.to_string()),
    }
}
