//! The differences between two semantics, and their size.
//!
//! At a variance v, another ε moves every output by the factor √(v + ε_a) / √(v + ε_b). Over n
//! values, another rule moves the running variance by the ratio of n/(n − 1), 1 and n/(n − 1 − ε).
//! With momentum, a running statistic that starts at 0 and sees batches of 1 stands at 1 − (1 −
//! s)^k after k steps.

use std::fmt;

use super::{EpsilonAt, Semantics, Unlearned};
use crate::momentum::{Frozen, Momentum, OneValue};
use crate::normalization::Normalization;
use crate::shape::Excluded;

/// Where a difference is measured: the variance of the data, and the values that share a statistic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The variance of the values, biased.
    pub variance: f64,
    /// The number of values that share a statistic.
    pub values: f64,
}

impl Default for Sample {
    /// Variance 1, 32 values.
    fn default() -> Self {
        Self { variance: 1.0, values: 32.0 }
    }
}

/// One thing that two semantics differ in. Displayed as a row: field, both values, effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The field of [`Semantics`].
    pub field: &'static str,
    /// The value of the first.
    pub a: String,
    /// The value of the second.
    pub b: String,
    /// How much larger the second's outputs, running variance, or running statistics after 100
    /// steps are, relative to the first's; None where a number cannot say it.
    pub by: Option<f64>,
    /// The effect of the difference, in words and numbers.
    pub effect: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<18} {:<24} {:<24} {}", self.field, self.a, self.b, self.effect)
    }
}

impl Semantics {
    /// The differences, measured at variance 1 and 32 values a statistic.
    ///
    /// ```
    /// use cellnorm::{Normalization, Semantics};
    /// let torch = Semantics::preset("pytorch-2", Normalization::Batch)?;
    /// let keras = Semantics::preset("keras-3", Normalization::Batch)?;
    /// let differences = torch.diff(&keras);
    /// assert_eq!(differences[0].field, "epsilon");
    /// assert_eq!(differences[0].effect, "outputs move by -0.0495 % where the variance is 1");
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn diff(&self, other: &Self) -> Vec<Difference> {
        self.diff_at(other, Sample::default())
    }

    /// The differences, measured at `sample`; empty where both mean the same.
    ///
    /// Momentum, the running variance and freezing are compared only between batch normalizations;
    /// batch renormalization and ghost batches only where both have them.
    pub fn diff_at(&self, other: &Self, sample: Sample) -> Vec<Difference> {
        let (a, b) = (self, other);
        let mut found = Vec::new();
        let mut add = |field, a: String, b: String, by, effect: String| {
            if a != b {
                found.push(Difference { field, a, b, by, effect });
            }
        };
        macro_rules! field {
            ($field:ident, $by:expr, $effect:expr) => {
                add(stringify!($field), text(a.$field), text(b.$field), $by, $effect)
            };
        }
        field!(normalization, None, "other values share statistics".into());
        let by = scale(b, sample) / scale(a, sample) - 1.0;
        let outputs =
            format!("outputs move by {} where the variance is {}", percent(by), sample.variance);
        field!(epsilon, Some(by), outputs.clone());
        field!(epsilon_at, Some(by), outputs);
        let effect = "the same memory has its channels elsewhere; transpose, or set the axis";
        field!(channel_axis, None, effect.into());
        field!(scale, None, only("gamma is learned", a.scale, a, b));
        field!(center, None, only("beta is learned", a.center, a, b));
        let each =
            |say: fn(&Self) -> &str| format!("{}: {}; {}: {}", a.name, say(a), b.name, say(b));
        field!(unlearned_gamma, None, each(|of| unlearned(of.unlearned_gamma)));
        field!(unlearned_beta, None, each(|of| unlearned(of.unlearned_beta)));
        field!(one_value, None, each(one_value));
        if a.normalization == Normalization::Group || b.normalization == Normalization::Group {
            let effect = "repeat a group's value for its channels, or the reverse where all agree";
            field!(group_parameters, None, effect.into());
        }
        if a.normalization == Normalization::Batch && b.normalization == Normalization::Batch {
            let (by, mut effect) = pace(a.momentum, b.momentum);
            let pooled = [a, b].map(|of| of.momentum == Momentum::Pooled);
            if pooled[0] != pooled[1] {
                let one = if pooled[0] { a.name } else { b.name };
                effect = format!(
                    "only the running variance of {one} has the spread of the batches' means; \
                     {effect}"
                );
            }
            field!(momentum, Some(by), effect);
            let factor = |of: &Semantics| of.running_variance.factor(sample.values, of.epsilon);
            let by = factor(b) / factor(a) - 1.0;
            let (moves, values) = (percent(by), sample.values);
            let effect = format!("the running variance moves by {moves} at {values} values");
            field!(running_variance, Some(by), effect);
            field!(frozen, None, each(frozen));
            if a.renorm_momentum.is_some() == b.renorm_momentum.is_some() {
                field!(
                    renorm_momentum,
                    None,
                    "batch renormalization is corrected at another pace".into()
                );
            }
            if a.ghost_interleaved.is_some() == b.ghost_interleaved.is_some() {
                field!(ghost_interleaved, None, "other samples form a ghost batch".into());
            }
        }
        if a.normalization == b.normalization {
            let running = |of: &Self| match of.running_statistics {
                true => "running statistics normalize in inference",
                false => "those of x normalize in inference, too",
            };
            field!(running_statistics, None, each(running));
        }
        field!(excluded, None, each(excluded));
        let fields = ["names.gamma", "names.beta", "names.mean", "names.variance", "names.steps"];
        for (field, (of_a, of_b)) in fields.into_iter().zip(a.names().into_iter().zip(b.names())) {
            let effect = match (of_a, of_b) {
                (Some(_), None) => format!("stored only by {}", a.name),
                (None, Some(_)) => format!("stored only by {}", b.name),
                _ => "the same numbers under another name".into(),
            };
            let [of_a, of_b] = [of_a, of_b].map(|name| name.unwrap_or("not stored").to_owned());
            add(field, of_a, of_b, None, effect);
        }
        found
    }
}

/// The factor of x − mean, before γ.
fn scale(of: &Semantics, sample: Sample) -> f64 {
    match of.epsilon_at {
        EpsilonAt::InsideRoot => 1.0 / (sample.variance + of.epsilon).sqrt(),
        EpsilonAt::OutsideRoot => 1.0 / (sample.variance.sqrt() + of.epsilon),
    }
}

/// Where running statistics stand that start at 0 and see 1, after 1 and after 100 steps.
fn pace(a: Momentum, b: Momentum) -> (f64, String) {
    let after = |momentum: Momentum, steps: u64| {
        1.0 - (1..=steps).map(|k| 1.0 - momentum.weight(k)).product::<f64>()
    };
    let [a1, a100, b1, b100] = [after(a, 1), after(a, 100), after(b, 1), after(b, 100)];
    if (a1 - b1).abs() < 1e-12 && (a100 - b100).abs() < 1e-12 {
        return (0.0, "the same pace, written otherwise".into());
    }
    let effect = format!(
        "running statistics on the way from 0 to 1: {a1:.4} and {b1:.4} after 1 step, {a100:.4} \
         and {b100:.4} after 100"
    );
    (b100 / a100 - 1.0, effect)
}

fn unlearned(role: Unlearned) -> &'static str {
    match role {
        Unlearned::Absent => "not stored where it is not learned",
        Unlearned::Applied => "stored and applied where it is not learned",
        Unlearned::Ignored => "stored and ignored where it is not learned",
    }
}

fn one_value(of: &Semantics) -> &'static str {
    match of.one_value {
        OneValue::Error => "an error in training",
        OneValue::AlwaysError => "an error",
        OneValue::Beta => "y = beta",
        OneValue::UseRunning => "the running statistics normalize",
    }
}

fn excluded(of: &Semantics) -> &'static str {
    match of.excluded {
        Excluded::Zero => "what a mask excludes is 0",
        Excluded::Normalized => "what a mask excludes is normalized as well",
    }
}

fn frozen(of: &Semantics) -> &'static str {
    match of.frozen {
        Frozen::Inference => "frozen is inference",
        Frozen::BatchStatistics => {
            "frozen layers use the batch's statistics and keep the running ones"
        }
        Frozen::ParametersOnly => "frozen layers still move their running statistics",
    }
}

fn only(what: &str, first: bool, a: &Semantics, b: &Semantics) -> String {
    format!("{what} only by {}", if first { a.name } else { b.name })
}

pub(super) fn text(value: impl fmt::Debug) -> String {
    format!("{value:?}")
}

/// A relative difference with three figures.
fn percent(by: f64) -> String {
    let percent = 100.0 * by;
    let digits =
        if percent == 0.0 { 0.0 } else { (2.0 - percent.abs().log10().floor()).clamp(0.0, 12.0) };
    format!("{percent:+.*} %", digits as usize)
}
