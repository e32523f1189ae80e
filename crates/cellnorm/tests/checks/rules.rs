//! The table rules: finite differences of x and of every parameter, with and without masks, and
//! identities between rules.

use cellnorm::norms::{AdaptiveStatistics, Step};
use cellnorm::rule::{Norm, Rule, Running};
use cellnorm::weights::{WeightNormConfig, WeightStandardizationConfig};
use cellnorm::{
    Activation, BatchNormConfig, Error, GroupNormConfig, InstanceNormConfig, LayerNormConfig, Mask,
    Momentum, RmsNormConfig,
    norms::{
        AdaptiveNorm, BatchInstanceNormConfig, BatchRenormConfig, FilterResponseNormConfig,
        GemmaRmsNormConfig, GhostBatchNormConfig, GraphNormConfig, MeanVarianceNormConfig,
        RmsScalingNormConfig, StepBatchNormConfig, SwitchableNormConfig,
    },
    shape::Excluded,
};
use ndarray::{ArrayD, Axis, IxDyn, s};

use crate::common::{Numbers, averages, distance, largest, running};

/// The tolerance of finite differences, relative to the largest gradient.
const BAR: f64 = 1e-7;
const H: f64 = 1e-5;

/// The largest relative deviation of the gradients from central differences of Σ dy · y.
fn deviation<R: Rule>(
    layer: &Norm<R>,
    shape: &[usize],
    mask: Option<&Mask>,
    seed: u64,
) -> Result<f64, Error> {
    let mut numbers = Numbers::new(seed);
    let (mut x, dy) = (numbers.tensor(shape, 0.7), numbers.tensor(shape, 0.0));
    if let (Some(mask), Excluded::Zero) = (mask, layer.excluded) {
        // what is masked may hold anything
        x.zip_mut_with(&mask.over(shape)?, |x, valid| *x = if *valid { *x } else { f64::NAN });
    }
    let mut layer = layer.clone();
    for name in layer.names().collect::<Vec<_>>() {
        let between = |numbers: &mut Numbers| 0.2 + 0.6 * numbers.uniform();
        layer.parameter_mut(name).unwrap().mapv_inplace(|_| between(&mut numbers));
    }
    let forward = |layer: &Norm<R>, x: &ArrayD<f64>| match mask {
        Some(mask) => layer.clone().forward_masked(x.view(), mask),
        None => layer.clone().forward(x.view()),
    };
    let loss = |layer: &Norm<R>, x: &ArrayD<f64>| forward(layer, x).map(|(y, _)| (y * &dy).sum());
    let (_, saved) = forward(&layer, &x)?;
    let gradients = layer.backward(&saved, x.view(), dy.view())?;

    let mut expected = ArrayD::zeros(IxDyn(shape));
    for (index, of) in expected.indexed_iter_mut().filter(|(index, _)| !x[index.clone()].is_nan()) {
        let at = |step: f64| {
            let mut x = x.clone();
            x[index.clone()] += step;
            loss(&layer, &x)
        };
        *of = (at(H)? - at(-H)?) / (2.0 * H);
    }
    let relative = |ours: &ArrayD<f64>, theirs: &ArrayD<f64>| {
        distance(ours.iter().copied(), theirs.iter().copied())
            / largest(theirs.iter().copied()).max(1.0)
    };
    let mut worst = relative(&gradients.dx, &expected);
    for name in layer.names() {
        let of = layer.parameter(name).unwrap();
        let mut expected = ArrayD::zeros(of.raw_dim());
        for (index, of) in expected.indexed_iter_mut() {
            let at = |step: f64| {
                let mut layer = layer.clone();
                layer.parameter_mut(name).unwrap()[index.clone()] += step;
                loss(&layer, &x)
            };
            *of = (at(H)? - at(-H)?) / (2.0 * H);
        }
        worst = worst.max(relative(gradients.parameter(name).unwrap(), &expected));
    }
    Ok(worst)
}

/// Without a mask, under one of lengths and under a scattered one.
fn check<R: Rule>(layer: Norm<R>, shape: &[usize], last: isize) -> Result<(), Error> {
    let mut numbers = Numbers::new(7);
    let lengths: Vec<usize> = (0..shape[0]).map(|n| 1 + (n + 2) % shape[last as usize]).collect();
    let scattered = ArrayD::from_shape_simple_fn(IxDyn(shape), || numbers.uniform() < 0.7);
    let masks = [None, Some(Mask::lengths(&lengths, last)), Some(Mask::new(scattered.view()))];
    for (seed, mask) in masks.iter().enumerate() {
        for excluded in [Excluded::Zero, Excluded::Normalized] {
            let mut layer = layer.clone();
            layer.excluded = excluded;
            if excluded == Excluded::Normalized {
                // one valid value divides all others by √ε
                layer.epsilon = layer.epsilon.max(1e-2);
            }
            let mut activated = layer.clone();
            activated.activation = Activation::Silu;
            let worst = deviation(&activated, shape, mask.as_ref(), 50 + seed as u64)?;
            assert!(worst < BAR, "{} with SiLU, {mask:?}, {excluded:?}: {worst:e}", R::NAME);
            let worst = deviation(&layer, shape, mask.as_ref(), 40 + seed as u64)?;
            let masked = ["all", "lengths", "scattered"][seed];
            println!("{:<36} {masked:<10} {excluded:<10?} {worst:.1e}", R::NAME);
            assert!(worst < BAR, "{}, {mask:?}, {excluded:?}: {worst:e}", R::NAME);
        }
    }
    Ok(())
}

#[test]
fn gradients_are_finite_differences() -> Result<(), Error> {
    let shape = [4, 3, 2, 3];
    check(BatchInstanceNormConfig::new(3).init()?, &shape, 3)?;
    check(GraphNormConfig::new(3).init()?, &shape, 3)?;
    check(GemmaRmsNormConfig::new(&[3]).init()?, &shape, 3)?;
    check(GemmaRmsNormConfig::new(&[2, 3]).center(true).init()?, &shape, 3)?;
    check(SwitchableNormConfig::new(3).init()?, &shape, 3)?;
    check(SwitchableNormConfig::new(3).authors_code(true).init()?, &shape, 3)?;
    check(RmsScalingNormConfig::over(&[1, 3], &[3, 3]).init()?, &shape, 3)?;
    check(RmsScalingNormConfig::per_channel(3).center(true).init()?, &shape, 3)?;
    check(BatchNormConfig::new(3).running_statistics(false).init()?, &shape, 3)?;
    check(LayerNormConfig::new(&[3]).epsilon(0.1).init()?, &shape, 3)?;
    check(RmsNormConfig::per_channel(3).init()?, &shape, 3)?;
    check(GroupNormConfig::new(3, 3).epsilon(0.1).init()?, &shape, 3)?;
    check(GhostBatchNormConfig::new(3, 2).init()?, &shape, 3)?;
    check(GhostBatchNormConfig::new(3, 2).interleaved(true).init()?, &shape, 3)?;
    check(FilterResponseNormConfig::new(3).learned_epsilon(true).init()?, &shape, 3)?;
    check(MeanVarianceNormConfig::new(&[0, 2, 3]).init()?, &shape, 3)?;
    check(StepBatchNormConfig::new(3, 3).init()?, &[4, 5, 3], 1)?;
    check(BatchInstanceNormConfig::new(3).channel_axis(-1).init()?, &[4, 2, 2, 3], 1)?;
    check(SwitchableNormConfig::new(3).channel_axis(-1).init()?, &[4, 2, 2, 3], 1)?;
    // where r and d stand at their bounds they are constants to finite differences, too
    let mut renorm = BatchRenormConfig::new(3).bounds(1.1, 0.1).init()?;
    renorm.running = Some(averages(&[-3.0; 3], &[0.2; 3]));
    check(renorm.clone(), &shape, 3)?;
    let mut apart = BatchRenormConfig::new(3)
        .bounds(1.1, 0.1)
        .correction_momentum(Momentum::Step(0.5))
        .init()?;
    apart.correction.as_mut().unwrap().averages = renorm.running.unwrap();
    check(apart, &shape, 3)?;
    check(BatchNormConfig::over(&[1, 3], &[3, 3]).init()?, &shape, 3)?;
    check(BatchNormConfig::over(&[-1], &[3]).init()?, &shape, 3)?;
    check(BatchNormConfig::over(&[], &[]).init()?, &shape, 3)?;
    let weight = Numbers::new(1).tensor(&[4, 3, 2, 2], 0.3);
    check(WeightNormConfig::of_weight(weight.view(), Some(0))?, &[4, 3, 2, 2], 3)?;
    check(WeightNormConfig::of_weight(weight.view(), Some(1))?, &[4, 3, 2, 2], 3)?;
    check(WeightNormConfig::of_weight(weight.view(), None)?, &[4, 3, 2, 2], 3)?;
    check(WeightStandardizationConfig::new(4).scale(true).init()?, &[4, 3, 2, 2], 3)
}

#[test]
fn a_weight_of_a_tiny_norm_does_not_change_when_it_is_normalized() -> Result<(), Error> {
    let v = ndarray::array![[3e-8_f64, 4e-8], [3.0, 4.0], [0.0, 0.0]];
    for outputs in [Some(0), Some(1), None] {
        let w = WeightNormConfig::of_weight(v.view(), outputs)?.infer(v.view())?;
        for (w, v) in w.iter().zip(v.iter()) {
            // x is taken about its mean, of all weights or of those of an input
            let near = if outputs == Some(0) { v.abs() } else { 1.0 };
            assert!((w - v).abs() <= 1e-15 * near, "{w} {v}");
        }
    }
    Ok(())
}

#[test]
fn adaptive_gradients_are_finite_differences() -> Result<(), Error> {
    let mut numbers = Numbers::new(3);
    let (x, dy) = (numbers.tensor(&[3, 4, 5], 1.0), numbers.tensor(&[3, 4, 5], 0.0));
    let table = |numbers: &mut Numbers| {
        numbers.tensor(&[3, 4], 0.5).into_dimensionality::<ndarray::Ix2>().unwrap()
    };
    let (gamma, beta) = (table(&mut numbers), table(&mut numbers));
    let groups = [4, 1, 2].map(AdaptiveStatistics::Groups);
    for statistics in groups.into_iter().chain([AdaptiveStatistics::Batch]) {
        let mut layer = AdaptiveNorm::new(4, statistics)?;
        let (_, saved) = layer.forward(x.view(), gamma.view(), beta.view())?;
        let gradients = layer.backward(&saved, x.view(), gamma.view(), dy.view())?;
        let loss = |gamma: &ndarray::Array2<f64>, beta: &ndarray::Array2<f64>, x: &ArrayD<f64>| {
            let y = layer.clone().forward(x.view(), gamma.view(), beta.view()).unwrap().0;
            (y * &dy).sum()
        };
        for (name, at) in [("gamma", [1, 2]), ("beta", [2, 3])] {
            let moved = |step: f64| {
                let (mut gamma, mut beta) = (gamma.clone(), beta.clone());
                if name == "gamma" {
                    gamma[at] += step
                } else {
                    beta[at] += step
                }
                loss(&gamma, &beta, &x)
            };
            let expected = (moved(H) - moved(-H)) / (2.0 * H);
            let ours = gradients.parameter(name).unwrap()[&at[..]];
            assert!(
                (ours - expected).abs() < BAR * expected.abs().max(1.0),
                "{name}: {ours} {expected}"
            );
        }
        let moved = |step: f64| {
            let mut x = x.clone();
            x[[1, 2, 3]] += step;
            loss(&gamma, &beta, &x)
        };
        let expected = (moved(H) - moved(-H)) / (2.0 * H);
        assert!((gradients.dx[[1, 2, 3]] - expected).abs() < BAR * expected.abs().max(1.0));
    }
    Ok(())
}

fn assert_same(a: &ArrayD<f64>, b: &ArrayD<f64>, what: &str) {
    let worst = distance(a.iter().copied(), b.iter().copied());
    assert!(worst < 1e-12, "{what}: {worst:e}");
}

#[test]
fn one_normalization_is_a_case_of_another() -> Result<(), Error> {
    let x = Numbers::new(11).tensor(&[6, 4, 3, 2], 2.0);
    let group = |groups| GroupNormConfig::new(groups, 4).init()?.infer(x.view());
    let layer = LayerNormConfig::per_channel(4).init()?.infer(x.view())?;
    let instance = InstanceNormConfig::new(4).init()?.infer(x.view())?;
    let batch = BatchNormConfig::new(4).init()?.forward(x.view())?.0;
    assert_same(&group(1)?, &layer, "one group is layer normalization");
    assert_same(&group(4)?, &instance, "C groups are instance normalization");

    for (of, expected) in [(0, &instance), (1, &layer), (2, &batch)] {
        let mut switchable = SwitchableNormConfig::new(4).init()?;
        for name in ["mean_weight", "variance_weight"] {
            let weights = switchable.parameter_mut(name).unwrap();
            weights.fill(-400.0);
            weights[of] = 400.0;
        }
        assert_same(&switchable.forward(x.view())?.0, expected, "switchable with one weight");
    }
    for (rho, expected) in [(0.0, &instance), (1.0, &batch), (-3.0, &instance), (7.0, &batch)] {
        let mut gated = BatchInstanceNormConfig::new(4).init()?;
        gated.parameter_mut("rho").unwrap().fill(rho);
        assert_same(&gated.forward(x.view())?.0, expected, "batch-instance at its bounds");
    }
    let mut ghost = GhostBatchNormConfig::new(4, 6).init()?;
    assert_same(&ghost.forward(x.view())?.0, &batch, "one ghost is the batch");
    let mut whole = BatchNormConfig::new(4).init()?;
    whole.forward(x.view())?;
    let [ours, theirs] = [running(&ghost), running(&whole)];
    assert_same(&ours.mean, &theirs.mean, "running means of one ghost");
    assert_same(&ours.variance, &theirs.variance, "running variances of one ghost");

    let mut renorm = BatchRenormConfig::new(4).epsilon(1e-5).bounds(1.0, 0.0).init()?;
    assert_same(
        &renorm.forward(x.view())?.0,
        &batch,
        "renormalization without correction is batch normalization",
    );
    let mut free = BatchRenormConfig::new(4).bounds(f64::INFINITY, f64::INFINITY).init()?;
    let inference = free.infer(x.view())?;
    assert_same(&free.forward(x.view())?.0, &inference, "unbounded renormalization is inference");

    let frn = FilterResponseNormConfig::new(4).init()?.infer(x.view())?;
    let rms = RmsNormConfig::over(&[2, 3], &[3, 2]).epsilon(1e-6).init()?.infer(x.view())?;
    assert_same(&frn, &rms, "filter response is RMS over the positions");
    Ok(())
}

#[test]
fn steps_have_statistics_of_their_own_and_share_the_last() -> Result<(), Error> {
    let x = Numbers::new(5).tensor(&[6, 4, 3], 0.0);
    let mut layer = StepBatchNormConfig::new(3, 2).init()?;
    let (y, _) = layer.forward(x.view())?;
    let step = |range: std::ops::Range<usize>| {
        let mut batch = BatchNormConfig::new(3).channel_axis(-1).init()?;
        let x = x.slice(s![.., range.clone(), ..]);
        let (expected, _) = batch.forward(x)?;
        assert_same(
            &y.slice(s![.., range, ..]).to_owned().into_dyn(),
            &expected.into_dyn(),
            "a step",
        );
        Ok::<_, Error>(batch)
    };
    let (first, rest) = (step(0..1)?, step(1..4)?);
    let rows = |row| {
        let row = |of: &ArrayD<f64>| of.index_axis(Axis(0), row).to_owned();
        let Running { mean, variance } = running(&layer);
        Running { mean: row(mean), variance: row(variance) }
    };
    for (row, batch) in [first, rest].iter().enumerate() {
        let variance = rows(row).variance;
        assert_same(&variance, &running(batch).variance, "the running variance of a step");
    }
    // a longer sequence in inference takes the last step's
    let long = Numbers::new(6).tensor(&[2, 7, 3], 0.0);
    let inferred = layer.infer(long.view())?;
    let tail = long.slice(s![.., 5..6, ..]);
    let mut last = BatchNormConfig::new(3).channel_axis(-1).init()?;
    last.running = Some(rows(1));
    assert_same(
        &inferred.slice(s![.., 5..6, ..]).to_owned().into_dyn(),
        &last.infer(tail)?.into_dyn(),
        "the last step",
    );
    Ok(())
}

#[test]
fn steps_can_come_one_at_a_time() -> Result<(), Error> {
    let mut numbers = Numbers::new(7);
    let (x, dy) = (numbers.tensor(&[6, 3, 2], 0.0), numbers.tensor(&[6, 3, 2], 0.0));
    let mut whole = StepBatchNormConfig::new(2, 3).init()?;
    let mut cell = whole.clone();
    let (y, saved) = whole.forward(x.view())?;
    let dx = whole.backward(&saved, x.view(), dy.view())?.dx;
    for t in 0..3 {
        cell.rule_mut().first = t;
        let step = |of: &ArrayD<f64>| of.slice(s![.., t..t + 1, ..]).to_owned().into_dyn();
        let (of_step, saved) = cell.forward(step(&x).view())?;
        assert_same(&of_step, &step(&y), "y of a step");
        assert_same(
            &cell.backward(&saved, step(&x).view(), step(&dy))?.dx,
            &step(&dx),
            "dx of a step",
        );
    }
    let [ours, theirs] = [running(&cell), running(&whole)];
    assert_same(&ours.mean, &theirs.mean, "running means");
    assert_same(&ours.variance, &theirs.variance, "running variances");
    // later ones share the last
    cell.rule_mut().first = 8;
    let before = running_means(&cell);
    cell.forward(x.slice(s![.., 0..1, ..]))?;
    assert_ne!(before, running_means(&cell));
    assert_eq!(before.1, running_means(&cell).1);
    Ok(())
}

/// The running means of the last step, and of the steps before it.
fn running_means(layer: &Norm<Step>) -> (Vec<f64>, Vec<f64>) {
    let mean: Vec<f64> = running(layer).mean.iter().copied().collect();
    let (before, last) = mean.split_at(mean.len() - 2);
    (last.to_vec(), before.to_vec())
}

#[test]
fn a_frozen_rule_keeps_its_averages_and_has_no_parameter_gradients() -> Result<(), Error> {
    let x = Numbers::new(9).tensor(&[4, 2, 3], 1.0);
    let mut layer = SwitchableNormConfig::new(2).init()?;
    layer.forward(x.view())?;
    layer.freeze(cellnorm::momentum::Frozen::Inference);
    layer.train(true);
    let before = layer.running.clone();
    let (y, saved) = layer.forward(x.view())?;
    assert_same(&y, &layer.infer(x.view())?, "frozen is inference");
    assert_eq!(layer.running, before);
    let gradients = layer.backward(&saved, x.view(), y)?;
    assert!(gradients.parameter("gamma").is_none());
    Ok(())
}
