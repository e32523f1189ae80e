//! From what one framework stores to what another does, exactly or not at all.
//!
//! A running variance that follows M2/(n − 1) becomes one that follows M2/n by the factor (n −
//! 1)/n, where each batch had n values a channel. γ of a group is repeated for its channels, and
//! the reverse where they agree. γ that is absent is 1, β is 0.

use ndarray::{ArrayD, IxDyn};

use super::State;
use crate::error::{Error, check_groups, check_number};
use crate::semantics::{GroupParameters, Semantics, Unlearned};
use crate::{momentum::Momentum, normalization::Normalization};

/// The values that a conversion may need besides the state.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Known {
    /// The number of values that shared each statistic in training: samples × positions of a batch.
    pub values: Option<f64>,
    /// The number of channels, for γ of groups that is to be repeated, or that is absent.
    pub channels: Option<usize>,
    /// The number of groups, for γ of channels that is to become that of groups.
    pub groups: Option<usize>,
}

impl Semantics {
    /// These conventions with the numbers of another: its ε and where it is added, its momentum in
    /// the direction used here, and whether γ and β are learned. What a layer's state can be
    /// [converted](State::to) to without loss.
    ///
    /// ```
    /// use cellnorm::{Momentum, Normalization, Semantics};
    /// let torch = Semantics::preset("pytorch-2", Normalization::Batch)?;
    /// let keras = Semantics::preset("keras-3", Normalization::Batch)?.keeping(&torch);
    /// assert_eq!((keras.epsilon, keras.momentum), (1e-5, Momentum::Keep(0.9)));
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn keeping(self, numbers: &Self) -> Self {
        let momentum = match (self.momentum, numbers.momentum) {
            (Momentum::Keep(_), Momentum::Step(step)) => Momentum::Keep(1.0 - step),
            (Momentum::Step(_), Momentum::Keep(keep)) => Momentum::Step(1.0 - keep),
            (_, same) => same,
        };
        let (epsilon, epsilon_at) = (numbers.epsilon, numbers.epsilon_at);
        Self { epsilon, epsilon_at, momentum, scale: numbers.scale, center: numbers.center, ..self }
    }
}

impl State {
    /// The state as `to` stores it, where this is as `from` stores it.
    ///
    /// The running variance is exact where every batch had the same number of values. Steps that
    /// `to` counts and `from` does not become 0.
    ///
    /// # Errors
    /// If the layers or their ε differ (no state compensates another ε in training;
    /// [`Semantics::keeping`] keeps it), the rules of the running variance differ and
    /// `known.values` is absent, γ of the channels of a group differ where `to` has one for the
    /// group, `to` has no γ or β and this has one that is not 1 or 0, or a number of channels or
    /// groups that is needed is absent.
    pub fn to(&self, to: &Semantics, from: &Semantics, known: &Known) -> Result<State, Error> {
        let refused = |problem| Error::Conversion { from: from.name, to: to.name, problem };
        let (one, other) = (from.normalization, to.normalization);
        if one != other {
            return Err(refused(format!("one is {one} normalization, the other {other}")));
        }
        if (from.epsilon, from.epsilon_at) != (to.epsilon, to.epsilon_at) {
            let (a, b) = (from.epsilon, to.epsilon);
            return Err(refused(format!(
                "epsilon changes from {a:?} to {b:?} or to another place, which no state makes up \
                 for; build the layer with epsilon {a:?} and convert to `to.keeping(&from)`"
            )));
        }
        let mut state = self.clone();
        if from.normalization == Normalization::Group {
            state.gamma = regroup(&self.gamma, to, from, known)?;
            state.beta = regroup(&self.beta, to, from, known)?;
        }
        let length = match to.group_parameters {
            GroupParameters::PerGroup => known.groups,
            GroupParameters::PerChannel => known.channels,
        };
        let shape = state.shape().or(length.map(|length| vec![length]));
        let filled = |name: &str, values, learned, role, absent| {
            let known = Option::is_some(&values) || shape.is_some();
            let kept = learned || role == Unlearned::Applied && known;
            fill(values, kept, absent, &shape).map_err(|why| refused(format!("{name} {why}")))
        };
        let gamma = filled("gamma", state.gamma, to.scale, to.unlearned_gamma, 1.0)?;
        let beta = filled("beta", state.beta, to.center, to.unlearned_beta, 0.0)?;
        let variance = state.variance.map(|v| rebias(v, to, from, known)).transpose()?;
        let counted = to.running_statistics && to.names.steps.is_some();
        let steps = counted.then(|| state.steps.unwrap_or(0));
        Ok(State { gamma, beta, variance, steps, ..state })
    }
}

/// γ or β just where it is learned; absent, it is `absent` everywhere.
fn fill(
    values: Option<ArrayD<f64>>,
    learned: bool,
    absent: f64,
    shape: &Option<Vec<usize>>,
) -> Result<Option<ArrayD<f64>>, String> {
    match (values, shape) {
        (Some(values), _) if learned => Ok(Some(values)),
        (None, Some(shape)) if learned => Ok(Some(ArrayD::from_elem(IxDyn(shape), absent))),
        (None, None) if learned => {
            Err("is absent and its length unknown; say the number of channels, or of groups".into())
        }
        (Some(values), _) if values.iter().any(|v| *v != absent) => {
            Err(format!("is not {absent} everywhere, and the target has none; give it one"))
        }
        _ => Ok(None),
    }
}

/// The running variance under another rule.
fn rebias(
    variance: ArrayD<f64>,
    to: &Semantics,
    from: &Semantics,
    known: &Known,
) -> Result<ArrayD<f64>, Error> {
    let (a, b) = (from.running_variance, to.running_variance);
    if a == b {
        return Ok(variance);
    }
    a.check(from.epsilon)?;
    b.check(to.epsilon)?;
    let Some(n) = known.values else {
        let problem = format!(
            "the running variance changes from {a:?} to {b:?}; say how many values each \
             channel had in a training batch (samples times positions)"
        );
        return Err(Error::Conversion { from: from.name, to: to.name, problem });
    };
    check_number("values", n, n >= 2.0 && n.is_finite(), "finite and at least 2")?;
    Ok(variance * (b.factor(n, to.epsilon) / a.factor(n, from.epsilon)))
}

/// γ or β of group normalization, per channel or per group.
fn regroup(
    values: &Option<ArrayD<f64>>,
    to: &Semantics,
    from: &Semantics,
    known: &Known,
) -> Result<Option<ArrayD<f64>>, Error> {
    use GroupParameters::{PerChannel, PerGroup};
    let refuse = |problem: String| Err(Error::Conversion { from: from.name, to: to.name, problem });
    let Some(values) = values else { return Ok(None) };
    let values: Vec<f64> = values.iter().copied().collect();
    let regrouped = match (from.group_parameters, to.group_parameters) {
        (PerGroup, PerChannel) => {
            let Some(channels) = known.channels else {
                let problem = "each group's value is to be repeated for its channels; say the \
                               number of channels";
                return refuse(problem.into());
            };
            check_groups(channels, values.len())?;
            let size = channels / values.len();
            values.iter().flat_map(|value| std::iter::repeat_n(*value, size)).collect()
        }
        (PerChannel, PerGroup) => {
            let Some(groups) = known.groups else {
                let problem =
                    "the channels' values are to become those of groups; say the number of groups";
                return refuse(problem.into());
            };
            check_groups(values.len(), groups)?;
            let each: Vec<&[f64]> = values.chunks(values.len() / groups).collect();
            if let Some(group) = each.iter().position(|of| of.iter().any(|value| value != &of[0])) {
                return refuse(format!(
                    "the channels of the group with index {group} have different values, {:?}, \
                     and one is wanted",
                    each[group]
                ));
            }
            each.iter().map(|of| of[0]).collect()
        }
        _ => values,
    };
    Ok(Some(ArrayD::from_shape_vec(IxDyn(&[regrouped.len()]), regrouped).expect("one axis")))
}
