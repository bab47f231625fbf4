//! The address of a cluster's scheduler.

use std::fmt;

use metaxy_core::{Error, Result};
use url::{Host, Url};

/// The port of a scheduler whose address has none.
const PORT: u16 = 50_050;

/// The address of a scheduler of Apache Ballista.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SchedulerAddress {
    host: String,
    port: u16,
}

impl SchedulerAddress {
    /// Parses the setting `scheduler`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if !cfg!(feature = "ballista") {
            return Err(invalid(
                "increments on a cluster need the cargo feature `ballista` of metaxy-delta, and of metaxy-cli for the \
                 command: build with `--features ballista`",
            ));
        }
        let unclear = || invalid("write the address of a scheduler of Apache Ballista as df://host:50050");
        let url = Url::parse(text).map_err(|_| unclear())?;
        let is_plain = url.username().is_empty() && url.password().is_none() && matches!(url.path(), "" | "/");
        if url.scheme() != "df" || !is_plain || url.query().is_some() || url.fragment().is_some() {
            return Err(unclear());
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(unclear)?;
        Host::parse(host).map_err(|_| unclear())?;
        Ok(Self { host: host.to_owned(), port: url.port().unwrap_or(PORT) })
    }
}

fn invalid(reason: &str) -> Error {
    Error::setting("scheduler", reason)
}

impl fmt::Display for SchedulerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "df://{}:{}", self.host, self.port)
    }
}

#[cfg(feature = "ballista")]
impl SchedulerAddress {
    /// Returns the host and the port.
    pub(crate) fn socket(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Returns the URL of its service.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.socket())
    }
}

#[cfg(all(test, feature = "ballista"))]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed() {
        let socket = |text| SchedulerAddress::parse(text).map(|address| address.socket()).ok();
        assert_eq!(socket("df://host:50050").as_deref(), Some("host:50050"));
        assert_eq!(socket("df://10.0.0.1/").as_deref(), Some("10.0.0.1:50050"));
        assert_eq!(socket("df://[::1]:7").as_deref(), Some("[::1]:7"));
        for bad in ["", "host:50050", "http://host:50050", "df://", "df://u:secret@host", "df://host/x", "df://host?x"]
        {
            let error = SchedulerAddress::parse(bad).unwrap_err();
            assert!(matches!(&error, Error::Config { key, .. } if key == "scheduler"), "{bad}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
