//! Normalizations of weights instead of activations, for any layer of a network, through Burn's
//! reparameterizations.
//!
//! | | effective weight | trained |
//! |---|---|---|
//! | [`WeightNormConfig`] | g v / ‖v‖ | v, g |
//! | [`SpectralNormConfig`] | w / σ(w) | w |
//! | [`WeightStandardizationConfig`] | (w − mean) / √(variance + ε), with a gain if wanted | w, gain |
//!
//! Each config is a `Reparameterizer`: `module.apply_reparameterization(config)` attaches it to
//! every float parameter of at least two axes in its group, and the layers need not know.
//! `module.valid().materialize()` makes plain weights of it again. Attach one to a parameter: Burn
//! holds no more, and the first one stays.
//!
//! ```
//! use burn::module::{Module, ParamGroup};
//! use burn::nn::{Linear, LinearConfig};
//! use burn::tensor::Device;
//! use cellnorm_burn::weights::{WeightNorm, WeightNormConfig};
//! let linear = LinearConfig::new(4, 3).init(&Device::flex());
//! let before = linear.weight.val();
//! let linear = linear.apply_reparameterization(WeightNormConfig::new());
//! assert_eq!(linear.weight.reparameterization::<WeightNorm>().unwrap().g.dims(), [3]);
//! linear
//!     .weight
//!     .val()
//!     .into_data()
//!     .assert_approx_eq::<f32>(&before.into_data(), Default::default());
//! assert_eq!(linear.num_params(), 12 + 3 + 3);
//! assert_eq!(linear.materialize().num_params(), 12 + 3);
//! ```

mod norm;
mod spectral;
mod standardization;

pub use norm::{WeightNorm, WeightNormConfig};
pub use spectral::{SpectralNorm, SpectralNormConfig};
pub use standardization::{WeightStandardization, WeightStandardizationConfig};

use burn::module::{Param, ParamGroup};
use burn::tensor::{Shape, Tensor};
use cellnorm::Error;

/// Which part of a weight is normalized as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Per {
    /// The weights of one output, as in PyTorch for linear and convolution layers: an index of axis
    /// 1 of a matrix, because Burn's `Linear` holds `[inputs, outputs]`, and of axis 0 of any other
    /// weight.
    #[default]
    Output,
    /// An index of this axis. PyTorch's spectral normalization takes 1 for transposed convolutions.
    Axis(usize),
    /// All of it; PyTorch's `dim=None`.
    Whole,
}

impl Per {
    /// The axis of the parts in a weight of this many axes, None for the whole.
    ///
    /// # Panics
    /// If it does not exist.
    fn axis(self, rank: usize) -> Option<usize> {
        match self {
            Self::Output => Some(if rank == 2 { 1 } else { 0 }),
            Self::Axis(axis) if axis < rank => Some(axis),
            Self::Axis(axis) => panic!("{}", Error::Axis { axis: axis as isize, rank }),
            Self::Whole => None,
        }
    }

    /// The number of parts.
    fn parts<const D: usize>(self, weight: &Tensor<D>) -> usize {
        self.axis(D).map_or(1, |axis| weight.dims()[axis])
    }

    /// The axes within a part.
    fn inner<const D: usize>(self) -> Vec<usize> {
        let axis = self.axis(D);
        (0..D).filter(|other| Some(*other) != axis).collect()
    }

    /// A value for each part, to be broadcast against the weight.
    fn broadcast<const D: usize>(self, values: Tensor<1>) -> Tensor<D> {
        let mut shape = vec![1; D];
        if let Some(axis) = self.axis(D) {
            shape[axis] = values.dims()[0];
        }
        values.reshape(Shape::from(shape))
    }

    /// The weight as a matrix with a row for each part; the columns in the order of the other axes.
    fn matrix<const D: usize>(self, weight: Tensor<D>) -> Tensor<2> {
        let (rows, values) = (self.parts(&weight), weight.shape().num_elements());
        let axis = self.axis(D).unwrap_or(0);
        let order: [usize; D] = std::array::from_fn(|i| match i {
            0 => axis,
            i if i <= axis => i - 1,
            i => i,
        });
        weight.permute(order).reshape([rows, values / rows])
    }
}

/// Whether a parameter is a weight of the group: one of at least two axes, and not empty.
fn wanted<const D: usize>(group: &ParamGroup, path: &str, param: &Param<Tensor<D>>) -> bool {
    D >= 2 && group.matches(&param.id, Some(path)) && param.lazy_shape().num_elements() > 0
}

/// The options that every config has.
macro_rules! common_options {
    () => {
        /// Which weights are meant, by path or id. Default: all.
        pub fn with_group(mut self, group: ParamGroup) -> Self {
            self.group = group;
            self
        }

        /// Which part of a weight is normalized as one. Default: what leads to one output.
        pub fn with_per(mut self, per: Per) -> Self {
            self.per = per;
            self
        }
    };
}
use common_options;
