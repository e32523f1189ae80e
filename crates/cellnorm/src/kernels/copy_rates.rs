//! How fast this machine copies: what the passes are compared with.

use std::hint::black_box;
use std::time::Instant;

use crate::error::Error;
use crate::kernels::{self, Activation, Affine, Buffers};
use crate::machine::Machine;
use crate::shape::Cells;

/// The rates of a copy of one array to another, on all threads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CopyRate {
    /// The bytes of each array.
    pub bytes: usize,
    /// Bytes read and written a second through the caches.
    pub plain: f64,
    /// Bytes read and written a second where the destination is written past the caches; on
    /// processors other than x86-64, no store does that, and this is as `plain`.
    pub streamed: f64,
}

/// How many times a copy is timed, at least.
const TIMES: usize = 5;

/// How many seconds the timed copies take together, at least.
const SECONDS: f64 = 0.02;

/// The most bytes of an array.
const MOST: usize = 256 << 20;

impl Machine {
    /// Measures copies of arrays that lie in the second caches, in the last one, and in neither
    /// unless the last one holds more than 512 MB. Takes about a second.
    ///
    /// # Errors
    /// If the processor lacks `self.instruction_set`.
    ///
    /// ```no_run
    /// use cellnorm::machine::Machine;
    /// for rate in Machine::current().copy_rates()? {
    ///     println!("{} bytes: {:.0} GB/s", rate.bytes, rate.streamed / 1e9);
    /// }
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn copy_rates(&self) -> Result<Vec<CopyRate>, Error> {
        let sizes =
            [self.l2.saturating_mul(self.cores) / 4, self.l3 / 4, self.l3.saturating_mul(2)];
        let mut rates = vec![];
        for bytes in sizes.map(|bytes| bytes.min(MOST)) {
            let x = vec![1.0_f32; (bytes / size_of::<f32>()).max(1)];
            let mut y = x.clone();
            // never and always streamed
            let plain = Self { l3: usize::MAX, cores: usize::MAX, ..*self };
            let streamed = Self { l3: 0, ..*self };
            let (plain, streamed) =
                (plain.run(|| rate(&x, &mut y))?, streamed.run(|| rate(&x, &mut y))?);
            rates.push(CopyRate { bytes, plain, streamed });
        }
        Ok(rates)
    }
}

/// Bytes a second of a copy, which is the affine pass of one cell.
fn rate(x: &[f32], y: &mut [f32]) -> f64 {
    let cells = Cells::channels_first(1, 1, x.len());
    let identity = [Affine { center: 0.0, scale: 1.0, offset: 0.0 }];
    let mut copy = || {
        let start = Instant::now();
        let buffers = Buffers::Apart(x, black_box(&mut *y));
        kernels::affine(buffers, &cells, &identity, Activation::Identity);
        start.elapsed().as_secs_f64()
    };
    copy();
    let (mut best, mut all, mut times) = (f64::INFINITY, 0.0, 0);
    while times < TIMES || all < SECONDS {
        let seconds = copy();
        best = best.min(seconds);
        (all, times) = (all + seconds, times + 1);
    }
    // a clock may be too coarse for a small array
    2.0 * size_of_val(x) as f64 / best.max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "copies megabytes")]
    fn a_copy_of_each_size_is_timed() {
        let small = Machine::this().with("cores=2,l2=64K,l3=256K").0;
        let rates = small.copy_rates().unwrap();
        assert_eq!(
            rates.iter().map(|rate| rate.bytes).collect::<Vec<_>>(),
            [32 << 10, 64 << 10, 512 << 10]
        );
        assert!(rates.iter().all(|rate| rate.plain > 0.0 && rate.streamed > 0.0), "{rates:?}");
    }
}
