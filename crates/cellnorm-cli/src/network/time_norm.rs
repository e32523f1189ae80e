//! A normalization of one place of a recurrent network, which comes by once a time step.

use burn::module::Module;
use burn::nn::Identity;
use burn::tensor::{Device, Tensor};
use cellnorm_burn::cellnorm::OneValue;
use cellnorm_burn::{
    LayerNorm, LayerNormConfig, RmsNorm, RmsNormConfig, StepBatchNorm, StepBatchNormConfig,
};

use crate::data::sequences::LONGEST_TRAINED;
use crate::norm::Norm;

/// The layer that is compared, on `[n, features]`.
#[derive(Module, Debug)]
pub enum TimeNorm {
    None(Identity),
    Layer(LayerNorm),
    Rms(RmsNorm),
    /// Statistics of the samples that have a step; running ones of each step, or of all of them
    /// together.
    Batch(StepBatchNorm),
}

impl TimeNorm {
    /// The layer for `features` features, with an offset where one is wanted and usual.
    pub fn new(norm: Norm, features: usize, center: bool, device: &Device) -> Self {
        match norm {
            Norm::None => Self::None(Identity::new()),
            Norm::Layer => {
                Self::Layer(LayerNormConfig::new(features).with_center(center).init(device))
            }
            Norm::Rms => Self::Rms(RmsNormConfig::new(features).init(device)),
            Norm::Batch => Self::Batch(in_time(features, 1, center, device)),
            Norm::Step => Self::Batch(in_time(features, LONGEST_TRAINED, center, device)),
            other => unreachable!("{} is not in NORMS", other.name()),
        }
    }

    /// Normalizes the samples that have the step `t`, counted from 0.
    pub fn at_step(&self, x: Tensor<2>, t: usize) -> Tensor<2> {
        match self {
            Self::None(layer) => layer.forward(x),
            Self::Layer(layer) => layer.forward(x),
            Self::Rms(layer) => layer.forward(x),
            Self::Batch(layer) => layer.at_step(t).forward(x.unsqueeze_dim::<3>(1)).squeeze_dim(1),
        }
    }

    /// Normalizes all steps, one after another in the rows of x: `counts[t]` samples have the step
    /// t.
    pub fn all_steps(&self, x: Tensor<2>, counts: &[usize]) -> Tensor<2> {
        // A normalization of single samples need not know the step.
        if !matches!(self, Self::Batch(_)) {
            return self.at_step(x, 0);
        }
        let mut first = 0;
        let steps = counts.iter().enumerate().map(|(t, &n)| {
            first += n;
            self.at_step(x.clone().narrow(0, first - n, n), t)
        });
        Tensor::cat(steps.collect(), 0)
    }
}

/// Batch normalization with running statistics of this many steps, which the last shares with all
/// later ones.
fn in_time(features: usize, steps: usize, center: bool, device: &Device) -> StepBatchNorm {
    // one sample has no variance
    let config = StepBatchNormConfig::new(features, steps).with_center(center);
    config.with_one_value(OneValue::UseRunning).init(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_moves_running_statistics_of_its_own_and_later_ones_share_the_last() {
        let device = Device::flex().autodiff();
        let layer = in_time(1, 3, true, &device);
        let norm = TimeNorm::Batch(layer.clone());
        let at_step = |t: usize, values: [f32; 2]| {
            let x = Tensor::<1>::from_floats(values, &device).reshape([2, 1]);
            let y = norm.at_step(x, t).try_into_vec_as::<f32>().unwrap();
            assert!((y[0] + 1.0).abs() < 1e-3 && (y[1] - 1.0).abs() < 1e-3, "{y:?}");
        };
        at_step(0, [0.0, 20.0]);
        at_step(2, [30.0, 50.0]);
        at_step(9, [60.0, 80.0]);
        let means = layer.running_mean.unwrap().value_sync();
        assert_eq!(means.try_into_vec_as::<f32>().unwrap(), [1.0, 0.0, 0.9 * 4.0 + 7.0]);
    }
}
