//! From a shape and the role of each axis to cells or rows.
//!
//! Each axis is *shared* or not (its values have a common mean and variance, or each its own)
//! and *carries a parameter* or not. Axes that are shared and carry no parameter are positions
//! inside a cell; all others number the cells. Neighbouring axes in memory collapse, so whatever
//! the axes and their order, the tensor becomes \[outer, positions, inner\], and labels say which
//! set and which channel each cell belongs to. Where the axes that carry a parameter are just those
//! that are shared, the tensor is rows.

use super::{Axis, Cells, Labels, Sets};

/// How a tensor is normalized: its shape in memory and which values share what.
///
/// ```
/// use cellnorm::shape::{Axis, Plan};
/// // batch norm of NCHW: all axes but the channels' share statistics, the channels' carries the parameters
/// let axes = Axis::row_major(&[8, 16, 7, 7], |axis| (axis != 1, axis == 1));
/// let plan = Plan::new(&axes).unwrap();
/// assert_eq!((plan.sets(), plan.channels(), plan.values_per_set()), (16, 16, 8.0 * 49.0));
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) form: Form,
    sets: usize,
    channels: usize,
    values_per_set: f64,
}

/// The two shapes of a tensor.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// Parameters are constant inside a cell: `channel_of[cell]` numbers its γ and β.
    Cells { cells: Cells, sets: Sets, channel_of: Vec<u32> },
    /// Each row is a set, and γ and β are as long as a row.
    Rows { width: usize },
}

impl Plan {
    /// The plan for a tensor with these axes, in logical order. None where the memory is not a
    /// gapless arrangement of the axes, or parameters vary inside sets that are no rows: copy it.
    ///
    /// Statistics are numbered over the axes that are not shared, parameters over those that carry
    /// them, both row-major in logical order.
    pub fn new(axes: &[Axis]) -> Option<Plan> {
        let product = |keep: &dyn Fn(&Axis) -> bool| {
            axes.iter().filter(|a| keep(a)).map(|a| a.len).product::<usize>()
        };
        let (sets, channels) = (product(&|a| !a.shared), product(&|a| a.parameter));
        let values_per_set = product(&|a| a.shared) as f64;
        let memory = in_memory_order(axes)?;
        let inside = |a: &Ordered| a.axis.shared && a.axis.parameter;
        let positions = |a: &Ordered| a.axis.shared && !a.axis.parameter;
        let apart = |a: &Ordered| !a.axis.shared && a.axis.parameter;
        let form = if memory.iter().any(inside) && !memory.iter().any(|a| positions(a) || apart(a))
        {
            let width = rows(&memory)?;
            Form::Rows { width }
        } else {
            let (cells, numbering) = split(&memory, positions);
            let set_of = labels(&numbering, |a| a.set_stride);
            let channel_of = labels(&numbering, |a| a.channel_stride);
            Form::Cells { cells, sets: Sets::new(&set_of), channel_of }
        };
        Some(Plan { form, sets, channels, values_per_set })
    }

    /// The number of statistics.
    pub fn sets(&self) -> usize {
        self.sets
    }

    /// The number of values of γ, and of β.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The number of values that share a statistic.
    pub fn values_per_set(&self) -> f64 {
        self.values_per_set
    }
}

/// The cells of a tensor whose positions are its shared axes, and the index of each cell along each
/// other axis, in logical order. None where the memory is not a gapless arrangement of the axes.
pub(crate) fn grid(axes: &[Axis]) -> Option<(Cells, Vec<Option<Labels>>)> {
    let memory = in_memory_order(axes)?;
    let (cells, numbering) = split(&memory, |a| a.axis.shared);
    let coordinate = |(logical, axis): (usize, &Axis)| {
        let of = labels(&numbering, |a| usize::from(a.logical == logical));
        (!axis.shared).then(|| Labels::new(of, axis.len))
    };
    Some((cells, axes.iter().enumerate().map(coordinate).collect()))
}

/// Cells from the innermost run of axes that are positions, and the axes that number them.
fn split(memory: &[Ordered], positions: impl Fn(&Ordered) -> bool) -> (Cells, Vec<&Ordered>) {
    let end = memory.iter().rposition(&positions).map_or(0, |last| last + 1);
    let start = memory[..end].iter().rposition(|a| !positions(a)).map_or(0, |last| last + 1);
    let len = |axes: &[Ordered]| axes.iter().map(|a| a.axis.len).product();
    let cells = Cells {
        outer: len(&memory[..start]),
        positions: len(&memory[start..end]),
        inner: len(&memory[end..]),
    };
    (cells, memory[..start].iter().chain(&memory[end..]).collect())
}

/// An axis with the distances between its neighbours in the tables of statistics and parameters.
#[derive(Clone, Copy)]
struct Ordered {
    axis: Axis,
    /// Its index in logical order.
    logical: usize,
    set_stride: usize,
    channel_stride: usize,
}

/// The axes longer than 1, the innermost in memory last; None where memory has gaps or overlaps.
fn in_memory_order(axes: &[Axis]) -> Option<Vec<Ordered>> {
    let (mut set_stride, mut channel_stride) = (1, 1);
    let mut ordered = Vec::new();
    for (logical, axis) in axes.iter().enumerate().rev() {
        ordered.push(Ordered { axis: *axis, logical, set_stride, channel_stride });
        if axis.shared {
            ordered.last_mut()?.set_stride = 0;
        } else {
            set_stride *= axis.len;
        }
        if axis.parameter {
            channel_stride *= axis.len;
        } else {
            ordered.last_mut()?.channel_stride = 0;
        }
    }
    ordered.retain(|a| a.axis.len != 1);
    ordered.sort_by_key(|a| a.axis.stride.unsigned_abs());
    let mut stride = 1;
    for a in &ordered {
        if a.axis.stride.unsigned_abs() != stride {
            return None;
        }
        stride *= a.axis.len;
    }
    ordered.reverse();
    Some(ordered)
}

/// The length of a row, where the shared axes are innermost, in logical order and not reversed.
fn rows(memory: &[Ordered]) -> Option<usize> {
    let first = memory.iter().position(|a| a.axis.shared)?;
    let inside = &memory[first..];
    let mut stride = 1;
    for a in inside.iter().rev() {
        if !a.axis.shared || a.axis.stride < 0 || a.channel_stride != stride {
            return None;
        }
        stride *= a.axis.len;
    }
    let outside_plain = memory[..first].iter().all(|a| a.axis.stride > 0);
    let in_order = memory[..first].windows(2).all(|pair| pair[0].set_stride >= pair[1].set_stride);
    (outside_plain && in_order).then_some(stride)
}

/// The label of each cell: Σ index · stride over the numbering axes, the innermost fastest.
fn labels(numbering: &[&Ordered], stride: impl Fn(&Ordered) -> usize) -> Vec<u32> {
    numbering.iter().fold(vec![0], |labels, a| {
        let (step, len) = (stride(a), a.axis.len);
        let offset = |i: usize| (if a.axis.stride < 0 { len - 1 - i } else { i } * step) as u32;
        let mut all = Vec::with_capacity(labels.len() * len);
        for label in labels {
            all.extend((0..len).map(|i| label + offset(i)));
        }
        all
    })
}
