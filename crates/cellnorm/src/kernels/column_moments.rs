//! The moments of interleaved cells: of each column of a number of rows.
//!
//! As for a run of memory, a chunk of rows is summed about a shift for each column, the mean of the
//! chunk's first sixteenth, and chunks are merged in f64. The numbers of the columns lie in arrays
//! of their own, so that everything is done a vector at a time.

use super::CHUNK;
use super::columns::{
    apart, fetch_distance, fetch_row, load_columns, rows_at_once, store_in_order,
};
use super::lanes::{LANES, end_tile};
use super::moments::part;
use super::vectors::Vectors;
use crate::kernels::{Element, Real};
use crate::moments::Moments;

/// Merges the moments of each column of x into those of its cell, which is the column modulo the
/// number of cells.
#[inline(always)]
pub(super) fn merge_rows<S: Vectors, T: Element>(x: &[T], width: usize, of_cell: &mut [Moments]) {
    if x.is_empty() {
        return;
    }
    let mut of_column = ColumnMoments::<T::Acc>::new(width);
    for chunk in x.chunks(CHUNK * width) {
        of_column.add_chunk::<S, _>(chunk);
    }
    let inner = of_cell.len();
    for (mean, m2) in of_column.mean.chunks(inner).zip(of_column.m2.chunks(inner)) {
        for ((of_cell, mean), m2) in of_cell.iter_mut().zip(mean).zip(m2) {
            *of_cell = of_cell.merge(Moments { count: of_column.count, mean: *mean, m2: *m2 });
        }
    }
}

struct ColumnMoments<A> {
    count: f64,
    mean: Vec<f64>,
    m2: Vec<f64>,
    shift: Vec<A>,
    /// Σ (x − shift) and Σ (x − shift)² of the chunk at hand.
    d: Vec<A>,
    d2: Vec<A>,
    /// See [`fetch_distance`].
    distance: usize,
}

impl<A: Real> ColumnMoments<A> {
    fn new(width: usize) -> Self {
        let zeros = || vec![A::default(); width];
        let (shift, d, d2) = (zeros(), zeros(), zeros());
        let distance = fetch_distance();
        Self { count: 0.0, mean: vec![0.0; width], m2: vec![0.0; width], shift, d, d2, distance }
    }

    #[inline(always)]
    fn add_chunk<S: Vectors, T: Element<Acc = A>>(&mut self, x: &[T]) {
        let width = self.mean.len();
        let rows = x.len() / width;
        let part = part(rows);
        for (shift, x) in self.shift.iter_mut().zip(&x[..width]) {
            *shift = x.widen();
        }
        let share = A::from_f64(1.0 / part as f64);
        // the first rows, for the shifts, then all: in a loop, so that it is inlined once
        for rows in [Some(part), None] {
            self.add_rows::<S, _>(&x[..rows.map_or(x.len(), |rows| rows * width)]);
            if rows.is_some() {
                for (shift, d) in self.shift.iter_mut().zip(&self.d) {
                    *shift = *shift + *d * share;
                }
            }
        }
        let mut finite = true;
        for d2 in &self.d2 {
            finite &= d2.to_f64().is_finite();
        }
        if finite {
            self.merge(
                rows as f64,
                #[inline(always)]
                |this, j| (this.shift[j].to_f64(), this.d[j].to_f64(), this.d2[j].to_f64()),
            );
        } else {
            for row in x.chunks_exact(width) {
                self.merge(
                    1.0,
                    #[inline(always)]
                    |_, j| (row[j].widen().to_f64(), 0.0, 0.0),
                );
            }
        }
    }

    /// Sums (x − shift) and its square over the rows, in `d` and `d2`.
    #[inline(always)]
    fn add_rows<S: Vectors, T: Element<Acc = A>>(&mut self, x: &[T]) {
        let width = self.mean.len();
        self.d.fill(A::default());
        self.d2.fill(A::default());
        for rows in x.chunks(rows_at_once::<S>(width, x.len() / width) * width) {
            let mut j = 0;
            if S::FOUR_COLUMNS {
                while j + 4 * LANES <= width {
                    self.add_columns::<S, T, 4>(rows, j);
                    j += 4 * LANES;
                }
            }
            while j + 2 * LANES <= width {
                self.add_columns::<S, T, 2>(rows, j);
                j += 2 * LANES;
            }
            if j + LANES <= width {
                self.add_columns::<S, T, 1>(rows, j);
                j += LANES;
            }
            self.add_columns_one_by_one(rows, j);
        }
    }

    /// K vectors of columns from column j; their sums stay in registers.
    #[inline(always)]
    fn add_columns<S: Vectors, T: Element<Acc = A>, const K: usize>(
        &mut self,
        rows: &[T],
        j: usize,
    ) {
        let width = self.mean.len();
        let shift = apart::<S, T, K>(&self.shift, j);
        let (mut d, mut d2) = (apart::<S, T, K>(&self.d, j), apart::<S, T, K>(&self.d2, j));
        for row in rows.chunks_exact(width) {
            fetch_row::<T, K>(row, j, self.distance);
            let x = load_columns::<S, T, K>(row, j);
            for k in 0..K {
                let delta = x[k] - shift[k];
                d[k] = d[k] + delta;
                d2[k] = d2[k] + delta * delta;
            }
            end_tile();
        }
        store_in_order::<S, T, K>(d, &mut self.d, j);
        store_in_order::<S, T, K>(d2, &mut self.d2, j);
    }

    /// The columns from column `from`, fewer than a vector.
    #[inline(always)]
    fn add_columns_one_by_one<T: Element<Acc = A>>(&mut self, rows: &[T], from: usize) {
        let width = self.mean.len();
        for row in rows.chunks_exact(width) {
            for (j, x) in row.iter().enumerate().skip(from) {
                let delta = x.widen() - self.shift[j];
                self.d[j] = self.d[j] + delta;
                self.d2[j] = self.d2[j] + delta * delta;
            }
        }
    }

    /// Merges `n` values of each column, given their shift, Σd and Σd².
    #[inline(always)]
    fn merge(&mut self, n: f64, sums: impl Fn(&Self, usize) -> (f64, f64, f64)) {
        let share = n / (self.count + n);
        let weight = self.count * share;
        let of_one = 1.0 / n;
        for j in 0..self.mean.len() {
            let (shift, d, d2) = sums(self, j);
            let own = d * of_one;
            let delta = shift + own - self.mean[j];
            self.mean[j] += delta * share;
            self.m2[j] += (d2 - d * own).max(0.0) + delta * (delta * weight);
        }
        self.count += n;
    }
}
