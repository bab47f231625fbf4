//! MD5 (RFC 1321) of several short texts at once.
//!
//! Each step of MD5 waits for the one before it, so that a single text leaves most of the processor idle. The same step
//! of several texts, side by side, fills its vector units.

use wide::u32x8;

/// The number of texts that are hashed at once.
pub(super) const LANES: usize = 8;

/// The words of a block, and of a state, for every text.
type Block = [u32x8; 16];
type State = [u32x8; 4];

/// The bytes of a block.
const BLOCK: usize = 64;
/// The bytes at the end of a text: a mark, and its length.
const ENDING: usize = 9;
const MARK: u8 = 0x80;

const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// The numbers that the steps add: the fractions of the sines of whole numbers.
const SINES: [[u32; 16]; 4] = [
    [
        0xd76a_a478,
        0xe8c7_b756,
        0x2420_70db,
        0xc1bd_ceee,
        0xf57c_0faf,
        0x4787_c62a,
        0xa830_4613,
        0xfd46_9501,
        0x6980_98d8,
        0x8b44_f7af,
        0xffff_5bb1,
        0x895c_d7be,
        0x6b90_1122,
        0xfd98_7193,
        0xa679_438e,
        0x49b4_0821,
    ],
    [
        0xf61e_2562,
        0xc040_b340,
        0x265e_5a51,
        0xe9b6_c7aa,
        0xd62f_105d,
        0x0244_1453,
        0xd8a1_e681,
        0xe7d3_fbc8,
        0x21e1_cde6,
        0xc337_07d6,
        0xf4d5_0d87,
        0x455a_14ed,
        0xa9e3_e905,
        0xfcef_a3f8,
        0x676f_02d9,
        0x8d2a_4c8a,
    ],
    [
        0xfffa_3942,
        0x8771_f681,
        0x6d9d_6122,
        0xfde5_380c,
        0xa4be_ea44,
        0x4bde_cfa9,
        0xf6bb_4b60,
        0xbebf_bc70,
        0x289b_7ec6,
        0xeaa1_27fa,
        0xd4ef_3085,
        0x0488_1d05,
        0xd9d4_d039,
        0xe6db_99e5,
        0x1fa2_7cf8,
        0xc4ac_5665,
    ],
    [
        0xf429_2244,
        0x432a_ff97,
        0xab94_23a7,
        0xfc93_a039,
        0x655b_59c3,
        0x8f0c_cc92,
        0xffef_f47d,
        0x8584_5dd1,
        0x6fa8_7e4f,
        0xfe2c_e6e0,
        0xa301_4314,
        0x4e08_11a1,
        0xf753_7e82,
        0xbd3a_f235,
        0x2ad7_d2bb,
        0xeb86_d391,
    ],
];

/// Returns the digests of some texts.
pub(super) fn digests(texts: [&[u8]; LANES]) -> [[u8; 16]; LANES] {
    let blocks = texts.map(|text| (text.len() + ENDING).div_ceil(BLOCK));
    let mut state = START.map(|word| [word; LANES]);
    for number in 0..blocks.into_iter().max().unwrap_or(0) {
        let mut words = [[0; LANES]; 16];
        for (lane, text) in texts.iter().enumerate() {
            let block = block(text, number, number + 1 == blocks[lane]);
            for (word, bytes) in words.iter_mut().zip(block.as_chunks().0) {
                word[lane] = u32::from_le_bytes(*bytes);
            }
        }
        let after = compressed(state.map(u32x8::from), &words.map(u32x8::from)).map(u32x8::to_array);
        // Texts that are shorter than others keep their state.
        for lane in (0..LANES).filter(|lane| number < blocks[*lane]) {
            state.iter_mut().zip(&after).for_each(|(word, after)| word[lane] = after[lane]);
        }
    }
    std::array::from_fn(|lane| {
        let mut digest = [0; 16];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(&state) {
            *bytes = word[lane].to_le_bytes();
        }
        digest
    })
}

/// Returns a block of a text. Those after the last one are not used.
fn block(text: &[u8], number: usize, is_last: bool) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let start = number * BLOCK;
    let rest = text.get(start..).unwrap_or_default();
    let length = rest.len().min(BLOCK);
    block[..length].copy_from_slice(&rest[..length]);
    if length < BLOCK && start <= text.len() {
        block[length] = MARK;
    }
    if is_last {
        let bits = (text.len() as u64).wrapping_mul(8);
        block[BLOCK - 8..].copy_from_slice(&bits.to_le_bytes());
    }
    block
}

/// Returns the state after a block.
fn compressed(before: State, words: &Block) -> State {
    let mut state = before;
    round::<7, 12, 17, 22>(&mut state, words, 0, |step| step, |b, c, d| d ^ (b & (c ^ d)));
    round::<5, 9, 14, 20>(&mut state, words, 1, |step| 5 * step + 1, |b, c, d| c ^ (d & (b ^ c)));
    round::<4, 11, 16, 23>(&mut state, words, 2, |step| 3 * step + 5, |b, c, d| b ^ c ^ d);
    round::<6, 10, 15, 21>(&mut state, words, 3, |step| 7 * step, |b, c, d| c ^ (b | !d));
    std::array::from_fn(|word| state[word] + before[word])
}

/// Runs sixteen steps. They rotate by four distances in turn, and each round uses the words in another order.
#[inline(always)]
fn round<const A: u32, const B: u32, const C: u32, const D: u32>(
    state: &mut State,
    words: &Block,
    round: usize,
    order: impl Fn(usize) -> usize,
    mix: impl Fn(u32x8, u32x8, u32x8) -> u32x8,
) {
    let [mut a, mut b, mut c, mut d] = *state;
    for first in (0..16).step_by(4) {
        let input = |step: usize| words[order(step) % 16] + u32x8::splat(SINES[round][step]);
        a = turned::<A>(a + mix(b, c, d) + input(first)) + b;
        d = turned::<B>(d + mix(a, b, c) + input(first + 1)) + a;
        c = turned::<C>(c + mix(d, a, b) + input(first + 2)) + d;
        b = turned::<D>(b + mix(c, d, a) + input(first + 3)) + c;
    }
    *state = [a, b, c, d];
}

#[inline(always)]
fn turned<const BY: u32>(words: u32x8) -> u32x8 {
    (words << BY) | (words >> (32 - BY))
}
