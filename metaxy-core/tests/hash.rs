//! Batched hashes equal those of single texts.

use metaxy_core::hash::{HashAlgorithm, RowHasher};

/// All lengths around the ends of the algorithms' blocks, together with other lengths.
#[test]
fn batched_hashes_equal_single_ones() {
    let texts: Vec<String> = (0..1500_usize)
        .map(|number| {
            (0..number * 37 % 263).map(|position| char::from(b'!' + ((position * 7 + number) % 90) as u8)).collect()
        })
        .collect();
    for algorithm in HashAlgorithm::ALL {
        let hasher = RowHasher::new(algorithm, 64).expect("a hasher");
        for count in [0, 1, 7, 8, 9, texts.len()] {
            let mut found = Vec::new();
            let mut many = hasher.many(|hash| found.push(hash.to_owned()));
            for text in &texts[..count] {
                let (first, rest) = text.split_at(text.len() / 3);
                many.push([first, rest]);
            }
            many.finish();
            let expected: Vec<String> = texts[..count].iter().map(|text| hasher.hash(text)).collect();
            assert_eq!(found, expected, "{algorithm}, {count} texts");
        }
    }
}
