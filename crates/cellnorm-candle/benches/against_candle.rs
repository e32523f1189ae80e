//! Our layers beside candle-nn's, forward, and forward and backward, f32.
//!
//! Run it with `cargo bench -p cellnorm-candle`, or of some lines with words of theirs, as `--
//! forward 1×768`. Blocks alternate in one run, because the machine's speed drifts; the ratio is
//! the median of the blocks' ratios. Forward, candle-nn's layer and RMS normalization are its fused
//! operations. These have no gradient, so forward and backward is its formulation by tensor
//! operations, `ops::layer_norm_slow` and `ops::rms_norm_slow`. A backward pass starts from ones.
//!
//! `store` is the same step with an operation that costs nothing in our place: what Candle takes to
//! make the gradient of y, and to add that of x to zeros, which an extension cannot avoid. `share`
//! is its share of our step, `rest` the ratio of what is left of both.

use std::hint::black_box;
use std::time::Instant;

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, Var};
use candle_nn::{Module, ModuleT, ops};

const BLOCKS: usize = 11;
/// A block takes about as long.
const BLOCK_SECONDS: f64 = 0.04;
const EPSILON: f64 = 1e-5;

type Forward<'a> = &'a dyn Fn(&Tensor) -> Result<Tensor>;

fn main() -> Result<()> {
    println!("f32, medians of {BLOCKS} alternating blocks\n");
    println!(
        "{:<8} {:<14} {:>10} {:>10} {:>7}",
        "forward", "shape", "candle µs", "ours µs", "ratio"
    );
    for shape in [&[1, 768][..], &[8, 512, 768], &[1, 2048, 4096], &[64, 128, 1024]] {
        let last = Norms::new(shape[shape.len() - 1], false)?;
        let (x, theirs) = (
            random(shape)?,
            candle_nn::LayerNorm::new(last.gamma.clone(), last.beta.clone(), EPSILON),
        );
        forward("layer", &x, &|x| theirs.forward(x), &|x| last.layer.forward(x))?;
        let theirs = candle_nn::RmsNorm::new(last.gamma.clone(), EPSILON);
        forward("rms", &x, &|x| theirs.forward(x), &|x| last.rms.forward(x))?;
    }
    let (x, of) = (random(&[64, 16, 112, 112])?, Channels::new(16, false)?);
    forward("batch", &x, &|x| of.their_batch.forward_train(x), &|x| of.batch.forward_train(x))?;
    let of = Channels::new(16, false)?;
    forward("infer", &x, &|x| of.their_batch.forward_t(x, false), &|x| {
        of.batch.forward_t(x, false)
    })?;
    forward("group", &x, &|x| of.their_group.forward(x), &|x| of.group.forward(x))?;

    println!(
        "\n{:<8} {:<14} {:>10} {:>10} {:>7} {:>9} {:>6} {:>7}",
        "both", "shape", "candle µs", "ours µs", "ratio", "store µs", "share", "rest"
    );
    for shape in [&[1, 768][..], &[8, 512, 768], &[1, 2048, 4096], &[64, 128, 1024]] {
        let last = Norms::new(shape[shape.len() - 1], true)?;
        let (x, eps) = (Var::from_tensor(&random(shape)?)?, EPSILON as f32);
        both("layer", &x, &|x| ops::layer_norm_slow(x, &last.gamma, &last.beta, eps), &|x| {
            last.layer.forward(x)
        })?;
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
            their_batch: candle_nn::BatchNorm::new(
                channels,
                mean,
                variance,
                g.clone(),
                b.clone(),
                EPSILON,
            )?,
            group: cellnorm_candle::GroupNorm::new(g, b, channels, 4, EPSILON)?,
            their_group: candle_nn::GroupNorm::new(gamma, beta, channels, 4, EPSILON)?,
        })
    }
}

/// Whether this line is asked for.
fn wanted(line: &str) -> bool {
    std::env::args().skip(1).filter(|word| !word.starts_with('-')).all(|word| line.contains(&word))
}

fn forward(name: &str, x: &Tensor, theirs: Forward, ours: Forward) -> Result<()> {
    if !wanted(&format!("forward {name} {}", shape(x))) {
        return Ok(());
    }
    let difference = (theirs(x)? - ours(x)?)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
    assert!(difference < 1e-3, "{name}: outputs differ by {difference}");
    let run = |of: Forward| drop(black_box(of(x).expect("ran before")));
    let [theirs, ours] = alternate([&|| run(theirs), &|| run(ours)]);
    let ratio = 1.0 / ours.of_first;
    println!(
        "{name:<8} {:<14} {:>10.1} {:>10.1} {ratio:>6.2}x",
        shape(x),
        theirs.seconds * 1e6,
        ours.seconds * 1e6
    );
    Ok(())
}

fn both(name: &str, x: &Var, theirs: Forward, ours: Forward) -> Result<()> {
    if !wanted(&format!("both {name} {}", shape(x))) {
        return Ok(());
    }
    let dx = |of: Forward| -> Result<Tensor> {
        Ok(of(x)?.sin()?.backward()?.remove(x).expect("x is a variable"))
    };
    let difference = (dx(theirs)? - dx(ours)?)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
    assert!(difference < 1e-3, "{name}: gradients differ by {difference}");
    let run = |of: Forward| drop(black_box(of(x).and_then(|y| y.backward()).expect("ran before")));
    let [theirs, ours, store] =
        alternate([&|| run(theirs), &|| run(ours), &|| run(&|x| x.apply_op1(Free))]);
    println!(
        "{name:<8} {:<14} {:>10.1} {:>10.1} {:>6.2}x {:>9.1} {:>5.0}% {:>6.2}x",
        shape(x),
        theirs.seconds * 1e6,
        ours.seconds * 1e6,
        1.0 / ours.of_first,
        store.seconds * 1e6,
        100.0 * store.of_first / ours.of_first,
        (1.0 - store.of_first) / (ours.of_first - store.of_first)
    );
    Ok(())
}

/// An operation whose output and gradient are zeros, which the system maps without writing them.
struct Free;

impl CustomOp1 for Free {
    fn name(&self) -> &'static str {
        "free"
    }

    fn cpu_fwd(&self, _x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0; layout.shape().elem_count()]), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, _dy: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.zeros_like()?))
    }
}

fn shape(x: &Tensor) -> String {
    x.dims().iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

/// The time that a version takes.
struct Time {
    seconds: f64,
    /// Divided by what the first version takes beside it.
    of_first: f64,
}

/// The medians over blocks that take turns.
fn alternate<const N: usize>(versions: [&dyn Fn(); N]) -> [Time; N] {
    let counts = versions.map(repeats);
    let block = |_| std::array::from_fn::<f64, N, _>(|i| seconds(versions[i], counts[i]));
    let blocks: Vec<[f64; N]> = (0..BLOCKS).map(block).collect();
    std::array::from_fn(|i| Time {
        seconds: median(blocks.iter().map(|block| block[i]).collect()),
        of_first: median(blocks.iter().map(|block| block[i] / block[0]).collect()),
    })
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
