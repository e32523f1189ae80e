//! The thresholded linear unit, y = max(x, τ), or in its affine form y = max(x, α x + τ).

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};
use cellnorm::norms::{Features, Layer};
use cellnorm::rule::Rule;

use super::value;

/// Makes a [`Tlu`].
#[derive(Config, Debug)]
pub struct TluConfig {
    /// The axes that τ varies along; negative counts from the last.
    pub axes: Vec<isize>,
    /// Their lengths, in the tensor's order.
    pub lengths: Vec<usize>,
    /// Whether there is a slope α below the threshold. Default: false
    #[config(default = false)]
    pub affine: bool,
    /// How τ starts. Default: zeros, a ReLU
    #[config(default = "Initializer::Zeros")]
    pub tau_initializer: Initializer,
    /// How α starts. Default: zeros
    #[config(default = "Initializer::Zeros")]
    pub alpha_initializer: Initializer,
}

/// The thresholded linear unit, a ReLU whose threshold is learned: y = max(x, τ), or in its affine
/// form y = max(x, α x + τ), with τ and α for each channel or each index along several axes. It is
/// the same in training and in inference. Where both are equal, x has the gradient.
///
/// It follows filter response normalization, which leaves the mean where it is, so that a ReLU's 0
/// is no good place to cut.
///
/// Source: S. Singh, S. Krishnan, *Filter Response Normalization Layer*, 2020; the affine form is
/// that of `TLU` in TensorFlow Addons, which has τ and α for each element of a sample.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use cellnorm_burn::TluConfig;
/// let device = Device::flex().autodiff();
/// let unit = TluConfig::per_channel(2)
///     .with_tau_initializer(burn::nn::Initializer::Constant { value: -0.5 })
///     .init(&device);
/// let y = unit.forward(Tensor::<2>::from_floats([[-1.0, 2.0], [-0.25, -3.0]], &device));
/// assert_eq!(y.clone().into_data().try_to_vec::<f32>().unwrap(), [-0.5, 2.0, -0.25, -0.5]);
/// let gradients = y.sum().backward();
/// assert_eq!(
///     unit.tau.val().grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap(),
///     [1.0, 1.0]
/// );
/// ```
#[derive(Module, Debug)]
pub struct Tlu {
    /// The thresholds τ, row-major along the axes.
    pub tau: Param<Tensor<1>>,
    /// The slopes α, as long; None in the plain form.
    pub alpha: Option<Param<Tensor<1>>>,
    /// The axes that τ varies along.
    #[module(skip)]
    pub axes: Vec<isize>,
    /// Their lengths.
    #[module(skip)]
    pub lengths: Vec<usize>,
}

impl TluConfig {
    /// τ for each of `channels` channels on axis 1, as in the paper.
    pub fn per_channel(channels: usize) -> Self {
        Self::new(vec![1], vec![channels])
    }

    /// The unit.
    ///
    /// # Panics
    /// If no axis is named, or there is not one length for each.
    pub fn init(&self, device: &Device) -> Tlu {
        let (axes, lengths) = (self.axes.clone(), self.lengths.clone());
        let layer = cellnorm::LayerNormConfig::over(&axes, &lengths).init();
        layer.unwrap_or_else(|error| panic!("{error}"));
        let len: usize = lengths.iter().product();
        let tau = self.tau_initializer.init([len], device);
        let alpha = self.affine.then(|| self.alpha_initializer.init([len], device));
        Tlu { tau, alpha, axes, lengths }
    }
}

impl Tlu {
    /// max(x, τ), or max(x, α x + τ). NaN stays NaN.
    ///
    /// # Panics
    /// If x does not have the unit's axes with their lengths.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let shape = x.dims();
        // γ of a layer normalization over these axes lies as τ does
        let layer = Layer(Features::Axes(self.axes.clone(), self.lengths.clone()));
        let roles = layer.roles(&shape, true).unwrap_or_else(|error| panic!("{error}"));
        let roles = roles.expect("layer normalization is plain");
        let along: [usize; D] =
            roles.parameters_along(&shape).try_into().expect("a length for each axis");
        let tau = self.tau.val().reshape(along);
        let other = match value(&self.alpha) {
            Some(alpha) => x.clone() * alpha.reshape(along) + tau,
            None => tau.expand(shape),
        };
        x.clone().mask_where(x.lower(other.clone()), other)
    }
}
