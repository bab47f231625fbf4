//! `host=db port=5432 dbname=corpus password='with spaces'`.

use super::Parameters;

/// Parses a list of parameters.
pub(super) fn parse(text: &str) -> Result<Parameters, String> {
    let mut found = Parameters::default();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, behind) =
            rest.split_once('=').ok_or("a word has no `=`; write name=value, and values with spaces in '…'")?;
        let name = name.trim_end();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(
                "the text before a `=` is not a name; write name=value, and values with spaces in '…'".to_owned()
            );
        }
        let (value, behind) = value(behind.trim_start())?;
        found.set(name, &value);
        rest = behind.trim_start();
    }
    Ok(found)
}

/// Returns a value and the text after it. A backslash escapes the next character.
fn value(text: &str) -> Result<(String, &str), String> {
    let (quoted, text) = text.strip_prefix('\'').map_or((false, text), |text| (true, text));
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, next)| next)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            space if !quoted && space.is_whitespace() => return Ok((value, &text[at..])),
            other => value.push(other),
        }
    }
    if quoted { Err("a value in '…' has no closing quote".to_owned()) } else { Ok((value, "")) }
}
