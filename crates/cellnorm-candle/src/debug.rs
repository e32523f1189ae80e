//! Which variables a loss does not train.
//!
//! Candle's `backward` says nothing where an operation has no gradient, as candle-nn 0.11's fused
//! layer normalization, RMS normalization, softmax and rotary embedding have none: the result is a
//! leaf, and all that came before it stays as it was.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor};
use candle_nn::VarMap;

/// The names of running averages, which no gradient is meant to reach.
const AVERAGES: [&str; 4] = ["running_mean", "running_var", "correction_mean", "correction_var"];

/// The names, sorted, of all variables that no gradient of the loss reaches; running averages,
/// which none is meant to reach, are left out.
///
/// # Errors
/// If the backward pass fails.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Module, VarBuilder, VarMap, linear};
/// use cellnorm_candle::debug::unreached;
/// let (variables, x) = (VarMap::new(), Tensor::randn(0f32, 1., (2, 4), &Device::Cpu)?);
/// let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
/// let first = linear(4, 4, vb.pp("first"))?;
///
/// let theirs = candle_nn::layer_norm(4, 1e-5, vb.pp("norm"))?;
/// let loss = theirs.forward(&first.forward(&x)?)?.sqr()?.sum_all()?;
/// assert_eq!(
///     unreached(&loss, &variables)?,
///     ["first.bias", "first.weight", "norm.bias", "norm.weight"]
/// );
///
/// let ours = cellnorm_candle::layer_norm(4, 1e-5, vb.pp("norm"))?;
/// let loss = ours.forward(&first.forward(&x)?)?.sqr()?.sum_all()?;
/// assert!(unreached(&loss, &variables)?.is_empty());
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn unreached(loss: &Tensor, variables: &VarMap) -> Result<Vec<String>> {
    Ok(unreached_by(&loss.backward()?, variables))
}

/// [`unreached`] from gradients that are there already.
pub fn unreached_by(gradients: &GradStore, variables: &VarMap) -> Vec<String> {
    let variables = variables.data().lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let averages = |name: &str| AVERAGES.contains(&name.rsplit('.').next().unwrap_or(name));
    let mut names: Vec<String> = variables
        .iter()
        .filter(|(name, variable)| !averages(name) && gradients.get(variable.as_tensor()).is_none())
        .map(|(name, _)| name.clone())
        .collect();
    names.sort();
    names
}
