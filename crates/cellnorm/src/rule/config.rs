//! How a layer is made.

use super::layer::check_running;
use super::{Correction, Norm, ParameterSpec, Rule, Running};
use crate::error::{Error, check_epsilon};
use crate::momentum::{Mode, Momentum, OneValue, Phase, RunningVariance};
use crate::normalization::Normalization;
use crate::semantics::{EpsilonAt, Semantics, Unlearned};
use crate::shape::{Centering, Excluded};
use crate::{kernels::Activation, parameters::Initializer};

/// Makes a [`Norm`]. The constructors are at each normalization.
#[derive(Clone, Debug)]
pub struct NormConfig<R> {
    pub(crate) rule: R,
    epsilon: f64,
    gamma: Presence,
    beta: Presence,
    momentum: Momentum,
    /// The pace of a second pair of averages, for rules whose training takes them.
    pub(crate) correction: Option<Momentum>,
    running_variance: RunningVariance,
    running_statistics: bool,
    one_value: OneValue,
    excluded: Excluded,
    activation: Activation,
    gamma_initializer: Initializer,
    beta_initializer: Initializer,
    suits: Result<(), Error>,
}

/// Whether a layer has a γ or a β.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Absent,
    Frozen,
    Trained,
}

impl Presence {
    fn new(trained: bool, unlearned: Unlearned) -> Self {
        match (trained, unlearned) {
            (true, _) => Self::Trained,
            (false, Unlearned::Applied) => Self::Frozen,
            (false, Unlearned::Absent | Unlearned::Ignored) => Self::Absent,
        }
    }
}

impl<R: Rule> NormConfig<R> {
    /// The normalization by this rule, with its usual parameters: yours, too.
    pub fn custom(rule: R) -> Self {
        Self {
            rule,
            epsilon: R::EPSILON,
            gamma: Presence::Trained,
            beta: Presence::new(R::CENTER, Unlearned::Absent),
            momentum: Momentum::Step(0.1),
            correction: None,
            running_variance: RunningVariance::default(),
            running_statistics: true,
            one_value: OneValue::default(),
            excluded: Excluded::default(),
            activation: Activation::Identity,
            gamma_initializer: Initializer::Ones,
            beta_initializer: Initializer::Zeros,
            suits: Ok(()),
        }
    }

    setters! {
        /// ε, added to the variance inside the root. Default: 1e-5, or as the normalization says.
        epsilon: f64,
        /// The policy for one value a statistic. Default: an error in training.
        one_value: OneValue,
        /// The treatment of values that a mask excludes. Default: y and dx are 0 there.
        excluded: Excluded,
        /// The activation after γ x̂ + β, in the same passes forward and backward. Default: none.
        activation: Activation,
        /// How γ starts. Default: [`Initializer::Ones`]. See [`Initializer::warning`].
        gamma_initializer: Initializer,
        /// How β starts. Default: [`Initializer::Zeros`].
        beta_initializer: Initializer,
        /// The pace of the running averages. Default: `Momentum::Step(0.1)`.
        momentum: Momentum,
        /// Which variance the running variance follows. Default: unbiased.
        running_variance: RunningVariance,
        /// Whether the layer keeps the running averages of its rule. Without, the statistics are
        /// always those of x, in inference, too: PyTorch's `track_running_stats=False`.
        /// Default: true.
        running_statistics: bool,
    }

    /// Whether there is a factor γ. Default: true.
    pub fn scale(mut self, scale: bool) -> Self {
        self.gamma = Presence::new(scale, Unlearned::Absent);
        self
    }

    /// Whether there is an offset β. Default: true, but false for RMS.
    pub fn center(mut self, center: bool) -> Self {
        self.beta = Presence::new(center, Unlearned::Absent);
        self
    }

    /// As a framework has it: sets ε, γ and β, the channel axis, the running averages, what one
    /// value a statistic does, and the treatment of values that a mask excludes. Later calls
    /// override. A γ or β that is [applied but not learned](Unlearned::Applied) is there, and
    /// [frozen](Norm::freeze_parameter).
    ///
    /// [`init`](Self::init) refuses those of another layer, or with ε on another side of the root.
    pub fn semantics(mut self, semantics: &Semantics) -> Self {
        self.suits = suits::<R>(semantics);
        self.epsilon = semantics.epsilon;
        let [scale, center] = R::learned(semantics);
        self.gamma = Presence::new(scale, semantics.unlearned_gamma);
        self.beta = Presence::new(center, semantics.unlearned_beta);
        (self.momentum, self.running_variance) = (semantics.momentum, semantics.running_variance);
        if semantics.normalization == Normalization::Batch {
            self.running_statistics = semantics.running_statistics;
        }
        (self.one_value, self.correction) = (semantics.one_value, R::correction(semantics));
        self.excluded = semantics.excluded;
        self.rule.adopt(semantics);
        self
    }

    /// The layer, with γ = 1 and β = 0 unless they start otherwise; the other parameters and the
    /// running averages start as the rule says, running means with 0.
    ///
    /// # Errors
    /// If ε is not finite and at least 1e-36, or not below 1 where the running variance is Keras'
    /// legacy one; if momentum is not in \[0, 1\], or the rule is not sound (groups that do not
    /// divide the channels, no axis, another number of lengths than of axes); if the semantics are
    /// those of another layer, one value a statistic is to use running averages that there are none
    /// of, an initializer cannot be used, or a rule about zero keeps running averages.
    pub fn init(self) -> Result<Norm<R>, Error> {
        self.suits?;
        let running = self.rule.running().filter(|_| self.running_statistics);
        check_running::<R>(self.one_value, running.is_some())?;
        if R::CENTERING == Centering::Zero && running.is_some() {
            let what = "takes statistics about zero and keeps running averages; a rule does one";
            return Err(Error::Unsupported { layer: R::NAME, what });
        }
        check_epsilon(self.epsilon)?;
        self.momentum.check()?;
        self.correction.map_or(Ok(()), Momentum::check)?;
        self.running_variance.check(self.epsilon)?;
        self.rule.check()?;
        let (mut gamma, mut beta, mut extra) = (None, None, vec![]);
        let mut frozen_parameters = vec![];
        for ParameterSpec { name, shape, initial } in self.rule.parameters() {
            let presence = match name {
                "gamma" => self.gamma,
                "beta" => self.beta,
                _ => Presence::Trained,
            };
            match (name, presence) {
                (_, Presence::Absent) => continue,
                ("gamma", _) => {
                    gamma = Some(self.gamma_initializer.init(&shape)? - R::GAMMA_OFFSET);
                }
                ("beta", _) => beta = Some(self.beta_initializer.init(&shape)?),
                _ => extra.push((name, Initializer::Constant(initial).init(&shape)?)),
            }
            if presence == Presence::Frozen {
                frozen_parameters.push(name);
            }
        }
        let running = running.map(|(shape, second)| Running::start(&shape, second)).transpose()?;
        let correction = running.clone().zip(self.correction);
        Ok(Norm {
            gamma,
            beta,
            extra,
            running,
            correction: correction.map(|(averages, momentum)| Correction { averages, momentum }),
            epsilon: self.epsilon,
            momentum: self.momentum,
            running_variance: self.running_variance,
            one_value: self.one_value,
            excluded: self.excluded,
            activation: self.activation,
            mode: Mode::training(),
            phase: Phase::START,
            steps: 0,
            frozen_parameters,
            rule: self.rule,
        })
    }
}

/// Whether a layer can do what some semantics say.
fn suits<R: Rule>(semantics: &Semantics) -> Result<(), Error> {
    let layer = R::NAME;
    if !R::described(semantics) {
        return Err(Error::OtherLayer { layer, semantics: semantics.name });
    }
    let what = match (R::EPSILON_AT, semantics.epsilon_at) {
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
