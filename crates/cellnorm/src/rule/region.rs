//! Where the cells of a tensor lie: all of its values, or those that a mask leaves.

use std::ops::Range;

use ndarray::ArrayD;

use crate::error::Error;
use crate::kernels::Element;
use crate::kernels::{self, Activation, Affine, Buffers, Gradient, Sums};
use crate::moments::Moments;
use crate::shape::{Axis, Cells, Labels, Mask, Sets, cells_of, grid};

/// The cells of a tensor: all of its values, or those that a mask leaves, for adapters to tensor
/// libraries. The [passes](crate::kernels) over it, which panic where a slice is not as long as the
/// tensor, or a table not as the cells.
///
/// ```
/// use cellnorm::{Mask, rule::Region};
/// // two sequences [N, T, C] of two channels; the second has one valid step
/// let valid = Mask::lengths(&[2, 1], 1).over(&[2, 2, 2])?;
/// let (region, coordinates) = Region::picked(&[false, false, true], &valid);
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
        /// The places of the valid elements, cell by cell.
        elements: Vec<usize>,
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
        mask: Option<&Mask>,
    ) -> Result<(Self, Vec<Option<Labels>>), Error> {
        if shape.contains(&0) {
            let labels =
                |(len, numbered): (&usize, &bool)| numbered.then(|| Labels::new(vec![], *len));
            let coordinates = shape.iter().zip(numbered).map(labels).collect();
            return Ok((Self::Picked { first: vec![0], elements: vec![] }, coordinates));
        }
        if let Some(mask) = mask {
            return Ok(Self::picked(numbered, &mask.over(shape)?));
        }
        let (cells, coordinates) = cells_of(shape, numbered);
        Ok((Self::All(cells), coordinates))
    }

    /// All cells of a tensor with these axes, whose positions are its shared ones, and the cells'
    /// coordinates.
    pub(crate) fn all(axes: &[Axis]) -> Option<(Self, Vec<Option<Labels>>)> {
        grid(axes).map(|(cells, coordinates)| (Self::All(cells), coordinates))
    }

    /// The valid values of a row-major tensor, in cells numbered row-major by some of its axes, and
    /// the cells' coordinates.
    ///
    /// # Panics
    /// If it is not said of each axis whether it numbers the cells.
    pub fn picked(numbered: &[bool], valid: &ArrayD<bool>) -> (Self, Vec<Option<Labels>>) {
        let (shape, mut stride, mut strides) = (valid.shape(), 1, vec![0; numbered.len()]);
        for axis in (0..shape.len()).rev().filter(|axis| numbered[*axis]) {
            strides[axis] = stride;
            stride *= shape[axis];
        }
        let mut members: Vec<Vec<usize>> = vec![vec![]; stride];
        for (element, (index, valid)) in valid.indexed_iter().enumerate() {
            if *valid {
                members[strides
                    .iter()
                    .enumerate()
                    .map(|(axis, stride)| index[axis] * stride)
                    .sum::<usize>()]
                .push(element);
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
        (Self::Picked { first, elements: members.concat() }, coordinates)
    }

    /// The number of values of each cell.
    pub fn counts(&self) -> Vec<f64> {
        match self {
            Self::All(cells) => vec![cells.positions as f64; cells.count()],
            Self::Picked { first, .. } => {
                first.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect()
            }
        }
    }

    /// The moments of each cell.
    pub fn moments<T: Element>(&self, x: &[T]) -> Vec<Moments> {
        match self {
            Self::All(cells) => kernels::moments(x, cells),
            Self::Picked { first, elements } => {
                let x = gather(x, elements);
                runs(first).flat_map(|run| kernels::moments(&x[run.values], &run.cells)).collect()
            }
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
        match self {
            Self::All(cells) => kernels::affine(x_y, cells, affines, activation),
            Self::Picked { first, elements } => picked(x_y, elements, |values| {
                for run in runs(first) {
                    let (values, affines) = (&mut values[run.values], &affines[run.numbers]);
                    kernels::affine(Buffers::Over(values), &run.cells, affines, activation);
                }
            }),
        }
    }

    /// dz = dy · act′(z), z = (x − center) · scale + offset; 0 outside of the cells.
    pub fn activation_gradient<T: Element>(
        &self,
        x: &[T],
        dy_dz: Buffers<'_, T>,
        affines: &[Affine],
        activation: Activation,
    ) {
        let run_pass = |x: &[T], dy_dz: Buffers<'_, T>, cells: &Cells, affines: &[Affine]| {
            let each: Vec<u32> = (0..cells.count() as u32).collect();
            let copy = |_: usize, _: &[Sums], maps: &mut [Gradient]| {
                maps.fill(Gradient { a: 1.0, b: 0.0, k: 0.0 });
            };
            let sets = Sets::new(&each);
            kernels::backward_activated(x, dy_dz, cells, &sets, affines, activation, &copy);
        };
        match self {
            Self::All(cells) => run_pass(x, dy_dz, cells, affines),
            Self::Picked { first, elements } => {
                let x = gather(x, elements);
                picked(dy_dz, elements, |values| {
                    for run in runs(first) {
                        let dz = Buffers::Over(&mut values[run.values.clone()]);
                        run_pass(&x[run.values], dz, &run.cells, &affines[run.numbers]);
                    }
                });
            }
        }
    }

    /// Σ dy and Σ dy · (x − center) of each cell.
    pub fn sums<T: Element>(&self, x: &[T], dy: &[T], centers: &[f64]) -> Vec<Sums> {
        match self {
            Self::All(cells) => kernels::sums(x, dy, cells, centers),
            Self::Picked { first, elements } => {
                let (x, dy) = (gather(x, elements), gather(dy, elements));
                let sum_run = |run: Run| {
                    kernels::sums(
                        &x[run.values.clone()],
                        &dy[run.values],
                        &run.cells,
                        &centers[run.numbers],
                    )
                };
                runs(first).flat_map(sum_run).collect()
            }
        }
    }

    /// dx = a · dy + b · (x − center) + k; 0 outside of the cells.
    pub fn gradient<T: Element>(
        &self,
        x: &[T],
        dy_dx: Buffers<'_, T>,
        centers: &[f64],
        gradients: &[Gradient],
    ) {
        match self {
            Self::All(cells) => kernels::gradient(x, dy_dx, cells, centers, gradients),
            Self::Picked { first, elements } => {
                let x = gather(x, elements);
                picked(dy_dx, elements, |values| {
                    for run in runs(first) {
                        let (x, dx) =
                            (&x[run.values.clone()], Buffers::Over(&mut values[run.values]));
                        kernels::gradient(
                            x,
                            dx,
                            &run.cells,
                            &centers[run.numbers.clone()],
                            &gradients[run.numbers],
                        );
                    }
                });
            }
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

/// Runs a pass over the picked elements, and leaves 0 in the others.
fn picked<T: Element>(buffers: Buffers<'_, T>, elements: &[usize], pass: impl FnOnce(&mut [T])) {
    let scatter = |out: &mut [T], values: Vec<T>| {
        for (element, value) in elements.iter().zip(values) {
            out[*element] = value;
        }
    };
    let run = |x: &[T]| {
        let mut values = gather(x, elements);
        pass(&mut values);
        values
    };
    match buffers {
        Buffers::Into(x, out) => {
            let values = run(x);
            out.clear();
            out.resize(x.len(), T::default());
            scatter(out, values);
        }
        Buffers::Apart(x, out) => {
            let values = run(x);
            out.fill(T::default());
            scatter(out, values);
        }
        Buffers::Over(x) => {
            let values = run(x);
            x.fill(T::default());
            scatter(x, values);
        }
    }
}
