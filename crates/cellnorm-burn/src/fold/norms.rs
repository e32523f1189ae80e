//! The map of each channel by batch normalizations with fixed statistics.

use burn::module::{Param, RunningState};
use burn::nn;
use burn::tensor::Tensor;
use cellnorm::fold::Affine;
use cellnorm::{Error, momentum::StatisticsFrom};

use super::FixedNorm;
use super::numbers::read;
use crate::modules::BatchNorm;

/// Our own layer, in inference or frozen.
impl FixedNorm for BatchNorm {
    fn affine(&self) -> Result<Affine, Error> {
        // the running statistics lie where the layer is
        let mode = self.mode_on(&self.running_mean.value().device());
        unless(mode.statistics == StatisticsFrom::Batch || mode.update)?;
        let parameters = [self.gamma.as_ref(), self.beta.as_ref()];
        of_batch_norm(parameters, [&self.running_mean, &self.running_var], self.epsilon)
    }

    fn channel_axis(&self) -> isize {
        self.channel_axis
    }
}

/// Burn's own layer, in inference or frozen. Its channels are on axis 1.
impl FixedNorm for nn::BatchNorm {
    fn affine(&self) -> Result<Affine, Error> {
        unless(self.running_mean.value().is_autodiff() && self.training.is_enabled())?;
        let parameters = [Some(&self.gamma), Some(&self.beta)];
        of_batch_norm(parameters, [&self.running_mean, &self.running_var], self.epsilon)
    }
}

/// A map as it is, on whichever axis the layer has its channels.
impl FixedNorm for Affine {
    fn affine(&self) -> Result<Affine, Error> {
        Ok(self.clone())
    }
}

/// An error where the statistics move.
fn unless(moving: bool) -> Result<(), Error> {
    if !moving {
        return Ok(());
    }
    Err(Error::Unsupported {
        layer: "batch normalization",
        what: "takes its statistics from the batch or moves them: it is on a training device and \
               not frozen, so it is no fixed map; fold what valid() or freeze() gives",
    })
}

fn of_batch_norm(
    parameters: [Option<&Param<Tensor<1>>>; 2],
    running: [&RunningState<Tensor<1>>; 2],
    epsilon: f64,
) -> Result<Affine, Error> {
    let [gamma, beta] =
        parameters.map(|parameter| parameter.map(|parameter| read(parameter.val())).transpose());
    // with what the last steps of training brought
    let [mean, variance] = running.map(|statistic| read(statistic.value_sync()));
    Affine::of_batch_norm(gamma?.as_deref(), beta?.as_deref(), &mean?, &variance?, epsilon)
}
