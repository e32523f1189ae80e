//! The axes of a tensor: their indices, their memory, and the role of each in a normalization.

use super::{Along, Plan};
use crate::error::{Error, check_groups, check_not_empty};

/// One axis of a tensor: its length, its stride in elements, and its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// The number of indices.
    pub len: usize,
    /// The distance in memory between neighbours, in elements; negative for a reversed axis.
    pub stride: isize,
    /// Whether the values along this axis share statistics.
    pub shared: bool,
    /// Whether γ and β vary along this axis.
    pub parameter: bool,
}

impl Axis {
    /// The axes of a row-major tensor, with their roles: `role(axis) -> (shared, parameter)`.
    pub fn row_major(shape: &[usize], role: impl Fn(usize) -> (bool, bool)) -> Vec<Axis> {
        let mut stride = shape.iter().product::<usize>() as isize;
        let axis = |(axis, len): (usize, &usize)| {
            stride /= (*len).max(1) as isize;
            let (shared, parameter) = role(axis);
            Axis { len: *len, stride, shared, parameter }
        };
        shape.iter().enumerate().map(axis).collect()
    }

    /// Splits the axis into `groups` groups that each share statistics inside.
    pub fn grouped(self, groups: usize) -> [Axis; 2] {
        let size = self.len / groups;
        [
            Axis { len: groups, stride: self.stride * size as isize, shared: false, ..self },
            Axis { len: size, shared: true, ..self },
        ]
    }
}

/// The role of each axis: whether its values share statistics, and whether γ and β vary along it.
#[derive(Clone, Debug)]
pub struct Roles {
    axes: Vec<(bool, bool)>,
    /// The axis that is split, and into how many groups.
    pub(crate) groups: Option<(usize, usize)>,
    /// Whether γ and β of a split axis belong to its groups.
    pub(crate) per_group: bool,
}

impl Roles {
    /// From (shared, parameter) for each axis.
    pub fn new(axes: impl IntoIterator<Item = (bool, bool)>) -> Self {
        Self { axes: axes.into_iter().collect(), groups: None, per_group: false }
    }

    /// The same, but `axis` is split into `groups` groups of neighbours that share statistics.
    pub fn grouped(mut self, axis: usize, groups: usize) -> Self {
        self.groups = Some((axis, groups));
        self
    }

    /// Whether γ and β vary along an axis.
    ///
    /// # Panics
    /// If there is no such axis.
    pub fn carries(&self, axis: usize) -> bool {
        self.axes[axis].1
    }

    /// That a tensor of this shape has elements, and that the groups of a split axis divide it.
    ///
    /// # Errors
    /// If it does not.
    pub fn check(&self, shape: &[usize]) -> Result<(), Error> {
        self.check_groups(shape)?;
        check_not_empty(shape)
    }

    /// That the groups of a split axis divide it.
    pub(crate) fn check_groups(&self, shape: &[usize]) -> Result<(), Error> {
        self.groups.map_or(Ok(()), |(axis, groups)| check_groups(shape[axis], groups))
    }

    /// The same, but γ and β of a split axis that carries them vary from group to group alone.
    pub fn parameter_per_group(mut self) -> Self {
        self.per_group = true;
        self
    }

    /// The axes of a tensor with their roles, the split one as two; `strides` are in elements.
    pub fn axes(&self, shape: &[usize], strides: &[isize]) -> Vec<Axis> {
        let mut axes = Vec::with_capacity(shape.len() + 1);
        for (i, (shared, parameter)) in self.axes.iter().enumerate() {
            let axis =
                Axis { len: shape[i], stride: strides[i], shared: *shared, parameter: *parameter };
            match self.groups {
                Some((split, groups)) if split == i => {
                    let [outer, inner] = axis.grouped(groups);
                    let parameter = inner.parameter && !self.per_group;
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
        let mut order: Vec<usize> = (0..self.axes.len()).collect();
        order.sort_by_key(|axis| (self.axes[*axis].0, split != Some(*axis)));
        order
    }

    /// How the values along each axis of a tensor of this shape share statistics.
    pub(crate) fn along(&self, shape: &[usize]) -> Vec<Along> {
        let along = |(axis, (shared, _)): (usize, &(bool, bool))| match self.groups {
            Some((split, groups)) if split == axis => Along::Blocks(shape[axis] / groups.max(1)),
            _ if *shared => Along::Shared,
            _ => Along::Apart,
        };
        self.axes.iter().enumerate().map(along).collect()
    }

    /// The number of sets of a tensor of this shape.
    pub fn sets(&self, shape: &[usize]) -> usize {
        let alone =
            self.axes.iter().zip(shape).filter(|((shared, _), _)| !shared).map(|(_, len)| len);
        alone.product::<usize>() * self.groups.map_or(1, |(_, groups)| groups)
    }

    /// The shape in which γ and β broadcast against a tensor of this shape: 1 for axes that carry
    /// no parameter. Repeat the parameters of a group for its channels first.
    pub fn parameters_along(&self, shape: &[usize]) -> Vec<usize> {
        let axes = self.axes.iter().zip(shape);
        axes.map(|((_, parameter), len)| if *parameter { *len } else { 1 }).collect()
    }

    /// Which axes number the cells: those not shared, and those along which γ and β vary.
    pub(crate) fn cell_axes(&self) -> Vec<bool> {
        self.axes.iter().map(|(shared, parameter)| !shared || *parameter).collect()
    }

    /// The plan of a tensor whose memory has these strides, in elements; None where it has none
    /// ([`Plan::new`]).
    pub(crate) fn plan(&self, shape: &[usize], strides: &[isize]) -> Option<Plan> {
        Plan::new(&self.axes(shape, strides))
    }
}

/// The permutation that undoes `order`: the place of each axis in it.
///
/// # Panics
/// If `order` does not hold each of 0, 1, … once.
pub fn inverse(order: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; order.len()];
    for (i, axis) in order.iter().enumerate() {
        inverse[*axis] = i;
    }
    inverse
}

/// The index of an axis that may be counted from the last.
///
/// # Errors
/// If there is no such axis.
pub fn axis_index(axis: isize, rank: usize) -> Result<usize, Error> {
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
