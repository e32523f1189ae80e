//! Batch renormalization: batch normalization, corrected toward the running statistics.
//!
//! y = γ ((x − mean_c) r / σ_c + d) + β with σ_c = √(variance_c + ε), r = clip(σ_c / σ,
//! r_min, r_max) and d = clip((mean_c − mean) / σ, −d_max, d_max), where mean and σ are the
//! running averages and r and d are constants to the gradient. In inference y = γ (x − mean) / σ +
//! β.
//!
//! With a [`correction_momentum`](BatchRenormConfig::correction_momentum), mean and σ in r and d
//! are averages of their own at that pace; those of inference keep the layer's momentum.
//!
//! r_min = r_max = 1 and d_max = 0 is batch normalization; without bounds, training equals
//! inference.
//!
//! Source: S. Ioffe, *Batch Renormalization: Towards Reducing Minibatch Dependence in
//! Batch-Normalized Models*, 2017; σ is averaged, not the variance, as there and in Keras'
//! `renorm`. The paper raises r_max from 1 to 3 and d_max from 0 to 5 over the first steps: set
//! them between steps with [`rule_mut`](Norm::rule_mut).

use super::axes::{HasChannels, batch_sharing, channel_axis};
use crate::error::{Error, check_number};
use crate::rule::{
    Coefficients, Context, Norm, NormConfig, ParameterSpec, Rule, Statistics, Table, Tracked,
};
use crate::{momentum::Momentum, semantics::Semantics, shape::Sharing};

/// The batch's statistics, corrected toward the running ones.
#[derive(Clone, Debug)]
pub struct Renorm {
    /// The number of channels.
    pub channels: usize,
    /// Their axis; negative counts from the last.
    pub channel_axis: isize,
    /// The least factor r, at most 1; 0 without bound.
    pub r_min: f64,
    /// The greatest factor r, at least 1; infinite without bound.
    pub r_max: f64,
    /// The greatest size of d, the correction of the mean in units of σ; infinite without bound.
    pub d_max: f64,
}

/// Batch renormalization; parameters gamma and beta, \[C\]; its running "variance" is σ.
///
/// ```
/// use cellnorm::{BatchNormConfig, norms::BatchRenormConfig};
/// let x = ndarray::Array2::from_shape_fn((6, 3), |(n, c)| ((5 * n + c * c) % 7) as f64);
/// let (y, _) =
///     BatchRenormConfig::new(3).epsilon(1e-5).bounds(1.0, 0.0).init()?.forward(x.view())?;
/// let (batch, _) = BatchNormConfig::new(3).init()?.forward(x.view())?;
/// assert!((y - batch).iter().all(|d| d.abs() < 1e-12));
/// // without bounds, training normalizes as inference does
/// let mut layer = BatchRenormConfig::new(3).bounds(f64::INFINITY, f64::INFINITY).init()?;
/// let inference = layer.infer(x.view())?;
/// assert!((layer.forward(x.view())?.0 - inference).iter().all(|d| d.abs() < 1e-12));
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type BatchRenorm = Norm<Renorm>;

/// Makes a [`BatchRenorm`].
pub type BatchRenormConfig = NormConfig<Renorm>;

impl NormConfig<Renorm> {
    /// `channels` channels on axis 1, with the paper's final bounds, r_min = 1/3, r_max = 3 and
    /// d_max = 5.
    pub fn new(channels: usize) -> Self {
        let (r_min, r_max, d_max) = (1.0 / 3.0, 3.0, 5.0);
        Self::custom(Renorm { channels, channel_axis: 1, r_min, r_max, d_max })
    }

    /// The bounds of the correction as in the paper, with r_min = 1 / r_max: r_max ≥ 1 and d_max ≥
    /// 0; both may be infinite.
    pub fn bounds(self, r_max: f64, d_max: f64) -> Self {
        self.clipping(Some(1.0 / r_max), Some(r_max), Some(d_max))
    }

    /// The bounds r_min ≤ 1, r_max ≥ 1 and d_max ≥ 0, each where it is given and none where not:
    /// Keras' `renorm_clipping`, which has none by default, so
    /// [`semantics`](NormConfig::semantics) of Keras leave none.
    ///
    /// ```
    /// use cellnorm::norms::BatchRenormConfig;
    /// // σ of the batch is 1/4 of the running 1, and r is not kept at 1/2
    /// let config = BatchRenormConfig::new(1).epsilon(1e-12).clipping(None, Some(2.0), None);
    /// let (y, _) = config.init()?.forward(ndarray::array![[-0.25], [0.25_f64]].view())?;
    /// assert!((y[[1, 0]] - 0.25).abs() < 1e-9);
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn clipping(mut self, r_min: Option<f64>, r_max: Option<f64>, d_max: Option<f64>) -> Self {
        self.rule.r_min = r_min.unwrap_or(0.0);
        (self.rule.r_max, self.rule.d_max) =
            (r_max.unwrap_or(f64::INFINITY), d_max.unwrap_or(f64::INFINITY));
        self
    }

    /// The pace of the averages that training is corrected toward, which then are not those of
    /// inference but the layer's [`correction`](Norm::correction): Keras' `renorm_momentum`.
    /// Default: one pair of averages for both. Keras 3 and tf.keras 2 have two, and their
    /// [`semantics`](NormConfig::semantics) set 0.99 for this one, whatever their `momentum` is.
    ///
    /// ```
    /// use cellnorm::{Momentum, norms::BatchRenormConfig};
    /// let x = ndarray::array![[1.0, 4.0], [3.0, 8.0]];
    /// let config = BatchRenormConfig::new(2).momentum(Momentum::Keep(0.99));
    /// let mut layer = config.correction_momentum(Momentum::Keep(0.5)).init()?;
    /// layer.forward(x.view())?;
    /// assert!((layer.running.unwrap().mean[[1]] - 0.06).abs() < 1e-12);
    /// assert!((layer.correction.unwrap().averages.mean[[1]] - 3.0).abs() < 1e-12);
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn correction_momentum(mut self, momentum: Momentum) -> Self {
        self.correction = Some(momentum);
        self
    }
}

impl HasChannels for Renorm {}

impl Rule for Renorm {
    const NAME: &'static str = "batch renormalization";
    const FORMULA: &'static str = "y = γ ((x − mean) r / √(variance + ε) + d) + β,  r and d \
                                   correct toward the running averages";
    const EPSILON: f64 = 1e-3;
    const NEEDS_RUNNING: bool = true;

    fn parameters(&self) -> Vec<ParameterSpec> {
        ParameterSpec::affine(&[self.channels])
    }

    fn check(&self) -> Result<(), Error> {
        check_number("r_max", self.r_max, self.r_max >= 1.0, "at least 1")?;
        let sound = (0.0..=1.0).contains(&self.r_min);
        check_number("r_min", self.r_min, sound, "between 0 and 1")?;
        check_number("d_max", self.d_max, self.d_max >= 0.0, "not negative")
    }

    fn running(&self) -> Option<(Vec<usize>, f64)> {
        Some((vec![self.channels], 1.0))
    }

    fn channel_axis_mut(&mut self) -> Option<&mut isize> {
        Some(&mut self.channel_axis)
    }

    /// Whether their framework has this layer; none of these bounds the correction by default.
    fn described(semantics: &Semantics) -> bool {
        semantics.renorm_momentum.is_some()
    }

    fn adopt(&mut self, semantics: &Semantics) {
        self.channel_axis = semantics.channel_axis;
        (self.r_min, self.r_max, self.d_max) = (0.0, f64::INFINITY, f64::INFINITY);
    }

    fn correction(semantics: &Semantics) -> Option<Momentum> {
        semantics.renorm_momentum
    }

    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        let channel = channel_axis(Self::NAME, shape, self.channel_axis, self.channels, 2)?;
        Ok(vec![batch_sharing(shape, channel)])
    }

    fn table<V: Table>(&self, context: &Context<'_, V>) -> Coefficients<V> {
        let cells = context.cells;
        let channel = &cells.sets[0];
        let running = context.running.as_ref().expect("renormalization keeps running averages");
        if !context.batch {
            let r = running.variance.clone().clamp(context.epsilon.sqrt(), f64::INFINITY).recip();
            let r = r.take(channel);
            let shift = r.clone() * (cells.center.clone() - running.mean.take(channel));
            return context.affine(r, shift, channel);
        }
        let Statistics { mean, variance } = cells.merge(0);
        let deviation = variance.plus(context.epsilon).sqrt();
        let sigma = running.variance.clone().clamp(context.epsilon.sqrt(), f64::INFINITY);
        let r = (deviation.clone() / sigma.clone()).clamp(self.r_min, self.r_max).detach();
        let d = (mean.clone() - running.mean.clone()) / sigma;
        let d = d.clamp(-self.d_max, self.d_max).detach();
        let scale = (r / deviation).take(channel);
        let shift = scale.clone() * (cells.center.clone() - mean.take(channel)) + d.take(channel);
        context.affine(scale, shift, channel)
    }

    fn tracked<V: Table>(&self, context: &Context<'_, V>) -> Option<Tracked<V>> {
        let Tracked { mean, variance, values } = Tracked::merged(context.cells, 0);
        let infinite =
            values.iter().map(|values| if *values > 0.0 { f64::INFINITY } else { 0.0 }).collect();
        Some(Tracked { mean, variance: variance.plus(context.epsilon).sqrt(), values: infinite })
    }
}
