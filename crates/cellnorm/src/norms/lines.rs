//! A tensor as lines: the values along some axes, one line after another.
//!
//! For normalizations that are no affine map of a cell. Lines are independent, so they are shared
//! among threads, and a line's values come out the same whoever computes them.

use ndarray::{Array, ArrayD, ArrayView, Dimension};

use crate::error::{Error, check_dy, check_not_empty};
use crate::kernels::{Element, Real};
use crate::rule::{like, typed};
use crate::shape::{Cells, Roles, Sharing, inverse};

/// A normalization that maps each line of values to a line.
pub trait Lines {
    /// Its name in messages.
    const NAME: &'static str;

    /// The formula, in words and letters.
    const FORMULA: &'static str;

    /// Which values share what they are divided by, in a tensor of this shape.
    ///
    /// # Errors
    /// If the shape does not suit the normalization.
    fn sharing(&self, shape: &[usize]) -> Result<Sharing, Error>;

    /// y of all lines of a tensor, which are the cells of `lines`: for callers with memory of their
    /// own, such as a tensor library.
    ///
    /// # Errors
    /// The first line that holds NaN, infinity or too large numbers, and the name of the tensor
    /// that does, "x". All lines are mapped nevertheless, so that NaN stays where it is.
    ///
    /// # Panics
    /// If a slice is not as long as the lines.
    ///
    /// ```
    /// use cellnorm::{
    ///     norms::{Lines, LpNormConfig},
    ///     shape::Cells,
    /// };
    /// // two lines that are interleaved: (3, 4) and (0, 2)
    /// let (x, mut y) = ([3.0_f32, 0.0, 4.0, 2.0], [0.0; 4]);
    /// let layer = LpNormConfig::new(&[0]).init()?;
    /// assert_eq!(layer.forward_lines(&x, &mut y, &Cells::channels_last(1, 2, 2)), Ok(()));
    /// assert_eq!(y, [0.6, 0.0, 0.8, 1.0]);
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    fn forward_lines<T: Element>(
        &self,
        x: &[T],
        y: &mut [T],
        lines: &Cells,
    ) -> Result<(), (usize, &'static str)>;

    /// dx of all lines, over dy.
    ///
    /// # Errors
    /// As [`forward_lines`](Self::forward_lines), for "x" and "dy".
    ///
    /// # Panics
    /// As [`forward_lines`](Self::forward_lines).
    fn backward_lines<T: Element>(
        &self,
        x: &[T],
        dy_dx: &mut [T],
        lines: &Cells,
    ) -> Result<(), (usize, &'static str)>;
}

/// The lines of a row-major tensor along the axes marked; None where these lie apart.
///
/// ```
/// use cellnorm::norms::lines_of;
/// let channels = lines_of(&[8, 3, 5, 5], &[false, true, false, false]).unwrap();
/// assert_eq!((channels.outer, channels.positions, channels.inner), (8, 3, 25));
/// assert_eq!(lines_of(&[8, 3, 5], &[true, false, true]), None);
/// ```
pub fn lines_of(shape: &[usize], along: &[bool]) -> Option<Cells> {
    let first = along.iter().position(|along| *along)?;
    let count = along[first..].iter().take_while(|along| **along).count();
    let (within, after) = (first..first + count, first + count..shape.len());
    if along[after.clone()].contains(&true) {
        return None;
    }
    let product = |axes: std::ops::Range<usize>| shape[axes].iter().product();
    Some(Cells { outer: product(0..first), positions: product(within), inner: product(after) })
}

/// Runs `map(x, y, lines)` on the lines along the axes marked, or `map(x, dy, lines)` in a backward
/// pass, which leaves dx in the place of dy; the result lies in memory as x does.
///
/// # Errors
/// If dy differs from x in shape, a line has no values, or `map` fails.
pub(super) fn map_lines<T: Element, D: Dimension>(
    x: ArrayView<'_, T, D>,
    dy: Option<ArrayView<'_, T, D>>,
    along: &[bool],
    map: impl FnOnce(&[T], &mut [T], &Cells) -> Result<(), (usize, &'static str)>,
) -> Result<Array<T, D>, Error> {
    let (x, dy) = (x.into_dyn(), dy.map(ArrayView::into_dyn));
    dy.as_ref().map_or(Ok(()), |dy| check_dy(dy.shape(), x.shape()))?;
    let roles = Roles::new(along.iter().map(|along| (*along, false)));
    let count = roles.sets(x.shape());
    if count == 0 {
        return Ok(typed(x.to_owned()));
    }
    check_not_empty(x.shape())?;
    let as_it_lies = lines_of(x.shape(), along).filter(|_| x.is_standard_layout());
    let order = match as_it_lies {
        Some(_) => (0..x.ndim()).collect(),
        None => roles.shared_last(),
    };
    let lines = as_it_lies.unwrap_or(Cells { outer: count, positions: x.len() / count, inner: 1 });

    let permuted = x.view().permuted_axes(order.clone());
    let arranged = permuted.as_standard_layout();
    let mut y = match dy {
        Some(dy) => dy.permuted_axes(order.clone()).iter().copied().collect(),
        None => vec![T::default(); x.len()],
    };
    let fault = |(set, name)| Error::NotFinite { name, set, sets: count };
    map(arranged.as_slice().expect("in standard layout"), &mut y, &lines).map_err(fault)?;

    let y = ArrayD::from_shape_vec(permuted.raw_dim(), y).expect("as many values as x");
    let y = y.permuted_axes(inverse(&order));
    if arranged.is_view() {
        return Ok(typed(y));
    }
    let mut as_x = like(&x, vec![T::default(); x.len()]);
    as_x.assign(&y);
    Ok(typed(as_x))
}

/// The value as f64, exactly.
#[inline(always)]
pub(super) fn wide<T: Element>(value: &T) -> f64 {
    value.widen().to_f64()
}

/// The nearest element to a value.
#[inline(always)]
pub(super) fn narrow<T: Element>(value: f64) -> T {
    T::narrow(T::Acc::from_f64(value))
}

/// Joins a term of each index of some slices, in 8 lanes; `join` of 0 and a term is the term.
#[inline(always)]
pub(super) fn reduce<T: Element, const N: usize>(
    slices: [&[T]; N],
    term: impl Fn([f64; N]) -> f64,
    join: impl Fn(f64, f64) -> f64,
) -> f64 {
    let tiles = slices.map(|slice| slice.as_chunks::<8>());
    let mut lanes = [0.0; 8];
    for i in 0..tiles[0].0.len() {
        let tile = tiles.map(|(tiles, _)| &tiles[i]);
        for (lane, joined) in lanes.iter_mut().enumerate() {
            *joined = join(*joined, term(tile.map(|tile| wide(&tile[lane]))));
        }
    }
    let rest = tiles.map(|(_, rest)| rest);
    let rest = (0..rest[0].len())
        .fold(0.0, |joined, i| join(joined, term(rest.map(|rest| wide(&rest[i])))));
    lanes.into_iter().fold(rest, join)
}
