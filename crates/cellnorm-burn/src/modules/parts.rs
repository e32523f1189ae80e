//! What a layer that is a rule has besides its parameters, and how it runs.

use burn::module::RunningState;
use burn::tensor::{Bool, Device, Tensor, TensorData};
use cellnorm::OneValue;
use cellnorm::norms::Kind;
use cellnorm::tables::{Rule, TableNorm, Tracked};
use ndarray::ArrayD;

use super::averages::{Average, Averages, Pace, batches};
use crate::functions::{Normalized, normalize, normalize_fixed};
use crate::tables::{Applied, Table};

/// The parts of a layer at a forward pass.
pub(super) struct Parts<'a, R> {
    pub(super) rule: &'a R,
    pub(super) epsilon: f64,
    pub(super) one_value: OneValue,
    /// In the order of the rule's slots.
    pub(super) parameters: Vec<(&'static str, Option<Tensor<1>>)>,
    pub(super) averages: Option<Averages<'a>>,
    pub(super) training: bool,
    pub(super) pace: Pace,
}

impl<R: Rule + 'static> Parts<'_, R> {
    /// y; in training, the running averages move.
    ///
    /// # Panics
    /// If the shape of x does not suit the rule, or the policy refuses its number of values.
    pub(super) fn forward<const D: usize>(
        self,
        x: Tensor<D>,
        mask: Option<Tensor<D, Bool>>,
    ) -> Tensor<D> {
        let Self { rule, epsilon, one_value, parameters, averages, training, pace } = self;
        let batch = x.device().is_autodiff() && training;
        let running = averages.map(Averages::values);
        let applied = Applied { rule, epsilon, one_value, parameters, running, batch, mask };
        let (y, tracked) = applied.run(x).unwrap_or_else(|error| panic!("{error}"));
        if let (true, Some(averages), Some(tracked)) = (batch, averages, tracked) {
            pace.follow(averages, tracked, epsilon, one_value);
        }
        y
    }

    /// As [`forward`](Self::forward), where the rule's sets are those of this kind: one autodiff
    /// node instead of arithmetic on tables.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub(super) fn standardize<K: Kind, const D: usize>(self, kind: &K, x: Tensor<D>) -> Tensor<D> {
        let Self { epsilon, one_value, mut parameters, averages, training, pace, .. } = self;
        let (shape, device) = (x.dims(), x.device());
        let sets = kind.roles(&shape, true).unwrap_or_else(|error| panic!("{error}")).sets(&shape);
        let values = x.shape().num_elements() as f64 / sets as f64;
        let mut parameter = |name| {
            parameters.iter_mut().find(|(of, _)| *of == name).and_then(|(_, value)| value.take())
        };
        let (gamma, beta) = (parameter("gamma"), parameter("beta"));
        let averages = averages.expect("a kind with running averages");
        let batch = device.is_autodiff() && training;
        let policy = || {
            one_value.uses_running(R::NAME, &shape, batch).unwrap_or_else(|error| panic!("{error}"))
        };
        let stays = values <= 1.0 && policy();
        if !batch || stays {
            let (mean, variance) = averages.values();
            let (mean, variance) = (mean.to_device(&device), variance.to_device(&device));
            return normalize_fixed(kind, x, gamma, beta, mean, variance, epsilon);
        }
        let Normalized { y, mean, variance } = normalize(kind, x, gamma, beta, epsilon);
        let tracked =
            Tracked { mean: Table(mean), variance: Table(variance), values: vec![values; sets] };
        pace.follow(averages, tracked, epsilon, one_value);
        y
    }
}

/// The values as a tensor, flat.
pub(super) fn flat(values: &ArrayD<f64>, device: &Device) -> Tensor<1> {
    let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

/// The running mean and variance of a layer on arrays, and the count of their batches where they
/// need it.
///
/// # Panics
/// If it has averages of another pace beside them.
pub(super) fn averages_of<R: Rule>(layer: &TableNorm<R>, device: &Device) -> [Average; 3] {
    let average = |of: &ArrayD<f64>| RunningState::new(flat(of, device));
    assert!(
        layer.correction.is_none(),
        "{} has a momentum of its own for its correction, for which a layer of Burn has no \
         averages; leave correction_momentum out, or train on arrays",
        R::NAME
    );
    let Some(running) = &layer.running else {
        return [None, None, None];
    };
    let batches = batches(layer.momentum, layer.steps, device);
    [Some(average(&running.mean)), Some(average(&running.variance)), batches]
}
