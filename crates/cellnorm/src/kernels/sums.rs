//! The sums pass: x, dy → S1 = Σ dy and S2 = Σ dy · (x − center) of each cell.
//!
//! They are all that the gradient of a normalization needs to know of a cell. Blocks are summed in
//! the computing type and added in f64; what overflows there is taken again in f64.

use std::ops::Range;

use super::activation::{Activation, Epilogue};
use super::buffers::Source;
use super::columns::{
    Columns, apart, fetch_distance, fetch_row, load_columns, rows_at_once, store_in_order,
};
use super::lanes::{LANES, Lanes, end_tile};
use super::lines::Aligned;
use super::pre_activation::{CellPreActivation, ColumnPreActivations, PreActivations};
use super::segments::{RUNS_AT_ONCE, Reduce};
use super::vectors::{Portable, Vectors};
use super::{BLOCK, CHUNK};
use crate::kernels::{Element, Real};

/// The two sums over a cell that a backward pass starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// S1 = Σ dy.
    pub dy: f64,
    /// S2 = Σ dy · (x − center).
    pub dy_x: f64,
}

impl Sums {
    #[inline(always)]
    fn is_finite(&self) -> bool {
        self.dy.is_finite() && self.dy_x.is_finite()
    }

    #[inline(always)]
    pub(super) fn plus(self, other: Self) -> Self {
        Self { dy: self.dy + other.dy, dy_x: self.dy_x + other.dy_x }
    }

    /// The sums about `center`, where `self` was taken about the nearest value that `A` holds.
    #[inline(always)]
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
    pub(super) pre_activations: PreActivations<'a>,
}

impl<T: Element> SumsPass<'_, T> {
    /// As `rows`, for numbers whose differences or sums are too large for the computing type.
    #[cold]
    #[inline(never)]
    fn in_f64(&self, x: &[T], dy: &[T], first_cell: usize, inner: usize) -> Vec<Sums> {
        let mut of_cell = vec![Sums::default(); inner];
        for (i, (x, dy)) in x.iter().zip(dy).enumerate() {
            let cell = first_cell + i % inner;
            let (x, dy) = (x.widen(), dy.widen());
            let g = self
                .pre_activations
                .g_in_f64(|_| cell, Lanes::<_, Portable>::splat(x), Lanes::splat(dy))
                .to_array()[0]
                .to_f64();
            let sums = &mut of_cell[i % inner];
            *sums = sums.plus(Sums { dy: g, dy_x: g * (x.to_f64() - self.centers[cell]) });
        }
        of_cell
    }
}

impl<T: Element> Reduce for SumsPass<'_, T> {
    type Partial = Sums;
    const PER_CELL: bool = true;
    const ACTIVATED: bool = true;

    #[inline(always)]
    fn join(a: Sums, b: Sums) -> Sums {
        a.plus(b)
    }

    fn activation(&self) -> Activation {
        self.pre_activations.activation
    }

    #[inline(always)]
    fn run<S: Vectors, E: Epilogue>(&self, epilogue: E, range: Range<usize>, cell: usize) -> Sums {
        let center = self.centers[cell];
        // SAFETY: a pass reduces a set before it writes the set.
        let dy = unsafe { self.dy.read(range.clone()) };
        let x = &self.x[range];
        let z = self.pre_activations.cell(epilogue, cell);
        let sums = run_sums::<S, _, _>(x, dy, T::Acc::from_f64(center), &z);
        let sums = sums.about::<T::Acc>(center);
        if sums.is_finite() { sums } else { self.in_f64(x, dy, cell, 1)[0] }
    }

    #[inline(always)]
    fn runs<S: Vectors, E: Epilogue>(
        &self,
        epilogue: E,
        ranges: [Range<usize>; RUNS_AT_ONCE],
        cells: [usize; RUNS_AT_ONCE],
    ) -> [Sums; RUNS_AT_ONCE] {
        let zero = Lanes::<T::Acc, S>::zero();
        let left = T::Acc::default();
        let mut sums = [LaneSums { dy: zero, dy_x: zero, left, left_x: left }; RUNS_AT_ONCE];
        for ((sums, range), cell) in sums.iter_mut().zip(&ranges).zip(cells) {
            // SAFETY: as above.
            let (x, dy) = (&self.x[range.clone()], unsafe { self.dy.read(range.clone()) });
            let center = T::Acc::from_f64(self.centers[cell]);
            *sums = lane_sums(x, dy, center, &self.pre_activations.cell(epilogue, cell));
            end_tile();
        }
        let mut all = [Sums::default(); RUNS_AT_ONCE];
        for (((all, sums), range), cell) in all.iter_mut().zip(&sums).zip(&ranges).zip(cells) {
            // a single run starts from sums of 0, which takes the sign off a 0
            *all = Sums::default().plus(sums.sum()).about::<T::Acc>(self.centers[cell]);
            if !all.is_finite() {
                // SAFETY: as above.
                *all = self.in_f64(
                    &self.x[range.clone()],
                    unsafe { self.dy.read(range.clone()) },
                    cell,
                    1,
                )[0];
            }
            end_tile();
        }
        all
    }

    #[inline(always)]
    fn rows<S: Vectors, E: Epilogue>(
        &self,
        epilogue: E,
        range: Range<usize>,
        cells: Range<usize>,
    ) -> Vec<Sums> {
        let (first_cell, inner) = (cells.start, cells.len());
        let centers = &self.centers[cells];
        // SAFETY: as above.
        let (x, dy) = (&self.x[range.clone()], unsafe { self.dy.read(range) });
        let columns = Columns::new(inner, x.len() / inner);
        let [center] = columns.spread(
            #[inline(always)]
            |cell| [T::Acc::from_f64(centers[cell])],
        );
        let mut of_cell = vec![Sums::default(); inner];
        let z = self.pre_activations.columns(epilogue, &columns, first_cell);
        let mut of_column =
            ColumnSums { center, z, dy: vec![], dy_x: vec![], distance: fetch_distance() };
        for (part, width) in columns.parts(x.len()) {
            let chunk = CHUNK * width;
            for (x, dy) in x[part.clone()].chunks(chunk).zip(dy[part].chunks(chunk)) {
                of_column.sum::<S, _>(x, dy, width);
                for (dy, dy_x) in of_column.dy.chunks(inner).zip(of_column.dy_x.chunks(inner)) {
                    for ((of_cell, dy), dy_x) in of_cell.iter_mut().zip(dy).zip(dy_x) {
                        *of_cell = of_cell.plus(Sums { dy: dy.to_f64(), dy_x: dy_x.to_f64() });
                    }
                }
            }
        }
        for (sums, center) in of_cell.iter_mut().zip(centers) {
            *sums = sums.about::<T::Acc>(*center);
        }
        if of_cell.iter().all(Sums::is_finite) {
            of_cell
        } else {
            self.in_f64(x, dy, first_cell, inner)
        }
    }
}

/// The sums over a run of memory, about a center of the computing type.
#[inline(always)]
fn run_sums<S: Vectors, T: Element, E: Epilogue>(
    x: &[T],
    dy: &[T],
    center: T::Acc,
    z: &CellPreActivation<T::Acc, S, E>,
) -> Sums {
    let mut sums = Sums::default();
    for (x, dy) in x.chunks(BLOCK).zip(dy.chunks(BLOCK)) {
        sums = sums.plus(lane_sums(x, dy, center, z).sum());
    }
    sums
}

/// The sums over a block: of the lanes, and of what is left after whole vectors.
#[derive(Clone, Copy)]
struct LaneSums<A: Real, S: Vectors> {
    dy: Lanes<A, S>,
    dy_x: Lanes<A, S>,
    left: A,
    left_x: A,
}

impl<A: Real, S: Vectors> LaneSums<A, S> {
    #[inline(always)]
    fn sum(&self) -> Sums {
        Sums {
            dy: self.dy.sum() + self.left.to_f64(),
            dy_x: self.dy_x.sum() + self.left_x.to_f64(),
        }
    }
}

#[inline(always)]
fn lane_sums<S: Vectors, T: Element, E: Epilogue>(
    x: &[T],
    dy: &[T],
    center: T::Acc,
    z: &CellPreActivation<T::Acc, S, E>,
) -> LaneSums<T::Acc, S> {
    let zero = T::Acc::default();
    let by = Lanes::splat(center);
    let (mut s1, mut s2) = ([Lanes::zero(); 2], [Lanes::zero(); 2]);
    let ((tiles_x, rest_x), (tiles_dy, rest)) =
        (x.as_chunks::<{ 2 * LANES }>(), dy.as_chunks::<{ 2 * LANES }>());
    for (x, dy) in tiles_x.iter().zip(tiles_dy) {
        let (x, dy) = (Lanes::load_pair(x), Lanes::load_pair(dy));
        for half in 0..2 {
            let g = z.g(x[half], dy[half]);
            s1[half] = s1[half] + g;
            s2[half] = s2[half] + g * (x[half] - by);
        }
    }
    (s1, s2) = (Lanes::in_order::<T>(s1), Lanes::in_order::<T>(s2));
    let mut at = 0;
    if rest.len() >= LANES {
        let x = Lanes::load(rest_x, 0);
        let g = z.g(x, Lanes::load(rest, 0));
        s1[0] = s1[0] + g;
        s2[0] = s2[0] + g * (x - by);
        at = LANES;
    }
    let (mut left1, mut left2) = (zero, zero);
    for (x, dy) in rest_x[at..].iter().zip(&rest[at..]) {
        let x = x.widen();
        let g = z.g_of_one(x, dy.widen());
        left1 = left1 + g;
        left2 = left2 + g * (x - center);
    }
    LaneSums { dy: s1[0] + s1[1], dy_x: s2[0] + s2[1], left: left1, left_x: left2 }
}

/// The sums of each column of a chunk of rows.
struct ColumnSums<A, E> {
    center: Aligned<A>,
    z: ColumnPreActivations<A, E>,
    dy: Vec<A>,
    dy_x: Vec<A>,
    /// See [`fetch_distance`].
    distance: usize,
}

impl<A: Real, E: Epilogue> ColumnSums<A, E> {
    #[inline(always)]
    fn sum<S: Vectors, T: Element<Acc = A>>(&mut self, x: &[T], dy: &[T], width: usize) {
        for sums in [&mut self.dy, &mut self.dy_x] {
            sums.clear();
            sums.resize(width, A::default());
        }
        let step = rows_at_once::<S>(width, x.len() / width) * width;
        for (x, dy) in x.chunks(step).zip(dy.chunks(step)) {
            let mut j = 0;
            if S::FOUR_COLUMNS {
                while j + 4 * LANES <= width {
                    self.add_columns::<S, T, 4>(x, dy, width, j);
                    j += 4 * LANES;
                }
            }
            while j + 2 * LANES <= width {
                self.add_columns::<S, T, 2>(x, dy, width, j);
                j += 2 * LANES;
            }
            if j + LANES <= width {
                self.add_columns::<S, T, 1>(x, dy, width, j);
                j += LANES;
            }
            self.add_columns_one_by_one(x, dy, width, j);
        }
    }

    /// K vectors of columns from column j; their sums stay in registers.
    #[inline(always)]
    fn add_columns<S: Vectors, T: Element<Acc = A>, const K: usize>(
        &mut self,
        x: &[T],
        dy: &[T],
        width: usize,
        j: usize,
    ) {
        let center = apart::<S, T, K>(&self.center, j);
        let affine = self.z.affine_of_columns::<S, T, K>(j);
        let (mut s1, mut s2) = (apart::<S, T, K>(&self.dy, j), apart::<S, T, K>(&self.dy_x, j));
        for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
            fetch_row::<T, K>(x, j, self.distance);
            fetch_row::<T, K>(dy, j, self.distance);
            let (x, dy) = (load_columns::<S, T, K>(x, j), load_columns::<S, T, K>(dy, j));
            let g = self.z.g_of_columns(&affine, x, dy);
            for k in 0..K {
                s1[k] = s1[k] + g[k];
                s2[k] = s2[k] + g[k] * (x[k] - center[k]);
            }
            end_tile();
        }
        store_in_order::<S, T, K>(s1, &mut self.dy, j);
        store_in_order::<S, T, K>(s2, &mut self.dy_x, j);
    }

    /// The columns from column j, fewer than a vector.
    #[inline(always)]
    fn add_columns_one_by_one<T: Element<Acc = A>>(
        &mut self,
        x: &[T],
        dy: &[T],
        width: usize,
        from: usize,
    ) {
        for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
            for j in from..width {
                let x = x[j].widen();
                let g = self.z.g_of_one(j, x, dy[j].widen());
                self.dy[j] = self.dy[j] + g;
                self.dy_x[j] = self.dy_x[j] + g * (x - self.center[j]);
            }
        }
    }
}
