//! Weight normalization for Burn: w = g v / ‖v‖, so that length and direction are trained apart.
//!
//! Source: T. Salimans, D. P. Kingma, *Weight Normalization: A Simple Reparameterization to
//! Accelerate Training of Deep Neural Networks*, 2016. As
//! `torch.nn.utils.parametrizations.weight_norm` of PyTorch 2.

use burn::module::{Module, Param, ParamGroup, Reparameterization, Reparameterizer};
use burn::tensor::Tensor;

use super::{Per, common_options, wanted};

/// Attaches [`WeightNorm`] to the weights of a module. The effective weights do not change by that.
#[derive(Clone, Debug)]
pub struct WeightNormConfig {
    group: ParamGroup,
    per: Per,
}

impl WeightNormConfig {
    /// For every weight, with a length for each output.
    pub fn new() -> Self {
        Self { group: ParamGroup::all(), per: Per::default() }
    }

    common_options!();
}

impl Default for WeightNormConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl Reparameterizer for WeightNormConfig {
    type Reparam = WeightNorm;

    /// # Panics
    /// If the weight does not have the axis asked for.
    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<WeightNorm>) {
        if !wanted(&self.group, path, &param) {
            return (param, None);
        }
        let g = self.per.matrix(param.base()).square().sum_dim(1).sqrt().squeeze_dim(1).detach();
        (param, Some(WeightNorm { g: Param::from_tensor(g), per: self.per }))
    }
}

/// The state of a weight-normalized parameter, whose stored base is v.
///
/// PyTorch names v `weight_v` or `parametrizations.weight.original1`, and g `weight_g` or
/// `parametrizations.weight.original0`. Its g has as many axes as v, all but one of length 1; here
/// g has one axis, so a checkpoint's g has to be reshaped.
#[derive(Module, Debug)]
pub struct WeightNorm {
    /// The length of each part, `[parts]`.
    pub g: Param<Tensor<1>>,
    /// Which part of the weight has a length of its own.
    #[module(skip)]
    pub per: Per,
}

impl Reparameterization for WeightNorm {
    const NAME: &'static str = "weight_norm";

    fn apply<const D: usize>(&self, v: Tensor<D>) -> Tensor<D> {
        let squares = v.clone().square().sum_dims(&self.per.inner::<D>());
        // a v of zeros has no direction: w is 0, not NaN
        let zero = squares.clone().equal_elem(0.0);
        v * (self.per.broadcast(self.g.val()) / squares.mask_fill(zero, 1.0).sqrt())
    }
}
