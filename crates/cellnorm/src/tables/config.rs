//! How a layer by a rule is made.

use super::{Correction, Rule, Running, Slot, TableNorm};
use crate::error::{Error, check_epsilon};
use crate::norms::{Mode, Momentum, NOTHING_RUNS, Phase, RunningVariance, suits};
use crate::parameters::Initializer;
use crate::semantics::{OneValue, Semantics};

/// Makes a [`TableNorm`]. The constructors are at each normalization.
#[derive(Clone, Debug)]
pub struct TableNormConfig<R> {
    pub(crate) rule: R,
    epsilon: f64,
    scale: bool,
    center: bool,
    momentum: Momentum,
    /// The pace of a second pair of averages, for rules whose training looks at them.
    pub(crate) correction: Option<Momentum>,
    running_variance: RunningVariance,
    one_value: OneValue,
    gamma_initializer: Initializer,
    beta_initializer: Initializer,
    suits: Result<(), Error>,
}

impl<R: Rule> TableNormConfig<R> {
    /// The normalization by this rule, with all its parameters.
    pub fn of(rule: R) -> Self {
        let (momentum, running_variance) = (Momentum::Step(0.1), RunningVariance::default());
        let (one_value, gamma_initializer, beta_initializer) =
            (OneValue::default(), Initializer::Ones, Initializer::Zeros);
        let (epsilon, scale, center) = (R::EPSILON, true, true);
        Self {
            rule,
            epsilon,
            scale,
            center,
            momentum,
            correction: None,
            running_variance,
            one_value,
            gamma_initializer,
            beta_initializer,
            suits: Ok(()),
        }
    }

    crate::norms::common_options!();

    /// The pace of the running averages. Default: `Step(0.1)`.
    pub fn momentum(mut self, momentum: Momentum) -> Self {
        self.momentum = momentum;
        self
    }

    /// Which variance the running variance follows. Default: unbiased.
    pub fn running_variance(mut self, running_variance: RunningVariance) -> Self {
        self.running_variance = running_variance;
        self
    }

    /// As a framework has it: sets ε, γ and β, the channel axis, the running averages and what one
    /// value a statistic does. Later calls override.
    ///
    /// [`init`](Self::init) refuses semantics with ε on another side of the root than the rule's.
    pub fn semantics(mut self, semantics: &Semantics) -> Self {
        self.suits = suits(semantics, R::NAME, None, R::EPSILON_AT);
        (self.epsilon, self.scale, self.center) =
            (semantics.epsilon, semantics.scale, semantics.center);
        (self.momentum, self.running_variance) = (semantics.momentum, semantics.running_variance);
        self.one_value = semantics.one_value;
        self.rule.adopt(semantics);
        self
    }

    /// The layer, its parameters as the rule says that they start.
    ///
    /// # Errors
    /// If ε is not finite and at least 1e-36, momentum is not in \[0, 1\], the rule is not sound,
    /// or an initializer cannot be used.
    pub fn init(self) -> Result<TableNorm<R>, Error> {
        self.suits?;
        if self.one_value == OneValue::UseRunning && self.rule.running().is_none() {
            return Err(Error::Unsupported { layer: R::NAME, what: NOTHING_RUNS });
        }
        check_epsilon(self.epsilon)?;
        self.momentum.check()?;
        self.correction.map_or(Ok(()), Momentum::check)?;
        self.running_variance.check(self.epsilon)?;
        self.rule.check()?;
        let wanted = |name| (name != "gamma" || self.scale) && (name != "beta" || self.center);
        let parameter = |slot: Slot| {
            let initializer = match slot.name {
                "gamma" => self.gamma_initializer,
                "beta" => self.beta_initializer,
                _ => Initializer::Constant(slot.initial),
            };
            Ok((slot.name, wanted(slot.name).then(|| initializer.init(&slot.shape)).transpose()?))
        };
        let running = self
            .rule
            .running()
            .map(|(shape, second)| Running::start(&shape, second))
            .transpose()?;
        let correction = running.clone().zip(self.correction);
        let correction = correction.map(|(averages, momentum)| Correction { averages, momentum });
        let parameters =
            self.rule.slots().into_iter().map(parameter).collect::<Result<_, Error>>()?;
        let Self { rule, epsilon, momentum, running_variance, one_value, .. } = self;
        Ok(TableNorm {
            parameters,
            running,
            correction,
            epsilon,
            momentum,
            running_variance,
            one_value,
            mode: Mode::training(),
            phase: Phase::START,
            steps: 0,
            rule,
        })
    }
}
