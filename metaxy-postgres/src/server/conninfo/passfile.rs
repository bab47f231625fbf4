//! The password file of libpq (`~/.pgpass`): lines of `host:port:database:user:password`, of which the first matching
//! line counts.
//!
//! The driver reads it too, but logs invalid lines, which may contain a password.

use std::fs;
use std::path::{Path, PathBuf};

/// The connection for which a password is needed.
pub(super) struct Login<'a> {
    /// The host, or the directory of a socket.
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// Returns the password of a connection; `None` if the file has none, or cannot be used.
pub(super) fn password(login: &Login<'_>) -> Option<String> {
    let path = path()?;
    let text = read(&path)?;
    text.lines().find_map(|line| password_of(line, login))
}

fn path() -> Option<PathBuf> {
    let named = std::env::var_os("PGPASSFILE").filter(|name| !name.is_empty());
    named.map(PathBuf::from).or_else(|| match std::env::var_os("APPDATA") {
        Some(data) if cfg!(windows) => Some(Path::new(&data).join("postgresql").join("pgpass.conf")),
        _ => std::env::home_dir().map(|home| home.join(".pgpass")),
    })
}

fn read(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_file() {
        tracing::warn!(path = %path.display(), "the password file is not used, because it is not a regular file");
        return None;
    }
    if !is_private(&metadata) {
        tracing::warn!(
            path = %path.display(),
            "the password file is not used, because other users can read it; remove their permissions (chmod 600)"
        );
        return None;
    }
    match fs::read(path) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the password file cannot be read");
            None
        }
    }
}

#[cfg(unix)]
fn is_private(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 == 0
}

#[cfg(not(unix))]
fn is_private(_metadata: &fs::Metadata) -> bool {
    true
}

/// Returns the password of a line that matches a connection: each field is equal, or `*`.
fn password_of(line: &str, login: &Login<'_>) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let port = login.port.to_string();
    let mut rest = line;
    for (number, wanted) in [login.host, &port, login.database, login.user].into_iter().enumerate() {
        let (raw, behind) = rest.split_at(end_of_field(rest)?);
        let field = unescaped(raw);
        let is_local = number == 0 && field == "localhost" && login.host.starts_with('/');
        if raw != "*" && field != wanted && !is_local {
            return None;
        }
        rest = &behind[1..];
    }
    Some(unescaped(rest))
}

/// Returns the position of the first colon without a backslash before it.
fn end_of_field(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, character)| {
        let ends = character == ':' && !escaped;
        escaped = character == '\\' && !escaped;
        ends.then_some(at)
    })
}

/// Returns a text without its escaping backslashes.
fn unescaped(text: &str) -> String {
    let mut characters = text.chars();
    let mut plain = String::with_capacity(text.len());
    while let Some(character) = characters.next() {
        plain.push(if character == '\\' { characters.next().unwrap_or('\\') } else { character });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed_like_in_libpq() {
        let login = Login { host: "db.example.org", port: 5433, database: "corpus", user: "me" };
        let found = |line: &str| password_of(line, &login);
        assert_eq!(found("db.example.org:5433:corpus:me:secret").as_deref(), Some("secret"));
        assert_eq!(found(r"*:*:*:*:with:colons\:and\\backslashes").as_deref(), Some(r"with:colons:and\backslashes"));
        assert_eq!(found("*:*:*:me:").as_deref(), Some(""));
        for other in
            ["# *:*:*:*:secret", "", "secret", "db:5433:corpus:me:secret", "*:5432:*:*:secret", "*:*:*:you:secret"]
        {
            assert_eq!(found(other), None, "{other}");
        }
        assert_eq!(found(r"db\.example.org:*:*:*:secret").as_deref(), Some("secret"));
        assert_eq!(found(r"\*:*:*:*:secret"), None);
        let socket = Login { host: "/var/run/postgresql", ..login };
        assert_eq!(password_of("localhost:*:*:*:secret", &socket).as_deref(), Some("secret"));
        assert_eq!(password_of("/var/run/postgresql:*:*:*:secret", &socket).as_deref(), Some("secret"));
    }
}
