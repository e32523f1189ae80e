//! What a pass does to a normalized value: y = act(γ x̂ + β).

use super::Activation;

/// γ and β, absent where not used, each with a value for each of the plan's channels; and what is
/// applied behind them.
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a, P = f64> {
    /// The factor; absent means 1.
    pub gamma: Option<&'a [P]>,
    /// The offset; absent means 0.
    pub beta: Option<&'a [P]>,
    /// y = act(γ x̂ + β); nothing unless said otherwise.
    pub activation: Activation,
}

impl<P> Default for Parameters<'_, P> {
    fn default() -> Self {
        Self { gamma: None, beta: None, activation: Activation::default() }
    }
}
