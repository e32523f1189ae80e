//! The sums pass: x, dy → S1 = Σ dy and S2 = Σ dy · (x − center) of each cell.
//!
//! They are all that the gradient of a normalization needs to know of a cell. Blocks are summed in the computing type and
//! added in f64.

use std::ops::Range;

use super::buffers::Source;
use super::columns::Columns;
use super::dispatch::{Kernel, dispatch};
use super::lanes::{LANES, Lanes};
use super::sweep::Reduce;
use super::{BLOCK, CHUNK};
use crate::element::{Element, Real};

/// The two sums over a cell that a backward pass starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// S1 = Σ dy.
    pub dy: f64,
    /// S2 = Σ dy · (x − center).
    pub dy_x: f64,
}

impl Sums {
    pub(super) fn plus(self, other: Self) -> Self {
        Self { dy: self.dy + other.dy, dy_x: self.dy_x + other.dy_x }
    }

    /// The sums about `center`, where `self` was taken about the nearest value that `A` holds.
    pub(super) fn about<A: Real>(self, center: f64) -> Self {
        let near = A::from_f64(center).to_f64();
        Self { dy: self.dy, dy_x: self.dy_x + (near - center) * self.dy }
    }
}

pub(super) struct SumsPass<'a, T> {
    pub(super) x: &'a [T],
    pub(super) dy: Source<'a, T>,
    /// The center of each cell.
    pub(super) centers: &'a [f64],
}

impl<T: Element> Reduce for SumsPass<'_, T> {
    type Partial = Sums;

    fn join(a: Sums, b: Sums) -> Sums {
        a.plus(b)
    }

    fn run(&self, range: Range<usize>, cell: usize) -> Sums {
        let center = self.centers[cell];
        // SAFETY: a pass reduces a set before it writes the set.
        let dy = unsafe { self.dy.read(range.clone()) };
        dispatch(Run { x: &self.x[range], dy, center: T::Acc::from_f64(center) }).about::<T::Acc>(center)
    }

    fn rows(&self, range: Range<usize>, first_cell: usize, inner: usize) -> Vec<Sums> {
        let centers = &self.centers[first_cell..first_cell + inner];
        // SAFETY: as above.
        let dy = unsafe { self.dy.read(range.clone()) };
        let sums = dispatch(Rows { x: &self.x[range], dy, centers });
        sums.into_iter().zip(centers).map(|(sums, center)| sums.about::<T::Acc>(*center)).collect()
    }
}

struct Run<'a, T: Element> {
    x: &'a [T],
    dy: &'a [T],
    center: T::Acc,
}

impl<T: Element> Kernel for Run<'_, T> {
    type Output = Sums;

    #[inline(always)]
    fn run(self) -> Sums {
        let zero = T::Acc::default();
        let center = Lanes::splat(self.center);
        let mut sums = Sums::default();
        for (x, dy) in self.x.chunks(BLOCK).zip(self.dy.chunks(BLOCK)) {
            let (mut s1, mut s2) = ([Lanes::splat(zero); 2], [Lanes::splat(zero); 2]);
            let mut at = 0;
            while at < x.len() {
                for half in 0..2 {
                    let start = (at + half * LANES).min(x.len());
                    let g = Lanes::load(dy, start, zero);
                    s1[half] = s1[half] + g;
                    s2[half] = s2[half] + g * (Lanes::load(x, start, zero) - center);
                }
                at += 2 * LANES;
            }
            sums = sums.plus(Sums { dy: (s1[0] + s1[1]).sum(), dy_x: (s2[0] + s2[1]).sum() });
        }
        sums
    }
}

struct Rows<'a, T> {
    x: &'a [T],
    dy: &'a [T],
    centers: &'a [f64],
}

impl<T: Element> Kernel for Rows<'_, T> {
    type Output = Vec<Sums>;

    #[inline(always)]
    fn run(self) -> Vec<Sums> {
        let zero = T::Acc::default();
        let inner = self.centers.len();
        let columns = Columns::new(inner, self.x.len() / inner);
        let center = columns.spread::<T::Acc>(|cell| self.centers[cell]);
        let mut of_cell = vec![Sums::default(); inner];
        let (mut s1, mut s2) = (vec![zero; center.len()], vec![zero; center.len()]);
        for (part, width) in columns.parts(self.x.len()) {
            let chunk = CHUNK * width;
            for (x, dy) in self.x[part.clone()].chunks(chunk).zip(self.dy[part].chunks(chunk)) {
                s1.fill(zero);
                s2.fill(zero);
                for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
                    let mut j = 0;
                    while j < width {
                        let g = Lanes::load(dy, j, zero);
                        let dx = Lanes::load(x, j, zero) - Lanes::load(&center, j, zero);
                        (Lanes::load(&s1, j, zero) + g).store(&mut s1, j);
                        (Lanes::load(&s2, j, zero) + g * dx).store(&mut s2, j);
                        j += LANES;
                    }
                }
                for j in 0..width {
                    of_cell[j % inner] = of_cell[j % inner].plus(Sums { dy: s1[j].to_f64(), dy_x: s2[j].to_f64() });
                }
            }
        }
        of_cell
    }
}
