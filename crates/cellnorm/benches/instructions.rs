//! Small layers, one call at a time, for counting instructions: `python3 bench/instructions.py`
//! runs this under callgrind.
//!
//! At these sizes the overhead of a call counts, which a clock cannot tell from noise. Without
//! arguments the names of the cases are printed; with a name, that case is run: once to warm up,
//! and then ten times within `measured`, which is what callgrind collects.

use std::hint::black_box;

use cellnorm::rule::{NormConfig, Rule};
use cellnorm::{
    BatchNormConfig, GroupNormConfig, InstanceNormConfig, LayerNormConfig, RmsNormConfig,
};
use ndarray::{ArrayD, IxDyn};

const CALLS: usize = 10;
const ROWS: [&[usize]; 2] = [&[1, 768], &[16, 256]];
/// Channels first and channels last.
const PLANES: [(&[usize], isize); 2] = [(&[8, 512, 7, 7], 1), (&[8, 7, 7, 512], -1)];

type Case = (String, Box<dyn FnMut()>);

/// The one function whose instructions are counted.
#[inline(never)]
fn measured(call: &mut dyn FnMut()) {
    call();
}

fn tensor(shape: &[usize], step: usize) -> ArrayD<f32> {
    let mut at = 0;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        at += step;
        (at % 101) as f32 * 0.05 - 2.0
    })
}

/// The forward and the backward pass of a layer, as two cases.
fn add<R: Rule + 'static>(
    cases: &mut Vec<Case>,
    name: &str,
    shape: &[usize],
    config: NormConfig<R>,
) {
    let (x, dy) = (tensor(shape, 37), tensor(shape, 53));
    let mut layer = config.init().expect("a sound layer");
    let (_, saved) = layer.forward(x.view()).expect("the shape suits the layer");
    let (mut again, x_again) = (layer.clone(), x.clone());
    let call = move || drop(black_box(again.forward(x_again.view()).expect("as before")));
    cases.push((format!("{name} {shape:?} forward"), Box::new(call)));
    let call = move || {
        let gradients = layer.backward(&saved, x.view(), dy.view());
        drop(black_box(gradients.expect("dy is of the shape of x")))
    };
    cases.push((format!("{name} {shape:?} backward"), Box::new(call)));
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in ROWS {
        add(&mut cases, "layer", shape, LayerNormConfig::new(&shape[1..]));
        add(&mut cases, "rms", shape, RmsNormConfig::new(&shape[1..]));
    }
    for (shape, axis) in PLANES {
        add(&mut cases, "batch", shape, BatchNormConfig::new(512).channel_axis(axis));
        add(&mut cases, "group", shape, GroupNormConfig::new(32, 512).channel_axis(axis));
        add(&mut cases, "instance", shape, InstanceNormConfig::new(512).channel_axis(axis));
    }
    cases
}

fn main() {
    // cargo adds flags of its own
    let asked = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    for (name, mut call) in cases() {
        match &asked {
            None => println!("{name}"),
            Some(asked) if *asked == name => {
                call();
                (0..CALLS).for_each(|_| measured(&mut call));
            }
            Some(_) => {}
        }
    }
}
