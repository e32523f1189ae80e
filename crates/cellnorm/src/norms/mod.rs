//! The normalizations, one file each: which values share statistics, and what is kept between steps.
//!
//! | normalization | values that share a mean and a variance | parameters |
//! |---|---|---|
//! | [`BatchNorm`] | those of one channel | per channel |
//! | [`LayerNorm`] | those of one sample, over any set of axes | per element or per channel |
//! | [`InstanceNorm`] | those of one channel of one sample | per channel |
//! | [`GroupNorm`] | those of one group of channels of one sample | per channel |
//! | [`RmsNorm`] | as layer, about zero instead of the mean | per element or per channel |
//!
//! Each has a config with the defaults of PyTorch, `forward` for training, which also returns what `backward` needs, and
//! `infer`. Parameters and statistics are f64 whatever the type of x.

mod batch;
mod features;
mod group;
mod instance;
mod layer;
mod rms;

pub use crate::arrays::Roles;
pub use batch::{Batch, BatchNorm, BatchNormConfig, Momentum, RunningVariance};
pub use features::{Features, OverFeatures};
pub use group::{Group, GroupNorm, GroupNormConfig};
pub use instance::{Instance, InstanceNorm, InstanceNormConfig};
pub use layer::{Layer, LayerNorm, LayerNormConfig};
pub use rms::{Rms, RmsNorm, RmsNormConfig};

use ndarray::{Array, ArrayD, ArrayView, CowArray, Dimension, IxDyn};

use crate::arrays::{Arranged, axis_index, typed};
use crate::element::Element;
use crate::error::{Error, check_epsilon};
use crate::standardize::{About, Parameters, Statistics};

/// The options that every config has.
macro_rules! common_options {
    () => {
        /// ε, added to the variance inside the root. Default: 1e-5.
        pub fn epsilon(mut self, epsilon: f64) -> Self {
            self.epsilon = epsilon;
            self
        }

        /// Whether there is a factor γ.
        pub fn scale(mut self, scale: bool) -> Self {
            self.scale = scale;
            self
        }

        /// Whether there is an offset β.
        pub fn center(mut self, center: bool) -> Self {
            self.center = center;
            self
        }
    };
}
use common_options;

/// What `backward` needs of a forward pass besides x: the statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// The statistics that x was normalized with, in row-major order of the axes that do not share them.
    pub statistics: Statistics,
    /// Whether they were given (running statistics) rather than taken from x.
    pub fixed: bool,
}

/// The gradients of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<T, D: Dimension> {
    /// ∂L/∂x.
    pub dx: Array<T, D>,
    /// ∂L/∂γ, in the shape of γ; None where the layer has no γ.
    pub dgamma: Option<ArrayD<f64>>,
    /// ∂L/∂β, in the shape of β; None where the layer has no β.
    pub dbeta: Option<ArrayD<f64>>,
}

/// Which values share statistics: all that tells one normalization of single samples from another.
///
/// A new normalization is one implementation:
///
/// ```
/// use cellnorm::norms::{Kind, NormConfig, Roles};
/// use cellnorm::{About, Error};
///
/// /// Each row of an image has its own mean and variance.
/// #[derive(Clone, Debug)]
/// struct Rows;
///
/// impl Kind for Rows {
///     const NAME: &'static str = "row normalization";
///     const ABOUT: About = About::Mean;
///
///     fn parameter_shape(&self) -> Vec<usize> {
///         vec![]
///     }
///
///     fn roles(&self, shape: &[usize], _affine: bool) -> Result<Roles, Error> {
///         Ok(Roles::new((0..shape.len()).map(|axis| (axis + 1 == shape.len(), false))))
///     }
/// }
///
/// let y = NormConfig::of(Rows).scale(false).center(false).init()?.infer(ndarray::array![[1.0_f32, 3.0], [5.0, 9.0]])?;
/// assert!((y[[0, 1]] - 1.0).abs() < 1e-4 && (y[[1, 1]] - 1.0).abs() < 1e-4);
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub trait Kind: Clone + std::fmt::Debug {
    /// The normalization's name in messages.
    const NAME: &'static str;
    /// What the values of a set are measured from.
    const ABOUT: About;
    /// The shape of γ and of β.
    fn parameter_shape(&self) -> Vec<usize>;

    /// Whether the kind itself is sound; asked once, when the layer is made.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The role of each axis of a tensor of this shape. `affine` says whether the layer has γ or β at all: without, no axis
    /// needs to carry a parameter.
    ///
    /// # Errors
    /// If the shape does not suit the normalization.
    fn roles(&self, shape: &[usize], affine: bool) -> Result<Roles, Error>;
}

/// Makes a [`Norm`]; the constructors are at [`LayerNormConfig`], [`InstanceNormConfig`], [`GroupNormConfig`] and
/// [`RmsNormConfig`].
#[derive(Clone, Debug)]
pub struct NormConfig<K> {
    kind: K,
    epsilon: f64,
    scale: bool,
    center: bool,
}

impl<K: Kind> NormConfig<K> {
    /// The normalization of this kind, with γ and β.
    pub fn of(kind: K) -> Self {
        Self { kind, epsilon: 1e-5, scale: true, center: true }
    }

    common_options!();

    /// The layer, with γ = 1 and β = 0.
    ///
    /// # Errors
    /// If ε is not positive and finite, or groups do not divide the channels.
    pub fn init(self) -> Result<Norm<K>, Error> {
        check_epsilon(self.epsilon)?;
        self.kind.check()?;
        let shape = self.kind.parameter_shape();
        let (gamma, beta) = (parameter(self.scale, &shape, 1.0), parameter(self.center, &shape, 0.0));
        Ok(Norm { gamma, beta, epsilon: self.epsilon, kind: self.kind })
    }
}

/// A normalization of single samples: the same in training and in inference, and independent of the batch.
///
/// Use it as [`LayerNorm`], [`InstanceNorm`], [`GroupNorm`] or [`RmsNorm`].
#[derive(Clone, Debug)]
pub struct Norm<K> {
    /// The factor γ; None without scale.
    pub gamma: Option<ArrayD<f64>>,
    /// The offset β; None without center.
    pub beta: Option<ArrayD<f64>>,
    /// ε inside the root.
    pub epsilon: f64,
    kind: K,
}

impl<K: Kind> Norm<K> {
    /// Normalizes, and returns what the backward pass needs.
    ///
    /// # Errors
    /// If x does not have the layer's axes, is empty, has one value per statistic, or holds NaN or infinity; or if a parameter
    /// was set to a wrong shape.
    pub fn forward<T: Element, D: Dimension>(&self, x: ArrayView<'_, T, D>) -> Result<(Array<T, D>, Saved), Error> {
        let roles = self.roles(x.shape())?;
        self.run(&self.kind.parameter_shape()).forward(CowArray::from(x), &roles, true)
    }

    /// Normalizes, over x itself where the array is handed over.
    ///
    /// # Errors
    /// As [`Norm::forward`], but one value per statistic is fine.
    pub fn infer<'a, T: Element, D: Dimension>(&self, x: impl Into<CowArray<'a, T, D>>) -> Result<Array<T, D>, Error> {
        let x = x.into();
        let roles = self.roles(x.shape())?;
        Ok(self.run(&self.kind.parameter_shape()).forward(x, &roles, false)?.0)
    }

    /// The gradients, given what the forward pass saved, its x, and dy; dx is written over dy where that is handed over.
    ///
    /// # Errors
    /// If dy has another shape than x, x is not that of the forward pass, or the sums of dy are not finite.
    pub fn backward<'a, T: Element, D: Dimension>(
        &self,
        saved: &Saved,
        x: ArrayView<'_, T, D>,
        dy: impl Into<CowArray<'a, T, D>>,
    ) -> Result<Gradients<T, D>, Error> {
        let roles = self.roles(x.shape())?;
        self.run(&self.kind.parameter_shape()).backward(saved, x, dy.into(), &roles)
    }

    fn roles(&self, shape: &[usize]) -> Result<Roles, Error> {
        self.kind.roles(shape, self.gamma.is_some() || self.beta.is_some())
    }

    fn run<'a>(&'a self, shape: &'a [usize]) -> Run<'a> {
        let (gamma, beta) = (self.gamma.as_ref(), self.beta.as_ref());
        Run { name: K::NAME, about: K::ABOUT, epsilon: self.epsilon, gamma, beta, shape }
    }
}

/// What all layers run on: the parameters and their shape, ε, and the name for messages.
#[derive(Clone, Copy)]
struct Run<'a> {
    name: &'static str,
    about: About,
    epsilon: f64,
    gamma: Option<&'a ArrayD<f64>>,
    beta: Option<&'a ArrayD<f64>>,
    shape: &'a [usize],
}

impl Run<'_> {
    /// Normalizes with the statistics of x; in training they need more than one value each.
    fn forward<T: Element, D: Dimension>(
        &self,
        x: CowArray<'_, T, D>,
        roles: &Roles,
        training: bool,
    ) -> Result<(Array<T, D>, Saved), Error> {
        self.check()?;
        let shape = x.shape().to_vec();
        let x = Arranged::new(x.into_dyn(), roles)?;
        if training && self.about == About::Mean && x.plan.values_per_set() == 1.0 {
            return Err(Error::OneValue { layer: self.name, shape });
        }
        let mut statistics = Statistics::default();
        let (gamma, beta) = (standard(self.gamma), standard(self.beta));
        let parameters = Parameters { gamma: gamma.as_deref(), beta: beta.as_deref() };
        let y = x.map_owned(|plan, buffers| statistics = plan.forward(buffers, self.about, self.epsilon, parameters));
        check_finite("x", &statistics.variance)?;
        check_finite("x", &statistics.mean)?;
        Ok((typed(y), Saved { statistics, fixed: false }))
    }

    /// Normalizes with given statistics.
    fn forward_fixed<T: Element, D: Dimension>(
        &self,
        x: CowArray<'_, T, D>,
        roles: &Roles,
        statistics: &Statistics,
    ) -> Result<Array<T, D>, Error> {
        self.check()?;
        let x = Arranged::new(x.into_dyn(), roles)?;
        let (gamma, beta) = (standard(self.gamma), standard(self.beta));
        let parameters = Parameters { gamma: gamma.as_deref(), beta: beta.as_deref() };
        Ok(typed(x.map_owned(|plan, buffers| plan.forward_fixed(buffers, statistics, self.epsilon, parameters))))
    }

    fn backward<T: Element, D: Dimension>(
        &self,
        saved: &Saved,
        x: ArrayView<'_, T, D>,
        dy: CowArray<'_, T, D>,
        roles: &Roles,
    ) -> Result<Gradients<T, D>, Error> {
        self.check()?;
        let x = Arranged::new(CowArray::from(x.into_dyn()), roles)?;
        let statistics = &saved.statistics;
        for (name, table) in [("the saved mean", &statistics.mean), ("the saved variance", &statistics.variance)] {
            if table.len() != x.plan.sets() {
                return Err(Error::Parameter { name, given: vec![table.len()], expected: vec![x.plan.sets()] });
            }
        }
        let (gamma, beta) = (standard(self.gamma), standard(self.beta));
        let parameters = Parameters { gamma: gamma.as_deref(), beta: beta.as_deref() };
        let (dx, gradients) = x.map_gradient(dy.into_dyn(), |slice, buffers| {
            x.plan.backward(slice, buffers, statistics, self.about, self.epsilon, parameters, saved.fixed)
        })?;
        check_finite("dy", &gradients.beta)?;
        // with a finite dy, what is left is x
        check_finite("x", &gradients.gamma)?;
        let shaped = |of: Option<&ArrayD<f64>>, values| {
            of.map(|of| ArrayD::from_shape_vec(of.raw_dim(), values).expect("as many values as channels"))
        };
        let (dgamma, dbeta) = (shaped(self.gamma, gradients.gamma), shaped(self.beta, gradients.beta));
        Ok(Gradients { dx: typed(dx), dgamma, dbeta })
    }

    /// ε and the parameters may have been set since the layer was made.
    fn check(&self) -> Result<(), Error> {
        check_epsilon(self.epsilon)?;
        for (name, parameter) in [("gamma", self.gamma), ("beta", self.beta)] {
            if let Some(parameter) = parameter
                && parameter.shape() != self.shape
            {
                let (given, expected) = (parameter.shape().to_vec(), self.shape.to_vec());
                return Err(Error::Parameter { name, given, expected });
            }
        }
        Ok(())
    }
}

fn standard(parameter: Option<&ArrayD<f64>>) -> Option<Vec<f64>> {
    parameter.map(|parameter| parameter.iter().copied().collect())
}

/// NaN and infinity in a tensor show in the statistics of their set.
fn check_finite(name: &'static str, table: &[f64]) -> Result<(), Error> {
    match table.iter().position(|value| !value.is_finite()) {
        Some(set) => Err(Error::NotFinite { name, set, sets: table.len() }),
        None => Ok(()),
    }
}

/// The axis of the channels, after checking that it has `channels` of them and that x has at least `least` axes.
fn channel_axis(
    layer: &'static str,
    shape: &[usize],
    axis: isize,
    channels: usize,
    least: usize,
) -> Result<usize, Error> {
    if shape.len() < least {
        return Err(Error::Rank { layer, shape: shape.to_vec(), least });
    }
    let axis = axis_index(axis, shape.len())?;
    if shape[axis] != channels {
        return Err(Error::Channels { axis, shape: shape.to_vec(), channels });
    }
    Ok(axis)
}

/// As [`channel_axis`], for normalizations of single samples: axis 0 is the samples'.
fn sample_and_channel(layer: &'static str, shape: &[usize], axis: isize, channels: usize) -> Result<usize, Error> {
    match channel_axis(layer, shape, axis, channels, 2)? {
        0 => Err(Error::SampleAxis { layer }),
        channel => Ok(channel),
    }
}

/// γ = 1 or β = 0 of a shape, where the layer has it.
fn parameter(present: bool, shape: &[usize], value: f64) -> Option<ArrayD<f64>> {
    present.then(|| ArrayD::from_elem(IxDyn(shape), value))
}
