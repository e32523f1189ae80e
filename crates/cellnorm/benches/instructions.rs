//! Small layers, one call at a time, for counting instructions: `python3 bench/instructions.py`
//! runs this under callgrind.
//!
//! At these sizes the overhead of a call counts, which a clock cannot tell from noise. Without
//! arguments the names of the cases are printed; with a name, that case is run: once to warm up,
//! and then ten times within `measured`, which is what callgrind collects.

use std::hint::black_box;

use cellnorm::norms::{Kind, Norm, NormConfig};
use cellnorm::{
    BatchNorm, BatchNormConfig, Error, Gradients, GroupNormConfig, InstanceNormConfig,
    LayerNormConfig, RmsNormConfig, Saved,
};
use ndarray::{ArrayD, ArrayViewD, IxDyn};

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

type Forward<L> = fn(&mut L, ArrayViewD<'_, f32>) -> Result<(ArrayD<f32>, Saved), Error>;
type Backward<L> = fn(
    &L,
    &Saved,
    ArrayViewD<'_, f32>,
    ArrayViewD<'_, f32>,
) -> Result<Gradients<f32, IxDyn>, Error>;

/// The forward and the backward pass of a layer, as two cases.
fn add<L: Clone + 'static>(
    cases: &mut Vec<Case>,
    name: &str,
    shape: &[usize],
    layer: Result<L, Error>,
    forward: Forward<L>,
    backward: Backward<L>,
) {
    let (x, dy) = (tensor(shape, 37), tensor(shape, 53));
    let mut layer = layer.expect("a sound layer");
    let (_, saved) = forward(&mut layer, x.view()).expect("the shape suits the layer");
    let (mut again, x_again) = (layer.clone(), x.clone());
    let call = move || drop(black_box(forward(&mut again, x_again.view()).expect("as before")));
    cases.push((format!("{name} {shape:?} forward"), Box::new(call)));
    let call = move || {
        drop(black_box(
            backward(&layer, &saved, x.view(), dy.view()).expect("dy is of the shape of x"),
        ))
    };
    cases.push((format!("{name} {shape:?} backward"), Box::new(call)));
}

fn add_norm<K: Kind + 'static>(
    cases: &mut Vec<Case>,
    name: &str,
    shape: &[usize],
    config: NormConfig<K>,
) {
    let backward: Backward<Norm<K>> = |layer, saved, x, dy| layer.backward(saved, x, dy);
    add(cases, name, shape, config.init(), |layer, x| layer.forward(x), backward);
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in ROWS {
        add_norm(&mut cases, "layer", shape, LayerNormConfig::new(&shape[1..]));
        add_norm(&mut cases, "rms", shape, RmsNormConfig::new(&shape[1..]));
    }
    for (shape, axis) in PLANES {
        let batch = BatchNormConfig::new(512).channel_axis(axis).init();
        let backward: Backward<BatchNorm> = |layer, saved, x, dy| layer.backward(saved, x, dy);
        add(&mut cases, "batch", shape, batch, |layer, x| layer.forward(x), backward);
        add_norm(&mut cases, "group", shape, GroupNormConfig::new(32, 512).channel_axis(axis));
        add_norm(&mut cases, "instance", shape, InstanceNormConfig::new(512).channel_axis(axis));
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
