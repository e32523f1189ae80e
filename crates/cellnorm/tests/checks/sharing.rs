//! What `explain` says about sharing, against the layers and against each rule in one sentence.

use cellnorm::explain::{Layout, Rule, Sharing, explain};
use cellnorm::{BatchNormConfig, Error, GroupNormConfig, InstanceNormConfig, LayerNormConfig, RmsNormConfig, Saved};
use ndarray::{ArrayD, Dimension, IxDyn};
use proptest::prelude::*;

fn tensor(shape: &[usize]) -> ArrayD<f64> {
    let mut i = 0.0;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        i += 1.0;
        (i * 1.7_f64).sin() * 3.0 + (i * i * 0.31).cos()
    })
}

fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    ndarray::indices(IxDyn(shape)).into_iter().map(|index| index.slice().to_vec()).collect()
}

fn contains(sharing: &Sharing, of: &[usize], index: &[usize]) -> bool {
    sharing.set(of).iter().zip(index).all(|(range, i)| range.contains(i))
}

/// Trains the library's layer, with γ = 1 and β = 0.
fn run(rule: &Rule, x: &ArrayD<f64>, channels: usize, axis: isize) -> Result<(ArrayD<f64>, Saved), Error> {
    let lengths = |axes: &[isize]| -> Vec<usize> { axes.iter().map(|axis| x.shape()[*axis as usize]).collect() };
    match rule {
        Rule::Batch => BatchNormConfig::new(channels).channel_axis(axis).init()?.forward(x.view()),
        Rule::Instance => InstanceNormConfig::new(channels).channel_axis(axis).init()?.forward(x.view()),
        Rule::Group { groups } => GroupNormConfig::new(*groups, channels).channel_axis(axis).init()?.forward(x.view()),
        Rule::Layer { axes: None } => {
            LayerNormConfig::per_channel(channels).channel_axis(axis).init()?.forward(x.view())
        }
        Rule::Rms { axes: None } => RmsNormConfig::per_channel(channels).channel_axis(axis).init()?.forward(x.view()),
        Rule::Layer { axes: Some(axes) } => LayerNormConfig::over(axes, &lengths(axes)).init()?.forward(x.view()),
        Rule::Rms { axes: Some(axes) } => RmsNormConfig::over(axes, &lengths(axes)).init()?.forward(x.view()),
        _ => unreachable!("not a layer of the library"),
    }
}

/// A rule that the library computes, a shape with 4 channels, and where they are.
fn cases() -> impl Strategy<Value = (Rule, Vec<usize>, usize)> {
    let axes = prop::option::of(prop::sample::subsequence(vec![1_isize, 2, 3], 1..=3));
    let rule = prop_oneof![
        Just(Rule::Batch),
        Just(Rule::Instance),
        prop::sample::select(vec![1_usize, 2, 4]).prop_map(|groups| Rule::Group { groups }),
        axes.clone().prop_map(|axes| Rule::Layer { axes }),
        axes.prop_map(|axes| Rule::Rms { axes }),
    ];
    let shape = prop::collection::vec(2_usize..4, 3);
    (rule, shape, 1_usize..4).prop_map(|(rule, mut shape, channel)| {
        shape.insert(channel, 4);
        (rule, shape, channel)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Moving one value changes the one statistic, and the outputs, of just those that share with it.
    #[test]
    fn a_value_moves_those_that_it_shares_with((rule, shape, channel) in cases(), pick in 0.0..1.0) {
        let layout = Layout::channels_first(4).unwrap().channel_axis(channel as isize).unwrap();
        let explanation = explain(&rule, &shape, layout).unwrap();
        let [sharing] = explanation.sharings.as_slice() else { panic!("one statistic") };
        prop_assume!(sharing.values().0 > 2);

        let x = tensor(&shape);
        let all = indices(&shape);
        let moved = &all[(pick * all.len() as f64) as usize];
        let mut other = x.clone();
        other[IxDyn(moved)] += 0.37;
        let (y, saved) = run(&rule, &x, 4, channel as isize).unwrap();
        let (y_other, saved_other) = run(&rule, &other, 4, channel as isize).unwrap();

        for index in &all {
            let changed = (y[IxDyn(index)] - y_other[IxDyn(index)]).abs() > 1e-12;
            prop_assert_eq!(changed, contains(sharing, moved, index), "{:?} at {:?}", rule, index);
        }
        let (before, after) = (&saved.statistics.variance, &saved_other.statistics.variance);
        prop_assert_eq!(before.len(), sharing.sets());
        prop_assert_eq!(before.iter().zip(after).filter(|(a, b)| (**a - **b).abs() > 1e-12).count(), 1);
    }
}

/// Whether two values share a statistic, by their indices.
type Same<'a> = &'a dyn Fn(&[usize], &[usize]) -> bool;

/// Compares all pairs of values with a sentence about their indices, and the counts with the sets themselves.
fn check(rule: &Rule, shape: &[usize], layout: &str, same: &[Same]) {
    let explanation = explain(rule, shape, Layout::named(layout, shape.len()).unwrap()).unwrap();
    assert_eq!(explanation.sharings.len(), same.len());
    let all = indices(shape);
    for (sharing, same) in explanation.sharings.iter().zip(same) {
        let sizes = all.iter().map(|a| {
            let members = all.iter().filter(|b| {
                assert_eq!(contains(sharing, a, b), same(a, b), "{} {a:?} {b:?}", rule.name());
                same(a, b)
            });
            members.count()
        });
        let sizes: Vec<usize> = sizes.collect();
        assert_eq!(sharing.values(), (*sizes.iter().min().unwrap(), *sizes.iter().max().unwrap()));
        let mut sets: Vec<_> = all.iter().map(|a| format!("{:?}", sharing.set(a))).collect();
        if !matches!(rule, Rule::LocalResponse { .. }) {
            sets.sort();
            sets.dedup();
        }
        assert_eq!(sharing.sets(), sets.len());
    }
}

#[test]
fn the_other_rules_share_as_their_papers_say() {
    let shape = [4, 3, 2, 2];
    let channel = |a: &[usize], b: &[usize]| a[1] == b[1];
    let instance = |a: &[usize], b: &[usize]| a[..2] == b[..2];
    let sample = |a: &[usize], b: &[usize]| a[0] == b[0];
    let ghost = |a: &[usize], b: &[usize]| a[1] == b[1] && a[0] / 2 == b[0] / 2;
    check(&Rule::GhostBatch { virtual_batch: 2 }, &shape, "nchw", &[&ghost]);
    check(&Rule::BatchInstance, &shape, "nchw", &[&channel, &instance]);
    check(&Rule::Switchable, &shape, "nchw", &[&instance, &sample, &channel]);
    check(&Rule::FilterResponse, &shape, "nchw", &[&instance]);
    check(&Rule::MeanVariance { axes: vec![0, 2, 3] }, &shape, "nchw", &[&channel]);
    check(&Rule::BatchPerStep, &[3, 4, 5], "ntc", &[&|a, b| a[1..] == b[1..]]);
    check(&Rule::Weight, &[4, 3, 2], "oit", &[&sample]);
    check(&Rule::Weight, &[2, 3, 4], "tio", &[&|a, b| a[2] == b[2]]);
}

#[test]
fn windows_reach_as_far_as_their_size_and_no_further_than_the_axis() {
    for size in [1, 2, 3, 4, 5, 9, 40] {
        for channels in [1, 3, 6] {
            let (before, after) = (size / 2, (size - 1) / 2);
            let window = |a: &[usize], b: &[usize]| {
                a[0] == b[0] && a[2] == b[2] && b[1] + before >= a[1] && b[1] <= a[1] + after
            };
            check(&Rule::LocalResponse { size }, &[2, channels, 2], "nct", &[&window]);
        }
    }
}

#[test]
fn noise_is_what_chance_makes() {
    // the spread of the mean and variance of many samples of n normal values
    let n = 8;
    let explanation = explain(&Rule::Layer { axes: None }, &[2, n], Layout::channels_first(2).unwrap()).unwrap();
    let noise = explanation.sharings[0].noise().unwrap();
    let mut state = 1_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    };
    let mut normal = || (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    let (means, variances): (Vec<f64>, Vec<f64>) = (0..20_000)
        .map(|_| {
            let x: Vec<f64> = (0..n).map(|_| normal()).collect();
            let mean = x.iter().sum::<f64>() / n as f64;
            (mean, x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n as f64)
        })
        .unzip();
    let spread = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / values.len() as f64;
        (mean, variance.sqrt())
    };
    assert!((spread(&means).1 / noise.mean.unwrap() - 1.0).abs() < 0.03);
    let (mean, deviation) = spread(&variances);
    assert!((deviation / mean / noise.variance.unwrap() - 1.0).abs() < 0.03);
}

/// The codes of the warnings.
fn codes(rule: Rule, shape: &[usize], layout: Option<&str>) -> Vec<&'static str> {
    let layout = match layout {
        Some(letters) => Layout::named(letters, shape.len()),
        None => Layout::channels_first(shape.len()),
    };
    explain(&rule, shape, layout.unwrap()).unwrap().warnings.iter().map(|warning| warning.code).collect()
}

#[test]
fn each_warning_is_given_where_it_is_due_and_not_elsewhere() {
    let layer = |axes: &[isize]| Rule::Layer { axes: Some(axes.to_vec()) };
    assert_eq!(codes(layer(&[1]), &[8, 28, 28, 32], Some("nhwc")), ["not-the-channels"]);
    assert_eq!(codes(layer(&[-1]), &[8, 28, 28, 32], Some("nhwc")), [""; 0]);
    assert_eq!(codes(layer(&[1, 2, 3]), &[8, 32, 28, 28], None), ["parameter-per-element"]);
    assert_eq!(codes(Rule::Layer { axes: None }, &[8, 32, 28, 28], None), [""; 0]);
    assert_eq!(codes(Rule::Layer { axes: None }, &[8, 2], None), ["two-values"]);
    assert_eq!(codes(Rule::Layer { axes: None }, &[8, 19], None), ["few-values"]);
    assert_eq!(codes(Rule::Layer { axes: None }, &[8, 20], None), [""; 0]);
    assert_eq!(codes(Rule::Batch, &[4, 64], None), ["few-values"]);
    assert_eq!(codes(Rule::Batch, &[1, 64, 1, 1], None), ["one-value", "batch-of-one"]);
    assert_eq!(codes(Rule::Batch, &[1, 64, 7, 7], None), ["batch-of-one"]);
    assert_eq!(codes(Rule::Instance, &[8, 64, 1, 1], None), ["one-value"]);
    assert_eq!(codes(Rule::Layer { axes: None }, &[100, 32, 32], None), ["missing-channel-axis"]);
    assert_eq!(codes(Rule::Layer { axes: None }, &[100, 32, 32], Some("nct")), [""; 0]);
    // what is not estimated is not noisy
    assert_eq!(codes(Rule::LocalResponse { size: 5 }, &[8, 32, 28, 28], None), [""; 0]);
    assert_eq!(codes(Rule::Weight, &[10, 3], Some("oi")), [""; 0]);
}

#[test]
fn remedies_are_enough_and_no_more_than_needed() {
    let remedy = |rule: Rule, shape: &[usize]| {
        let explanation = explain(&rule, shape, Layout::channels_first(shape.len()).unwrap()).unwrap();
        explanation.warnings[0].remedy.clone()
    };
    assert!(remedy(Rule::Batch, &[4, 64, 2, 1]).contains("at least 10 samples"));
    assert!(remedy(Rule::Group { groups: 16 }, &[4, 64, 2, 2]).contains("at most 8 groups"));
    assert!(remedy(Rule::GhostBatch { virtual_batch: 2 }, &[8, 3, 2, 2]).contains("at least 5"));
}

#[test]
fn bytes_are_counted_by_what_the_cache_holds() {
    let traffic = |rule: Rule, shape: &[usize], layout: &str| {
        let traffic = explain(&rule, shape, Layout::named(layout, shape.len()).unwrap()).unwrap().traffic;
        (traffic.held, traffic.forward() / traffic.x, traffic.backward() / traffic.x)
    };
    // a channel of the batch is 8 runs of 784 values, which stay in the cache
    assert_eq!(traffic(Rule::Batch, &[8, 32, 28, 28], "nchw"), (8 * 784 * 4, 2, 3));
    // channels-last they lie between all others: all but the last 31 values
    let all = 64 * 112 * 112 * 32;
    assert_eq!(traffic(Rule::Batch, &[64, 112, 112, 32], "nhwc"), (4 * (all - 31), 3, 5));
    // 600 KB of x fit, with as much of dy they do not
    assert_eq!(traffic(Rule::Instance, &[2, 3, 150_000], "nct"), (600_000, 2, 5));
    // of three statistics all must be there
    assert_eq!(traffic(Rule::Switchable, &[8, 64, 28, 28], "nchw"), (4 * 8 * 64 * 784, 3, 5));
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let message = |rule: Rule, shape: &[usize], layout: &str| {
        let layout = Layout::named(layout, shape.len());
        layout.and_then(|layout| explain(&rule, shape, layout)).unwrap_err().to_string()
    };
    let expect = |message: String, part: &str| assert!(message.contains(part), "{message}");
    expect(message(Rule::Group { groups: 5 }, &[8, 32, 4, 4], "nchw"), "possible: 1, 2, 4, 8, 16, 32");
    expect(message(Rule::GhostBatch { virtual_batch: 3 }, &[8, 32], "nc"), "possible: 1, 2, 4, 8");
    expect(message(Rule::GhostBatch { virtual_batch: 0 }, &[8, 32], "nc"), "possible: 1, 2, 4, 8");
    expect(message(Rule::Batch, &[8, 0, 4, 4], "nchw"), "an axis of length 0");
    expect(message(Rule::Batch, &[usize::MAX, 8], "nc"), "too many elements");
    expect(message(Rule::Batch, &[8, 4], "nchw"), "one letter for each axis");
    expect(message(Rule::Batch, &[8, 4], "nn"), "there twice");
    expect(message(Rule::Batch, &[8, 4], "cn"), "the first axis");
    expect(message(Rule::Batch, &[8, 4], "n1"), "must be letters");
    expect(message(Rule::Batch, &[8, 4], "oi"), "need n (samples)");
    expect(message(Rule::Weight, &[8, 4], "nc"), "needs o (outputs)");
    expect(message(Rule::BatchPerStep, &[8, 4], "nc"), "an axis t");
    expect(message(Rule::LocalResponse { size: 0 }, &[8, 4], "nc"), "at least 1");
    expect(message(Rule::Layer { axes: Some(vec![4]) }, &[8, 4], "nc"), "possible: -2 to 1");
    expect(message(Rule::Layer { axes: Some(vec![]) }, &[8, 4], "nc"), "name at least one");
    assert!(Layout::channels_first(1).is_err() && Layout::channels_first(6).is_err());
    assert!(Layout::channels_first(4).unwrap().channel_axis(0).is_err());
}
