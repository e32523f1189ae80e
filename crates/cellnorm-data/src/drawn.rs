//! Numbers drawn at random, each at most once: R. Floyd's algorithm (J. Bentley, R. Floyd, 1987).

use std::collections::BTreeSet;

/// `count` of the numbers below `all`, or all of them; every choice has the same chance.
pub fn drawn(all: u64, count: u64, seed: u64) -> BTreeSet<u64> {
    let mut state = seed;
    let mut drawn = BTreeSet::new();
    // one of the first n + 1, or, if that was drawn before, the last of them
    for last in all.saturating_sub(count)..all {
        let one = ((u128::from(split_mix(&mut state)) * u128::from(last + 1)) >> 64) as u64;
        drawn.insert(if drawn.contains(&one) { last } else { one });
    }
    drawn
}

/// SplitMix64 (G. Steele et al., 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
