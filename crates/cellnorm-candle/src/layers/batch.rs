//! Batch normalization: y = γ (x − mean_c) / √(variance_c + ε) + β over all axes but the channels'.

use candle_core::{Result, Tensor};
use candle_nn::{BatchNormConfig, Init, ModuleT, VarBuilder};
use cellnorm::tables::Mask;
use cellnorm::{Mode, Momentum, OneValue, RunningVariance, Semantics};
use ndarray::Array1;

use super::averages::Averages;
use super::tracks;
use crate::numbers::wrong;
use crate::ops::{BatchLayer, Layer, apply};

/// Batch normalization of \[N, C, …\]: γ (x − mean_c) / √(variance_c + ε) + β, with a mean and a
/// variance for each channel.
///
/// In training they are the batch's, and the running ones move toward them: running = (1 − m) ·
/// running + m · batch, with m = 0.1 and the unbiased variance, as in PyTorch. In inference they
/// are the running ones. [`forward_mode`](Self::forward_mode) has all between.
///
/// f32, f64, f16 and bf16 train and infer, beside parameters and statistics of any of these types,
/// and [`batch_norm`] makes the statistics f32 at least. Training refuses one value a channel, and
/// NaN and infinity in x. Nothing has changed then.
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
/// let error = layer.forward_t(&x.narrow(0, 0, 1)?.narrow(2, 0, 1)?.narrow(3, 0, 1)?, true).unwrap_err();
/// assert!(error.to_string().contains("one value for each statistic"));
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BatchNorm {
    averages: Averages,
    weight_and_bias: Option<(Tensor, Tensor)>,
    eps: f64,
    momentum: Momentum,
    running_variance: RunningVariance,
    one_value: OneValue,
    channel_axis: isize,
}

impl BatchNorm {
    /// The number of channels, the running statistics, γ and β, and ε. Running statistics that are
    /// variables move with the layer's.
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
        Self::of(
            num_features,
            Averages::new(&running_mean, &running_var)?,
            Some((weight, bias)),
            eps,
            0.1,
        )
    }

    /// As [`new`](Self::new), without γ and β.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn new_no_bias(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        eps: f64,
    ) -> Result<Self> {
        Self::of(num_features, Averages::new(&running_mean, &running_var)?, None, eps, 0.1)
    }

    /// As [`new`](Self::new), with the weight m of a batch in the running statistics.
    ///
    /// # Errors
    /// As [`new`](Self::new), and if momentum is not in \[0, 1\].
    pub fn new_with_momentum(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: f64,
        momentum: f64,
    ) -> Result<Self> {
        Self::of(
            num_features,
            Averages::new(&running_mean, &running_var)?,
            Some((weight, bias)),
            eps,
            momentum,
        )
    }

    /// As [`new_no_bias`](Self::new_no_bias), with the weight m of a batch in the running
    /// statistics.
    ///
    /// # Errors
    /// As [`new_with_momentum`](Self::new_with_momentum).
    pub fn new_no_bias_with_momentum(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        eps: f64,
        momentum: f64,
    ) -> Result<Self> {
        Self::of(num_features, Averages::new(&running_mean, &running_var)?, None, eps, momentum)
    }

    fn of(
        num_features: usize,
        averages: Averages,
        weight_and_bias: Option<(Tensor, Tensor)>,
        eps: f64,
        momentum: f64,
    ) -> Result<Self> {
        let of_affine =
            weight_and_bias.iter().flat_map(|(weight, bias)| [("weight", weight), ("bias", bias)]);
        let of_averages = [
            ("running_mean", averages.mean.as_tensor()),
            ("running_var", averages.variance.as_tensor()),
        ];
        for (name, tensor) in of_averages.into_iter().chain(of_affine) {
            if tensor.dims() != [num_features] {
                let (given, expected) = (tensor.dims().to_vec(), vec![num_features]);
                return Err(wrong(cellnorm::Error::Parameter { name, given, expected }));
            }
        }
        let layer = Self {
            averages,
            weight_and_bias,
            eps,
            momentum: Momentum::Step(momentum),
            running_variance: RunningVariance::default(),
            one_value: OneValue::default(),
            channel_axis: 1,
        };
        layer.sound()
    }

    fn sound(self) -> Result<Self> {
        self.config(self.channels()).init().map_err(wrong)?;
        Ok(self)
    }

    /// The axis of the channels; negative counts from the last. Default: 1; −1 for channels-last.
    pub fn with_channel_axis(self, channel_axis: isize) -> Self {
        Self { channel_axis, ..self }
    }

    /// The pace of the running statistics. Default: `Momentum::Step(0.1)`. Of the cumulative one,
    /// the number of batches is not among the variables of the builder: keep
    /// [`num_batches_tracked`](Self::num_batches_tracked) beside them.
    ///
    /// # Errors
    /// If it is not in \[0, 1\].
    pub fn with_momentum(self, momentum: Momentum) -> Result<Self> {
        Self { momentum, ..self }.sound()
    }

    /// As a framework has it: ε, the channel axis, the running statistics, and what one value a
    /// channel does.
    ///
    /// # Errors
    /// If the semantics are those of another layer, or cannot be had here.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::{VarBuilder, VarMap};
    /// use cellnorm_candle::cellnorm::{Normalization, Semantics};
    /// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    /// let keras = Semantics::preset("keras-3", Normalization::Batch).unwrap();
    /// let layer = cellnorm_candle::batch_norm(8, 1e-5, vb)?.with_semantics(&keras)?;
    /// assert_eq!(layer.eps(), 1e-3);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn with_semantics(self, semantics: &Semantics) -> Result<Self> {
        self.config(self.channels()).semantics(semantics).init().map_err(wrong)?;
        let Semantics { epsilon: eps, channel_axis, momentum, running_variance, one_value, .. } =
            *semantics;
        Ok(Self { eps, channel_axis, momentum, running_variance, one_value, ..self })
    }

    /// The mean for inference, \[C\].
    pub fn running_mean(&self) -> &Tensor {
        self.averages.mean.as_tensor()
    }

    /// The variance for inference, \[C\].
    pub fn running_var(&self) -> &Tensor {
        self.averages.variance.as_tensor()
    }

    /// ε, added to the variance inside the root.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// γ and β, \[C\] each.
    pub fn weight_and_bias(&self) -> Option<(&Tensor, &Tensor)> {
        self.weight_and_bias.as_ref().map(|(weight, bias)| (weight, bias))
    }

    /// The weight of the next batch in the running statistics.
    pub fn momentum(&self) -> f64 {
        self.momentum.weight(self.averages.steps() + 1)
    }

    /// How many batches the running statistics have followed since the layer was made or told.
    pub fn num_batches_tracked(&self) -> u64 {
        self.averages.steps()
    }

    /// Tells the layer how many batches its running statistics have followed: cumulative momentum
    /// goes on from there.
    pub fn set_num_batches_tracked(&self, batches: u64) {
        self.averages.set_steps(batches);
    }

    /// The axis of the channels.
    pub fn channel_axis(&self) -> isize {
        self.channel_axis
    }

    /// Training: the batch's statistics normalize and move the running ones.
    ///
    /// # Errors
    /// If x has fewer than two axes, no such channel axis or another number of channels, is empty,
    /// has one value a channel, or holds NaN or infinity.
    pub fn forward_train(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_mode(x, Mode::training())
    }

    /// As the mode says: whose statistics normalize, whether the running ones move, and whether γ
    /// and β have gradients.
    ///
    /// # Errors
    /// As [`forward_train`](Self::forward_train); in inference, one value is fine.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_nn::{VarBuilder, VarMap};
    /// use cellnorm_candle::cellnorm::{Frozen, Mode};
    /// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    /// let layer = cellnorm_candle::batch_norm(3, 1e-5, vb)?;
    /// let x = Tensor::randn(10f32, 2., (8, 3), &Device::Cpu)?;
    /// let y = layer.forward_mode(&x, Mode::frozen(Frozen::Inference))?; // Keras' `trainable=False`
    /// assert_eq!(layer.running_mean().to_vec1::<f32>()?, [0.0; 3]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn forward_mode(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.run(x, None, mode)
    }

    /// As [`forward_mode`](Self::forward_mode), over the values alone that the mask says are valid:
    /// y and dx are 0 at the others, whatever x holds there.
    ///
    /// # Errors
    /// As [`forward_mode`](Self::forward_mode), but for one value, and if the mask does not fit x.
    pub fn forward_masked(&self, x: &Tensor, mask: &Mask, mode: Mode) -> Result<Tensor> {
        self.run(x, Some(mask), mode)
    }

    fn run(&self, x: &Tensor, mask: Option<&Mask>, mode: Mode) -> Result<Tensor> {
        let channels = self.channels();
        let mut norm = self.config(channels).init().map_err(wrong)?;
        let parameters = match &self.weight_and_bias {
            Some((weight, bias)) if mode.train_parameters => {
                [Some(weight.clone()), Some(bias.clone())]
            }
            Some((weight, bias)) => [Some(weight.detach()), Some(bias.detach())],
            None => [None, None],
        };
        norm.mode =
            Mode { train_parameters: tracks(parameters.iter().map(Option::as_ref)), ..mode };
        let [mean, variance] = self.averages.numbers(BatchLayer::NAME)?;
        (norm.running_mean, norm.running_var) = (Array1::from(mean), Array1::from(variance));
        norm.steps = self.averages.steps();
        let layer = BatchLayer { norm, channel_axis: self.channel_axis };
        apply(layer, x, &parameters, mask, |BatchLayer { norm, .. }| {
            self.averages.moved_to(
                norm.running_mean.to_vec(),
                norm.running_var.to_vec(),
                norm.steps,
            )
        })
    }

    fn channels(&self) -> usize {
        self.running_mean().elem_count()
    }

    /// The layer on arrays, whose γ and β are set when the operation runs.
    fn config(&self, channels: usize) -> cellnorm::BatchNormConfig {
        cellnorm::BatchNormConfig::new(channels)
            .channel_axis(self.channel_axis)
            .epsilon(self.eps)
            .momentum(self.momentum)
            .running_variance(self.running_variance)
            .one_value(self.one_value)
            .scale(false)
            .center(false)
    }
}

impl ModuleT for BatchNorm {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward_mode(x, if train { Mode::training() } else { Mode::inference() })
    }
}

/// A layer from `running_mean` and `running_var`, which start as 0 and 1, and unless `affine:
/// false`, `weight` and `bias`, which start as 1 and 0; \[C\] each. `config` is ε, or candle-nn's
/// config.
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
    let averages = Averages::from_builder(&[num_features], 1.0, &vb)?;
    let get = |name, initial| vb.get_with_hints(num_features, name, Init::Const(initial));
    let weight_and_bias =
        affine.then(|| Ok::<_, candle_core::Error>((get("weight", 1.0)?, get("bias", 0.0)?)));
    BatchNorm::of(num_features, averages, weight_and_bias.transpose()?, eps, momentum)
}
