//! Moments of single batches from Burn's own batch normalizations: running = (1 − w)·before +
//! w·batch, where w is unknown.
//!
//! From before = 2⁶⁰, which no batch can be seen beside, a pass leaves (1 − w)·2⁶⁰ and so tells w;
//! from before = 0 it leaves w·batch.

use burn::module::{Module, ParamId};
use cellnorm::RunningVariance;
use cellnorm::{Error, Moments, OneValue};

use super::layers::{Layer, Numbers, running, write};
use crate::modules::recording::{Recorded, Records};

const FAR: f64 = (1u64 << 60) as f64;

/// The layers that move their running statistics, and the batches that they have seen.
pub(super) struct Theirs {
    /// Mean, variance and w.
    layers: Vec<(ParamId, ParamId, f64)>,
    zeros: Numbers,
    pub(super) records: Records,
}

impl Theirs {
    /// By a pass, if the module has any.
    ///
    /// # Errors
    /// If running statistics are quantized.
    pub(super) fn find<M: Module>(
        module: &M,
        layers: &[Layer],
        pass: impl FnOnce(),
    ) -> Result<Self, Error> {
        let theirs: Vec<&Layer> =
            layers.iter().filter(|layer| !layer.ours && layer.trains).collect();
        let mut found =
            Self { layers: vec![], zeros: Numbers::default(), records: Records::default() };
        if theirs.is_empty() {
            return Ok(found);
        }
        let before = running(module)?;
        let lens = |id: &ParamId| before.get(id).map_or(0, Vec::len);
        write(
            module,
            &theirs.iter().map(|layer| (layer.mean, vec![FAR; lens(&layer.mean)])).collect(),
        );
        pass();
        let after = running(module)?;
        for Layer { mean, variance, .. } in theirs {
            let kept =
                after.get(mean).and_then(|means| means.first()).map_or(1.0, |mean| mean / FAR);
            // f32 knows it to half of 10⁻⁷, and who chose it wrote no more digits
            let weight = ((1.0 - kept) * 1e7).round() / 1e7;
            if weight != 0.0 {
                found.layers.push((*mean, *variance, weight));
                found.zeros.extend([mean, variance].map(|id| (*id, vec![0.0; lens(id)])));
            }
        }
        write(module, &before);
        Ok(found)
    }

    /// Before a pass.
    pub(super) fn prepare<M: Module>(&self, module: &M) {
        if !self.layers.is_empty() {
            write(module, &self.zeros);
        }
    }

    /// Behind a pass over a batch of so many samples.
    ///
    /// # Errors
    /// If running statistics are quantized.
    pub(super) fn take<M: Module>(&mut self, module: &M, samples: usize) -> Result<(), Error> {
        if self.layers.is_empty() {
            return Ok(());
        }
        let (batch, count) = (running(module)?, samples as f64);
        for (mean, variance, weight) in &self.layers {
            let (Some(means), Some(variances)) = (batch.get(mean), batch.get(variance)) else {
                continue;
            };
            let new =
                || Recorded::new(means.len(), RunningVariance::Biased, 0.0, OneValue::default());
            let moments = &mut self.records.entry(*mean).or_insert_with(new).moments;
            for (moments, (mean, variance)) in moments.iter_mut().zip(means.iter().zip(variances)) {
                *moments = moments.merge(Moments {
                    count,
                    mean: mean / weight,
                    m2: variance / weight * count,
                });
            }
        }
        Ok(())
    }
}
