//! How a batch normalization is made.

use ndarray::Array1;

use super::norm::suits;
use super::{
    Batch, BatchNorm, Kind, Mode, Momentum, Phase, RunningVariance, common_options, parameter,
};
use crate::arrays::check_size;
use crate::error::{Error, check_epsilon};
use crate::parameters::Initializer;
use crate::semantics::{EpsilonAt, OneValue, Semantics};

/// Makes a [`BatchNorm`].
///
/// ```
/// use cellnorm::{BatchNormConfig, Momentum, Normalization, RunningVariance, Semantics};
/// let by_hand = BatchNormConfig::new(64)
///     .channel_axis(-1)
///     .epsilon(1e-3)
///     .momentum(Momentum::Keep(0.99))
///     .running_variance(RunningVariance::Biased)
///     .init()?;
/// let keras = Semantics::preset("keras-3", Normalization::Batch)?;
/// let by_name = BatchNormConfig::new(64).semantics(&keras).init()?;
/// assert_eq!((by_name.epsilon, by_name.momentum), (by_hand.epsilon, by_hand.momentum));
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BatchNormConfig {
    kind: Batch,
    epsilon: f64,
    momentum: Momentum,
    running_variance: RunningVariance,
    scale: bool,
    center: bool,
    gamma_initializer: Initializer,
    beta_initializer: Initializer,
    one_value: OneValue,
    suits: Result<(), Error>,
}

impl BatchNormConfig {
    /// Batch normalization of `channels` channels on axis 1, with γ and β.
    pub fn new(channels: usize) -> Self {
        Self {
            kind: Batch { channels, channel_axis: 1 },
            epsilon: 1e-5,
            momentum: Momentum::Step(0.1),
            running_variance: RunningVariance::default(),
            scale: true,
            center: true,
            gamma_initializer: Initializer::Ones,
            beta_initializer: Initializer::Zeros,
            one_value: OneValue::Error,
            suits: Ok(()),
        }
    }

    /// The axis of the channels; negative counts from the last. Default: 1 (NCHW); −1 for
    /// channels-last.
    pub fn channel_axis(mut self, axis: isize) -> Self {
        self.kind.channel_axis = axis;
        self
    }

    /// The pace of the running statistics. Default: `Momentum::Step(0.1)`.
    pub fn momentum(mut self, momentum: Momentum) -> Self {
        self.momentum = momentum;
        self
    }

    /// Which variance the running variance follows. Default: unbiased.
    pub fn running_variance(mut self, rule: RunningVariance) -> Self {
        self.running_variance = rule;
        self
    }

    common_options!();

    /// As a framework has it: sets ε, γ and β, the channel axis, momentum, the rule of the running
    /// variance, and what one value a statistic does. Later calls override.
    ///
    /// [`init`](Self::init) refuses semantics that do not suit.
    pub fn semantics(mut self, semantics: &Semantics) -> Self {
        self.suits = suits(semantics, Batch::NAME, Batch::NORMALIZATION, EpsilonAt::InsideRoot);
        (self.epsilon, self.scale, self.center) =
            (semantics.epsilon, semantics.scale, semantics.center);
        (self.momentum, self.running_variance) = (semantics.momentum, semantics.running_variance);
        self.one_value = semantics.one_value;
        self.kind.adopt(semantics);
        self
    }

    /// The layer, with γ = 1 and β = 0 unless they start otherwise, running mean 0 and running
    /// variance 1.
    ///
    /// # Errors
    /// If ε is not finite and at least 1e-36, or not below 1 where the running variance is Keras'
    /// legacy one; if momentum is not in \[0, 1\]; or if the semantics are those of another layer
    /// or have ε outside the root, or an initializer cannot be used.
    pub fn init(self) -> Result<BatchNorm, Error> {
        self.suits?;
        check_epsilon(self.epsilon)?;
        self.momentum.check()?;
        self.running_variance.check(self.epsilon)?;
        let channels = self.kind.channels;
        let shape = [channels];
        check_size(&shape)?;
        Ok(BatchNorm {
            gamma: parameter(self.scale, &shape, self.gamma_initializer)?,
            beta: parameter(self.center, &shape, self.beta_initializer)?,
            running_mean: Array1::zeros(channels),
            running_var: Array1::ones(channels),
            epsilon: self.epsilon,
            momentum: self.momentum,
            running_variance: self.running_variance,
            one_value: self.one_value,
            mode: Mode::training(),
            steps: 0,
            phase: Phase::START,
            kind: self.kind,
        })
    }
}
