//! What a pass does to a normalized value: y = act(γ x̂ + β).

use super::Activation;

/// γ and β, absent where not used, each with a value for each of the plan's channels; and what is applied behind them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parameters<'a> {
    /// The factor; absent means 1.
    pub gamma: Option<&'a [f64]>,
    /// The offset; absent means 0.
    pub beta: Option<&'a [f64]>,
    /// y = act(γ x̂ + β); nothing unless said otherwise.
    pub activation: Activation,
}
