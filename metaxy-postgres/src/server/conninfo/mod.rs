//! Connection strings: URLs and `key=value` lists, with the parameters of libpq.
//!
//! The driver ignores unknown parameters, and logs their values. So a string is parsed here, every parameter is
//! supported or refused by name, and only known ones are passed to the driver. No message shows a value, because it may
//! be the password.

mod key_value;
mod passfile;
mod target;
mod url;

pub(crate) use target::{SessionAttrs, Target};

/// The parameters of a connection, by libpq's names.
#[derive(Clone, Default)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Parses a connection string.
    ///
    /// # Errors
    /// What is wrong with it, without the string itself.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.contains("://") && !text.split("://").next().is_some_and(|scheme| scheme.contains('=')) {
            return url::parse(text);
        }
        if text.contains('=') {
            return key_value::parse(text);
        }
        Err("it is not a connection string; write postgresql://user:password@host:port/database".to_owned())
    }

    /// Sets a parameter. Hosts and ports are lists; of other parameters the last value counts.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    /// Sets an optional parameter.
    pub(crate) fn set_some(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Parameters;

    fn parsed(text: &str) -> Vec<(String, String)> {
        let mut found = Parameters::parse(text).unwrap_or_else(|reason| panic!("{text}: {reason}")).0;
        found.sort();
        found
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut pairs: Vec<_> = pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        pairs.sort();
        pairs
    }

    #[test]
    fn urls_are_parsed_like_in_libpq() {
        assert_eq!(
            parsed("postgresql+psycopg://me:a%2Fb@db:5433/corpus?sslmode=require"),
            pairs(&[
                ("user", "me"),
                ("password", "a/b"),
                ("host", "db"),
                ("port", "5433"),
                ("dbname", "corpus"),
                ("sslmode", "require")
            ])
        );
        assert_eq!(parsed("postgres://[::1]:5433/x"), pairs(&[("host", "::1"), ("port", "5433"), ("dbname", "x")]));
        assert_eq!(parsed("postgres://a:1,b/x"), pairs(&[("host", "a,b"), ("port", "1,"), ("dbname", "x")]));
        assert_eq!(
            parsed("postgres:///x?host=a:1&host=b:2"),
            pairs(&[("host", "a,b"), ("port", "1,2"), ("dbname", "x")])
        );
        assert_eq!(parsed("postgres://%2Fvar%2Frun/x"), pairs(&[("host", "/var/run"), ("dbname", "x")]));
    }

    #[test]
    fn lists_of_parameters_are_parsed_like_in_libpq() {
        assert_eq!(
            parsed(r"host=db port = 5433 password='a \'b\' c' user=me\ too dbname=''"),
            pairs(&[("host", "db"), ("port", "5433"), ("password", "a 'b' c"), ("user", "me too"), ("dbname", "")])
        );
    }

    #[test]
    fn errors_do_not_show_the_password() {
        for text in [
            "postgresql://me:/s3cret@db/x",
            "postgresql://me:s3cret/5432@db/x",
            "postgresql://me:1?s3cret@db/x",
            "postgresql://me:#s3cret@db/x",
            "postgresql://me:s3cret@db:99999/x",
            "postgresql://me:s3cret%ff%zz@db/x",
            "postgresql://[::1/x?password=s3cret",
            "mysql://me:s3cret@db/x",
            "host=db password='s3cret",
            "host=db s3cret",
            "s3cret",
        ] {
            let reason = Parameters::parse(text).and_then(|parameters| parameters.target().map(drop));
            assert!(!reason.expect_err(text).contains("s3cret"), "{text}");
        }
    }
}
