//! How many bytes a normalization must move between memory and the processor.
//!
//! Forward reads x for the statistics, and reads x and writes y for the affine; the second read is
//! free where what must be held between the two fits the cache. Backward reads x and dy twice
//! likewise, and writes dx. Tables of statistics and parameters are small and not counted.

use crate::shape::{Along, Measure, Sharing};

/// The bytes of cache that one core is taken to have to itself, as L2 caches have.
pub const CACHE: usize = 1 << 20;

/// The bytes moved for one tensor in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The bytes of x.
    pub x: usize,
    /// The bytes of x that lie between reading a value for its statistic and normalizing it.
    pub held: usize,
    /// How often forward reads as much as x: 1, or 2 where `held` exceeds [`CACHE`]. It writes one.
    pub forward_reads: usize,
    /// How often backward reads such a tensor: 2 (x and dy), or 4 where twice `held` exceeds
    /// [`CACHE`]. It writes one.
    pub backward_reads: usize,
}

impl Traffic {
    /// Bytes read and written forward.
    pub fn forward(&self) -> usize {
        (self.forward_reads + 1) * self.x
    }

    /// Bytes read and written backward.
    pub fn backward(&self) -> usize {
        (self.backward_reads + 1) * self.x
    }

    /// For statistics that are all taken before the first value is normalized.
    pub(super) fn new(sharings: &[Sharing]) -> Self {
        let shape = &sharings[0].shape;
        let x = 4 * shape.iter().product::<usize>();
        let held = 4 * held(sharings);
        let again = |held: usize| if held > CACHE { 2 } else { 1 };
        Self {
            x,
            held,
            forward_reads: again(held),
            backward_reads: 2 * again(held.saturating_mul(2)),
        }
    }
}

/// The number of elements from the first to the last of a set, where the sets of several statistics
/// are joined. Where the last axis belongs to a set, sets are runs of memory that can be taken one
/// after another; else they are interleaved, and all that lies between counts.
fn held(sharings: &[Sharing]) -> usize {
    let shape = &sharings[0].shape;
    let middle: Vec<usize> = shape.iter().map(|len| len / 2).collect();
    let joined =
        |axis: usize| sharings.iter().map(|s| s.set(&middle)[axis].len()).max().unwrap_or(1);
    let runs = joined(shape.len() - 1) > 1 || shape[shape.len() - 1] == 1;
    let is_window = |along: &Along| matches!(along, Along::Window { .. });
    let window = |s: &Sharing| s.measure == Measure::SumOfSquares || s.along.iter().any(is_window);
    let window = sharings.iter().any(window);
    if runs && !window {
        return (0..shape.len()).map(joined).product();
    }
    let mut stride = 1;
    let mut last = 0;
    for axis in (0..shape.len()).rev() {
        last += (joined(axis) - 1) * stride;
        stride *= shape[axis];
    }
    last + 1
}
