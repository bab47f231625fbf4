//! Masks passwords, tokens and keys in settings, URLs and errors.

use std::error::Error as StdError;
use std::fmt;
use std::ops::Range;

use crate::error::BoxError;
use crate::registry::read::toml_of_json;

/// The text that replaces a secret.
pub const MASK: &str = "***";

/// Words that mark the name of a setting as that of a secret, at any position.
const SECRET_WORDS: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "key",
    "credential",
    "signature",
    "bearer",
    "authorization",
    "sas",
];

/// Words that do so at the end of the name only: `sig` is a secret, `design` is not.
const LAST_WORDS: [&str; 8] = ["sig", "pass", "pw", "auth", "jwt", "cred", "creds", "cookie"];

/// Schemes in which a user name without a password is a name, not a token.
const NAMED_USERS: [&str; 8] = ["postgres", "postgresql", "mysql", "abfs", "abfss", "wasb", "wasbs", "ssh"];

/// Schemes of databases, in whose URLs an `@` usually ends a user and password.
const DATABASES: [&str; 4] = ["postgres", "postgresql", "mysql", "mariadb"];

/// Returns whether a setting of this name holds a secret: `password`, `AWS_SECRET_ACCESS_KEY`, `sas_token`, `sig`,
/// percent-encoded or not. In doubt the answer is true.
pub fn is_secret_name(name: &str) -> bool {
    let name = decoded(name).to_lowercase();
    let last = name.rsplit(|c: char| !c.is_alphanumeric()).find(|word| !word.is_empty()).unwrap_or_default();
    SECRET_WORDS.iter().any(|word| name.contains(word)) || LAST_WORDS.contains(&last)
}

/// Masks the secrets in the URLs, connection strings and parameters of a text: the password or the token before a host,
/// and the values of parameters with secret names. Other text stays as it is.
///
/// ```
/// use metaxy_core::secret::mask_url;
/// assert_eq!(mask_url("postgresql://ada:x9@db/meta?sslpassword=y"), "postgresql://ada:***@db/meta?sslpassword=***");
/// assert_eq!(mask_url("host=db user=ada password='x 9'"), "host=db user=ada password=***");
/// assert_eq!(mask_url("GET http://ada:x9@minio:9000/a: refused"), "GET http://ada:***@minio:9000/a: refused");
/// assert_eq!(mask_url("/data/metaxy.db"), "/data/metaxy.db");
/// ```
pub fn mask_url(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for hidden in hidden_in(text) {
        out.push_str(&text[end..hidden.start]);
        out.push_str(MASK);
        end = hidden.end;
    }
    out.push_str(&text[end..]);
    out
}

/// Masks the given secrets in a text, and those that [`mask_url`] finds.
pub fn mask_text(text: &str, secrets: &[String]) -> String {
    mask_url(&secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MASK)))
}

/// Returns the secrets that a setting holds, as written and percent-decoded, the longest first. They have to be masked
/// in the messages of a dependency that was given the setting. Very short ones are left out: they are parts of other
/// words.
pub fn secrets_in(name: &str, value: &str) -> Vec<String> {
    const SHORTEST: usize = 4;
    let hidden = match is_secret_name(name) {
        true => vec![value],
        false => hidden_in(value).into_iter().map(|hidden| &value[hidden]).collect(),
    };
    let unquoted = hidden.into_iter().map(|secret| secret.trim().trim_matches(['\'', '"']));
    let mut secrets: Vec<String> = unquoted.flat_map(|secret| [secret.to_owned(), decoded(secret)]).collect();
    secrets.retain(|secret| secret.len() >= SHORTEST);
    secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
    secrets
}

/// Masks the secrets in an error of a dependency and in its sources. An error without secrets is returned as it is.
pub fn mask_error<E: StdError + Send + Sync + 'static>(error: E) -> BoxError {
    let is_clean = |text: String| mask_url(&text) == text;
    match is_clean(format!("{error:?}")) && chain_of(&error).all(|error| is_clean(error.to_string())) {
        true => error.into(),
        false => mask_error_of(&error, &[]),
    }
}

fn chain_of<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// Returns the texts of an error and of its sources, without the given secrets and those that [`mask_url`] finds.
pub fn mask_error_of(error: &(dyn StdError + 'static), secrets: &[String]) -> BoxError {
    Box::new(Masked::new(error, secrets))
}

/// The masked text of an error, and those of its sources.
#[derive(Debug)]
struct Masked {
    text: String,
    source: Option<Box<Masked>>,
}

impl Masked {
    fn new(error: &(dyn StdError + 'static), secrets: &[String]) -> Self {
        let source = error.source().map(|source| Box::new(Self::new(source, secrets)));
        Self { text: mask_text(&error.to_string(), secrets), source }
    }
}

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Masked {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Returns the secrets of a text, in order and without overlaps.
fn hidden_in(text: &str) -> Vec<Range<usize>> {
    let users: Vec<Range<usize>> = user_infos(text);
    let mut hidden = parameters(text, &users);
    hidden.extend(users);
    hidden.sort_unstable_by_key(|range| (range.start, range.end));
    hidden.dedup_by(|next, last| {
        let joins = next.start < last.end;
        if joins {
            last.end = last.end.max(next.end);
        }
        joins
    });
    hidden
}

/// Returns the secrets before the hosts of the URLs in a text.
fn user_infos(text: &str) -> Vec<Range<usize>> {
    let starts: Vec<usize> = text.match_indices("://").map(|(at, _)| at).collect();
    let mut hidden: Vec<Range<usize>> = Vec::new();
    for (number, at) in starts.iter().enumerate() {
        let scheme = trailing_scheme(&text[..*at]);
        let rest = &text[at + 3..];
        let next = starts.get(number + 1).map(|next| next - trailing_scheme(&text[..*next]).len());
        let length = next.map_or(rest.len(), |next| next.saturating_sub(at + 3));
        hidden.extend(user_info(scheme, rest, length).map(|range| range.start + at + 3..range.end + at + 3));
    }
    hidden
}

fn trailing_scheme(text: &str) -> &str {
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    &text[text.trim_end_matches(is_scheme).len()..]
}

/// Returns the secret in the user and password of a URL. Its text is `length` bytes long, unless it contains what looks
/// like another URL.
fn user_info(scheme: &str, rest: &str, length: usize) -> Option<Range<usize>> {
    let scheme = scheme.to_lowercase();
    let at = end_of_user(&scheme, &rest[..length]).or_else(|| end_of_user(&scheme, rest))?;
    match rest[..at].find(':') {
        Some(colon) => Some(colon + 1..at),
        None if NAMED_USERS.contains(&scheme.as_str()) => None,
        None => Some(0..at),
    }
}

/// Returns the position of the `@` before the host. A password may hold `@` and, if it is badly escaped, `/`, `?` and
/// `#` too; then what looks like a port is not one.
fn end_of_user(scheme: &str, rest: &str) -> Option<usize> {
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if let Some(at) = authority.rfind('@') {
        return Some(at);
    }
    let is_port = |text: &str| (1..=5).contains(&text.len()) && text.chars().all(|c| c.is_ascii_digit());
    let is_password = match authority.split_once(':') {
        Some((host, port)) => !host.starts_with('[') && !is_port(port),
        None => false,
    };
    if is_password || DATABASES.contains(&scheme) { rest.rfind('@') } else { None }
}

/// Returns the values of `name=value` parameters with secret names, with any separator.
fn parameters(text: &str, users: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    let mut start = 0;
    while let Some(at) = text[start..].find('=').map(|at| start + at) {
        let value = at + 1;
        if let Some(user) = users.iter().find(|user| user.contains(&at)) {
            start = user.end.max(value);
            continue;
        }
        let name = trailing_name(&text[start..at]);
        let length = if is_secret_name(name) { value_length(&text[value..]) } else { 0 };
        start = value + length;
        if length > 0 {
            hidden.push(value..start);
        }
    }
    hidden
}

/// Percent-decodes a text.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '%')
}

fn trailing_name(text: &str) -> &str {
    let text = text.trim_end();
    text.rfind(|c| !is_name(c)).map_or(text, |at| text[at..].trim_start_matches(|c| !is_name(c)))
}

/// Returns the length of the value of a parameter: a quoted string, or all up to the next parameter. A separator alone
/// does not end it, because a password may hold one.
fn value_length(text: &str) -> usize {
    let start = text.len() - text.trim_start().len();
    let value = &text[start..];
    if let Some(quote) = value.chars().next().filter(|c| matches!(c, '\'' | '"')) {
        return start + quoted_length(value, quote);
    }
    let is_separator = |c: char| c.is_whitespace() || matches!(c, '&' | ';' | '#' | ',');
    let ends_at = |at: usize| {
        let next = value[at..].trim_start_matches(is_separator);
        let after = next.trim_start_matches(is_name);
        next.is_empty() || (after.len() < next.len() && after.trim_start().starts_with('='))
    };
    let end = value.char_indices().find(|(at, c)| is_separator(*c) && ends_at(*at)).map_or(value.len(), |(at, _)| at);
    start + end
}

/// Returns the length of a quoted string with its quotes, up to the end if it is not closed.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Masks the secrets in the value of a setting, at any depth.
pub fn mask_value(name: &str, value: &toml::Value) -> toml::Value {
    use toml::Value;
    match value {
        Value::Table(table) if is_secret_name(name) => {
            table.keys().map(|key| (key.clone(), masked())).collect::<toml::Table>().into()
        }
        Value::Table(table) => mask_table(table).into(),
        Value::Array(items) => Value::Array(items.iter().map(|item| mask_value(name, item)).collect()),
        _ if is_secret_name(name) => masked(),
        Value::String(text) => match table_of_json(text) {
            Some(table) => mask_table(&table).into(),
            None => Value::String(mask_url(text)),
        },
        other => other.clone(),
    }
}

/// Parses a table that an environment variable gives as JSON.
fn table_of_json(text: &str) -> Option<toml::Table> {
    let json = text.trim_start().starts_with('{').then(|| serde_json::from_str(text).ok()).flatten()?;
    match toml_of_json(json)? {
        toml::Value::Table(table) => Some(table),
        _ => None,
    }
}

/// Masks the secrets in a table of settings.
pub fn mask_table(table: &toml::Table) -> toml::Table {
    table.iter().map(|(key, value)| (key.clone(), mask_value(key, value))).collect()
}

fn masked() -> toml::Value {
    toml::Value::String(MASK.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (given, masked) in [
            ("postgresql://ada:x9@db:5432/meta", "postgresql://ada:***@db:5432/meta"),
            ("postgresql://ada@db/meta", "postgresql://ada@db/meta"),
            ("postgresql://ada:p@ss@db/meta", "postgresql://ada:***@db/meta"),
            ("postgresql://ada:p/w?d#x@db/meta", "postgresql://ada:***@db/meta"),
            ("postgresql://ada:@db/meta", "postgresql://ada:***@db/meta"),
            (
                "postgresql://db/meta?user=ada&password=x&sslmode=off",
                "postgresql://db/meta?user=ada&password=***&sslmode=off",
            ),
            ("https://ghp_abc@host/x", "https://***@host/x"),
            ("https://host:9000/a@v2", "https://host:9000/a@v2"),
            ("https://[::1]:9000/a@v2", "https://[::1]:9000/a@v2"),
            ("https://host/x?X-Amz-Signature=abc&b=1", "https://host/x?X-Amz-Signature=***&b=1"),
            ("abfss://container@account.dfs.core.windows.net/x", "abfss://container@account.dfs.core.windows.net/x"),
            ("s3://bucket/metaxy", "s3://bucket/metaxy"),
            ("md:meta?motherduck_token=abc", "md:meta?motherduck_token=***"),
            ("host=db password=x9 user=ada", "host=db password=*** user=ada"),
            (r"host=db password = 'x \' 9' user=ada", "host=db password =*** user=ada"),
            ("password='unclosed x", "password=***"),
            ("host=db password=a&b c user=ada", "host=db password=*** user=ada"),
            ("AccountName=x;AccountKey=y==;EndpointSuffix=z", "AccountName=x;AccountKey=***;EndpointSuffix=z"),
            (
                "BlobEndpoint=https://x/;SharedAccessSignature=sv=1&sig=2",
                "BlobEndpoint=https://x/;SharedAccessSignature=***&sig=***",
            ),
            ("a=b=c", "a=b=c"),
            // A password that starts with `/`, or looks like a port.
            ("postgresql://ada:/x9@db:5432/meta", "postgresql://ada:***@db:5432/meta"),
            ("postgresql://ada:12/x9@db/meta", "postgresql://ada:***@db/meta"),
            ("postgresql://ada:12?x9@db/meta", "postgresql://ada:***@db/meta"),
            ("postgresql://a/da:x9@db/meta", "postgresql://a/da:***@db/meta"),
            ("postgresql://ada:x://9@db/meta", "postgresql://ada:***@db/meta"),
            ("s3://ada:/x9@bucket/x", "s3://ada:***@bucket/x"),
            (
                "https://acc.blob.core.windows.net/c?sv=1&sig=a%2Fb%3D&se=2",
                "https://acc.blob.core.windows.net/c?sv=1&sig=***&se=2",
            ),
            (
                "https://host/x?X-Amz-Security-Token=a&X-AMZ-SIGNATURE=b",
                "https://host/x?X-Amz-Security-Token=***&X-AMZ-SIGNATURE=***",
            ),
            ("postgresql://db/meta?%70assword=x9&a=1", "postgresql://db/meta?%70assword=***&a=1"),
            ("file:corpus.db?mode=ro&Key=x9", "file:corpus.db?mode=ro&Key=***"),
            (
                "GET http://a:x9@h:9000/b: sent to (http://c:y9@h/), sig=z9",
                "GET http://a:***@h:9000/b: sent to (http://c:***@h/), sig=***",
            ),
            ("http://h:9000/a then http://u:p@h/", "http://h:9000/a then http://u:***@h/"),
            ("/data/my.db", "/data/my.db"),
            ("", ""),
            ("://", "://"),
        ] {
            assert_eq!(mask_url(given), masked, "{given}");
        }
    }

    proptest::proptest! {
        #[test]
        fn passwords_are_masked_in_any_text(
            user in "[a-z]{0,8}", password in "hunter2[!-~]{0,12}", rest in "[!-~]{0,20}", sep in "[ &;]", text in "\\PC{0,60}"
        ) {
            mask_url(&text);
            let host = format!("db.example:5432/meta?{rest}");
            for text in [
                format!("postgresql://{user}:{password}@{host}"),
                format!("s3://{user}:{password}@{host}"),
                format!("host=db{sep}password='{}'{sep}user={user}", password.replace(['\\', '\''], "")),
            ] {
                assert!(!mask_url(&text).contains("hunter2"), "{text} -> {}", mask_url(&text));
            }
        }
    }

    #[test]
    fn names() {
        for name in [
            "password",
            "AWS_SECRET_ACCESS_KEY",
            "sas_token",
            "sslkey",
            "account_key",
            "PWD",
            "sig",
            "SIG",
            "aws_session_token",
            "X-Amz-Signature",
            "sas",
            "%70assword",
            "db_pass",
            "proxy-auth",
            "AccountKey",
            "s%49g",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["database", "user", "root_path", "AWS_REGION", "pass_through", "design", "signal", "auth_type"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Said(&'static str, #[source] Option<Box<Said>>);

    #[test]
    fn errors_and_their_sources() {
        let clean = mask_error(Said("refused", Some(Box::new(Said("GET http://minio/a", None)))));
        assert!(clean.is::<Said>());
        let masked = mask_error(Said("refused", Some(Box::new(Said("GET http://ada:x9@minio/a", None)))));
        assert_eq!(masked.to_string(), "refused");
        assert_eq!(masked.source().unwrap().to_string(), "GET http://ada:***@minio/a");
        assert!(!format!("{masked:?}").contains("x9"), "{masked:?}");
        let given = mask_error_of(&Said("with zebra: refused", None), &["zebra".to_owned()]);
        assert_eq!(given.to_string(), "with ***: refused");
    }

    #[test]
    fn nested_values() {
        let table: toml::Table =
            toml::from_str("tokens = ['a', 'b']\nkeys = { a = 1 }\nn = { url = 'x://u:p@h', n = 1 }").unwrap();
        let expected: toml::Table =
            toml::from_str("tokens = ['***', '***']\nkeys = { a = '***' }\nn = { url = 'x://u:***@h', n = 1 }")
                .unwrap();
        assert_eq!(mask_table(&table), expected);
    }
}
