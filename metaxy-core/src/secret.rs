//! What must not be shown: passwords, tokens and keys in settings and URLs.

use crate::registry::read::toml_of_json;

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// Words that make the name of a setting the name of a secret.
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

/// Schemes whose bare user name is a name, not a token.
const NAMED_USERS: [&str; 8] = ["postgres", "postgresql", "mysql", "abfs", "abfss", "wasb", "wasbs", "ssh"];

/// Whether a setting of this name holds a secret: `password`, `AWS_SECRET_ACCESS_KEY`, `sas_token`. Rather too many than
/// too few.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// A URL or connection string without its secrets: the password before the host, a token that stands there alone, and
/// the values of parameters with secret names. Other text stays as it is.
///
/// ```
/// use metaxy_core::secret::mask_url;
/// assert_eq!(mask_url("postgresql://ada:x9@db/meta?sslpassword=y"), "postgresql://ada:***@db/meta?sslpassword=***");
/// assert_eq!(mask_url("host=db user=ada password='x 9'"), "host=db user=ada password=***");
/// assert_eq!(mask_url("/data/metaxy.db"), "/data/metaxy.db");
/// ```
pub fn mask_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return mask_parameters(text) };
    let (user_info, rest) = split_user_info(rest);
    let (scheme, rest) = (mask_parameters(scheme), mask_parameters(rest));
    match user_info.map(|user| (user, user.split_once(':'))) {
        None => format!("{scheme}://{rest}"),
        Some((_, Some((user, _)))) => format!("{scheme}://{user}:{MASK}@{rest}"),
        Some((user, None)) if NAMED_USERS.contains(&scheme.to_lowercase().as_str()) => {
            format!("{scheme}://{user}@{rest}")
        }
        Some((_, None)) => format!("{scheme}://{MASK}@{rest}"),
    }
}

/// What stands before the `@` of the host, and what comes after it. A password may hold `@`, and, badly escaped, `/`, `?`
/// and `#` too: then what looks like a port is none.
fn split_user_info(rest: &str) -> (Option<&str>, &str) {
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let split = |at: usize| (Some(&rest[..at]), &rest[at + 1..]);
    if let Some(at) = authority.rfind('@') {
        return split(at);
    }
    let is_port = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    match (authority.split_once(':'), rest.rfind('@')) {
        (Some((host, port)), Some(at)) if !host.starts_with('[') && !is_port(port) => split(at),
        _ => (None, rest),
    }
}

/// Masks the values of `name=value` parameters with secret names, however they are separated.
fn mask_parameters(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('=') {
        let (name, value) = (trailing_name(&rest[..at]), &rest[at + 1..]);
        out.push_str(&rest[..=at]);
        rest = value;
        let length = if is_secret_name(name) { value_length(value) } else { 0 };
        if length > 0 {
            out.push_str(MASK);
            rest = &value[length..];
        }
    }
    out.push_str(rest);
    out
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn trailing_name(text: &str) -> &str {
    let text = text.trim_end();
    text.rfind(|c| !is_name(c)).map_or(text, |at| text[at..].trim_start_matches(|c| !is_name(c)))
}

/// The length of a parameter's value: a quoted string, or all up to where the next parameter starts. A separator alone
/// does not end it, for a password may hold one.
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

/// The length of a quoted string with its quotes; to the end where it is not closed.
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

/// Masks what is secret in the value of a setting, however deep.
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

/// A table that an environment variable gives as JSON.
fn table_of_json(text: &str) -> Option<toml::Table> {
    let json = text.trim_start().starts_with('{').then(|| serde_json::from_str(text).ok()).flatten()?;
    match toml_of_json(json)? {
        toml::Value::Table(table) => Some(table),
        _ => None,
    }
}

/// Masks what is secret in a table of settings.
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
                "BlobEndpoint=https://x/;SharedAccessSignature=***&sig=2",
            ),
            ("a=b=c", "a=b=c"),
            ("/data/my.db", "/data/my.db"),
            ("", ""),
            ("://", "://"),
        ] {
            assert_eq!(mask_url(given), masked, "{given}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_password_comes_through(
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
        for name in ["password", "AWS_SECRET_ACCESS_KEY", "sas_token", "sslkey", "account_key", "PWD"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["database", "user", "root_path", "AWS_REGION", "pass_through"] {
            assert!(!is_secret_name(name), "{name}");
        }
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
