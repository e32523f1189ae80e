//! ndarray arrays at the border, slices beneath.
//!
//! An array whose memory has no gaps is used as it lies: transposed, channels-last or with reversed
//! axes, and results come back in its memory order. Others are copied once: slices with steps,
//! broadcasts, and arrays whose γ and β would vary inside sets that are not rows of memory.

use ndarray::{ArrayD, ArrayViewD, Axis as Nd, CowArray, Dimension, IxDyn};

use crate::element::Element;
use crate::error::Error;
use crate::passes::Buffers;
use crate::plan::{Axis, Plan};
use crate::sharing::Along;
use crate::tables::{Labels, Mask, Region};

/// The cells of a tensor and their index along each axis that numbers them.
pub(crate) type Grid = (Region, Vec<Option<Labels>>);

/// The role of each axis of a tensor: whether its values share statistics, and whether γ and β vary
/// along it.
#[derive(Clone, Debug)]
pub struct Roles {
    of_axis: Vec<(bool, bool)>,
    groups: Option<(usize, usize)>,
    parameter_per_group: bool,
}

impl Roles {
    /// From (shared, parameter) for each axis.
    pub fn new(of_axis: impl IntoIterator<Item = (bool, bool)>) -> Self {
        Self { of_axis: of_axis.into_iter().collect(), groups: None, parameter_per_group: false }
    }

    /// The same, but `axis` is split into `groups` groups of neighbours that each share statistics
    /// inside.
    pub fn grouped(mut self, axis: usize, groups: usize) -> Self {
        self.groups = Some((axis, groups));
        self
    }

    /// Whether the values along an axis share statistics; along a split one, those of a group.
    pub(crate) fn shared(&self, axis: usize) -> bool {
        self.of_axis[axis].0
    }

    /// Whether γ and β vary along an axis.
    ///
    /// # Panics
    /// If there is no such axis.
    pub fn carries(&self, axis: usize) -> bool {
        self.of_axis[axis].1
    }

    /// The axis that is split, and into how many groups.
    pub(crate) fn split(&self) -> Option<(usize, usize)> {
        self.groups
    }

    /// That the groups of a split axis divide it.
    pub(crate) fn check_groups(&self, shape: &[usize]) -> Result<(), Error> {
        match self.groups {
            Some((axis, groups)) if groups == 0 || !shape[axis].is_multiple_of(groups) => {
                Err(Error::Groups { channels: shape[axis], groups })
            }
            _ => Ok(()),
        }
    }

    /// Whether γ and β of a split axis belong to its groups.
    pub(crate) fn per_group(&self) -> bool {
        self.parameter_per_group
    }

    /// The same, but γ and β vary from group to group of a split axis that carries them, and not
    /// inside a group.
    pub fn parameter_per_group(mut self) -> Self {
        self.parameter_per_group = true;
        self
    }

    /// The axes of a tensor with their roles, the split one as two; `strides` are in elements.
    pub fn axes(&self, shape: &[usize], strides: &[isize]) -> Vec<Axis> {
        let mut axes = Vec::with_capacity(shape.len() + 1);
        for (i, (shared, parameter)) in self.of_axis.iter().enumerate() {
            let axis =
                Axis { len: shape[i], stride: strides[i], shared: *shared, parameter: *parameter };
            match self.groups {
                Some((split, groups)) if split == i => {
                    let [outer, inner] = axis.grouped(groups);
                    let parameter = inner.parameter && !self.parameter_per_group;
                    axes.extend([outer, Axis { parameter, ..inner }]);
                }
                _ => axes.push(axis),
            }
        }
        axes
    }

    /// The axes with the shared ones last, a split one first among them: in this order every tensor
    /// is sets × values.
    pub fn shared_last(&self) -> Vec<usize> {
        let split = self.groups.map(|(axis, _)| axis);
        let mut order: Vec<usize> = (0..self.of_axis.len()).collect();
        order.sort_by_key(|axis| (self.of_axis[*axis].0, split != Some(*axis)));
        order
    }

    /// How the values along each axis of a tensor of this shape share statistics.
    pub(crate) fn along(&self, shape: &[usize]) -> Vec<Along> {
        let along = |(axis, (shared, _)): (usize, &(bool, bool))| match self.groups {
            Some((split, groups)) if split == axis => Along::Blocks(shape[axis] / groups.max(1)),
            _ if *shared => Along::Shared,
            _ => Along::Apart,
        };
        self.of_axis.iter().enumerate().map(along).collect()
    }

    /// The number of sets of a tensor of this shape.
    pub fn sets(&self, shape: &[usize]) -> usize {
        let alone =
            self.of_axis.iter().zip(shape).filter(|((shared, _), _)| !shared).map(|(_, len)| len);
        alone.product::<usize>() * self.groups.map_or(1, |(_, groups)| groups)
    }

    /// The shape in which γ and β broadcast against a tensor of this shape: 1 for axes that carry
    /// no parameter. Those of a group are to be repeated for its channels before.
    pub fn parameters_along(&self, shape: &[usize]) -> Vec<usize> {
        self.of_axis
            .iter()
            .zip(shape)
            .map(|((_, parameter), len)| if *parameter { *len } else { 1 })
            .collect()
    }

    fn plan<T>(&self, x: &ArrayViewD<'_, T>) -> Option<Plan> {
        Plan::new(&self.axes(x.shape(), x.strides()))
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
        roles.check_groups(x.shape())?;
        if x.is_empty() {
            return Err(Error::Empty { shape: x.shape().to_vec() });
        }
        if x.view().as_slice_memory_order().is_some()
            && let Some(plan) = roles.plan(&x.view())
        {
            return Ok(Self { x, plan });
        }
        let order = roles.shared_last();
        let copy = x
            .view()
            .permuted_axes(order.clone())
            .as_standard_layout()
            .into_owned()
            .permuted_axes(inverse(&order));
        let plan = roles
            .plan(&copy.view())
            .expect("with the shared axes innermost every tensor has a plan");
        Ok(Self { x: copy.into(), plan })
    }
}

impl<'a, T: Element> Arranged<'a, T, Grid> {
    /// Takes x as it lies where that can be, else a row-major copy; its cells are numbered by some
    /// of its axes.
    pub(crate) fn in_cells(
        x: CowArray<'a, T, IxDyn>,
        numbered: &[bool],
        mask: Option<&Mask>,
    ) -> Result<Self, Error> {
        if x.is_empty() {
            return Err(Error::Empty { shape: x.shape().to_vec() });
        }
        let plan = if let Some(mask) = mask {
            Region::picked(numbered, &mask.over(x.shape())?)
        } else {
            let roles = Roles::new(numbered.iter().map(|numbered| (!numbered, false)));
            let all = |x: &ArrayViewD<'_, T>| Region::all(&roles.axes(x.shape(), x.strides()));
            match x.view().as_slice_memory_order().and_then(|_| all(&x.view())) {
                Some(plan) => return Ok(Self { x, plan }),
                None => all(&x.as_standard_layout().view()).expect("row-major has no gaps"),
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
        pass(
            &self.plan,
            Buffers::Over(x.as_slice_memory_order_mut().expect("arranged without gaps")),
        );
        x
    }

    /// Runs a pass from dy to dx, over dy where it was handed over.
    pub(crate) fn map_gradient<R>(
        &self,
        dy: CowArray<'_, T, IxDyn>,
        pass: impl FnOnce(&[T], Buffers<'_, T>) -> R,
    ) -> Result<(ArrayD<T>, R), Error> {
        if dy.shape() != self.x.shape() {
            let (given, expected) = (dy.shape().to_vec(), self.x.shape().to_vec());
            return Err(Error::Shape { name: "dy", given, expected });
        }
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
        let result = pass(
            self.slice(),
            Buffers::Over(dx.as_slice_memory_order_mut().expect("laid out as x")),
        );
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

/// The permutation that undoes `order`.
pub(crate) fn inverse(order: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; order.len()];
    for (i, axis) in order.iter().enumerate() {
        inverse[*axis] = i;
    }
    inverse
}

/// Back to the caller's number of axes.
pub(crate) fn typed<T, D: Dimension>(array: ArrayD<T>) -> ndarray::Array<T, D> {
    array.into_dimensionality().expect("the result has the axes of x")
}

/// The index of an axis that may be counted from the last.
pub(crate) fn axis_index(axis: isize, rank: usize) -> Result<usize, Error> {
    let index = if axis < 0 { axis + rank as isize } else { axis };
    if index < 0 || index >= rank as isize {
        return Err(Error::Axis { axis, rank });
    }
    Ok(index as usize)
}

/// That an array of f64 of this shape can be counted in bytes.
pub(crate) fn check_size(shape: &[usize]) -> Result<(), Error> {
    let bytes =
        shape.iter().try_fold(size_of::<f64>(), |product, len| product.checked_mul((*len).max(1)));
    match bytes.map(isize::try_from) {
        Some(Ok(_)) => Ok(()),
        _ => Err(Error::TooLarge { shape: shape.to_vec() }),
    }
}

/// Which axes are named, each once.
pub(crate) fn axis_set(axes: &[isize], rank: usize) -> Result<Vec<bool>, Error> {
    let mut named = vec![false; rank];
    for axis in axes {
        let index = axis_index(*axis, rank)?;
        if std::mem::replace(&mut named[index], true) {
            return Err(Error::AxisTwice { axis: index, axes: axes.to_vec() });
        }
    }
    Ok(named)
}
