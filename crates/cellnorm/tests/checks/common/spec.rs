//! A layer and the shape it is applied to, and random ones for proptest.

use proptest::prelude::*;

/// The normalizations, and what tells their variants apart.
#[derive(Clone, Debug, PartialEq)]
pub enum Which {
    /// Batch normalization in training, or with running statistics.
    Batch {
        fixed: bool,
    },
    /// Layer normalization over the last axes, with a parameter for each element.
    LayerLast(usize),
    /// Layer normalization over any axes, with a parameter for each element.
    LayerOver(Vec<isize>),
    /// Layer normalization over all features, with a parameter for each channel.
    LayerPerChannel,
    Instance,
    Group(usize),
    RmsLast(usize),
    RmsOver(Vec<isize>),
    RmsPerChannel,
}

/// A layer and the shape of the tensor it gets.
#[derive(Clone, Debug)]
pub struct Spec {
    pub which: Which,
    pub shape: Vec<usize>,
    /// Whether the channels are on the last axis instead of axis 1.
    pub channels_last: bool,
    pub scale: bool,
    pub center: bool,
    pub epsilon: f64,
}

impl Spec {
    /// With γ, β and ε = 1e-5, on [N, C, …].
    pub fn new(which: Which, shape: &[usize]) -> Self {
        Self {
            which,
            shape: shape.to_vec(),
            channels_last: false,
            scale: true,
            center: true,
            epsilon: 1e-5,
        }
    }

    /// On [N, …, C].
    pub fn channels_last(self) -> Self {
        Self { channels_last: true, ..self }
    }

    pub fn name(&self) -> &'static str {
        match self.which {
            Which::Batch { fixed: false } => "batch, training",
            Which::Batch { fixed: true } => "batch, running",
            Which::LayerLast(_) => "layer, last axes",
            Which::LayerOver(_) => "layer, any axes",
            Which::LayerPerChannel => "layer, per channel",
            Which::Instance => "instance",
            Which::Group(_) => "group",
            Which::RmsLast(_) => "rms, last axes",
            Which::RmsOver(_) => "rms, any axes",
            Which::RmsPerChannel => "rms, per channel",
        }
    }

    pub fn rms(&self) -> bool {
        matches!(self.which, Which::RmsLast(_) | Which::RmsOver(_) | Which::RmsPerChannel)
    }

    pub fn fixed(&self) -> bool {
        self.which == Which::Batch { fixed: true }
    }

    pub fn channel_axis(&self) -> usize {
        if self.channels_last { self.shape.len() - 1 } else { 1 }
    }

    /// 1 for a tensor without that axis.
    pub fn channels(&self) -> usize {
        self.shape.get(self.channel_axis()).copied().unwrap_or(1)
    }

    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The axes that are normalized over and carry γ and β, where they have a value for each
    /// element.
    pub fn element_axes(&self) -> Option<Vec<usize>> {
        let rank = self.shape.len();
        let index = |axis: &isize| {
            if *axis < 0 { (*axis + rank as isize) as usize } else { *axis as usize }
        };
        let mut axes: Vec<usize> = match &self.which {
            Which::LayerLast(count) | Which::RmsLast(count) => (rank - count..rank).collect(),
            Which::LayerOver(axes) | Which::RmsOver(axes) => axes.iter().map(index).collect(),
            _ => return None,
        };
        axes.sort_unstable();
        Some(axes)
    }

    /// The number of values of γ, and of β.
    pub fn parameters(&self) -> usize {
        match self.element_axes() {
            Some(axes) => axes.iter().map(|axis| self.shape[*axis]).product(),
            None => self.channels(),
        }
    }

    /// The number of statistics.
    pub fn sets(&self) -> usize {
        match (&self.which, self.element_axes()) {
            (_, Some(axes)) => {
                let apart = (0..self.shape.len()).filter(|axis| !axes.contains(axis));
                apart.map(|axis| self.shape[axis]).product()
            }
            (Which::Batch { .. }, _) => self.channels(),
            (Which::Instance, _) => self.shape[0] * self.channels(),
            (Which::Group(groups), _) => self.shape[0] * groups.min(&self.channels()),
            _ => self.shape[0],
        }
    }

    /// The number of values that share statistics.
    pub fn values_per_set(&self) -> usize {
        match (&self.which, self.element_axes()) {
            (_, Some(_)) => self.parameters(),
            (Which::Batch { .. }, _) => self.len() / self.channels(),
            (Which::Instance, _) => self.len() / self.shape[0] / self.channels(),
            (Which::Group(groups), _) => self.len() / self.shape[0] / groups,
            _ => self.len() / self.shape[0],
        }
    }
}

/// Random layers on tensors of rank 2 to 5 with at most `most` elements, and a seed for the
/// numbers.
pub fn specs(most: usize) -> impl Strategy<Value = (Spec, u64)> {
    let length =
        prop_oneof![4 => 1..8_usize, 2 => 8..40_usize, 1 => Just(16_usize), 1 => Just(32_usize)];
    let shape = prop::collection::vec(length, 2..=5);
    (0..10_usize, shape, any::<[bool; 3]>(), any::<u64>(), any::<u64>()).prop_map(
        move |(kind, mut shape, flags, choice, seed)| {
            let [channels_last, scale, center] = flags;
            while shape.iter().product::<usize>() > most {
                *shape.iter_mut().max().unwrap() /= 2;
            }
            if kind == 5 && shape.len() == 2 {
                shape.insert(1, 3);
            }
            let rank = shape.len();
            let some_axes = || {
                let mask = 1 + choice as usize % ((1 << rank) - 1);
                let axis = |axis: usize| {
                    axis as isize - if choice >> (40 + axis) & 1 == 1 { rank as isize } else { 0 }
                };
                (0..rank).filter(|i| mask >> i & 1 == 1).map(axis).collect::<Vec<isize>>()
            };
            let channels = shape[if channels_last { rank - 1 } else { 1 }];
            let divisors: Vec<usize> = (1..=channels).filter(|g| channels % g == 0).collect();
            let which = match kind {
                0 => Which::Batch { fixed: false },
                1 => Which::Batch { fixed: true },
                2 => Which::LayerLast(1 + choice as usize % (rank - 1)),
                3 => Which::LayerOver(some_axes()),
                4 => Which::LayerPerChannel,
                5 => Which::Instance,
                6 => Which::Group(divisors[choice as usize % divisors.len()]),
                7 => Which::RmsLast(1 + choice as usize % (rank - 1)),
                8 => Which::RmsOver(some_axes()),
                _ => Which::RmsPerChannel,
            };
            let mut spec = Spec { which, shape, channels_last, scale, center, epsilon: 1e-5 };
            // in training a statistic needs two values: the first axis that gives them gets longer
            for axis in (0..rank).rev() {
                if spec.values_per_set() > 1 {
                    break;
                }
                let before = std::mem::replace(&mut spec.shape[axis], 2);
                if spec.values_per_set() < 2
                    || matches!(spec.which, Which::Group(_)) && axis == spec.channel_axis()
                {
                    spec.shape[axis] = before;
                }
            }
            if spec.values_per_set() == 1 {
                spec.which = Which::LayerPerChannel;
                spec.shape[rank - 1] = 2;
            }
            (spec, seed)
        },
    )
}
