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
//! holds no more, and the first one stays. It panics if a weight does not have the axis asked for,
//! or if weight standardization has one value for each part.
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

use burn::module::{
    Flag, Module, Param, ParamGroup, Reparameterization, Reparameterizer, RunningState,
};
use burn::tensor::{Distribution, Shape, Tensor};
use cellnorm::Error;

use crate::averages::{self, set};
use crate::composed::{at_least_single, wide};
use crate::modules::check_epsilon;

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

/// Configs with their other options and how they start, and the state that they attach.
macro_rules! configs {
    ($(
        $(#[$doc:meta])*
        $config:ident { $($option:ident: $type:ty = $default:expr),* } => $state:ident;
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $config {
            group: ParamGroup,
            per: Per,
            $($option: $type,)*
        }

        impl Default for $config {
            fn default() -> Self {
                Self { group: ParamGroup::all(), per: Per::default(), $($option: $default),* }
            }
        }

        impl $config {
            /// For every weight, with a part for each output.
            pub fn new() -> Self {
                Self::default()
            }

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
        }

        impl Reparameterizer for $config {
            type Reparam = $state;

            /// Attaches a state to a weight of the group: a parameter of at least two axes, and not
            /// empty.
            fn reparameterize<const D: usize>(
                &mut self,
                path: &str,
                param: Param<Tensor<D>>,
            ) -> (Param<Tensor<D>>, Option<$state>) {
                let wanted = D >= 2
                    && self.group.matches(&param.id, Some(path))
                    && param.lazy_shape().num_elements() > 0;
                let state = wanted.then(|| self.state(param.base()));
                (param, state)
            }
        }
    )*};
}

configs! {
    /// Attaches [`WeightNorm`] to the weights of a module. The effective weights do not change by
    /// that.
    WeightNormConfig {} => WeightNorm;
    /// Attaches [`SpectralNorm`] to the weights of a module; each part of a weight is a row of W.
    SpectralNormConfig { iterations: usize = 1, epsilon: f64 = 1e-12 } => SpectralNorm;
    /// Attaches [`WeightStandardization`] to the weights of a module.
    WeightStandardizationConfig { epsilon: f64 = 1e-10, gain: bool = false }
        => WeightStandardization;
}

/// A norm below √ε counts as √ε, as on arrays.
const WEIGHT_NORM_EPSILON: f64 = 1e-12;

impl WeightNormConfig {
    fn state<const D: usize>(&self, v: Tensor<D>) -> WeightNorm {
        let dtype = wide(v.dtype());
        let squares = self.per.matrix(v).cast(dtype).square().sum_dim(1);
        let g = squares.clamp_min(WEIGHT_NORM_EPSILON).sqrt().squeeze_dim(1).detach();
        WeightNorm { g: Param::from_tensor(g), per: self.per }
    }
}

/// Weight normalization w = g v / ‖v‖, so that length and direction are trained apart: the state
/// of a parameter whose stored base is v. A norm below √ε = 1e-6 counts as √ε, and g starts as
/// max(‖v‖, √ε): nothing changes at first, however small v is.
///
/// PyTorch names v `weight_v` or `parametrizations.weight.original1`, and g `weight_g` or
/// `parametrizations.weight.original0`. Its g has as many axes as v, all but one of length 1; here
/// g has one axis, so a checkpoint's g has to be reshaped.
///
/// Source: T. Salimans, D. P. Kingma, *Weight Normalization: A Simple Reparameterization to
/// Accelerate Training of Deep Neural Networks*, 2016. As
/// `torch.nn.utils.parametrizations.weight_norm` of PyTorch 2.
#[derive(Module, Debug)]
pub struct WeightNorm {
    /// The length of each part, `[parts]`; in f32 at least.
    pub g: Param<Tensor<1>>,
    /// Which part of the weight has a length of its own.
    #[module(skip)]
    pub per: Per,
}

impl Reparameterization for WeightNorm {
    const NAME: &'static str = "weight_norm";

    fn apply<const D: usize>(&self, v: Tensor<D>) -> Tensor<D> {
        at_least_single(v, |v| {
            let squares = v.clone().square().sum_dims(&self.per.inner::<D>());
            let g = self.per.broadcast(self.g.val().cast(v.dtype()));
            v * (g / squares.clamp_min(WEIGHT_NORM_EPSILON).sqrt())
        })
    }
}

/// Power iterations when the normalization is attached, as in PyTorch.
const WARM_UP: usize = 15;

impl SpectralNormConfig {
    /// Power iterations every time the weight is used in training. Default: 1.
    ///
    /// # Panics
    /// If it is 0.
    pub fn with_iterations(mut self, iterations: usize) -> Self {
        assert!(iterations > 0, "the number of power iterations is 0; it must be at least 1");
        self.iterations = iterations;
        self
    }

    /// Norms up to ε count as 0. Default: 1e-12.
    ///
    /// # Panics
    /// If it is not finite and at least 1e-36.
    pub fn with_epsilon(mut self, epsilon: f64) -> Self {
        check_epsilon(epsilon);
        self.epsilon = epsilon;
        self
    }

    fn state<const D: usize>(&self, weight: Tensor<D>) -> SpectralNorm {
        let matrix = self.per.matrix(weight.detach());
        let matrix = matrix.clone().cast(wide(matrix.dtype()));
        let unit = |len: usize| {
            let vector =
                Tensor::<1>::random([len], Distribution::Normal(0.0, 1.0), &matrix.device());
            let norm = vector.clone().square().sum().sqrt();
            (vector / norm).cast(matrix.dtype()).detach()
        };
        let [rows, columns] = matrix.dims();
        let layer = SpectralNorm {
            running_u: RunningState::new(unit(rows)),
            running_v: RunningState::new(unit(columns)),
            training: Param::from_bool(true),
            per: self.per,
            iterations: self.iterations,
            epsilon: self.epsilon,
        };
        layer.iterate(matrix, WARM_UP);
        layer
    }
}

/// Spectral normalization w = W / σ, with σ = uᵀ W v the largest singular value, found by power
/// iteration: the state of a parameter whose stored base is W.
///
/// On a training device (`device.autodiff()`) and unless frozen, every use of the weight moves u
/// and v; else they stay. Clones share them, except those that
/// [`clone_with_statistics`](crate::clone_with_statistics) makes. The formulas, and the treatment
/// of a weight of zeros, are those of [`cellnorm::weights::SpectralNorm`].
///
/// Source: T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida, *Spectral Normalization for Generative
/// Adversarial Networks*, 2018. Defaults as `torch.nn.utils.parametrizations.spectral_norm` of
/// PyTorch 2.
#[derive(Module, Debug)]
pub struct SpectralNorm {
    /// The left singular vector as far as it is known, `[rows]`; PyTorch's `_u`.
    pub running_u: RunningState<Tensor<1>>,
    /// The right singular vector as far as it is known, `[columns]`; PyTorch's `_v`.
    pub running_v: RunningState<Tensor<1>>,
    /// Whether u and v move in training; `freeze` turns it off.
    pub training: Param<Flag>,
    /// Which part of the weight is a row of W.
    #[module(skip)]
    pub per: Per,
    /// Power iterations every time the weight is used in training.
    pub iterations: usize,
    /// Norms up to ε count as 0.
    pub epsilon: f64,
}

impl SpectralNorm {
    /// Moves u and v, and returns them as a row and a column. One stays where W gives a vector of
    /// length 0, or one that is not finite.
    fn iterate(&self, matrix: Tensor<2>, iterations: usize) -> (Tensor<2>, Tensor<2>) {
        let [rows, columns] = matrix.dims();
        let _lock = (iterations > 0).then(averages::lock);
        let vector = |state: &RunningState<Tensor<1>>| {
            state.value_sync().to_device(&matrix.device()).cast(matrix.dtype())
        };
        let (mut u, mut v) = (
            vector(&self.running_u).reshape([1, rows]),
            vector(&self.running_v).reshape([columns, 1]),
        );
        for _ in 0..iterations {
            u = self.unit(matrix.clone().matmul(v.clone()).transpose(), u);
            v = self.unit(u.clone().matmul(matrix.clone()).transpose(), v);
        }
        if iterations > 0 {
            set(&self.running_u, u.clone().reshape([rows]).detach());
            set(&self.running_v, v.clone().reshape([columns]).detach());
        }
        (u, v)
    }

    fn unit(&self, vector: Tensor<2>, before: Tensor<2>) -> Tensor<2> {
        let norm = vector.clone().square().sum().sqrt().reshape([1, 1]);
        let moves = norm.clone().greater_elem(self.epsilon).bool_and(norm.clone().is_finite());
        let stays = moves.bool_not().expand(vector.dims());
        (vector / norm.clamp_min(self.epsilon)).mask_where(stays, before)
    }
}

impl Reparameterization for SpectralNorm {
    const NAME: &'static str = "spectral_norm";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let training = base.device().is_autodiff() && self.training.is_enabled();
        at_least_single(base, |base| {
            let matrix = self.per.matrix(base.clone());
            let (u, v) =
                self.iterate(matrix.clone().detach(), if training { self.iterations } else { 0 });
            let sigma = u.matmul(matrix).matmul(v);
            let zero = sigma.clone().abs().lower_equal_elem(self.epsilon);
            base / sigma.mask_fill(zero, 1.0).reshape([1; D])
        })
    }
}

impl WeightStandardizationConfig {
    /// ε, added to the variance inside the root. Default: 1e-10.
    ///
    /// # Panics
    /// If it is not finite and at least 1e-36.
    pub fn with_epsilon(mut self, epsilon: f64) -> Self {
        check_epsilon(epsilon);
        self.epsilon = epsilon;
        self
    }

    /// Whether each part has a trained factor, which starts at 1. Default: false.
    pub fn with_gain(mut self, gain: bool) -> Self {
        self.gain = gain;
        self
    }

    /// # Panics
    /// If there is one value for each part: it would always be 0.
    fn state<const D: usize>(&self, weight: Tensor<D>) -> WeightStandardization {
        let parts = self.per.parts(&weight);
        if weight.shape().num_elements() == parts {
            panic!(
                "{}",
                Error::OneValue { layer: "weight standardization", shape: weight.dims().to_vec() }
            );
        }
        let ones = || Tensor::<1>::ones([parts], &weight.device()).cast(weight.dtype()).detach();
        let gain = self.gain.then(|| Param::from_tensor(ones()));
        WeightStandardization { gain, per: self.per, epsilon: self.epsilon }
    }
}

/// Weight standardization ŵ = gain · (w − mean) / √(variance + ε) over the weights that lead to
/// one output: the state of a parameter whose stored base is w.
///
/// Source: S. Qiao, H. Wang, C. Liu, W. Shen, A. Yuille, *Micro-Batch Training with Batch-Channel
/// Normalization and Weight Standardization*, 2019. The variance is the biased one, and ε the 1e-10
/// of *Big Transfer* (A. Kolesnikov et al., 2020): small beside the variance of any usual weight.
#[derive(Module, Debug)]
pub struct WeightStandardization {
    /// The factor of each part, `[parts]`.
    pub gain: Option<Param<Tensor<1>>>,
    /// Which part of the weight has a mean and a variance of its own.
    #[module(skip)]
    pub per: Per,
    /// ε inside the root.
    pub epsilon: f64,
}

impl Reparameterization for WeightStandardization {
    const NAME: &'static str = "weight_standardization";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        at_least_single(base, |base| {
            let inner = self.per.inner::<D>();
            let centered = base.clone() - base.mean_dims(&inner);
            let variance = centered.clone().square().mean_dims(&inner);
            let standard = centered / (variance + self.epsilon).sqrt();
            match &self.gain {
                Some(gain) => {
                    let gain = gain.val().cast(standard.dtype());
                    standard * self.per.broadcast(gain)
                }
                None => standard,
            }
        })
    }
}
