//! The meaning of the parameters of a connection: the servers, and the options.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use metaxy_core::error::nearest;
use sqlx::postgres::PgConnectOptions;

use super::Parameters;
use super::passfile::{self, Login};

/// The servers of a connection, and the options.
pub(crate) struct Target {
    /// The servers, in the order in which they are tried.
    pub(crate) hosts: Vec<PgConnectOptions>,
    /// The required kind of server.
    pub(crate) session: SessionAttrs,
    pub(crate) schema: Option<String>,
    /// Seconds.
    pub(crate) connect_timeout: Option<f64>,
    /// Seconds.
    pub(crate) stall_timeout: Option<f64>,
    /// The file of root certificates.
    pub(crate) root_certificates: Option<PathBuf>,
}

/// `target_session_attrs`: the required kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionAttrs {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

const ATTRS: [(&str, SessionAttrs); 6] = [
    ("any", SessionAttrs::Any),
    ("read-write", SessionAttrs::ReadWrite),
    ("read-only", SessionAttrs::ReadOnly),
    ("primary", SessionAttrs::Primary),
    ("standby", SessionAttrs::Standby),
    ("prefer-standby", SessionAttrs::PreferStandby),
];

impl SessionAttrs {
    pub(crate) fn name(self) -> &'static str {
        ATTRS.iter().find(|(_, attrs)| *attrs == self).map_or("any", |(name, _)| name)
    }

    /// Returns the kinds of servers in the order in which they are tried.
    pub(crate) fn in_turn(self) -> Vec<Self> {
        if self == Self::PreferStandby { vec![Self::Standby, Self::Any] } else { vec![self] }
    }

    /// Returns the condition that is true on a server of this kind; `None` for any server.
    pub(crate) fn condition(self) -> Option<&'static str> {
        match self {
            Self::Any | Self::PreferStandby => None,
            Self::ReadWrite => Some("current_setting('transaction_read_only') = 'off'"),
            Self::ReadOnly => Some("current_setting('transaction_read_only') = 'on'"),
            Self::Primary => Some("NOT pg_catalog.pg_is_in_recovery()"),
            Self::Standby => Some("pg_catalog.pg_is_in_recovery()"),
        }
    }
}

/// Parameters that are passed to the driver unchanged.
const PASSED: [&str; 8] = ["user", "password", "dbname", "sslmode", "sslcert", "sslkey", "application_name", "options"];
/// Parameters that are evaluated here.
const READ: [&str; 8] = [
    "host",
    "hostaddr",
    "port",
    "sslrootcert",
    "schema",
    "target_session_attrs",
    "connect_timeout",
    "tcp_user_timeout",
];
/// Parameters whose behaviour is built in, with the values that request it.
const GRANTED: [(&str, &[&str]); 9] = [
    ("client_encoding", &["utf8", "UTF8", "utf-8", "UTF-8", "auto"]),
    ("gssencmode", &["disable", "prefer"]),
    ("channel_binding", &["disable", "prefer"]),
    ("load_balance_hosts", &["disable"]),
    ("sslcompression", &["0"]),
    ("sslsni", &["1"]),
    ("sslnegotiation", &["postgres"]),
    ("ssl_min_protocol_version", &["TLSv1", "TLSv1.1", "TLSv1.2"]),
    ("replication", &["false", "off", "no", "0"]),
];
/// TCP's own timers, which `stall_timeout` replaces.
const KEEPALIVES: [&str; 4] = ["keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"];

impl Parameters {
    /// Evaluates the parameters.
    ///
    /// # Errors
    /// The name of the parameter that cannot be used.
    pub(crate) fn target(&self) -> Result<Target, String> {
        self.check()?;
        let root = self.get("sslrootcert").map(str::to_owned).or_else(|| environment("PGSSLROOTCERT"));
        let root_certificates = root.as_deref().map(root_file).transpose()?;
        let mode = self.ssl_mode(root.as_deref() == Some("system"))?;
        let mut hosts = Vec::new();
        for (host, port) in self.places(mode.as_deref())? {
            hosts.push(self.options(&host, &port, mode.as_deref(), root_certificates.as_ref())?);
        }
        Ok(Target {
            hosts,
            session: self.session_attrs()?,
            schema: self.get("schema").filter(|schema| !schema.is_empty()).map(str::to_owned),
            connect_timeout: self.number("connect_timeout")?.filter(|seconds| *seconds > 0.0),
            stall_timeout: self
                .number("tcp_user_timeout")?
                .filter(|millis| *millis > 0.0)
                .map(|millis| millis / 1000.0),
            root_certificates,
        })
    }

    /// Checks that every parameter is supported.
    fn check(&self) -> Result<(), String> {
        for (name, value) in &self.0 {
            let name = name.as_str();
            if PASSED.contains(&name) || READ.contains(&name) || KEEPALIVES.contains(&name) {
                continue;
            }
            match GRANTED.iter().find(|(granted, _)| *granted == name) {
                Some((_, values)) if values.contains(&value.as_str()) => {}
                Some((_, values)) => {
                    return Err(format!(
                        "the value of `{name}` is not supported; remove it, or use {}",
                        values.join(", ")
                    ));
                }
                None => return Err(unknown(name)),
            }
        }
        Ok(())
    }

    /// Returns the hosts with their ports; empty if they come from the environment or a default.
    fn places(&self, ssl_mode: Option<&str>) -> Result<Vec<(String, String)>, String> {
        let list = |given: Option<&str>, variable: &str| -> Vec<String> {
            let list = given.map(str::to_owned).or_else(|| environment(variable)).unwrap_or_default();
            list.split(',').map(|part| part.trim().to_owned()).collect()
        };
        let mut hosts = list(self.get("host"), "PGHOST");
        if let Some(addresses) = self.get("hostaddr") {
            if ssl_mode == Some("verify-full") && self.get("host").is_some() {
                let reason = "`hostaddr` beside `host` is not supported with sslmode=verify-full; remove it";
                return Err(reason.to_owned());
            }
            hosts = addresses.split(',').map(|address| address.trim().to_owned()).collect();
            if hosts.iter().any(|address| address.parse::<IpAddr>().is_err()) {
                return Err("`hostaddr` is not an IP address".to_owned());
            }
        }
        let ports = list(self.get("port"), "PGPORT");
        if ports.len() != 1 && ports.len() != hosts.len() {
            return Err(format!(
                "`port` names {} ports for {} hosts; give one, or one for each",
                ports.len(),
                hosts.len()
            ));
        }
        let port = |index: usize| ports.get(index).or(ports.first()).cloned().unwrap_or_default();
        let mut places = Vec::with_capacity(hosts.len());
        for (index, host) in hosts.into_iter().enumerate() {
            let port = port(index);
            if !port.is_empty() && port.parse::<u16>().is_ok_and(|port| port == 0)
                || port.parse::<u16>().is_err() && !port.is_empty()
            {
                return Err("a port is not a number from 1 to 65535; check what follows the `:`".to_owned());
            }
            places.push((host.trim_matches(['[', ']']).to_owned(), port));
        }
        Ok(places)
    }

    /// Returns the `sslmode`. `sslrootcert=system` requires `verify-full`.
    fn ssl_mode(&self, system: bool) -> Result<Option<String>, String> {
        let mode = self.get("sslmode").map(str::to_owned).or_else(|| environment("PGSSLMODE"));
        match mode.as_deref() {
            None if system => Ok(Some("verify-full".to_owned())),
            Some(mode) if system && mode != "verify-full" => {
                Err("`sslrootcert=system` needs sslmode=verify-full, because anybody can get a certificate".to_owned())
            }
            Some("disable" | "allow" | "prefer" | "require" | "verify-ca" | "verify-full") | None => Ok(mode),
            Some(_) => Err("`sslmode` must be disable, allow, prefer, require, verify-ca or verify-full".to_owned()),
        }
    }

    fn session_attrs(&self) -> Result<SessionAttrs, String> {
        let given = self.get("target_session_attrs").map(str::to_owned).or_else(|| environment("PGTARGETSESSIONATTRS"));
        let Some(given) = given else { return Ok(SessionAttrs::Any) };
        ATTRS
            .iter()
            .find(|(name, _)| *name == given)
            .map(|(_, attrs)| *attrs)
            .ok_or_else(|| format!("`target_session_attrs` must be one of {}", ATTRS.map(|(name, _)| name).join(", ")))
    }

    fn number(&self, name: &str) -> Result<Option<f64>, String> {
        let Some(text) = self.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        number.map(Some).ok_or_else(|| format!("`{name}` is not a number"))
    }

    /// Returns the options of the driver for one host. They are passed as a URL, which is the only way to set
    /// `options`. It always has a password: without one the driver would read the password file itself.
    fn options(
        &self,
        host: &str,
        port: &str,
        ssl_mode: Option<&str>,
        root: Option<&PathBuf>,
    ) -> Result<PgConnectOptions, String> {
        let password = self.get("password").map(str::to_owned).filter(|password| !password.is_empty());
        let password = password.or_else(|| environment("PGPASSWORD"));
        let mut url = ::url::Url::parse("postgresql:///").map_err(|error| error.to_string())?;
        {
            let mut pairs = url.query_pairs_mut();
            for (name, value) in [("host", host), ("port", port), ("sslmode", ssl_mode.unwrap_or_default())] {
                if !value.is_empty() {
                    pairs.append_pair(name, value);
                }
            }
            pairs.append_pair("password", password.as_deref().unwrap_or_default());
            if self.get("application_name").is_none() {
                pairs.append_pair("application_name", "metaxy");
            }
            for name in PASSED.into_iter().filter(|name| !["password", "sslmode"].contains(name)) {
                if let Some(value) = self.get(name).filter(|value| !value.is_empty()) {
                    pairs.append_pair(name, value);
                }
            }
        }
        let options = PgConnectOptions::from_str(url.as_str()).map_err(|_| {
            "one of its parts cannot be parsed; check the port and the parameters after the `?`".to_owned()
        })?;
        let found = password.is_none().then(|| password_in_file(&options)).flatten();
        let options = found.iter().fold(options, |options, password| options.password(password));
        Ok(root.iter().fold(options, |options, root| options.ssl_root_cert(root)))
    }
}

fn password_in_file(options: &PgConnectOptions) -> Option<String> {
    let socket = options.get_socket().map(|socket| socket.display().to_string());
    passfile::password(&Login {
        host: socket.as_deref().unwrap_or(options.get_host()),
        port: options.get_port(),
        database: options.get_database().unwrap_or(options.get_username()),
        user: options.get_username(),
    })
}

/// Returns the value of an environment variable of libpq.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns the file of root certificates: the named one, or the system's.
fn root_file(name: &str) -> Result<PathBuf, String> {
    if name != "system" {
        return Ok(PathBuf::from(name));
    }
    let known = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    let files = environment("SSL_CERT_FILE").into_iter().chain(known.map(str::to_owned)).map(PathBuf::from);
    files.into_iter().find(|file| file.is_file()).ok_or_else(|| {
        "`sslrootcert=system`: the system has no file of certificates; install `ca-certificates`, or give a file"
            .to_owned()
    })
}

/// Returns why a parameter is refused. Only a text that can be a name is shown, because others may be a part of a
/// password.
fn unknown(name: &str) -> String {
    let is_name = name.len() <= 40 && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-[].".contains(c));
    if !is_name {
        return "a parameter after the `?` has no name; write %3F for a `?` in a password".to_owned();
    }
    let known = PASSED.into_iter().chain(READ);
    let meant = match name {
        "currentSchema" | "search_path" => Some("schema".to_owned()),
        "ssl" | "ssl-mode" | "requiressl" => Some("sslmode".to_owned()),
        name => nearest(name, known),
    };
    let meant = meant.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
    format!("the parameter `{name}` is not supported{meant}")
}
