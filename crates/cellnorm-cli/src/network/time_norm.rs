//! A normalization of one place of a recurrent network, which comes by once a time step.

use burn::module::{Module, Param};
use burn::nn::{Identity, Initializer};
use burn::tensor::{Device, Tensor};
use cellnorm_burn::functions::normalize_fixed;
use cellnorm_burn::norms::Batch;
use cellnorm_burn::{BatchNorm, BatchNormConfig, LayerNorm, LayerNormConfig, RmsNorm, RmsNormConfig};

use crate::data::sequences::LONGEST_TRAINED;
use crate::norm::Norm;

/// The layer that is compared, on `[n, features]`.
#[derive(Module, Debug)]
pub enum TimeNorm {
    None(Identity),
    Layer(LayerNorm),
    Rms(RmsNorm),
    Batch(BatchNormInTime),
}

impl TimeNorm {
    /// The layer for `features` features, with an offset where one is wanted and usual.
    pub fn new(norm: Norm, features: usize, center: bool, device: &Device) -> Self {
        match norm {
            Norm::None => Self::None(Identity::new()),
            Norm::Layer => Self::Layer(LayerNormConfig::new(features).with_center(center).init(device)),
            Norm::Rms => Self::Rms(RmsNormConfig::new(features).init(device)),
            Norm::Batch => Self::Batch(BatchNormInTime::new(features, 1, center, device)),
            Norm::Step => Self::Batch(BatchNormInTime::new(features, LONGEST_TRAINED, center, device)),
            other => unreachable!("{} is not in NORMS", other.name()),
        }
    }

    /// Normalizes the samples that have the step `t`, counted from 0.
    pub fn at_step(&self, x: Tensor<2>, t: usize) -> Tensor<2> {
        match self {
            Self::None(layer) => layer.forward(x),
            Self::Layer(layer) => layer.forward(x),
            Self::Rms(layer) => layer.forward(x),
            Self::Batch(layer) => layer.forward(x, t),
        }
    }

    /// Normalizes all steps, one after another in the rows of x: `counts[t]` samples have the step t.
    pub fn all_steps(&self, x: Tensor<2>, counts: &[usize]) -> Tensor<2> {
        // What looks at one sample alone need not know the step.
        let Self::Batch(layer) = self else {
            return self.at_step(x, 0);
        };
        let mut first = 0;
        let steps = counts.iter().enumerate().map(|(t, &n)| {
            first += n;
            layer.forward(x.clone().narrow(0, first - n, n), t)
        });
        Tensor::cat(steps.collect(), 0)
    }
}

/// Batch Normalization at each time step: γ (x − mean) / √(variance + ε) + β, with the statistics of the samples that have
/// this step.
///
/// γ and β are shared by all steps. The running statistics are shared too, or each step has its own and steps beyond
/// share the last (Cooijmans et al. 2016).
#[derive(Module, Debug)]
pub struct BatchNormInTime {
    gamma: Param<Tensor<1>>,
    beta: Option<Param<Tensor<1>>>,
    /// Without γ and β; one for all steps, or one a step.
    steps: Vec<BatchNorm>,
}

impl BatchNormInTime {
    fn new(features: usize, steps: usize, center: bool, device: &Device) -> Self {
        let layer = BatchNormConfig::new(features).with_scale(false).with_center(false);
        Self {
            gamma: Initializer::Ones.init([features], device),
            beta: center.then(|| Initializer::Zeros.init([features], device)),
            steps: (0..steps).map(|_| layer.init(device)).collect(),
        }
    }

    fn forward(&self, x: Tensor<2>, t: usize) -> Tensor<2> {
        let layer = &self.steps[t.min(self.steps.len() - 1)];
        let y = match x.dims() {
            // One sample has no variance.
            [1, channels] => {
                let (mean, variance) = (layer.running_mean.value_sync(), layer.running_var.value_sync());
                let device = x.device();
                let [mean, variance] = [mean, variance].map(|statistic| statistic.to_device(&device));
                normalize_fixed(&Batch { channels, channel_axis: 1 }, x, None, None, mean, variance, layer.epsilon)
            }
            _ => layer.forward(x),
        };
        let y = y * self.gamma.val().unsqueeze();
        match &self.beta {
            Some(beta) => y + beta.val().unsqueeze(),
            None => y,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_moves_running_statistics_of_its_own_and_later_ones_share_the_last() {
        let device = Device::flex().autodiff();
        let layer = BatchNormInTime::new(1, 3, true, &device);
        let at_step = |t: usize, values: [f32; 2]| {
            let x = Tensor::<1>::from_floats(values, &device).reshape([2, 1]);
            let y = layer.forward(x, t).try_into_vec_as::<f32>().unwrap();
            assert!((y[0] + 1.0).abs() < 1e-3 && (y[1] - 1.0).abs() < 1e-3, "{y:?}");
        };
        at_step(0, [0.0, 20.0]);
        at_step(2, [30.0, 50.0]);
        at_step(9, [60.0, 80.0]);
        let means = layer.steps.iter().map(|step| step.running_mean.value_sync().into_scalar::<f32>());
        assert_eq!(means.collect::<Vec<_>>(), [1.0, 0.0, 0.9 * 4.0 + 7.0]);
    }
}
