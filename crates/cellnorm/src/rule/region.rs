//! Where the cells of a tensor lie: all of its values, or those that a mask leaves, with or without
//! the excluded ones.

use std::borrow::Cow;
use std::ops::Range;

use ndarray::ArrayD;

use crate::kernels::{self, Activation, Affine, Buffers, Element, Gradient, Sums};
use crate::shape::{Axis, Cells, Excluded, Labels, Mask, Sets, cells_of, grid};
use crate::{error::Error, moments::Moments};

/// The cells of a tensor: all of its values, or those that a mask leaves, for adapters to tensor
/// libraries. The [passes](crate::kernels) over it, which panic where a slice is not as long as the
/// tensor, or a table not as the cells.
///
/// ```
/// use cellnorm::{Mask, rule::Region, shape::Excluded};
/// // two sequences [N, T, C] of two channels; the second has one valid step
/// let valid = Mask::lengths(&[2, 1], 1).over(&[2, 2, 2])?;
/// let (region, coordinates) =
///     Region::picked(&[false, false, true], &valid, Excluded::Zero);
/// assert_eq!(region.counts(), [3.0, 3.0]);
/// assert_eq!(coordinates[2].as_ref().unwrap().as_slice(), [0, 1]);
/// let moments = region.moments(&[1.0, 10.0, 2.0, 20.0, 6.0, 60.0, f64::NAN, f64::NAN]);
/// assert_eq!((moments[0].mean, moments[1].mean), (3.0, 30.0));
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Region {
    /// All values, as they lie.
    All(Cells),
    /// Cell i holds the elements `elements[first[i]..first[i + 1]]`. They are gathered, so that the
    /// same passes serve.
    Picked {
        /// Where each cell begins in `elements`, and where the last ends.
        first: Vec<usize>,
        /// The places of the elements, cell by cell.
        elements: Vec<usize>,
        /// The number of cells that statistics are taken of. Where excluded values are normalized
        /// as well, as many cells follow, which hold those of each.
        cells: usize,
    },
}

impl Region {
    /// The cells of a row-major tensor that are numbered by some of its axes, or their valid
    /// values, and the cells' coordinates. A tensor may have no elements.
    ///
    /// # Errors
    /// If the mask does not broadcast to the shape.
    pub fn row_major(
        shape: &[usize],
        numbered: &[bool],
        mask: Option<(&Mask, Excluded)>,
    ) -> Result<(Self, Vec<Option<Labels>>), Error> {
        if shape.contains(&0) {
            let labels =
                |(len, numbered): (&usize, &bool)| numbered.then(|| Labels::new(vec![], *len));
            let coordinates = shape.iter().zip(numbered).map(labels).collect();
            return Ok((Self::Picked { first: vec![0], elements: vec![], cells: 0 }, coordinates));
        }
        if let Some((mask, excluded)) = mask {
            return Ok(Self::picked(numbered, &mask.over(shape)?, excluded));
        }
        let (cells, coordinates) = cells_of(shape, numbered);
        Ok((Self::All(cells), coordinates))
    }

    /// All cells of a tensor with these axes, the shared ones inside, and the cells' coordinates.
    pub(crate) fn all(axes: &[Axis]) -> Option<(Self, Vec<Option<Labels>>)> {
        grid(axes).map(|(cells, coordinates)| (Self::All(cells), coordinates))
    }

    /// The valid values of a row-major tensor, in cells numbered row-major by some of its axes, and
    /// the cells' coordinates. The excluded values follow where they are normalized as well.
    ///
    /// # Panics
    /// If it is not said of each axis whether it numbers the cells.
    pub fn picked(
        numbered: &[bool],
        valid: &ArrayD<bool>,
        excluded: Excluded,
    ) -> (Self, Vec<Option<Labels>>) {
        let (shape, mut stride, mut strides) = (valid.shape(), 1, vec![0; numbered.len()]);
        for axis in (0..shape.len()).rev().filter(|axis| numbered[*axis]) {
            strides[axis] = stride;
            stride *= shape[axis];
        }
        let parts = if excluded == Excluded::Normalized { 2 } else { 1 };
        let mut members: Vec<Vec<usize>> = vec![vec![]; parts * stride];
        for (element, (index, valid)) in valid.indexed_iter().enumerate() {
            let places = strides.iter().enumerate().map(|(axis, stride)| index[axis] * stride);
            let part = if *valid { 0 } else { stride };
            if let Some(cell) = members.get_mut(part + places.sum::<usize>()) {
                cell.push(element);
            }
        }
        let mut first = vec![0];
        first.extend(members.iter().scan(0, |end, cell| {
            *end += cell.len();
            Some(*end)
        }));
        let coordinate = |axis: usize| {
            let of = (0..stride).map(|cell| (cell / strides[axis] % shape[axis]) as u32).collect();
            Labels::new(of, shape[axis])
        };
        let coordinates =
            (0..shape.len()).map(|axis| numbered[axis].then(|| coordinate(axis))).collect();
        (Self::Picked { first, elements: members.concat(), cells: stride }, coordinates)
    }

    /// The number of values of each cell that statistics are taken of.
    pub fn counts(&self) -> Vec<f64> {
        match self {
            Self::All(cells) => vec![cells.positions as f64; cells.count()],
            Self::Picked { first, cells, .. } => {
                first[..=*cells].windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect()
            }
        }
    }

    /// The moments of each cell that statistics are taken of.
    pub fn moments<T: Element>(&self, x: &[T]) -> Vec<Moments> {
        match self {
            Self::All(cells) => kernels::moments(x, cells),
            Self::Picked { first, elements, cells } => {
                let first = &first[..=*cells];
                let x = gather(x, &elements[..first[*cells]]);
                runs(first).flat_map(|run| kernels::moments(&x[run.values], &run.cells)).collect()
            }
        }
    }

    /// A table of the cells that statistics are taken of, for the excluded values of each as well.
    fn table<'t, V: Copy>(&self, table: &'t [V]) -> Cow<'t, [V]> {
        match self {
            Self::Picked { first, cells, .. } if first.len() > cells + 1 => {
                [table, table].concat().into()
            }
            _ => table.into(),
        }
    }

    /// y = (x − center) · scale + offset; 0 outside of the cells.
    pub fn affine<T: Element>(&self, x_y: Buffers<'_, T>, affines: &[Affine]) {
        self.affine_activated(x_y, affines, Activation::Identity);
    }

    /// y = act((x − center) · scale + offset); 0 outside of the cells.
    pub fn affine_activated<T: Element>(
        &self,
        x_y: Buffers<'_, T>,
        affines: &[Affine],
        activation: Activation,
    ) {
        let affines = self.table(affines);
        self.run_pass(&[], x_y, |_, x_y, cells, numbers| {
            kernels::affine(x_y, cells, &affines[numbers], activation);
        });
    }

    /// dz = dy · act′(z), z = (x − center) · scale + offset; 0 outside of the cells.
    pub fn activation_gradient<T: Element>(
        &self,
        x: &[T],
        dy_dz: Buffers<'_, T>,
        affines: &[Affine],
        activation: Activation,
    ) {
        let affines = self.table(affines);
        self.run_pass(x, dy_dz, |x, dy_dz, cells, numbers| {
            let each: Vec<u32> = (0..cells.count() as u32).collect();
            let copy = |_: usize, _: &[Sums], maps: &mut [Gradient]| {
                maps.fill(Gradient { a: 1.0, b: 0.0, k: 0.0 });
            };
            let (sets, affines) = (Sets::new(&each), &affines[numbers]);
            kernels::backward_activated(x, dy_dz, cells, &sets, affines, activation, &copy);
        });
    }

    /// Σ dy and Σ dy · (x − center) of each cell; those of excluded values that are normalized
    /// follow.
    pub fn sums<T: Element>(&self, x: &[T], dy: &[T], centers: &[f64]) -> Vec<Sums> {
        match self {
            Self::All(cells) => kernels::sums(x, dy, cells, centers),
            Self::Picked { first, elements, .. } => {
                let (x, dy, centers) =
                    (gather(x, elements), gather(dy, elements), self.table(centers));
                let sum_run = |Run { numbers, values, cells }: Run| {
                    kernels::sums(&x[values.clone()], &dy[values], &cells, &centers[numbers])
                };
                runs(first).flat_map(sum_run).collect()
            }
        }
    }

    /// dx = a · dy + b · (x − center) + k, with a map for each of the [`sums`](Self::sums); 0
    /// outside of the cells.
    pub fn gradient<T: Element>(
        &self,
        x: &[T],
        dy_dx: Buffers<'_, T>,
        centers: &[f64],
        gradients: &[Gradient],
    ) {
        let centers = self.table(centers);
        self.run_pass(x, dy_dx, |x, dy_dx, cells, numbers| {
            kernels::gradient(x, dy_dx, cells, &centers[numbers.clone()], &gradients[numbers]);
        });
    }

    /// Calls `pass(x, buffers, cells, their numbers)` for all cells, or for each run of picked
    /// ones, and leaves 0 outside of these. x may be empty where the pass does not read it.
    fn run_pass<T: Element>(
        &self,
        x: &[T],
        buffers: Buffers<'_, T>,
        pass: impl Fn(&[T], Buffers<'_, T>, &Cells, Range<usize>),
    ) {
        let (first, elements) = match self {
            Self::All(cells) => return pass(x, buffers, cells, 0..cells.count()),
            Self::Picked { first, elements, .. } => (first, elements),
        };
        let mut picked = gather(buffers.source(), elements);
        let x = if x.is_empty() { vec![] } else { gather(x, elements) };
        for Run { numbers, values, cells } in runs(first) {
            let x = x.get(values.clone()).unwrap_or_default();
            pass(x, Buffers::Over(&mut picked[values]), &cells, numbers);
        }
        let out = match buffers {
            Buffers::Into(x, out) => {
                out.clear();
                out.resize(x.len(), T::default());
                out.as_mut_slice()
            }
            Buffers::Apart(_, out) | Buffers::Over(out) => {
                out.fill(T::default());
                out
            }
        };
        for (element, value) in elements.iter().zip(picked) {
            out[*element] = value;
        }
    }
}

/// Neighbouring cells with the same number of values.
struct Run {
    numbers: Range<usize>,
    values: Range<usize>,
    cells: Cells,
}

fn runs(first: &[usize]) -> impl Iterator<Item = Run> {
    let len = |cell: usize| first[cell + 1] - first[cell];
    let mut start = 0;
    std::iter::from_fn(move || {
        if start + 1 >= first.len() {
            return None;
        }
        let end = (start..first.len() - 1)
            .find(|cell| len(*cell) != len(start))
            .unwrap_or(first.len() - 1);
        let cells = Cells { outer: end - start, positions: len(start), inner: 1 };
        let run = Run { numbers: start..end, values: first[start]..first[end], cells };
        start = end;
        Some(run)
    })
}

fn gather<T: Element>(x: &[T], elements: &[usize]) -> Vec<T> {
    elements.iter().map(|element| x[*element]).collect()
}
