//! The targets of `cargo fuzz`: on their corpora, and on inputs that are made of pieces of these.
//!
//! `METAXY_FUZZ_ROUNDS=140000 cargo test -p metaxy-testkit --release --test fuzz` runs longer.

use std::path::PathBuf;
use std::sync::Arc;

use fastrand::Rng;
use metaxy_testkit::fuzz::{self, run_changed, run_corpus};
use metaxy_testkit::memory::MemoryBackend;

/// Pieces that are difficult for parsers: ends, quotes, nesting, extreme numbers, other alphabets.
const PIECES: [&str; 24] = [
    "",
    "(",
    ")",
    "'",
    "\"",
    "\\",
    "\0",
    "\n",
    "NOT ",
    " AND ",
    " OR ",
    ".",
    "..",
    "-",
    "9999999999999999999999",
    "1e400",
    "NaN",
    "🎬",
    "ß\u{301}",
    "{",
    "}",
    "[",
    "]",
    "${",
];

fn corpus(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../fuzz/corpus", target].iter().collect()
}

/// Returns the texts of a corpus.
fn texts(target: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let files = std::fs::read_dir(corpus(target)).unwrap().map(|entry| entry.unwrap().path());
    texts.extend(files.filter_map(|file| std::fs::read_to_string(file).ok()));
    texts.sort();
    texts
}

fn rounds() -> usize {
    std::env::var("METAXY_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3_000)
}

/// Returns a text of the corpus with a few changes.
fn mutated(corpus: &[String], random: &mut Rng) -> String {
    let any = |random: &mut Rng| corpus[random.usize(0..corpus.len())].as_str();
    let mut text: Vec<char> = any(random).chars().collect();
    for _ in 0..random.usize(1..5) {
        let from = random.usize(0..=text.len());
        let to = random.usize(from..=text.len().min(from + 12));
        let piece: Vec<char> = match random.u8(0..4) {
            0 => Vec::new(),
            1 => PIECES[random.usize(0..PIECES.len())].chars().collect(),
            2 => text[from..to].repeat(random.usize(1..40)),
            _ => {
                let other: Vec<char> = any(random).chars().collect();
                let start = random.usize(0..=other.len());
                other[start..random.usize(start..=other.len())].to_vec()
            }
        };
        text.splice(from..to, piece);
    }
    text.into_iter().collect()
}

/// Runs a target on its corpus, and on changed texts of it; at least one in `share` must be taken, so that the others show
/// something.
fn runs(target: &str, share: usize, run: fn(&[u8]) -> bool) {
    run_corpus(&corpus(target), |data| {
        run(data);
    });
    let (texts, mut random) = (texts(target), Rng::with_seed(1));
    let taken = (0..rounds()).filter(|_| run(mutated(&texts, &mut random).as_bytes())).count();
    assert!(taken > rounds() / share, "{taken} texts were taken");
}

#[test]
fn filters() {
    runs("filter", 50, fuzz::filter);
}

#[test]
fn specs() {
    runs("spec", 100, fuzz::spec);
}

#[test]
fn feature_files() {
    runs("features", 100, fuzz::features);
}

#[test]
fn configurations() {
    runs("configuration", 50, fuzz::configuration);
}

#[test]
fn spools() {
    run_corpus(&corpus("spool"), fuzz::spool);
    run_changed(&corpus("spool"), rounds() / 10, 3, fuzz::spool);
}

#[test]
fn batches() {
    let run = |data: &[u8]| fuzz::batches(data, Arc::new(MemoryBackend::new()));
    run_corpus(&corpus("batches"), run);
    let mut random = Rng::with_seed(2);
    for _ in 0..rounds() / 10 {
        let data: Vec<u8> = (0..random.usize(0..400)).map(|_| random.u8(..)).collect();
        run(&data);
    }
}
