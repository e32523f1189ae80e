//! ndarray arrays at the border, slices beneath.
//!
//! An array whose memory has no gaps is used as it lies: transposed, channels-last or with reversed
//! axes, and results come back in its memory order. Others are copied once: slices with steps,
//! broadcasts, and arrays whose γ and β would vary inside sets that are not rows of memory.

use ndarray::{ArrayD, ArrayViewD, Axis as Nd, CowArray, Dimension, IxDyn};

use super::Region;
use crate::error::{Error, check_dy, check_not_empty};
use crate::kernels::{Buffers, Element};
use crate::shape::{Excluded, Labels, Mask, Plan, Roles, inverse};

/// The cells of a tensor, and their index along each axis that numbers them.
pub(crate) struct CellGrid {
    pub(crate) region: Region,
    pub(crate) coordinates: Vec<Option<Labels>>,
}

impl From<(Region, Vec<Option<Labels>>)> for CellGrid {
    fn from((region, coordinates): (Region, Vec<Option<Labels>>)) -> Self {
        Self { region, coordinates }
    }
}

/// A tensor without gaps in memory, and how it is normalized.
pub(crate) struct Arranged<'a, T, P = Plan> {
    pub(crate) x: CowArray<'a, T, IxDyn>,
    pub(crate) plan: P,
}

impl<'a, T: Element> Arranged<'a, T> {
    /// Takes x as it lies where that can be, else a copy with the shared axes innermost.
    pub(crate) fn new(x: CowArray<'a, T, IxDyn>, roles: &Roles) -> Result<Self, Error> {
        roles.check(x.shape())?;
        if x.view().as_slice_memory_order().is_some()
            && let Some(plan) = roles.plan(x.shape(), x.strides())
        {
            return Ok(Self { x, plan });
        }
        let order = roles.shared_last();
        let copy = x.view().permuted_axes(order.clone()).as_standard_layout().into_owned();
        let copy = copy.permuted_axes(inverse(&order));
        let plan = roles.plan(copy.shape(), copy.strides());
        let plan = plan.expect("with the shared axes innermost every tensor has a plan");
        Ok(Self { x: copy.into(), plan })
    }
}

impl<'a, T: Element> Arranged<'a, T, CellGrid> {
    /// Takes x as it lies where that can be, else a row-major copy, in cells numbered by some axes.
    pub(crate) fn in_cells(
        x: CowArray<'a, T, IxDyn>,
        numbered: &[bool],
        mask: Option<(&Mask, Excluded)>,
    ) -> Result<Self, Error> {
        check_not_empty(x.shape())?;
        let plan = if let Some((mask, excluded)) = mask {
            Region::picked(numbered, &mask.over(x.shape())?, excluded).into()
        } else {
            let roles = Roles::new(numbered.iter().map(|numbered| (!numbered, false)));
            let all = |x: &ArrayViewD<'_, T>| Region::all(&roles.axes(x.shape(), x.strides()));
            match x.view().as_slice_memory_order().and_then(|_| all(&x.view())) {
                Some(plan) => return Ok(Self { x, plan: plan.into() }),
                None => all(&x.as_standard_layout().view()).expect("row-major has no gaps").into(),
            }
        };
        let x = if x.is_standard_layout() { x } else { x.as_standard_layout().into_owned().into() };
        Ok(Self { x, plan })
    }
}

impl<T: Element, P> Arranged<'_, T, P> {
    /// The elements in the order of memory.
    pub(crate) fn slice(&self) -> &[T] {
        self.x.as_slice_memory_order().expect("arranged without gaps")
    }

    /// Runs a pass from x into a fresh array of the same layout.
    pub(crate) fn map<R>(&self, pass: impl FnOnce(Buffers<'_, T>) -> R) -> (ArrayD<T>, R) {
        let mut y = Vec::new();
        let result = pass(Buffers::Into(self.slice(), &mut y));
        (like(&self.x.view(), y), result)
    }

    /// Runs a pass over x where it was handed over, else into a fresh array.
    pub(crate) fn map_owned(self, pass: impl FnOnce(&P, Buffers<'_, T>)) -> ArrayD<T> {
        if self.x.is_view() {
            return self.map(|buffers| pass(&self.plan, buffers)).0;
        }
        let mut x = self.x.into_owned();
        let slice = x.as_slice_memory_order_mut().expect("arranged without gaps");
        pass(&self.plan, Buffers::Over(slice));
        x
    }

    /// Runs a pass from dy to dx, over dy where it was handed over.
    pub(crate) fn map_gradient<R>(
        &self,
        dy: CowArray<'_, T, IxDyn>,
        pass: impl FnOnce(&[T], Buffers<'_, T>) -> R,
    ) -> Result<(ArrayD<T>, R), Error> {
        check_dy(dy.shape(), self.x.shape())?;
        let same =
            (0..dy.ndim()).all(|i| dy.len_of(Nd(i)) == 1 || dy.strides()[i] == self.x.strides()[i]);
        if same && dy.is_view() {
            let mut dx = Vec::new();
            let source = dy.as_slice_memory_order().expect("laid out as x, which has no gaps");
            let result = pass(self.slice(), Buffers::Into(source, &mut dx));
            return Ok((like(&self.x.view(), dx), result));
        }
        let mut dx = if same {
            dy.into_owned()
        } else {
            let mut copy = like(&self.x.view(), vec![T::default(); dy.len()]);
            copy.assign(&dy);
            copy
        };
        let slice = dx.as_slice_memory_order_mut().expect("laid out as x");
        let result = pass(self.slice(), Buffers::Over(slice));
        Ok((dx, result))
    }
}

/// An array of the shape and memory order of `x` over `data`.
pub(crate) fn like<T: Element>(x: &ArrayViewD<'_, T>, data: Vec<T>) -> ArrayD<T> {
    let mut order: Vec<usize> = (0..x.ndim()).collect();
    order.sort_by_key(|axis| {
        (x.len_of(Nd(*axis)) > 1).then(|| std::cmp::Reverse(x.strides()[*axis].unsigned_abs()))
    });
    let shape: Vec<usize> = order.iter().map(|axis| x.len_of(Nd(*axis))).collect();
    let mut array = ArrayD::from_shape_vec(IxDyn(&shape), data).expect("as many elements as x");
    for (i, axis) in order.iter().enumerate() {
        if x.len_of(Nd(*axis)) > 1 && x.strides()[*axis] < 0 {
            array.invert_axis(Nd(i));
        }
    }
    array.permuted_axes(inverse(&order))
}

/// Back to the caller's number of axes.
pub(crate) fn typed<T, D: Dimension>(array: ArrayD<T>) -> ndarray::Array<T, D> {
    array.into_dimensionality().expect("the result has the axes of x")
}
