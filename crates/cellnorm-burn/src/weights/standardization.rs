//! Weight standardization for Burn: ŵ = gain · (w − mean) / √(variance + ε) over the weights that
//! lead to one output.
//!
//! Source: S. Qiao, H. Wang, C. Liu, W. Shen, A. Yuille, *Micro-Batch Training with Batch-Channel
//! Normalization and Weight Standardization*, 2019. The variance is the biased one, and ε the 1e-10
//! of *Big Transfer* (A. Kolesnikov et al., 2020): small beside the variance of any usual weight.

use burn::module::{Module, Param, ParamGroup, Reparameterization, Reparameterizer};
use burn::tensor::Tensor;
use cellnorm::Error;

use super::{Per, common_options, wanted};

/// Attaches [`WeightStandardization`] to the weights of a module.
#[derive(Clone, Debug)]
pub struct WeightStandardizationConfig {
    group: ParamGroup,
    per: Per,
    epsilon: f64,
    gain: bool,
}

impl WeightStandardizationConfig {
    /// For every weight, over what leads to one output, without a gain.
    pub fn new() -> Self {
        Self { group: ParamGroup::all(), per: Per::default(), epsilon: 1e-10, gain: false }
    }

    common_options!();

    /// ε, added to the variance inside the root. Default: 1e-10.
    ///
    /// # Panics
    /// If it is not finite and at least 1e-36.
    pub fn with_epsilon(mut self, epsilon: f64) -> Self {
        crate::modules::check_epsilon(epsilon);
        self.epsilon = epsilon;
        self
    }

    /// Whether each part has a trained factor, which starts at 1. Default: false.
    pub fn with_gain(mut self, gain: bool) -> Self {
        self.gain = gain;
        self
    }
}

impl Default for WeightStandardizationConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl Reparameterizer for WeightStandardizationConfig {
    type Reparam = WeightStandardization;

    /// # Panics
    /// If the weight does not have the axis asked for, or one value for each part: it would always
    /// be 0.
    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<WeightStandardization>) {
        if !wanted(&self.group, path, &param) {
            return (param, None);
        }
        let weight = param.base();
        let parts = self.per.parts(&weight);
        if weight.shape().num_elements() == parts {
            panic!(
                "{}",
                Error::OneValue { layer: "weight standardization", shape: weight.dims().to_vec() }
            );
        }
        let ones = || Tensor::<1>::ones([parts], &weight.device()).cast(weight.dtype()).detach();
        let gain = self.gain.then(|| Param::from_tensor(ones()));
        (param, Some(WeightStandardization { gain, per: self.per, epsilon: self.epsilon }))
    }
}

/// The state of a standardized parameter, whose stored base is w.
#[derive(Module, Debug)]
pub struct WeightStandardization {
    /// The factor of each part, `[parts]`.
    pub gain: Option<Param<Tensor<1>>>,
    /// Which part of the weight has a mean and a variance of its own.
    #[module(skip)]
    pub per: Per,
    /// ε inside the root.
    pub epsilon: f64,
}

impl Reparameterization for WeightStandardization {
    const NAME: &'static str = "weight_standardization";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let inner = self.per.inner::<D>();
        let centered = base.clone() - base.mean_dims(&inner);
        let variance = centered.clone().square().mean_dims(&inner);
        let standard = centered / (variance + self.epsilon).sqrt();
        match &self.gain {
            Some(gain) => standard * self.per.broadcast(gain.val()),
            None => standard,
        }
    }
}
