//! The hashes, from the crates that implement them.

use md5::{Digest, Md5};
use metaxy_core::HashAlgorithm;
use sha2::Sha256;

/// Returns the truncated hash of a row's text.
pub(super) fn row_hash(algorithm: HashAlgorithm, text: &str, truncation: usize) -> String {
    let bytes = text.as_bytes();
    let whole = match algorithm {
        HashAlgorithm::Xxhash32 => xxhash_rust::xxh32::xxh32(bytes, 0).to_string(),
        HashAlgorithm::Xxhash64 => xxhash_rust::xxh64::xxh64(bytes, 0).to_string(),
        HashAlgorithm::Xxh3_64 => xxhash_rust::xxh3::xxh3_64(bytes).to_string(),
        HashAlgorithm::Wyhash => wyhash::wyhash(bytes, 0).to_string(),
        HashAlgorithm::Sha256 => hex::encode(Sha256::digest(bytes)),
        HashAlgorithm::Md5 => hex::encode(Md5::digest(bytes)),
    };
    cut(whole, truncation)
}

/// Returns the truncated hash of a definition: SHA-256 of the concatenated parts.
pub(super) fn definition_hash(parts: &[String], truncation: usize) -> String {
    cut(hex::encode(Sha256::digest(parts.concat().as_bytes())), truncation)
}

fn cut(hash: String, truncation: usize) -> String {
    hash.chars().take(truncation).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn as_recorded() {
        let recorded: Vec<BTreeMap<String, String>> =
            serde_json::from_str(include_str!("../../hash_vectors.json")).unwrap();
        for vector in recorded {
            for algorithm in HashAlgorithm::ALL {
                assert_eq!(row_hash(algorithm, &vector["input"], 64), vector[algorithm.name()], "{algorithm}");
            }
        }
    }
}
