//! A tensor seen as cells.
//!
//! Draw an activation tensor as N samples × C channels × S positions. A **cell** is one (sample,
//! channel) pair: its S values. Every normalization only says *which cells share statistics*, so
//! everything here is counting: how the cells lie in memory ([`Cells`]), and which of them belong
//! together ([`Sets`]).

use std::ops::Range;

/// How the cells of a tensor lie in memory: as a row-major array \[outer, positions, inner\].
///
/// Cell `o · inner + i` holds the elements \[o, ·, i\]. Channels-first has `inner = 1`: each cell
/// is one run of memory. Channels-last has `inner = C`: the cells of a sample are interleaved, and
/// one row of `inner` elements touches each once.
///
/// ```
/// use cellnorm::shape::Cells;
/// let nchw = Cells::channels_first(8, 16, 49);
/// let nhwc = Cells::channels_last(8, 49, 16);
/// assert_eq!((nchw.count(), nhwc.count()), (128, 128));
/// assert_eq!(nchw.len(), nhwc.len());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cells {
    /// The number of blocks of memory that hold whole cells: N·C channels-first, N channels-last.
    pub outer: usize,
    /// The number of values of a cell, S.
    pub positions: usize,
    /// The number of interleaved cells: 1 channels-first, C channels-last.
    pub inner: usize,
}

impl Cells {
    /// A tensor \[N, C, S\].
    pub fn channels_first(samples: usize, channels: usize, positions: usize) -> Self {
        Self { outer: samples * channels, positions, inner: 1 }
    }

    /// A tensor \[N, S, C\].
    pub fn channels_last(samples: usize, positions: usize, channels: usize) -> Self {
        Self { outer: samples, positions, inner: channels }
    }

    /// The number of cells.
    pub fn count(&self) -> usize {
        self.outer * self.inner
    }

    /// The number of elements of the tensor.
    pub fn len(&self) -> usize {
        self.outer * self.block()
    }

    /// Whether the tensor has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of elements of one outer block.
    #[inline]
    pub(crate) fn block(&self) -> usize {
        self.positions * self.inner
    }

    /// Where outer block `o` lies in memory.
    #[inline]
    pub(crate) fn range(&self, o: usize) -> Range<usize> {
        o * self.block()..(o + 1) * self.block()
    }
}

/// Which cells share statistics: every cell belongs to one set.
///
/// ```
/// use cellnorm::shape::Sets;
/// // 2 samples of 3 channels: batch norm's sets are the channels, layer norm's the samples
/// let batch = Sets::new(&[0, 1, 2, 0, 1, 2]);
/// let layer = Sets::new(&[0, 0, 0, 1, 1, 1]);
/// assert_eq!(batch.members(1), [1, 4]);
/// assert_eq!(layer.members(1), [3, 4, 5]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sets {
    set_of: Vec<u32>,
    first: Vec<u32>,
    members: Vec<u32>,
    /// The number of cells of each set, where all have as many.
    same_size: Option<usize>,
    /// Whether each is as many neighbours, in order.
    side_by_side: bool,
}

impl Sets {
    /// Sets from the label of each cell, `set_of[cell]`; labels run from 0.
    ///
    /// # Panics
    /// If there are more cells than a label can tell apart, 2³² − 1.
    pub fn new(set_of: &[u32]) -> Self {
        assert!(
            u32::try_from(set_of.len()).is_ok(),
            "{} cells are more than labels can tell apart",
            set_of.len()
        );
        let count = set_of.iter().max().map_or(0, |last| *last as usize + 1);
        let mut first = vec![0; count + 1];
        for set in set_of {
            first[*set as usize + 1] += 1;
        }
        for set in 0..count {
            first[set + 1] += first[set];
        }
        let mut next = first.clone();
        let mut members = vec![0; set_of.len()];
        for (cell, set) in set_of.iter().enumerate() {
            members[next[*set as usize] as usize] = cell as u32;
            next[*set as usize] += 1;
        }
        let size = set_of.len() / count.max(1);
        let same_size =
            first.windows(2).all(|ends| (ends[1] - ends[0]) as usize == size).then_some(size);
        let side_by_side =
            size > 0 && set_of.chunks(size).zip(0..).all(|(of, set)| of.iter().all(|s| *s == set));
        Self { set_of: set_of.to_vec(), first, members, same_size, side_by_side }
    }

    /// The number of sets.
    #[inline]
    pub fn count(&self) -> usize {
        self.first.len() - 1
    }

    /// The set of each cell.
    #[inline]
    pub fn of_cells(&self) -> &[u32] {
        &self.set_of
    }

    /// The cells of one set, in ascending order.
    #[inline]
    pub fn members(&self, set: usize) -> &[u32] {
        &self.members[self.first[set] as usize..self.first[set + 1] as usize]
    }

    /// The number of cells of each set, where all have as many.
    pub(crate) fn same_size(&self) -> Option<usize> {
        self.same_size
    }

    /// The same, where each set is as many neighbours, in order.
    pub(crate) fn side_by_side(&self) -> Option<usize> {
        self.same_size.filter(|_| self.side_by_side)
    }

    /// The cells that the sets are themselves, in order, where each is as many cells side by side.
    pub(crate) fn as_cells(&self, cells: &Cells) -> Option<Cells> {
        let size = self.side_by_side()?;
        let positions = size * cells.positions;
        (cells.inner == 1 && size > 1).then(|| Cells { outer: self.count(), positions, inner: 1 })
    }

    /// Whether each set lies within one outer block of the tensor.
    pub(crate) fn within_blocks(&self, cells: &Cells) -> bool {
        let block = |cell: u32| cell as usize / cells.inner.max(1);
        (0..self.count()).all(|set| match self.members(set) {
            [first, .., last] => block(*first) == block(*last),
            _ => true,
        })
    }
}
