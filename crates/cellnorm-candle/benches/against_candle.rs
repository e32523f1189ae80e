//! Our layers beside candle-nn's, forward, and forward and backward, f32.
//!
//! Run it with `cargo bench -p cellnorm-candle`. Blocks alternate in one run, because the machine's speed drifts; the ratio is the
//! median of the blocks' ratios. Forward, candle-nn's layer and RMS normalization are its fused operations. These have no
//! gradient, so forward and backward is its formulation by tensor operations, `ops::layer_norm_slow` and `ops::rms_norm_slow`. A
//! backward pass starts from ones.
//!
//! Candle's gradient store adds each gradient to zeros, two passes that an extension cannot avoid, and y's gradient has to be made:
//! `store` is what the two take by themselves, and its share of our time.

use std::hint::black_box;
use std::time::Instant;

use candle_core::{Device, Result, Tensor, Var};
use candle_nn::{Module, ModuleT, ops};

const BLOCKS: usize = 11;
/// A block takes about as long.
const BLOCK_SECONDS: f64 = 0.04;
const EPSILON: f64 = 1e-5;

type Forward<'a> = &'a dyn Fn(&Tensor) -> Result<Tensor>;

fn main() -> Result<()> {
    println!("f32, medians of {BLOCKS} alternating blocks\n");
    println!("{:<8} {:<14} {:>10} {:>10} {:>7}", "forward", "shape", "candle µs", "ours µs", "ratio");
    for shape in [&[1, 768][..], &[8, 512, 768], &[1, 2048, 4096], &[64, 128, 1024]] {
        let last = Norms::new(shape[shape.len() - 1], false)?;
        let (x, theirs) = (random(shape)?, candle_nn::LayerNorm::new(last.gamma.clone(), last.beta.clone(), EPSILON));
        forward("layer", &x, &|x| theirs.forward(x), &|x| last.layer.forward(x))?;
        let theirs = candle_nn::RmsNorm::new(last.gamma.clone(), EPSILON);
        forward("rms", &x, &|x| theirs.forward(x), &|x| last.rms.forward(x))?;
    }
    let (x, of) = (random(&[64, 16, 112, 112])?, Channels::new(16, false)?);
    forward("batch", &x, &|x| of.their_batch.forward_train(x), &|x| of.batch.forward_train(x))?;
    forward("infer", &x, &|x| of.their_batch.forward_t(x, false), &|x| of.batch.forward_t(x, false))?;
    forward("group", &x, &|x| of.their_group.forward(x), &|x| of.group.forward(x))?;

    println!(
        "\n{:<8} {:<14} {:>10} {:>10} {:>7} {:>9} {:>6}",
        "f and b", "shape", "candle µs", "ours µs", "ratio", "store µs", "share"
    );
    for shape in [&[1, 768][..], &[8, 512, 768], &[1, 2048, 4096], &[64, 128, 1024]] {
        let last = Norms::new(shape[shape.len() - 1], true)?;
        let (x, eps) = (Var::from_tensor(&random(shape)?)?, EPSILON as f32);
        both("layer", &x, &|x| ops::layer_norm_slow(x, &last.gamma, &last.beta, eps), &|x| last.layer.forward(x))?;
        both("rms", &x, &|x| ops::rms_norm_slow(x, &last.gamma, eps), &|x| last.rms.forward(x))?;
    }
    let (x, of) = (Var::from_tensor(&random(&[64, 16, 112, 112])?)?, Channels::new(16, true)?);
    both("batch", &x, &|x| of.their_batch.forward_train(x), &|x| of.batch.forward_train(x))?;
    both("group", &x, &|x| of.their_group.forward(x), &|x| of.group.forward(x))
}

fn random(shape: &[usize]) -> Result<Tensor> {
    Tensor::randn(0.5f32, 2.0, shape, &Device::Cpu)
}

/// γ and β near 1 and 0, variables where they are trained.
fn parameters(len: usize, trained: bool) -> Result<[Tensor; 2]> {
    let of = |mean: f32| -> Result<Tensor> {
        let values = Tensor::randn(mean, 0.1, len, &Device::Cpu)?;
        if trained { Ok(Var::from_tensor(&values)?.into_inner()) } else { Ok(values) }
    };
    Ok([of(1.0)?, of(0.0)?])
}

/// Layers over the last axis.
struct Norms {
    gamma: Tensor,
    beta: Tensor,
    layer: cellnorm_candle::LayerNorm,
    rms: cellnorm_candle::RmsNorm,
}

impl Norms {
    fn new(width: usize, trained: bool) -> Result<Self> {
        let [gamma, beta] = parameters(width, trained)?;
        let layer = cellnorm_candle::LayerNorm::new(gamma.clone(), beta.clone(), EPSILON);
        Ok(Self { layer, rms: cellnorm_candle::RmsNorm::new(gamma.clone(), EPSILON), gamma, beta })
    }
}

/// Layers over images.
struct Channels {
    batch: cellnorm_candle::BatchNorm,
    their_batch: candle_nn::BatchNorm,
    group: cellnorm_candle::GroupNorm,
    their_group: candle_nn::GroupNorm,
}

impl Channels {
    fn new(channels: usize, trained: bool) -> Result<Self> {
        let [gamma, beta] = parameters(channels, trained)?;
        let (mean, variance) = (gamma.zeros_like()?, gamma.ones_like()?);
        let (g, b) = (gamma.clone(), beta.clone());
        Ok(Self {
            batch: cellnorm_candle::BatchNorm::new(
                channels,
                mean.clone(),
                variance.clone(),
                g.clone(),
                b.clone(),
                EPSILON,
            )?,
            their_batch: candle_nn::BatchNorm::new(channels, mean, variance, g.clone(), b.clone(), EPSILON)?,
            group: cellnorm_candle::GroupNorm::new(g, b, channels, 4, EPSILON)?,
            their_group: candle_nn::GroupNorm::new(gamma, beta, channels, 4, EPSILON)?,
        })
    }
}

fn forward(name: &str, x: &Tensor, theirs: Forward, ours: Forward) -> Result<()> {
    let difference = (theirs(x)? - ours(x)?)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
    assert!(difference < 1e-3, "{name}: outputs differ by {difference}");
    let run = |of: Forward| drop(black_box(of(x).expect("ran before")));
    let [theirs, ours, ratio] = alternate(&|| run(theirs), &|| run(ours));
    println!("{name:<8} {:<14} {:>10.1} {:>10.1} {ratio:>6.2}x", shape(x), theirs * 1e6, ours * 1e6);
    Ok(())
}

fn both(name: &str, x: &Var, theirs: Forward, ours: Forward) -> Result<()> {
    let dx = |of: Forward| -> Result<Tensor> { Ok(of(x)?.sin()?.backward()?.remove(x).expect("x is a variable")) };
    let difference = (dx(theirs)? - dx(ours)?)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
    assert!(difference < 1e-3, "{name}: gradients differ by {difference}");
    let run = |of: Forward| drop(black_box(of(x).and_then(|y| y.backward()).expect("ran before")));
    let [theirs, ours, ratio] = alternate(&|| run(theirs), &|| run(ours));
    let dx = dx(&|x| x.sin())?;
    let zeros_and_sum = || x.zeros_like().and_then(|zeros| zeros.add(&dx)).expect("ran before");
    let ones = || x.ones_like().and_then(|ones| ones.contiguous()).expect("ran before");
    let store = || drop(black_box((ones(), zeros_and_sum())));
    let repeats = repeats(&store);
    let store = median((0..BLOCKS).map(|_| seconds(&store, repeats)).collect());
    println!(
        "{name:<8} {:<14} {:>10.1} {:>10.1} {ratio:>6.2}x {:>9.1} {:>5.0}%",
        shape(x),
        theirs * 1e6,
        ours * 1e6,
        store * 1e6,
        100.0 * store / ours
    );
    Ok(())
}

fn shape(x: &Tensor) -> String {
    x.dims().iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

/// Seconds of both and the ratio, the first divided by the second.
fn alternate(first: &dyn Fn(), second: &dyn Fn()) -> [f64; 3] {
    let counts = [first, second].map(repeats);
    let blocks: Vec<[f64; 2]> = (0..BLOCKS).map(|_| [seconds(first, counts[0]), seconds(second, counts[1])]).collect();
    let of = |part: fn(&[f64; 2]) -> f64| median(blocks.iter().map(part).collect());
    [of(|b| b[0]), of(|b| b[1]), of(|b| b[0] / b[1])]
}

/// How often a block runs something.
fn repeats(run: impl Fn()) -> usize {
    run();
    (BLOCK_SECONDS / seconds(&run, 3)).ceil() as usize
}

fn seconds(run: impl Fn(), repeats: usize) -> f64 {
    let start = Instant::now();
    (0..repeats).for_each(|_| run());
    start.elapsed().as_secs_f64() / repeats as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
