//! The lines of local response normalization: sums over windows, and a power of them.

use super::strips::{Row, SIDE};

/// Adds up windows of rows; its memory is used again.
#[derive(Default)]
pub(super) struct Windows {
    to_end: Vec<Row>,
}

/// The first summand of every sum: −0, since −0 + −0 is −0 where 0 + −0 is 0.
const NOTHING: Row = Row([-0.0; SIDE]);

impl Windows {
    /// Calls `give(row, sum)` with the sum over each of `rows` rows of `values(row)`, `before` rows
    /// before it and `after` after it, where there are so many. Both closures must be
    /// `#[inline(always)]`.
    ///
    /// A sum that slides by adding the next value and subtracting the last keeps the rounding
    /// errors of what has left the window. Here rows are cut into blocks as long as a window, so
    /// each window is the end of one block and the beginning of the next (M. van Herk, 1992, does
    /// so for maxima): nothing is subtracted, and the work is the same for every size.
    #[inline(always)]
    pub(super) fn sum(
        &mut self,
        rows: usize,
        (before, after): (usize, usize),
        values: impl Fn(usize) -> Row,
        mut give: impl FnMut(usize, Row),
    ) {
        let (before, after) = (before.min(rows - 1), after.min(rows - 1));
        let size = before + after + 1;
        self.to_end.resize(size, NOTHING);
        for block in (0..rows).step_by(size) {
            let (mut to_end, mut from_start) = (NOTHING, NOTHING);
            for (i, end) in self.to_end.iter_mut().enumerate().rev() {
                to_end = plus(to_end, among(&values, rows, block + i, before));
                *end = to_end;
            }
            for (i, to_end) in self.to_end.iter().enumerate().take(rows - block) {
                if i > 0 {
                    let next = block + size + i - 1;
                    from_start = plus(from_start, among(&values, rows, next, before));
                }
                give(block + i, plus(*to_end, from_start));
            }
        }
    }
}

/// Row `i` of the rows with zeros around them, of which `before` are before the first.
#[inline(always)]
fn among(values: &impl Fn(usize) -> Row, rows: usize, i: usize, before: usize) -> Row {
    if (before..before + rows).contains(&i) { values(i - before) } else { Row::ZEROS }
}

#[inline(always)]
fn plus(a: Row, b: Row) -> Row {
    a.zip(b, |a, b| a + b)
}

#[inline(always)]
fn times(a: Row, b: Row) -> Row {
    a.zip(b, |a, b| a * b)
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

    /// d^(−β) and 1/d.
    #[inline(always)]
    pub(super) fn of_row(self, d: Row) -> (Row, Row) {
        match self {
            Self::Quarters(count) => {
                let root = d.map(quarter_root);
                let square = times(root, root);
                let inverse = times(square, square);
                let mut power = root;
                for _ in 1..count {
                    power = times(power, root);
                }
                (power, inverse)
            }
            Self::Any(beta) => (d.map(|d| d.powf(-beta)), d.map(|d| 1.0 / d)),
        }
    }
}

/// d^(−1/4) to the last digits, without a division or a root: these have few units, and wait long.
///
/// A quarter of the exponent, taken from the bits, is right within 4 %. With e = 1 − d y⁴, the root
/// is y (1 − e)^(−1/4) = y (1 + e/4 + 5e²/32 + 15e³/128 + …); a step leaves an error of e⁴/10, so
/// that two are enough.
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
            let mut d = Row::ZEROS;
            d.0.iter_mut()
                .zip(0..)
                .for_each(|(d, i)| *d = (1.0 + f64::from(i) / 32.0) * 2.0_f64.powi(exponent));
            for count in 1..=8 {
                let (power, inverse) = Power::Quarters(count).of_row(d);
                for (d, (power, inverse)) in d.0.into_iter().zip(power.0.into_iter().zip(inverse.0))
                {
                    let exact = d.powf(f64::from(count) / -4.0);
                    let errors = [
                        if exact > 1e-300 {
                            power / exact - 1.0
                        } else {
                            f64::from(power > 1e-299)
                        },
                        inverse * d - 1.0,
                    ];
                    assert!(
                        errors.iter().all(|e| e.abs() < 4e-15),
                        "{errors:?} at {d:e}, {count} quarters"
                    );
                }
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
        let rows = [[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0], [5.0, 50.0]].map(
            |values: [f64; 2]| {
                let mut row = Row::ZEROS;
                row.0[..2].copy_from_slice(&values);
                row
            },
        );
        let mut sums = vec![];
        Windows::default().sum(5, (2, 1), |i| rows[i], |i, sum| sums.push((i, sum.0[0], sum.0[1])));
        assert_eq!(
            sums,
            [(0, 3.0, 30.0), (1, 6.0, 60.0), (2, 10.0, 100.0), (3, 14.0, 140.0), (4, 12.0, 120.0)]
        );
    }
}
