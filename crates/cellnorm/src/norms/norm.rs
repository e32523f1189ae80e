//! The normalizations of single samples, which differ only in the role of each axis.

use ndarray::{Array, ArrayD, ArrayView, CowArray, Dimension};

use super::{Gradients, Roles, Run, Saved, common_options, parameter};
use crate::element::Element;
use crate::error::{Error, check_epsilon};
use crate::parameters::Initializer;
use crate::semantics::{EpsilonAt, Normalization, OneValue, Semantics};
use crate::standardize::About;
use crate::tables::STANDARDIZE;

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
/// let y = NormConfig::of(Rows)
///     .scale(false)
///     .center(false)
///     .init()?
///     .infer(ndarray::array![[1.0_f32, 3.0], [5.0, 9.0]])?;
/// assert!((y[[0, 1]] - 1.0).abs() < 1e-4 && (y[[1, 1]] - 1.0).abs() < 1e-4);
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub trait Kind: Clone + std::fmt::Debug {
    /// The normalization's name in messages.
    const NAME: &'static str;
    /// The formula, in words and letters.
    const FORMULA: &'static str = STANDARDIZE;
    /// What the values of a set are measured from.
    const ABOUT: About;
    /// Whether there is a β unless asked otherwise.
    const CENTER: bool = true;
    /// Which semantics describe it; None (the default) takes those of any layer.
    const NORMALIZATION: Option<Normalization> = None;
    /// The shape of γ and of β.
    fn parameter_shape(&self) -> Vec<usize>;

    /// Whether the kind itself is sound; asked once, when the layer is made.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Takes from a framework's semantics what the kind itself holds, such as the channel axis.
    fn adopt(&mut self, _semantics: &Semantics) {}

    /// The role of each axis of a tensor of this shape. `affine` says whether the layer has γ or β
    /// at all: without, no axis needs to carry a parameter.
    ///
    /// # Errors
    /// If the shape does not suit the normalization.
    fn roles(&self, shape: &[usize], affine: bool) -> Result<Roles, Error>;
}

/// Makes a [`Norm`].
///
/// The constructors are at [`LayerNormConfig`](super::LayerNormConfig),
/// [`InstanceNormConfig`](super::InstanceNormConfig), [`GroupNormConfig`](super::GroupNormConfig)
/// and [`RmsNormConfig`](super::RmsNormConfig).
#[derive(Clone, Debug)]
pub struct NormConfig<K> {
    pub(super) kind: K,
    epsilon: f64,
    scale: bool,
    center: bool,
    one_value: OneValue,
    suits: Result<(), Error>,
    gamma_initializer: Initializer,
    beta_initializer: Initializer,
}

impl<K: Kind> NormConfig<K> {
    /// The normalization of this kind, with γ and, where it is usual, β.
    pub fn of(kind: K) -> Self {
        let (gamma_initializer, beta_initializer) = (Initializer::Ones, Initializer::Zeros);
        let (one_value, suits) = (OneValue::Error, Ok(()));
        let (epsilon, scale, center) = (1e-5, true, K::CENTER);
        Self { kind, epsilon, scale, center, gamma_initializer, beta_initializer, one_value, suits }
    }

    common_options!();

    /// As a framework has it: sets ε, γ and β, the channel axis, and what one value a statistic
    /// does. Later calls override.
    ///
    /// [`init`](Self::init) refuses semantics that do not suit.
    pub fn semantics(mut self, semantics: &Semantics) -> Self {
        self.suits = suits(semantics, K::NAME, K::NORMALIZATION, EpsilonAt::InsideRoot);
        (self.epsilon, self.scale, self.center) =
            (semantics.epsilon, semantics.scale, semantics.center);
        self.one_value = semantics.one_value;
        self.kind.adopt(semantics);
        self
    }

    /// The layer, with γ = 1 and β = 0 unless they start otherwise.
    ///
    /// # Errors
    /// If ε is not finite and at least 1e-36, groups do not divide the channels, no axis is named,
    /// axes and lengths differ in number, the semantics are those of another layer or have ε
    /// outside the root, or one value a statistic is to use running statistics, or an initializer
    /// cannot be used.
    pub fn init(self) -> Result<Norm<K>, Error> {
        self.suits?;
        check_epsilon(self.epsilon)?;
        self.kind.check()?;
        if self.one_value == OneValue::UseRunning {
            return Err(Error::Unsupported { layer: K::NAME, what: NOTHING_RUNS });
        }
        let shape = self.kind.parameter_shape();
        let gamma = parameter(self.scale, &shape, self.gamma_initializer)?;
        let beta = parameter(self.center, &shape, self.beta_initializer)?;
        Ok(Norm { gamma, beta, epsilon: self.epsilon, one_value: self.one_value, kind: self.kind })
    }
}

/// Of a layer that cannot use running statistics.
pub(crate) const NOTHING_RUNS: &str =
    "has no running statistics to use for one value; choose Error, AlwaysError or Beta";

/// Whether a layer that is described by some semantics, and adds ε in some place, can do what these
/// say.
pub(crate) fn suits(
    semantics: &Semantics,
    layer: &'static str,
    is: Option<Normalization>,
    epsilon_at: EpsilonAt,
) -> Result<(), Error> {
    if is.is_some_and(|is| is != semantics.normalization) {
        return Err(Error::OtherLayer { layer, semantics: semantics.name });
    }
    let what = match (epsilon_at, semantics.epsilon_at) {
        (EpsilonAt::InsideRoot, EpsilonAt::OutsideRoot) => {
            "adds epsilon inside the root only, and these semantics add it outside"
        }
        (EpsilonAt::OutsideRoot, EpsilonAt::InsideRoot) => {
            "adds epsilon outside the root only, and these semantics add it inside"
        }
        _ => return Ok(()),
    };
    Err(Error::Unsupported { layer, what })
}

/// A normalization of single samples: the same in training and in inference, and independent of the
/// batch.
///
/// Use it as [`LayerNorm`](super::LayerNorm), [`InstanceNorm`](super::InstanceNorm),
/// [`GroupNorm`](super::GroupNorm) or [`RmsNorm`](super::RmsNorm).
#[derive(Clone, Debug)]
pub struct Norm<K> {
    /// The factor γ; None without scale.
    pub gamma: Option<ArrayD<f64>>,
    /// The offset β; None without center.
    pub beta: Option<ArrayD<f64>>,
    /// ε inside the root.
    pub epsilon: f64,
    /// What one value a statistic does.
    pub one_value: OneValue,
    pub(super) kind: K,
}

impl<K: Kind> Norm<K> {
    /// Normalizes, and returns what the backward pass needs.
    ///
    /// # Errors
    /// If x does not have the layer's axes, is empty, has one value per statistic and the policy
    /// forbids it, or holds NaN or infinity; or if a parameter was set to a wrong shape.
    pub fn forward<T: Element, D: Dimension>(
        &self,
        x: ArrayView<'_, T, D>,
    ) -> Result<(Array<T, D>, Saved), Error> {
        let roles = self.roles(x.shape())?;
        self.run(&self.kind.parameter_shape()).forward(CowArray::from(x), &roles, true)
    }

    /// Normalizes, over x itself where the array is handed over.
    ///
    /// # Errors
    /// As [`Norm::forward`], but one value per statistic is fine unless it is always an error.
    pub fn infer<'a, T: Element, D: Dimension>(
        &self,
        x: impl Into<CowArray<'a, T, D>>,
    ) -> Result<Array<T, D>, Error> {
        let x = x.into();
        let roles = self.roles(x.shape())?;
        Ok(self.run(&self.kind.parameter_shape()).forward(x, &roles, false)?.0)
    }

    /// The gradients, given what the forward pass saved, its x, and dy; dx is written over dy where
    /// that is handed over.
    ///
    /// # Errors
    /// If dy has another shape than x, x is not that of the forward pass, or the sums of dy are not
    /// finite.
    pub fn backward<'a, T: Element, D: Dimension>(
        &self,
        saved: &Saved,
        x: ArrayView<'_, T, D>,
        dy: impl Into<CowArray<'a, T, D>>,
    ) -> Result<Gradients<T, D>, Error> {
        let roles = self.roles(x.shape())?;
        self.run(&self.kind.parameter_shape()).backward(saved, x, dy.into(), &roles)
    }

    pub(super) fn roles(&self, shape: &[usize]) -> Result<Roles, Error> {
        self.kind.roles(shape, self.gamma.is_some() || self.beta.is_some())
    }

    /// Which values share statistics.
    pub fn kind(&self) -> &K {
        &self.kind
    }

    pub(super) fn run<'a>(&'a self, shape: &'a [usize]) -> Run<'a> {
        let (gamma, beta) = (self.gamma.as_ref(), self.beta.as_ref());
        Run {
            name: K::NAME,
            about: K::ABOUT,
            epsilon: self.epsilon,
            gamma,
            beta,
            shape,
            one_value: self.one_value,
            train_parameters: true,
        }
    }
}
