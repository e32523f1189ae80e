//! Instance normalization: y = γ (x − mean_{n,c}) / √(variance_{n,c} + ε) + β over each channel of
//! each sample.

use candle_core::{Result, Tensor};
use candle_nn::{Init, Module, VarBuilder};
use cellnorm::norms::Instance;

use super::{Options, with_channels};

/// Makes an [`InstanceNorm`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InstanceNormConfig {
    /// ε, added to the variance inside the root. Default: 1e-5.
    pub eps: f64,
    /// Whether there are γ and β. Default: true (PyTorch: false).
    pub affine: bool,
}

impl Default for InstanceNormConfig {
    fn default() -> Self {
        Self { eps: 1e-5, affine: true }
    }
}

impl From<f64> for InstanceNormConfig {
    fn from(eps: f64) -> Self {
        Self { eps, ..Self::default() }
    }
}

/// Instance normalization of \[N, C, …\]: γ (x − mean_{n,c}) / √(variance_{n,c} + ε) + β, with a γ
/// and a β for each channel.
///
/// What `forward` takes and refuses is as for [`LayerNorm`](crate::LayerNorm); x has at least two
/// axes.
///
/// Source: D. Ulyanov, A. Vedaldi, V. Lempitsky, *Instance Normalization*, 2016; ε as
/// `torch.nn.InstanceNorm*d` of PyTorch 2.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_nn::Module;
/// use cellnorm_candle::InstanceNorm;
/// let y = InstanceNorm::new_no_affine(3, 1e-5).forward(&Tensor::randn(
///     3f32,
///     2.,
///     (2, 3, 9),
///     &Device::Cpu,
/// )?)?;
/// assert!(y.get(1)?.get(2)?.mean_all()?.to_scalar::<f32>()?.abs() < 1e-5);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct InstanceNorm {
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    kind: Instance,
    options: Options,
}

impl InstanceNorm {
    /// γ and β of each channel, the number of channels, and ε.
    pub fn new(weight: Tensor, bias: Tensor, num_channels: usize, eps: f64) -> Self {
        Self::of(Some(weight), Some(bias), num_channels, eps)
    }

    /// Without γ and β.
    pub fn new_no_affine(num_channels: usize, eps: f64) -> Self {
        Self::of(None, None, num_channels, eps)
    }

    fn of(weight: Option<Tensor>, bias: Option<Tensor>, channels: usize, eps: f64) -> Self {
        Self {
            weight,
            bias,
            kind: Instance { channels, channel_axis: 1 },
            options: Options::new(eps),
        }
    }

    with_channels!();
}

impl Module for InstanceNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, None)
    }
}

/// A layer from `weight` and `bias`, \[C\], which start as 1 and 0. `config` is ε, or more.
///
/// # Errors
/// If the builder lacks them or has another shape.
///
/// ```
/// use candle_core::{DType, Device};
/// use candle_nn::{VarBuilder, VarMap};
/// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
/// let layer = cellnorm_candle::instance_norm(64, 1e-5, vb)?.with_channel_axis(-1);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn instance_norm<C: Into<InstanceNormConfig>>(
    num_channels: usize,
    config: C,
    vb: VarBuilder,
) -> Result<InstanceNorm> {
    let InstanceNormConfig { eps, affine } = config.into();
    let get = |name, initial| vb.get_with_hints(num_channels, name, Init::Const(initial));
    let [weight, bias] = [("weight", 1.0), ("bias", 0.0)]
        .map(|(name, of)| affine.then(|| get(name, of)).transpose());
    Ok(InstanceNorm::of(weight?, bias?, num_channels, eps))
}
