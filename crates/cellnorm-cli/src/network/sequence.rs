//! The network for sequences: an LSTM that is normalized at each time step, and a dense layer on
//! its last state.
//!
//! With N a normalization of its own in each of its three places:
//!
//! ```text
//! (i, f, g, o) = N(W_x x_t) + N(W_h h_{t-1}) + b
//! c_t = σ(f) c_{t-1} + σ(i) tanh(g)
//! h_t = σ(o) tanh(N(c_t))
//! ```
//!
//! Sources: J. L. Ba, J. R. Kiros, G. E. Hinton, *Layer Normalization*, 2016, and T. Cooijmans, N.
//! Ballas, C. Laurent, Ç. Gülçehre, A. Courville, *Recurrent Batch Normalization*, 2016, who
//! normalize the same three places.
//!
//! The longest sequence of a batch comes first, so the sequences that have a step t are the first
//! rows of the state. The others are cut off after their last step: no padding is ever computed,
//! and none is in the statistics.

use burn::module::{Module, Param};
use burn::nn::{Identity, Initializer, Linear, LinearConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};
use cellnorm_burn::cellnorm::OneValue;
use cellnorm_burn::stopwatch::Stopwatch;
use cellnorm_burn::{
    LayerNorm, LayerNormConfig, RmsNorm, RmsNormConfig, StepBatchNorm, StepBatchNormConfig,
};

use super::{Adam, Forward, Network, Sizes, count};
use crate::data::sequences::{CHANNELS, CLASSES, LONGEST_TRAINED, Packed, Sequences};
use crate::norm::Norm;

/// Units of the LSTM.
const HIDDEN: usize = 64;

#[derive(Module, Debug)]
pub struct SequenceNetwork {
    input: Linear,
    recurrent: Linear,
    /// b of the gates; after the normalization, which would take away one before it.
    bias: Param<Tensor<1>>,
    input_norm: TimeNorm,
    recurrent_norm: TimeNorm,
    cell_norm: TimeNorm,
    output: Linear,
}

/// The state after a step, `[n, 64]` each.
struct State {
    h: Tensor<2>,
    c: Tensor<2>,
}

impl Network for SequenceNetwork {
    type Samples = Sequences;

    const NORMS: &'static [Norm] = &[Norm::None, Norm::Layer, Norm::Step, Norm::Batch, Norm::Rms];

    const SIZES: Sizes = Sizes::Sequence { inputs: CHANNELS, hidden: HIDDEN };

    const ADAM: Adam = Adam { learning_rate: 3e-3, ..Adam::PAPER };

    fn new(norm: Norm, device: &Device) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).with_bias(false).init(device);
        Self {
            input: linear(CHANNELS, 4 * HIDDEN),
            recurrent: linear(HIDDEN, 4 * HIDDEN),
            bias: Initializer::Zeros.init([4 * HIDDEN], device),
            // b is the offset of both.
            input_norm: TimeNorm::new(norm, 4 * HIDDEN, false, device),
            recurrent_norm: TimeNorm::new(norm, 4 * HIDDEN, false, device),
            cell_norm: TimeNorm::new(norm, HIDDEN, true, device),
            output: LinearConfig::new(HIDDEN, CLASSES).init(device),
        }
    }

    fn forward(&self, x: Packed) -> Tensor<2> {
        self.forward_timed(x).logits
    }

    fn forward_timed(&self, Packed { x, counts }: Packed) -> Forward {
        let mut stopwatches = Vec::new();
        let x = self.input.forward(x);
        let x = timed(&mut stopwatches, x, |x| self.input_norm.all_steps(x, &counts));
        let x = x + self.bias.val().unsqueeze();

        let mut ended = Vec::new();
        let mut state: Option<State> = None;
        let mut first_row = 0;
        for (t, &n) in counts.iter().enumerate() {
            let mut gates = x.clone().narrow(0, first_row, n);
            first_row += n;
            if let Some(before) = &mut state {
                ended.extend(before.keep(n));
                let from_h = self.recurrent.forward(before.h.clone());
                // The first step has no state before it: the second is the first that normalizes
                // one.
                gates = gates
                    + timed(&mut stopwatches, from_h, |x| self.recurrent_norm.at_step(x, t - 1));
            }
            state = Some(self.step(gates, state, |c| {
                timed(&mut stopwatches, c, |x| self.cell_norm.at_step(x, t))
            }));
        }
        ended.extend(state.map(|state| state.h));
        // The sequences that ended last are the first rows.
        ended.reverse();
        Forward { logits: self.output.forward(Tensor::cat(ended, 0)), moments: None, stopwatches }
    }

    fn count_parameters(&self) -> (usize, usize) {
        let norms = [&self.input_norm, &self.recurrent_norm, &self.cell_norm];
        (count(self), norms.into_iter().map(count).sum())
    }
}

impl SequenceNetwork {
    /// The state after a step with these sums of its gates.
    fn step(
        &self,
        gates: Tensor<2>,
        before: Option<State>,
        norm: impl FnOnce(Tensor<2>) -> Tensor<2>,
    ) -> State {
        let gate = |number: usize| gates.clone().narrow(1, number * HIDDEN, HIDDEN);
        let mut c = sigmoid(gate(0)) * gate(2).tanh();
        if let Some(before) = before {
            c = c + sigmoid(gate(1)) * before.c;
        }
        State { h: sigmoid(gate(3)) * norm(c.clone()).tanh(), c }
    }
}

impl State {
    /// Keeps the first `n` rows and returns the last h of the others, if there are any.
    fn keep(&mut self, n: usize) -> Option<Tensor<2>> {
        let others = self.h.dims()[0] - n;
        if others == 0 {
            return None;
        }
        let last = self.h.clone().narrow(0, n, others);
        self.h = self.h.clone().narrow(0, 0, n);
        self.c = self.c.clone().narrow(0, 0, n);
        Some(last)
    }
}

fn timed(
    stopwatches: &mut Vec<Stopwatch>,
    x: Tensor<2>,
    norm: impl FnOnce(Tensor<2>) -> Tensor<2>,
) -> Tensor<2> {
    let (y, (), stopwatch) = Stopwatch::run(x, |x| (norm(x), ()));
    stopwatches.push(stopwatch);
    y
}

/// The normalization of one place of the network at each time step, on `[n, features]`.
#[derive(Module, Debug)]
enum TimeNorm {
    None(Identity),
    Layer(LayerNorm),
    Rms(RmsNorm),
    /// Statistics of the samples that have a step; running ones of each step, or of all together.
    Batch(StepBatchNorm),
}

impl TimeNorm {
    /// The layer for `features` features, with an offset where one is wanted and usual.
    fn new(norm: Norm, features: usize, center: bool, device: &Device) -> Self {
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
    fn at_step(&self, x: Tensor<2>, t: usize) -> Tensor<2> {
        match self {
            Self::None(layer) => layer.forward(x),
            Self::Layer(layer) => layer.forward(x),
            Self::Rms(layer) => layer.forward(x),
            Self::Batch(layer) => layer.at_step(t).forward(x.unsqueeze_dim::<3>(1)).squeeze_dim(1),
        }
    }

    /// Normalizes all steps, which are the rows of x in order: `counts[t]` samples have the step t.
    fn all_steps(&self, x: Tensor<2>, counts: &[usize]) -> Tensor<2> {
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
    use burn::tensor::TensorData;

    use super::*;

    type Rows = Vec<Vec<f64>>;

    impl SequenceNetwork {
        pub fn weights(&self) -> Vec<TensorData> {
            [&self.input, &self.recurrent, &self.output]
                .map(|layer| layer.weight.val().into_data())
                .into()
        }
    }

    /// Values that no rule of the network could give by chance.
    fn waves(rows: usize, columns: usize, salt: f64) -> Rows {
        let wave = |i: usize, j: usize| 0.3 * (1.7 * i as f64 + 0.9 * j as f64 + salt).sin();
        (0..rows).map(|i| (0..columns).map(|j| wave(i, j)).collect()).collect()
    }

    fn tensor(rows: &Rows, device: &Device) -> Tensor<2> {
        let values: Vec<f32> = rows.iter().flatten().map(|&value| value as f32).collect();
        Tensor::from_data(TensorData::new(values, [rows.len(), rows[0].len()]), device)
    }

    /// A network of waves, which draws no random numbers: other tests may be at it.
    fn network(norm: Norm, device: &Device) -> SequenceNetwork {
        let mut network = SequenceNetwork::new(norm, device);
        let weights = |from, to, salt| Param::from_tensor(tensor(&waves(from, to, salt), device));
        network.input.weight = weights(CHANNELS, 4 * HIDDEN, 1.0);
        network.recurrent.weight = weights(HIDDEN, 4 * HIDDEN, 2.0);
        network.bias = Param::from_tensor(tensor(&waves(1, 4 * HIDDEN, 3.0), device).squeeze());
        network.output.weight = weights(HIDDEN, CLASSES, 4.0);
        network.output.bias = Some(Param::from_tensor(Tensor::zeros([CLASSES], device)));
        network
    }

    /// Sequences of these lengths, the longest first, as the network takes them.
    fn packed(sequences: &[Rows], device: &Device) -> Packed {
        let counts =
            (0..sequences[0].len()).map(|t| sequences.iter().filter(|rows| rows.len() > t).count());
        let steps = (0..sequences[0].len())
            .flat_map(|t| sequences.iter().filter_map(move |rows| rows.get(t).cloned()));
        Packed { x: tensor(&steps.collect(), device), counts: counts.collect() }
    }

    fn sequences(lengths: &[usize]) -> Vec<Rows> {
        lengths
            .iter()
            .zip(10..)
            .map(|(&length, salt)| waves(length, CHANNELS, f64::from(salt)))
            .collect()
    }

    fn scores(logits: Tensor<2>) -> Vec<f32> {
        logits.try_into_vec_as::<f32>().unwrap()
    }

    fn assert_close(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() < 2e-5, "{a} {b}");
        }
    }

    /// Standardizes each row, or with `batch` each column.
    fn standardize(mut rows: Rows, batch: bool) -> Rows {
        fn scale(values: Vec<&mut f64>) {
            let n = values.len() as f64;
            let mean = values.iter().map(|x| **x).sum::<f64>() / n;
            let variance = values.iter().map(|x| (**x - mean).powi(2)).sum::<f64>() / n;
            values.into_iter().for_each(|x| *x = (*x - mean) / (variance + 1e-5).sqrt());
        }
        match batch {
            false => rows.iter_mut().for_each(|row| scale(row.iter_mut().collect())),
            true => (0..rows[0].len())
                .for_each(|j| scale(rows.iter_mut().map(|row| &mut row[j]).collect())),
        }
        rows
    }

    fn product(rows: &Rows, weights: &Rows) -> Rows {
        let entry = |row: &Vec<f64>, j: usize| row.iter().zip(weights).map(|(x, w)| x * w[j]).sum();
        rows.iter().map(|row| (0..weights[0].len()).map(|j| entry(row, j)).collect()).collect()
    }

    /// The formulas at the head, in f64: all sequences at each step, without those that are over.
    fn naive(sequences: &[Rows], normalize: impl Fn(Rows) -> Rows) -> Rows {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let bias = &waves(1, 4 * HIDDEN, 3.0)[0];
        let mut h = vec![vec![0.0; HIDDEN]; sequences.len()];
        let mut c = h.clone();
        for t in 0..sequences[0].len() {
            let alive: Vec<usize> =
                (0..sequences.len()).filter(|&i| sequences[i].len() > t).collect();
            let x = alive.iter().map(|&i| sequences[i][t].clone()).collect();
            let from_x = normalize(product(&x, &waves(CHANNELS, 4 * HIDDEN, 1.0)));
            let before = alive.iter().map(|&i| h[i].clone()).collect();
            let from_h = normalize(product(&before, &waves(HIDDEN, 4 * HIDDEN, 2.0)));
            let gate = |row: usize, number: usize, j: usize| {
                let k = number * HIDDEN + j;
                from_x[row][k] + from_h[row][k] + bias[k]
            };
            for (row, &i) in alive.iter().enumerate() {
                for (j, c) in c[i].iter_mut().enumerate() {
                    *c = sigmoid(gate(row, 1, j)) * *c
                        + sigmoid(gate(row, 0, j)) * gate(row, 2, j).tanh();
                }
            }
            let cells = normalize(alive.iter().map(|&i| c[i].clone()).collect());
            for (row, &i) in alive.iter().enumerate() {
                for (j, h) in h[i].iter_mut().enumerate() {
                    *h = sigmoid(gate(row, 3, j)) * cells[row][j].tanh();
                }
            }
        }
        product(&h, &waves(HIDDEN, CLASSES, 4.0))
    }

    #[test]
    fn training_follows_the_formulas_with_the_statistics_of_the_sequences_that_have_a_step() {
        let device = Device::flex().autodiff();
        // Four have each step: standardizing two is little but a sign, which enlarges what is
        // rounded.
        let sequences = sequences(&[5, 5, 5, 5, 3, 1]);
        for norm in [Norm::None, Norm::Layer, Norm::Batch, Norm::Step] {
            let expected = naive(&sequences, |rows| match norm {
                Norm::None => rows,
                _ => standardize(rows, norm != Norm::Layer),
            });
            let expected: Vec<f32> =
                expected.into_iter().flatten().map(|score| score as f32).collect();
            let forward = network(norm, &device).forward_timed(packed(&sequences, &device));
            assert_close(&scores(forward.logits), &expected);
        }
    }

    #[test]
    fn a_sequence_is_scored_the_same_alone_and_beside_longer_ones() {
        let device = Device::flex();
        let sequences = sequences(&[9, 7, 4, 2]);
        for norm in [Norm::None, Norm::Layer, Norm::Step, Norm::Batch, Norm::Rms] {
            let network = network(norm, &device);
            let together = scores(network.forward(packed(&sequences, &device)));
            for (sequence, together) in sequences.chunks(1).zip(together.chunks(CLASSES)) {
                assert_close(&scores(network.forward(packed(sequence, &device))), together);
            }
        }
    }

    #[test]
    fn a_step_that_one_sequence_has_takes_the_running_statistics() {
        let device = Device::flex().autodiff();
        for norm in [Norm::Step, Norm::Batch] {
            let network = network(norm, &device);
            network.forward(packed(&sequences(&[5, 5, 4]), &device));
            let alone = sequences(&[4]);
            let in_training = scores(network.forward(packed(&alone, &device)));
            let in_test = scores(network.valid().forward(packed(&alone, &Device::flex())));
            assert_close(&in_training, &in_test);
        }
    }

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
