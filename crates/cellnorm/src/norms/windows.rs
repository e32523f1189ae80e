//! What local response normalization computes of its lines: sums over windows, and a power of them.

/// Adds up windows of rows; its memory is used again.
#[derive(Default)]
pub(super) struct Windows {
    from_start: Vec<f64>,
}

impl Windows {
    /// The sum over each row of values, `before` rows before it and `after` after it, where there are so many, in `sums`. A row has
    /// `width` values, and there are `rows`.
    ///
    /// A sum that slides by adding the next value and subtracting the last keeps the rounding errors of what has left the window.
    /// Here rows are cut into blocks as long as a window, so each window is the end of one block and the beginning of the next
    /// (M. van Herk, 1992, does so for maxima): nothing is subtracted, and the work is the same for every size.
    #[inline(always)]
    pub(super) fn sum(
        &mut self,
        values: impl ExactSizeIterator<Item = f64>,
        width: usize,
        (before, after): (usize, usize),
        sums: &mut Vec<f64>,
    ) {
        let rows = values.len() / width;
        let (before, after) = (before.min(rows - 1), after.min(rows - 1));
        let size = before + after + 1;
        let (to_end, from_start) = (sums, &mut self.from_start);
        to_end.resize((rows + before + after) * width, 0.0);
        from_start.resize(to_end.len(), 0.0);
        to_end[..before * width].fill(0.0);
        to_end[(before + rows) * width..].fill(0.0);
        // a loop, and not a copy: those of a few KB are slow on some processors
        for (to_end, value) in to_end[before * width..].iter_mut().zip(values) {
            *to_end = value;
        }
        for (given, block) in to_end.chunks(size * width).zip(from_start.chunks_mut(size * width)) {
            block[..width].copy_from_slice(&given[..width]);
            for start in (width..block.len()).step_by(width) {
                let (done, next) = block.split_at_mut(start);
                let (before, given) = (&done[start - width..], &given[start..][..width]);
                for ((sum, before), value) in next[..width].iter_mut().zip(before).zip(given) {
                    *sum = before + value;
                }
            }
        }
        for block in to_end.chunks_mut(size * width) {
            for start in (width..block.len()).step_by(width).rev() {
                let (next, done) = block.split_at_mut(start);
                add(&mut next[start - width..], &done[..width]);
            }
        }
        for (row, sums) in to_end[..rows * width].chunks_exact_mut(width).enumerate() {
            if !row.is_multiple_of(size) {
                add(sums, &from_start[(row + size - 1) * width..]);
            }
        }
        to_end.truncate(rows * width);
    }
}

#[inline(always)]
fn add(all: &mut [f64], more: &[f64]) {
    for (all, more) in all.iter_mut().zip(more) {
        *all += more;
    }
}

/// A power d^(−β) of positive numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Power {
    /// β is so many quarters, as in every framework's default: then roots suffice.
    Quarters(u32),
    /// Any other β.
    Any(f64),
}

impl Power {
    pub(super) fn of(beta: f64) -> Self {
        let quarters = 4.0 * beta;
        match quarters.fract() == 0.0 && (1.0..=8.0).contains(&quarters) {
            true => Self::Quarters(quarters as u32),
            false => Self::Any(beta),
        }
    }

    /// d^(−β) in place of d, and 1/d.
    #[inline(always)]
    pub(super) fn run(self, d: &mut [f64], inverse: &mut Vec<f64>) {
        inverse.resize(d.len(), 0.0);
        match self {
            Self::Quarters(count) => {
                for (d, root) in d.iter_mut().zip(&mut *inverse) {
                    *root = quarter_root(*d);
                    *d = *root;
                }
                for _ in 1..count {
                    for (power, root) in d.iter_mut().zip(&*inverse) {
                        *power *= root;
                    }
                }
                for root in inverse {
                    let square = *root * *root;
                    *root = square * square;
                }
            }
            Self::Any(beta) => {
                for (d, inverse) in d.iter_mut().zip(inverse) {
                    (*d, *inverse) = (d.powf(-beta), 1.0 / *d);
                }
            }
        }
    }
}

/// d^(−1/4) to the last digits, without a division or a root: these have few units in a processor, and wait long.
///
/// A quarter of the exponent, taken from the bits, is right within 4 %. With e = 1 − d y⁴, the root is y (1 − e)^(−1/4) =
/// y (1 + e/4 + 5e²/32 + 15e³/128 + …); a step leaves an error of e⁴/10, so that two are enough.
#[inline(always)]
fn quarter_root(d: f64) -> f64 {
    /// 5/4 of the bits of 1, less what makes the least error e.
    const START: u64 = 0x4FEB_02DE_00D1_B800;
    let mut y = f64::from_bits(START.wrapping_sub(d.to_bits() >> 2));
    for _ in 0..2 {
        let square = y * y;
        let e = 1.0 - d * square * square;
        y = y + y * e * (0.25 + e * (5.0 / 32.0 + e * (15.0 / 128.0)));
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_right_at_every_size() {
        for exponent in -119..1000 {
            let given: Vec<f64> = (0..16).map(|i| (1.0 + f64::from(i) / 16.0) * 2.0_f64.powi(exponent)).collect();
            let (mut power, mut inverse) = (given.clone(), vec![]);
            Power::Quarters(3).run(&mut power, &mut inverse);
            for (d, (power, inverse)) in given.into_iter().zip(power.into_iter().zip(inverse)) {
                let errors = [power / d.powf(-0.75) - 1.0, inverse * d - 1.0];
                assert!(errors.iter().all(|e| e.abs() < 4e-15), "{errors:?} at {d:e}");
            }
        }
    }

    #[test]
    fn quarters_are_told_apart() {
        assert_eq!(Power::of(0.75), Power::Quarters(3));
        assert_eq!(Power::of(0.5), Power::Quarters(2));
        assert_eq!(Power::of(0.7), Power::Any(0.7));
        assert_eq!(Power::of(2.25), Power::Any(2.25));
    }

    #[test]
    fn windows_at_the_ends() {
        let values = [1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 4.0, 40.0, 5.0, 50.0];
        let mut sums = vec![];
        Windows::default().sum(values.iter().copied(), 2, (2, 1), &mut sums);
        assert_eq!(sums, [3.0, 30.0, 6.0, 60.0, 10.0, 100.0, 14.0, 140.0, 12.0, 120.0]);
    }
}
