//! Batch normalization: y = γ (x − mean_c) / √(variance_c + ε) + β over all axes except the
//! channels'.

use candle_core::{Result, Tensor};
use candle_nn::{BatchNormConfig, VarBuilder};
use cellnorm::norms::Batch;
use cellnorm::{Error, Momentum};

use super::RuleNorm;
use crate::numbers::wrong;

/// Batch normalization of \[N, C, …\]: γ (x − mean_c) / √(variance_c + ε) + β, with a mean and a
/// variance for each channel.
///
/// In training they are the batch's, and the running ones move toward them: running = (1 − m) ·
/// running + m · batch, with m = 0.1 and the unbiased variance, as in PyTorch. In inference they
/// are the running ones. [`forward_mode`](RuleNorm::forward_mode) has all between.
///
/// f32, f64, f16 and bf16 train and infer, beside parameters and statistics of any of these types,
/// and the layer keeps the statistics in f32 at least. Training refuses a batch without samples,
/// one value a channel (see [`with_one_value`](Self::with_one_value)), and NaN and infinity in x.
/// Nothing has changed then. In inference, a batch without samples gives an empty y.
///
/// Source: S. Ioffe, C. Szegedy, *Batch Normalization*, 2015; interface of candle-nn 0.11.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{ModuleT, VarBuilder, VarMap};
/// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// let layer = cellnorm_candle::batch_norm(3, 1e-5, vb)?;
/// let x = Tensor::randn(10f32, 2., (8, 3, 5, 5), &Device::Cpu)?;
/// let y = layer.forward_t(&x, true)?;
/// assert!(y.mean_all()?.to_scalar::<f32>()?.abs() < 1e-5);
/// assert!(layer.running_mean().to_vec1::<f32>()?[0] > 0.8); // a tenth of the way from 0 to 10
/// let one = x.narrow(0, 0, 1)?.narrow(2, 0, 1)?.narrow(3, 0, 1)?;
/// let error = layer.forward_t(&one, true).unwrap_err();
/// assert!(error.to_string().contains("one value for each statistic"));
/// # Ok::<(), candle_core::Error>(())
/// ```
pub type BatchNorm = RuleNorm<Batch>;

impl RuleNorm<Batch> {
    /// The number of channels, the running statistics, γ and β, and ε. Running statistics that are
    /// variables of f32 or f64 move with the layer's; of any others the layer keeps a copy, f32 at
    /// least.
    ///
    /// # Errors
    /// If a shape is not \[C\], or ε is not finite and at least 1e-36.
    pub fn new(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: f64,
    ) -> Result<Self> {
        Self::new_with_momentum(num_features, running_mean, running_var, weight, bias, eps, 0.1)
    }

    /// [`new`](Self::new) without γ and β, with the same errors.
    pub fn new_no_bias(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        eps: f64,
    ) -> Result<Self> {
        Self::new_no_bias_with_momentum(num_features, running_mean, running_var, eps, 0.1)
    }

    /// [`new`](Self::new) with the weight m of a batch in the running statistics.
    ///
    /// # Errors
    /// Same errors as [`new`](Self::new); also if momentum is not in \[0, 1\].
    pub fn new_with_momentum(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: f64,
        momentum: f64,
    ) -> Result<Self> {
        let affine = [Some(weight), Some(bias)];
        Self::from_tensors(num_features, [running_mean, running_var], affine, eps, momentum)
    }

    /// [`new_with_momentum`](Self::new_with_momentum) without γ and β, with the same errors.
    pub fn new_no_bias_with_momentum(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        eps: f64,
        momentum: f64,
    ) -> Result<Self> {
        let running = [running_mean, running_var];
        Self::from_tensors(num_features, running, [None, None], eps, momentum)
    }

    fn from_tensors(
        num_features: usize,
        [mean, variance]: [Tensor; 2],
        [gamma, beta]: [Option<Tensor>; 2],
        eps: f64,
        momentum: f64,
    ) -> Result<Self> {
        let running = [("running_mean", Some(&mean)), ("running_var", Some(&variance))];
        let affine = [("weight", gamma.as_ref()), ("bias", beta.as_ref())];
        for (name, tensor) in running.into_iter().chain(affine) {
            let Some(tensor) = tensor.filter(|tensor| tensor.dims() != [num_features]) else {
                continue;
            };
            let (given, expected) = (tensor.dims().to_vec(), vec![num_features]);
            return Err(wrong(Error::Parameter { name, given, expected }));
        }
        Self::new_affine(Batch::new(num_features, 1), gamma, beta, eps)?
            .with_averages(&mean, &variance)?
            .with_momentum(Momentum::Step(momentum))
    }

    /// The mean for inference, \[C\].
    ///
    /// # Panics
    /// If the layer was made without running statistics, where [`running`](RuleNorm::running) is
    /// None.
    pub fn running_mean(&self) -> &Tensor {
        self.running().expect(KEPT).0
    }

    /// The variance for inference, \[C\].
    ///
    /// # Panics
    /// Same as [`running_mean`](Self::running_mean).
    pub fn running_var(&self) -> &Tensor {
        self.running().expect(KEPT).1
    }

    /// γ and β, \[C\] each; None where the layer does not have both.
    pub fn weight_and_bias(&self) -> Option<(&Tensor, &Tensor)> {
        self.parameter("gamma").zip(self.parameter("beta"))
    }

    /// The axis of the channels, or the first of several axes; negative counts from the last.
    pub fn channel_axis(&self) -> isize {
        self.rule().axes.first().copied().unwrap_or(1)
    }
}

const KEPT: &str = "this batch normalization was made without running statistics";

/// A layer from `running_mean` and `running_var`, which start as 0 and 1, and unless `affine:
/// false`, `weight` and `bias`, which start as 1 and 0; \[C\] each. `config` is ε, or candle-nn's
/// config.
///
/// The statistics are f32 where the builder is of half precision. `VarBuilder::from_tensors` and
/// its kin cast a checkpoint of other types; `VarMap::load` does not, and stops with "dtype
/// mismatch" when some variables are loaded. [`load_cast`](crate::load_cast) loads such a
/// checkpoint into a `VarMap`.
///
/// # Errors
/// If the builder lacks them or has another shape, or the config is not sound; `remove_mean: false`
/// is refused.
pub fn batch_norm<C: Into<BatchNormConfig>>(
    num_features: usize,
    config: C,
    vb: VarBuilder,
) -> Result<BatchNorm> {
    let BatchNormConfig { eps, remove_mean, affine, momentum } = config.into();
    if !remove_mean {
        candle_core::bail!(
            "batch normalization takes values from their mean: remove_mean must be true; without, \
             inference would still subtract the running mean, which training leaves at 0"
        )
    }
    let config = cellnorm::BatchNormConfig::new(num_features).scale(affine).center(affine);
    let config = config.epsilon(eps).momentum(Momentum::Step(momentum));
    RuleNorm::from_builder(config, &vb)
}
