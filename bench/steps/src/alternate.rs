//! Two networks in turns, because the machine's speed drifts.

use std::time::Instant;

use crate::training::{Error, Training};

const BLOCKS: usize = 15;
/// A turn takes about as long, but does its work once at least.
const TURN_SECONDS: f64 = 0.3;

/// The mean seconds that `work` says it took, of theirs and ours in each block. The order
/// alternates, and each turn begins with work that does not count.
pub fn alternate(
    trainings: [&mut dyn Training; 2],
    work: impl Fn(&mut dyn Training) -> Result<f64, Error>,
) -> Result<Vec<[f64; 2]>, Error> {
    let mut blocks = vec![[0.0; 2]; BLOCKS];
    for (turn, block) in blocks.iter_mut().enumerate() {
        for i in [turn % 2, 1 - turn % 2] {
            let start = Instant::now();
            work(trainings[i])?;
            let repeats = (TURN_SECONDS / start.elapsed().as_secs_f64()).ceil();
            for _ in 0..repeats as usize {
                block[i] += work(trainings[i])? / repeats;
            }
        }
    }
    Ok(blocks)
}
