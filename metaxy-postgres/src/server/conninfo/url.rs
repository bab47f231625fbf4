//! `postgresql://user:password@host:port,host:port/database?name=value`.

use super::Parameters;

const ENCODE: &str = "characters such as @ : / ? # in a user, password or database are written as %40 %3A %2F %3F %23";

/// Parses a URL.
pub(super) fn parse(text: &str) -> Result<Parameters, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    // SQLAlchemy adds a driver to the scheme (`postgresql+psycopg`).
    if !matches!(scheme.split('+').next(), Some("postgres" | "postgresql")) {
        return Err("it must start with postgresql:// or postgres://".to_owned());
    }
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    // After the host, such characters come from a password that is not percent-encoded.
    if rest.contains('#') || database.contains(['@', '/']) || query.is_some_and(has_stray_parts) {
        return Err(format!("its parts are ambiguous; {ENCODE}"));
    }
    let mut found = Parameters::default();
    let hosts = match authority.rsplit_once('@') {
        Some((user, hosts)) => {
            let (user, password) = user.split_once(':').map_or((user, None), |(user, word)| (user, Some(word)));
            set(&mut found, "user", user)?;
            set(&mut found, "password", password.unwrap_or_default())?;
            hosts
        }
        None => authority,
    };
    let mut places =
        hosts.split(',').filter(|host| !host.is_empty()).map(host_and_port).collect::<Result<Vec<_>, _>>()?;
    set(&mut found, "dbname", database)?;
    for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(&value.replace('+', "%20"))?;
        match decoded(name)?.as_str() {
            // SQLAlchemy gives several hosts in this form, each with its port.
            "host" => {
                for host in value.split(',') {
                    places.push(if host.starts_with('/') { (host.to_owned(), None) } else { host_and_port(host)? });
                }
            }
            name => found.set(name, &value),
        }
    }
    set_places(&mut found, &places);
    Ok(found)
}

/// Returns whether a part of the query is not `name=value`.
fn has_stray_parts(query: &str) -> bool {
    let mut pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.any(|pair| pair.split_once('=').is_none_or(|(name, _)| name.contains(['@', '/', ':'])))
}

fn set(found: &mut Parameters, name: &str, value: &str) -> Result<(), String> {
    if !value.is_empty() {
        found.set(name, &decoded(value)?);
    }
    Ok(())
}

fn set_places(found: &mut Parameters, places: &[(String, Option<String>)]) {
    if places.is_empty() {
        return;
    }
    let hosts: Vec<&str> = places.iter().map(|(host, _)| host.as_str()).collect();
    found.set("host", &hosts.join(","));
    if places.iter().any(|(_, port)| port.is_some()) {
        let ports: Vec<&str> = places.iter().map(|(_, port)| port.as_deref().unwrap_or_default()).collect();
        found.set("port", &ports.join(","));
    }
}

/// Returns a host, without the brackets of an IPv6 address, and its port.
fn host_and_port(text: &str) -> Result<(String, Option<String>), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("an IPv6 address ends with `]`, as in [::1]:5432")?;
            (host, port.strip_prefix(':').unwrap_or(port))
        }
        // With several colons, it is an IPv6 address without brackets and without a port.
        None if text.matches(':').count() > 1 => (text, ""),
        None => text.split_once(':').unwrap_or((text, "")),
    };
    Ok((decoded(host)?, Some(port).filter(|port| !port.is_empty()).map(str::to_owned)))
}

fn decoded(text: &str) -> Result<String, String> {
    let bad =
        || "a percent sign is not followed by two hex digits, or these are not UTF-8; write %25 for it".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2).ok_or_else(bad)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or_else(bad);
        bytes.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
        rest = behind;
    }
    String::from_utf8(bytes).map_err(|_| bad())
}
