//! The options of a run: arguments first, then the environment, then the defaults.

use metaxy_core::HashAlgorithm;
use metaxy_core::error::BoxError;

use super::data::Scenario;

pub(super) struct Options {
    pub(super) sizes: Vec<usize>,
    pub(super) scenarios: Vec<Scenario>,
    pub(super) rounds: usize,
    pub(super) hash: Option<HashAlgorithm>,
    pub(super) reference: bool,
    pub(super) json: Option<String>,
    pub(super) smoke: bool,
    pub(super) floor: bool,
    pub(super) changes: bool,
    subjects: Vec<String>,
}

impl Options {
    /// Reads the options; `None` if nothing is to be measured, because a test runner only lists the tests.
    pub(super) fn read() -> Result<Option<Self>, BoxError> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        if arguments.iter().any(|argument| argument == "--list") {
            return Ok(None);
        }
        Self::new(&arguments, |name| std::env::var(name).ok()).map(Some)
    }

    fn new(arguments: &[String], variable: impl Fn(&str) -> Option<String>) -> Result<Self, BoxError> {
        let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
        let option = |name: &str| -> Result<Option<String>, BoxError> {
            let flag = format!("--{name}");
            let prefix = format!("{flag}=");
            for (index, argument) in arguments.iter().enumerate() {
                if let Some(value) = argument.strip_prefix(&prefix) {
                    return Ok(Some(value.to_owned()));
                }
                if *argument == flag {
                    let value = arguments.get(index + 1).ok_or_else(|| format!("`{flag}` needs a value"))?;
                    return Ok(Some(value.clone()));
                }
            }
            Ok(variable(&format!("METAXY_BENCH_{}", name.to_uppercase())).filter(|value| !value.is_empty()))
        };
        let smoke = has("--test") || !has("--bench");
        if smoke {
            return Ok(Self {
                sizes: vec![500],
                scenarios: vec![Scenario::Simple, Scenario::Wide],
                rounds: 1,
                hash: None,
                reference: false,
                json: None,
                smoke,
                floor: true,
                changes: true,
                subjects: Vec::new(),
            });
        }
        let list = |text: &str| -> Vec<String> {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let sizes = option("sizes")?.unwrap_or_else(|| "10k,100k,1M".to_owned());
        let scenarios = option("scenarios")?.unwrap_or_else(|| "simple,wide".to_owned());
        let rounds = option("rounds")?.unwrap_or_else(|| "3".to_owned());
        let rounds: usize = rounds.parse().map_err(|_| format!("`{rounds}` is not a number of rounds"))?;
        Ok(Self {
            sizes: list(&sizes).iter().map(|text| size(text)).collect::<Result<_, _>>()?,
            scenarios: list(&scenarios).iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
            rounds: rounds.max(1),
            hash: option("hash")?.map(|text| text.parse()).transpose()?,
            reference: option("reference")?.is_none_or(|text| !["off", "0", "no"].contains(&text.as_str())),
            json: option("json")?,
            smoke,
            floor: option("floor")?.is_some_and(|text| text == "on"),
            changes: option("changes")?.is_some_and(|text| text == "on"),
            subjects: option("subjects")?.map(|text| list(&text)).unwrap_or_default(),
        })
    }

    pub(super) fn wants(&self, subject: &str) -> bool {
        self.subjects.is_empty() || self.subjects.iter().any(|part| subject.contains(part))
    }
}

/// Parses `1000`, `1_000`, `10k`, `1M`.
fn size(text: &str) -> Result<usize, BoxError> {
    let plain = text.replace('_', "");
    let (digits, factor) = match plain.as_bytes().last() {
        Some(b'k' | b'K') => (&plain[..plain.len() - 1], 1_000),
        Some(b'm' | b'M') => (&plain[..plain.len() - 1], 1_000_000),
        _ => (plain.as_str(), 1),
    };
    match digits.parse::<usize>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(size) if size > 0 => Ok(size),
        _ => Err(format!("`{text}` is not a number of records; write 10000 or 10k").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Options, BoxError> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let find = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Options::new(&arguments, find)
    }

    #[test]
    fn cargo_test_makes_one_small_round() {
        let options = options(&[], &[("METAXY_BENCH_SIZES", "10M")]).unwrap();
        assert!(options.smoke && !options.reference);
        assert_eq!((options.sizes, options.rounds), (vec![500], 1));
    }

    #[test]
    fn arguments_come_before_the_environment() {
        let environment = [("METAXY_BENCH_SIZES", "10M"), ("METAXY_BENCH_SCENARIOS", "wide")];
        let options = options(&["--bench", "--sizes=10k, 2_000", "--rounds", "5"], &environment).unwrap();
        assert_eq!((options.sizes, options.rounds), (vec![10_000, 2_000], 5));
        assert_eq!(options.scenarios, [Scenario::Wide]);
    }

    #[test]
    fn invalid_arguments_are_reported() {
        for arguments in [["--bench", "--sizes=ten"], ["--bench", "--scenarios=tall"], ["--bench", "--rounds=x"]] {
            assert!(options(&arguments, &[]).is_err());
        }
        assert!(options(&["--bench", "--rounds"], &[]).is_err());
    }
}
