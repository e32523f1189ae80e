//! Weight standardization: the weights of each output have mean 0 and variance 1.
//!
//! w = γ (v − mean_o) / √(variance_o + ε), over all axes but the outputs'; the gain γ, one for each
//! output, only where asked for.
//!
//! Source: S. Qiao, H. Wang, C. Liu, W. Shen, A. Yuille, *Micro-Batch Training with Batch-Channel
//! Normalization and Weight Standardization*, 2019; ε = 1e-10 inside the root as in A. Kolesnikov
//! et al., *Big Transfer*, 2020.

use crate::error::Error;
use crate::rule::{Norm, NormConfig, ParameterSpec, Rule};
use crate::shape::{Measure, Sharing, axis_index};

/// The weights of one output share statistics.
#[derive(Clone, Debug)]
pub struct Standardization {
    /// The number of outputs.
    pub outputs: usize,
    /// Their axis; negative counts from the last.
    pub axis: isize,
}

/// Weight standardization; parameter gamma, \[outputs\], where asked for.
///
/// ```
/// use cellnorm::weights::WeightStandardizationConfig;
/// let w = WeightStandardizationConfig::new(2)
///     .init()?
///     .infer(ndarray::array![[1.0_f64, 3.0], [5.0, 5.0]])?;
/// assert!((w[[0, 1]] - 1.0).abs() < 1e-9 && w[[1, 0]] == 0.0);
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type WeightStandardization = Norm<Standardization>;

/// Makes a [`WeightStandardization`].
pub type WeightStandardizationConfig = NormConfig<Standardization>;

impl NormConfig<Standardization> {
    /// `outputs` outputs on axis 0, as in PyTorch, Burn and Candle, without a gain; ε = 1e-10.
    pub fn new(outputs: usize) -> Self {
        Self::custom(Standardization { outputs, axis: 0 }).scale(false)
    }

    /// The axis of the outputs; negative counts from the last. Default: 0; TensorFlow's is −1.
    pub fn output_axis(mut self, axis: isize) -> Self {
        self.rule.axis = axis;
        self
    }
}

impl Rule for Standardization {
    const NAME: &'static str = "weight standardization";
    const FORMULA: &'static str = "w = γ (v − mean) / √(variance + ε)";
    const OF_WEIGHTS: bool = true;
    const EPSILON: f64 = 1e-10;

    fn parameters(&self) -> Vec<ParameterSpec> {
        vec![ParameterSpec::new("gamma", &[self.outputs], 1.0)]
    }

    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        let axis = axis_index(self.axis, shape.len())?;
        if shape[axis] != self.outputs {
            return Err(Error::Channels { axis, shape: shape.to_vec(), channels: self.outputs });
        }
        Ok(vec![Sharing::over("weight", Measure::MeanVariance, shape, |of| of == axis)])
    }
}
