//! Hashes of definitions and of rows.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The length of definition and row versions where nobody says otherwise, and the shortest that is allowed.
pub const MIN_TRUNCATION: usize = 8;

/// How the versions of rows are hashed. All stores of a fallback chain use the same algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashAlgorithm {
    /// xxHash, 32 bits, written in decimal. The default of most stores.
    Xxhash32,
    /// xxHash, 64 bits, written in decimal.
    Xxhash64,
    /// XXH3, 64 bits, written in decimal.
    #[serde(rename = "xxh3_64")]
    Xxh3_64,
    /// wyhash, 64 bits, written in decimal.
    Wyhash,
    /// SHA-256, lower-case hex.
    Sha256,
    /// MD5, lower-case hex; every SQL database has it.
    Md5,
}

impl HashAlgorithm {
    /// All algorithms.
    pub const ALL: [Self; 6] = [Self::Xxhash32, Self::Xxhash64, Self::Xxh3_64, Self::Wyhash, Self::Sha256, Self::Md5];

    /// The name in configurations and recordings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xxhash32 => "xxhash32",
            Self::Xxhash64 => "xxhash64",
            Self::Xxh3_64 => "xxh3_64",
            Self::Wyhash => "wyhash",
            Self::Sha256 => "sha256",
            Self::Md5 => "md5",
        }
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for HashAlgorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == text).ok_or_else(|| Error::Unsupported {
            what: format!("the hash algorithm `{text}`"),
            hint: format!("use one of {}", Self::ALL.map(Self::name).join(", ")),
        })
    }
}

/// Hashes strings of rows: an algorithm, and the number of characters that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowHasher {
    algorithm: HashAlgorithm,
    truncation: usize,
}

impl RowHasher {
    /// A hasher that keeps `truncation` characters of each hash.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where fewer than [`MIN_TRUNCATION`] characters would be kept.
    pub fn new(algorithm: HashAlgorithm, truncation: usize) -> Result<Self> {
        check_truncation(truncation)?;
        Ok(Self { algorithm, truncation })
    }

    /// The algorithm.
    pub fn algorithm(self) -> HashAlgorithm {
        self.algorithm
    }

    /// How many characters of a hash are kept.
    pub fn truncation(self) -> usize {
        self.truncation
    }

    /// The hash of a string.
    pub fn hash(self, text: &str) -> String {
        let mut out = String::new();
        self.hash_into(text.as_bytes(), &mut out);
        out
    }

    /// Appends the hash of some bytes to `out`.
    pub fn hash_into(self, bytes: &[u8], out: &mut String) {
        match self.algorithm {
            HashAlgorithm::Xxhash32 => self.push_decimal(xxhash_rust::xxh32::xxh32(bytes, 0).into(), out),
            HashAlgorithm::Xxhash64 => self.push_decimal(xxhash_rust::xxh64::xxh64(bytes, 0), out),
            HashAlgorithm::Xxh3_64 => self.push_decimal(xxhash_rust::xxh3::xxh3_64(bytes), out),
            HashAlgorithm::Wyhash => self.push_decimal(wyhash::wyhash(bytes, 0), out),
            HashAlgorithm::Sha256 => push_hex(&Sha256::digest(bytes), self.truncation, out),
            HashAlgorithm::Md5 => push_hex(&md5::Md5::digest(bytes), self.truncation, out),
        }
    }

    fn push_decimal(self, value: u64, out: &mut String) {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(value);
        out.push_str(&digits[..digits.len().min(self.truncation)]);
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn push_hex(digest: &[u8], limit: usize, out: &mut String) {
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    out.extend(digits.take(limit).map(|digit| char::from(HEX[usize::from(digit)])));
}

/// Checks the number of characters that are kept of every hash.
///
/// # Errors
/// [`Error::Unsupported`] where it is less than [`MIN_TRUNCATION`].
pub fn check_truncation(truncation: usize) -> Result<()> {
    if truncation < MIN_TRUNCATION {
        return Err(Error::Unsupported {
            what: format!("a hash_truncation_length of {truncation}"),
            hint: format!("keep at least {MIN_TRUNCATION} characters, or versions collide"),
        });
    }
    Ok(())
}

/// SHA-256 over strings fed one after the other, in hex, cut to `truncation` characters: the versions of definitions.
pub(crate) fn definition_hash<'a>(parts: impl IntoIterator<Item = &'a str>, truncation: usize) -> Arc<str> {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.as_bytes());
    }
    let mut out = String::new();
    push_hex(&hasher.finalize(), truncation, &mut out);
    out.into()
}
