//! Inputs that are made from those of a corpus by changes to their bytes: a short run of a target without `cargo fuzz`.

use std::path::Path;

use fastrand::Rng;

/// Values of bytes at which formats change their meaning.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xfe, 0xff, b'\n', b'"'];

/// Runs a target on `rounds` inputs, each a file of a corpus with a few changes. A seed makes the same inputs again.
///
/// # Panics
/// If there is no corpus, or the target panics, with the number of the input.
pub fn run_changed(directory: &Path, rounds: usize, seed: u64, target: impl Fn(&[u8])) {
    let corpus: Vec<Vec<u8>> = super::files_of(directory).map(|(_, bytes)| bytes).collect();
    let mut random = Rng::with_seed(seed);
    for round in 0..rounds {
        let input = changed(&corpus, &mut random);
        // Shown only if the test fails.
        println!("input {round} of seed {seed}: {:?}", String::from_utf8_lossy(&input));
        target(&input);
    }
}

/// Returns an input of the corpus with a few changes.
fn changed(corpus: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
    let mut bytes = corpus[random.usize(0..corpus.len())].clone();
    for _ in 0..random.usize(1..5) {
        let from = random.usize(0..=bytes.len());
        let to = random.usize(from..=bytes.len().min(from + 16));
        let piece = match random.u8(0..5) {
            0 => Vec::new(),
            1 => vec![EDGES[random.usize(0..EDGES.len())]; to - from],
            2 => bytes[from..to].repeat(random.usize(2..40)),
            3 => bytes[from..to].iter().map(|byte| byte ^ (1 << random.u8(0..8))).collect(),
            _ => {
                let other = &corpus[random.usize(0..corpus.len())];
                let start = random.usize(0..=other.len());
                other[start..random.usize(start..=other.len())].to_vec()
            }
        };
        bytes.splice(from..to, piece);
    }
    bytes
}
