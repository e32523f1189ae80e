//! A tensor as lines: the values along some axes, one line after another.
//!
//! For normalizations that are no affine map of a cell. Lines are independent, so they are shared among threads, and a line's
//! values come out the same whoever computes them.

use ndarray::{Array, ArrayD, ArrayView, CowArray, Dimension, IxDyn};

use crate::arrays::{Roles, inverse, like, typed};
use crate::element::{Element, Real};
use crate::error::Error;
use crate::passes;
use crate::sharing::Sharing;

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
}

/// Maps each line along the axes marked: `map(lines of the inputs, line of the result)`, or the name of the input that is not
/// finite. The inputs are x and, in a backward pass, dy; the result lies in memory as x does.
///
/// # Errors
/// If the inputs differ in shape or are empty, or `map` fails.
pub(super) fn map_lines<T: Element, D: Dimension, const N: usize>(
    inputs: [ArrayView<'_, T, D>; N],
    along: &[bool],
    map: impl Fn([&[T]; N], &mut [T]) -> Result<(), &'static str> + Sync,
) -> Result<Array<T, D>, Error> {
    let inputs = inputs.map(ArrayView::into_dyn);
    let x = &inputs[0];
    if let Some(dy) = inputs.iter().find(|input| input.shape() != x.shape()) {
        return Err(Error::Shape { name: "dy", given: dy.shape().to_vec(), expected: x.shape().to_vec() });
    }
    if x.is_empty() {
        return Err(Error::Empty { shape: x.shape().to_vec() });
    }
    let roles = Roles::new(along.iter().map(|along| (*along, false)));
    let (order, count) = (roles.shared_last(), roles.sets(x.shape()));
    let len = x.len() / count;

    let permuted = inputs.each_ref().map(|input| input.view().permuted_axes(order.clone()));
    let lines: [CowArray<'_, T, IxDyn>; N] = permuted.each_ref().map(|input| input.as_standard_layout());
    let slices = lines.each_ref().map(|lines| lines.as_slice().expect("in standard layout"));
    let mut y = vec![T::default(); x.len()];
    let fill = |line: usize, y: &mut [T]| map(slices.map(|slice| &slice[line * len..][..len]), y);
    passes::fill_lines(&mut y, len, fill).map_err(|(set, name)| Error::NotFinite { name, set, sets: count })?;

    let y = ArrayD::from_shape_vec(permuted[0].raw_dim(), y).expect("as many values as x");
    let y = y.permuted_axes(inverse(&order));
    if lines[0].is_view() {
        return Ok(typed(y));
    }
    let mut as_x = like(x, vec![T::default(); x.len()]);
    as_x.assign(&y);
    Ok(typed(as_x))
}

/// The value as f64, exactly.
pub(super) fn wide<T: Element>(value: &T) -> f64 {
    value.widen().to_f64()
}

/// The nearest element to a value.
pub(super) fn narrow<T: Element>(value: f64) -> T {
    T::narrow(T::Acc::from_f64(value))
}

/// Joins a term of each index of some slices, in 8 lanes that do not wait for one another; `join` of 0 and a term is the term.
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
    let rest = (0..rest[0].len()).fold(0.0, |joined, i| join(joined, term(rest.map(|rest| wide(&rest[i])))));
    lanes.into_iter().fold(rest, join)
}
