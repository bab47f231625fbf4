//! Hashes definitions and rows.

mod md5;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A hash algorithm or truncation that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not supported: {hint}")]
pub struct InvalidHash {
    /// What is not supported.
    pub what: String,
    /// What to do instead.
    pub hint: String,
}

type Result<T, E = InvalidHash> = std::result::Result<T, E>;

/// The default and the shortest allowed length of definition and row versions.
pub const MIN_TRUNCATION: usize = 8;

/// The algorithm that hashes the versions of rows. All stores of a fallback chain use the same one.
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

    /// Returns the name in configurations and recordings.
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
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == text).ok_or_else(|| InvalidHash {
            what: format!("the hash algorithm `{text}`"),
            hint: format!("use one of {}", Self::ALL.map(Self::name).join(", ")),
        })
    }
}

/// Hashes the strings of rows with one algorithm, and keeps a fixed number of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(HashAlgorithm, usize)", try_from = "(HashAlgorithm, usize)")]
pub struct RowHasher {
    algorithm: HashAlgorithm,
    truncation: usize,
}

impl From<RowHasher> for (HashAlgorithm, usize) {
    fn from(hasher: RowHasher) -> Self {
        (hasher.algorithm, hasher.truncation)
    }
}

impl TryFrom<(HashAlgorithm, usize)> for RowHasher {
    type Error = InvalidHash;

    fn try_from((algorithm, truncation): (HashAlgorithm, usize)) -> Result<Self> {
        Self::new(algorithm, truncation)
    }
}

impl RowHasher {
    /// Returns a hasher that keeps `truncation` characters of each hash.
    ///
    /// # Errors
    /// [`InvalidHash`] if `truncation` is less than [`MIN_TRUNCATION`].
    pub fn new(algorithm: HashAlgorithm, truncation: usize) -> Result<Self> {
        check_truncation(truncation)?;
        Ok(Self { algorithm, truncation })
    }

    /// Returns the algorithm.
    pub fn algorithm(self) -> HashAlgorithm {
        self.algorithm
    }

    /// Returns the number of characters of a hash that are kept.
    pub fn truncation(self) -> usize {
        self.truncation
    }

    /// Returns the hash of a string.
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
            HashAlgorithm::Md5 => push_hex(&::md5::Md5::digest(bytes), self.truncation, out),
        }
    }

    /// Returns a hasher for many texts, which hashes several at once if that is faster.
    pub fn many<F: FnMut(&str)>(self, each: F) -> ManyHashes<F> {
        ManyHashes { hasher: self, each, waiting: Vec::new(), ends: Vec::new(), hash: String::new() }
    }

    fn push_decimal(self, value: u64, out: &mut String) {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(value);
        out.push_str(&digits[..digits.len().min(self.truncation)]);
    }
}

/// Hashes many texts, and passes their hashes on in the order of the texts.
///
/// ```
/// # use metaxy_core::hash::{HashAlgorithm, RowHasher};
/// # fn main() -> metaxy_core::Result<()> {
/// let mut hashes = Vec::new();
/// let mut many = RowHasher::new(HashAlgorithm::Md5, 8)?.many(|hash| hashes.push(hash.to_owned()));
/// many.push(["audio", "|", "frames"]);
/// many.push(["audio"]);
/// many.finish();
/// assert_eq!(hashes, ["ed428509", "a5ca0b58"]);
/// # Ok(())
/// # }
/// ```
#[must_use = "the last texts are hashed by `finish`"]
pub struct ManyHashes<F> {
    hasher: RowHasher,
    each: F,
    /// The texts that wait to be hashed together, concatenated, and the end of each.
    waiting: Vec<u8>,
    ends: Vec<usize>,
    hash: String,
}

impl<F: FnMut(&str)> ManyHashes<F> {
    /// Hashes a text that is given in parts.
    pub fn push<P: AsRef<[u8]>>(&mut self, parts: impl IntoIterator<Item = P>) {
        self.push_with(|text| parts.into_iter().for_each(|part| text.extend_from_slice(part.as_ref())));
    }

    /// Hashes the text that `write` appends to a buffer.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.waiting);
        if self.hasher.algorithm != HashAlgorithm::Md5 {
            return self.hash_only();
        }
        self.ends.push(self.waiting.len());
        if self.ends.len() == md5::LANES {
            self.hash_waiting();
        }
    }

    /// Hashes the waiting texts.
    pub fn finish(mut self) {
        self.hash_waiting();
    }

    /// Hashes the waiting text, which is the only one.
    fn hash_only(&mut self) {
        self.hash.clear();
        self.hasher.hash_into(&self.waiting, &mut self.hash);
        (self.each)(&self.hash);
        self.waiting.clear();
    }

    fn hash_waiting(&mut self) {
        let mut texts: [&[u8]; md5::LANES] = [&[]; md5::LANES];
        let mut start = 0;
        for (text, end) in texts.iter_mut().zip(&self.ends) {
            *text = &self.waiting[start..*end];
            start = *end;
        }
        let texts = &texts[..self.ends.len()];
        let digests = <&[&[u8]; md5::LANES]>::try_from(texts).ok().map(|texts| md5::digests(*texts));
        for (lane, text) in texts.iter().enumerate() {
            self.hash.clear();
            match &digests {
                Some(digests) => push_hex(&digests[lane], self.hasher.truncation, &mut self.hash),
                None => self.hasher.hash_into(text, &mut self.hash),
            }
            (self.each)(&self.hash);
        }
        self.waiting.clear();
        self.ends.clear();
    }
}

impl<F> fmt::Debug for ManyHashes<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManyHashes").field("hasher", &self.hasher).finish_non_exhaustive()
    }
}

/// The number of digits of the longest digest.
const MAX_DIGITS: usize = 64;

fn push_hex(digest: &[u8], limit: usize, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; MAX_DIGITS];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(digest) {
        pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    let length = limit.min(2 * digest.len()).min(MAX_DIGITS);
    out.push_str(std::str::from_utf8(&digits[..length]).unwrap_or_default());
}

/// Checks the number of characters that are kept of every hash.
///
/// # Errors
/// [`InvalidHash`] if it is less than [`MIN_TRUNCATION`].
pub fn check_truncation(truncation: usize) -> Result<()> {
    if truncation < MIN_TRUNCATION {
        return Err(InvalidHash {
            what: format!("a hash_truncation_length of {truncation}"),
            hint: format!("keep at least {MIN_TRUNCATION} characters, or versions collide"),
        });
    }
    Ok(())
}

/// Returns the SHA-256 of the concatenated strings, in hex, cut to `truncation` characters: the version of a
/// definition.
pub(crate) fn definition_hash<'a>(parts: impl IntoIterator<Item = &'a str>, truncation: usize) -> Arc<str> {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.as_bytes());
    }
    let mut out = String::new();
    push_hex(&hasher.finalize(), truncation, &mut out);
    out.into()
}
