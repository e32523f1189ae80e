//! A network that another framework trained for three steps goes on here for three, and ends where
//! the framework's does: parameters and running statistics.
//!
//! The states and batches come from `crates/cellnorm/tests/fixtures/continue/`, whose `training.py`
//! describes the file.

use std::collections::BTreeMap;

use burn::module::{Param, RunningState};
use burn::tensor::activation::relu;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use cellnorm_burn::cellnorm::{Normalization, Semantics};
use cellnorm_burn::{BatchNormConfig, LayerNormConfig};
use serde_json::Value;

/// The largest deviation from the framework's last state, relative to each tensor's scale.
const BAR: f64 = 1e-5;

fn numbers(of: &Value) -> Vec<f32> {
    of.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn shape<const D: usize>(of: &Value) -> [usize; D] {
    let lengths: Vec<usize> =
        of.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    lengths.try_into().expect("as many axes as the tensor")
}

/// A network's tensors by the framework's names, and how the framework lays them out.
struct State<'a> {
    tensors: BTreeMap<&'a str, (&'a Value, Vec<f32>)>,
    semantics: Box<dyn Fn(Normalization) -> Semantics>,
    device: Device,
    /// The steps to take after the backward pass.
    steps: Vec<Step<'a>>,
}

type Step<'a> = (&'a str, Box<dyn Fn(&Gradients) -> Vec<f32>>);

impl<'a> State<'a> {
    fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let (lengths, values) = &self.tensors[name];
        Tensor::from_data(TensorData::new(values.clone(), shape::<D>(lengths)), &self.device)
    }

    /// A parameter, which the next step moves.
    fn trained<const D: usize>(&mut self, layer: &'a Value, role: &str) -> Param<Tensor<D>> {
        let name = layer[role].as_str().unwrap();
        let parameter = Param::from_tensor(self.tensor::<D>(name));
        let value = parameter.val();
        let gradient =
            move |of: &Gradients| value.grad(of).unwrap().into_data().try_to_vec().unwrap();
        self.steps.push((name, Box::new(gradient)));
        parameter
    }

    fn channels_last(&self) -> bool {
        (self.semantics)(Normalization::Batch).channel_axis == -1
    }

    fn linear<const D: usize>(&mut self, layer: &'a Value, x: Tensor<D>) -> Tensor<D> {
        let (weight, bias) =
            (self.trained::<2>(layer, "weight").val(), self.trained::<1>(layer, "bias").val());
        let weight = if self.channels_last() { weight } else { weight.transpose() };
        x.matmul(weight.unsqueeze()) + bias.unsqueeze()
    }

    fn convolution(&mut self, layer: &'a Value, x: Tensor<4>) -> Tensor<4> {
        let (weight, bias) =
            (self.trained::<4>(layer, "weight").val(), self.trained::<1>(layer, "bias").val());
        let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
        if !self.channels_last() {
            return conv2d(x, weight, Some(bias), options);
        }
        conv2d(x.permute([0, 3, 1, 2]), weight.permute([3, 2, 0, 1]), Some(bias), options)
            .permute([0, 2, 3, 1])
    }

    fn batch(&mut self, layer: &'a Value, x: Tensor<4>) -> Tensor<4> {
        let semantics = (self.semantics)(Normalization::Batch);
        let mean = layer["running_mean"].as_str().unwrap();
        let variance = layer["running_var"].as_str().unwrap();
        let channels = self.tensors[mean].1.len();
        let mut norm = BatchNormConfig::new(channels).with_semantics(&semantics).init(&self.device);
        (norm.gamma, norm.beta) =
            (Some(self.trained(layer, "weight")), Some(self.trained(layer, "bias")));
        norm.running_mean = RunningState::new(self.tensor(mean));
        norm.running_var = RunningState::new(self.tensor(variance));
        let y = norm.forward(x);
        for (name, state) in [(mean, &norm.running_mean), (variance, &norm.running_var)] {
            let moved = state.value_sync().into_data().try_to_vec().unwrap();
            self.tensors.get_mut(name).unwrap().1 = moved;
        }
        y
    }

    fn layer(&mut self, layer: &'a Value, x: Tensor<3>) -> Tensor<3> {
        let semantics = (self.semantics)(Normalization::Layer);
        let mut norm =
            LayerNormConfig::new(x.dims()[2]).with_semantics(&semantics).init(&self.device);
        (norm.gamma, norm.beta) =
            (Some(self.trained(layer, "weight")), Some(self.trained(layer, "bias")));
        norm.forward(x)
    }

    fn convolutional(&mut self, layers: &'a [Value], x: Tensor<4>) -> Tensor<2> {
        let x = self.convolution(&layers[0], x);
        let x = relu(self.batch(&layers[1], x));
        self.linear(&layers[4], x.flatten(1, 3))
    }

    fn block(&mut self, layers: &'a [Value], x: Tensor<3>) -> Tensor<3> {
        let inside = self.linear(&layers[0], x.clone());
        let inside = self.layer(&layers[1], inside);
        self.linear(&layers[2], inside) + x
    }

    /// The mean squared difference, and a step of plain gradient descent.
    fn descend<const D: usize>(&mut self, y: Tensor<D>, target: Tensor<D>, rate: f32) -> f32 {
        let loss = (y - target).square().mean();
        let gradients = loss.backward();
        for (name, gradient) in std::mem::take(&mut self.steps) {
            for (value, slope) in
                self.tensors.get_mut(name).unwrap().1.iter_mut().zip(gradient(&gradients))
            {
                *value -= rate * slope;
            }
        }
        loss.into_scalar::<f32>()
    }
}

fn continues(file: &str, preset: &'static str) {
    let file: Value = serde_json::from_str(file).unwrap();
    for model in file["models"].as_array().unwrap() {
        let state = |at: usize| model["states"][at]["tensors"].as_object().unwrap();
        let tensors = state(1)
            .iter()
            .map(|(name, of)| (name.as_str(), (&of["shape"], numbers(&of["values"]))));
        let semantics = Box::new(move |of| Semantics::preset(preset, of).unwrap());
        let device = Device::flex().autodiff();
        let mut ours =
            State { tensors: tensors.collect(), semantics, device: device.clone(), steps: vec![] };
        let rate = model["learning_rate"].as_f64().unwrap() as f32;
        let layers = model["layers"].as_array().unwrap();
        for batch in &model["batches"].as_array().unwrap()[3..] {
            let data =
                |of: &str, lengths: Vec<usize>| TensorData::new(numbers(&batch[of]), lengths);
            let loss = if model["name"] == "convolution" {
                let x = Tensor::<4>::from_data(
                    data("x", shape::<4>(&model["x_shape"]).to_vec()),
                    &device,
                );
                let target = Tensor::<2>::from_data(
                    data("target", shape::<2>(&model["target_shape"]).to_vec()),
                    &device,
                );
                let y = ours.convolutional(layers, x);
                ours.descend(y, target, rate)
            } else {
                let [x, target] = ["x", "target"].map(|of| {
                    let lengths = shape::<3>(&model[format!("{of}_shape")]);
                    Tensor::<3>::from_data(data(of, lengths.to_vec()), &device)
                });
                let y = ours.block(layers, x);
                ours.descend(y, target, rate)
            };
            let theirs = batch["loss"].as_f64().unwrap();
            assert!(
                (f64::from(loss) - theirs).abs() < BAR * theirs.max(1.0),
                "loss {loss}, {preset}: {theirs}"
            );
        }
        let mut worst = 0.0_f64;
        for (name, theirs) in
            state(2).iter().filter(|(_, of)| !of["shape"].as_array().unwrap().is_empty())
        {
            let theirs = numbers(&theirs["values"]);
            let scale = theirs.iter().fold(1.0, |scale: f32, v| scale.max(v.abs()));
            for (ours, theirs) in ours.tensors[name.as_str()].1.iter().zip(&theirs) {
                let off = f64::from((ours - theirs).abs() / scale);
                assert!(off <= BAR, "{preset} {}, {name}: {ours} is not {theirs}", model["name"]);
                worst = worst.max(off);
            }
        }
        println!("{preset:<12} {:<16} worst {worst:.1e}", model["name"].as_str().unwrap());
    }
}

#[test]
fn pytorch_training_continues() {
    continues(include_str!("../../cellnorm/tests/fixtures/continue/pytorch.json"), "pytorch-2");
}

#[test]
fn keras_training_continues() {
    continues(include_str!("../../cellnorm/tests/fixtures/continue/keras3.json"), "keras-3");
}
