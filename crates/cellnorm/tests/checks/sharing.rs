//! The sharing that `explain` reports, against the layers and against each rule in one sentence.

use cellnorm::explain::{Explanation, Layout, Sharing, lines, rule};
use cellnorm::norms::{
    Batch, BatchInstance, Features, FilterResponse, Ghost, Group, Instance, Layer, MeanVariance,
    Renorm, Rms, Step, Switchable,
};
use cellnorm::rule::{NormConfig, Rule};
use cellnorm::weights::{Standardization, WeightDirection};
use cellnorm::{
    BatchNormConfig, Error,
    norms::{LocalResponseNormConfig, LpNormConfig},
    rule::Saved,
    semantics::GroupParameters,
};
use ndarray::{ArrayD, Dimension, IxDyn};
use proptest::prelude::*;

use crate::common::running;

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

/// A layer that has one statistic: its explanation, and what it does with a tensor when it is
/// trained, with γ = 1 and β = 0.
trait Case: std::fmt::Debug {
    fn explain(&self, shape: &[usize], layout: Layout) -> Explanation;
    fn run(&self, x: &ArrayD<f64>) -> Result<(ArrayD<f64>, Saved), Error>;
}

impl<R: Rule> Case for R {
    fn explain(&self, shape: &[usize], layout: Layout) -> Explanation {
        rule(self, shape, layout).unwrap()
    }

    fn run(&self, x: &ArrayD<f64>) -> Result<(ArrayD<f64>, Saved), Error> {
        NormConfig::custom(self.clone()).init()?.forward(x.view())
    }
}

pub fn group(groups: usize, channels: usize, channel_axis: isize) -> Group {
    Group { groups, channels, channel_axis, parameters: GroupParameters::PerChannel }
}

pub fn features(axes: Option<Vec<isize>>, shape: &[usize], axis: usize) -> Features {
    match axes {
        None => Features::PerChannel { channels: shape[axis], axis: axis as isize },
        Some(axes) => {
            let lengths = axes.iter().map(|axis| shape[*axis as usize]).collect();
            Features::Axes(axes, lengths)
        }
    }
}

/// A rule, a shape with 4 channels, and where they are.
fn cases() -> impl Strategy<Value = (Box<dyn Case>, Vec<usize>, usize)> {
    let axes = prop::option::of(prop::sample::subsequence(vec![1_isize, 2, 3], 1..=3));
    let groups = prop::sample::select(vec![1_usize, 2, 4]);
    let shape = prop::collection::vec(2_usize..4, 3);
    (0..5, axes, groups, shape, 1_usize..4).prop_map(|(which, axes, groups, mut shape, channel)| {
        shape.insert(channel, 4);
        let channel_axis = channel as isize;
        let rule: Box<dyn Case> = match which {
            0 => Box::new(Batch::new(4, channel_axis)),
            1 => Box::new(Instance { channels: 4, channel_axis }),
            2 => Box::new(group(groups, 4, channel_axis)),
            3 => Box::new(Layer(features(axes, &shape, channel))),
            _ => Box::new(Rms(features(axes, &shape, channel))),
        };
        (rule, shape, channel)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Moving one value changes the one statistic, and the outputs, of just those that share with
    /// it.
    #[test]
    fn a_value_moves_those_that_it_shares_with((rule, shape, channel) in cases(), pick in 0.0..1.0) {
        let layout = Layout::channels_first(4).unwrap().channel_axis(channel as isize).unwrap();
        let explanation = rule.explain(&shape, layout);
        let [sharing] = explanation.sharings.as_slice() else { panic!("one statistic") };
        prop_assume!(sharing.values().0 > 2);

        let x = tensor(&shape);
        let all = indices(&shape);
        let moved = &all[(pick * all.len() as f64) as usize];
        let mut other = x.clone();
        other[IxDyn(moved)] += 0.37;
        let (y, saved) = rule.run(&x).unwrap();
        let (y_other, saved_other) = rule.run(&other).unwrap();

        for index in &all {
            let changed = (y[IxDyn(index)] - y_other[IxDyn(index)]).abs() > 1e-12;
            prop_assert_eq!(changed, contains(sharing, moved, index), "{:?} at {:?}", rule, index);
        }
        let (before, after) = (&saved.statistics.variance, &saved_other.statistics.variance);
        prop_assert_eq!(before.len(), sharing.sets());
        prop_assert_eq!(before.iter().zip(after).filter(|(a, b)| (**a - **b).abs() > 1e-12).count(), 1);
    }
}

/// The running statistics that are explained are those that the layer has.
#[test]
fn batch_normalization_keeps_running_statistics() {
    let explained = ruled(&Batch::new(6, 1), &[8, 6, 4, 4], "nchw");
    assert_eq!(
        explained.state.iter().map(|table| &table.shape[..]).collect::<Vec<_>>(),
        [[6], [6]]
    );
    let layer = BatchNormConfig::new(6).init().unwrap();
    assert_eq!(running(&layer).mean.shape(), [6]);
}

/// Whether two values share a statistic, by their indices.
type Same<'a> = &'a dyn Fn(&[usize], &[usize]) -> bool;

/// Compares all pairs of values with a sentence about their indices, and the counts with the sets
/// themselves.
fn check(explanation: &Explanation, same: &[Same]) {
    assert_eq!(explanation.sharings.len(), same.len());
    let all = indices(&explanation.shape);
    for (sharing, same) in explanation.sharings.iter().zip(same) {
        let sizes = all.iter().map(|a| {
            let members = all.iter().filter(|b| {
                assert_eq!(contains(sharing, a, b), same(a, b), "{} {a:?} {b:?}", explanation.name);
                same(a, b)
            });
            members.count()
        });
        let sizes: Vec<usize> = sizes.collect();
        assert_eq!(sharing.values(), (*sizes.iter().min().unwrap(), *sizes.iter().max().unwrap()));
        let mut sets: Vec<_> = all.iter().map(|a| format!("{:?}", sharing.set(a))).collect();
        if sharing.name != "local-response" {
            sets.sort();
            sets.dedup();
        }
        assert_eq!(sharing.sets(), sets.len());
    }
}

pub fn named(letters: &str) -> Layout {
    Layout::named(letters, letters.len()).unwrap()
}

/// A rule's explanation.
pub fn ruled<R: Rule>(of: &R, shape: &[usize], letters: &str) -> Explanation {
    rule(of, shape, named(letters)).unwrap()
}

pub fn ghost(size: usize, channels: usize) -> Ghost {
    Ghost { channels, channel_axis: 1, size, interleaved: false }
}

#[test]
fn rules_share_as_their_papers_say() {
    let shape = [4, 3, 2, 2];
    let (channels, channel_axis) = (3, 1);
    let channel = |a: &[usize], b: &[usize]| a[1] == b[1];
    let instance = |a: &[usize], b: &[usize]| a[..2] == b[..2];
    let sample = |a: &[usize], b: &[usize]| a[0] == b[0];
    let nchw = |sharing: &dyn Fn() -> Explanation, same: &[Same]| check(&sharing(), same);
    for size in [1, 2, 3, 4, 9] {
        let parts = |a: &[usize], b: &[usize]| a[1] == b[1] && a[0] / size == b[0] / size;
        nchw(&|| ruled(&ghost(size, 3), &shape, "nchw"), &[&parts]);
    }
    let columns = Batch { axes: vec![-1, 1], lengths: vec![3, 2] };
    nchw(&|| ruled(&columns, &shape, "nchw"), &[&|a, b| a[1] == b[1] && a[3] == b[3]]);
    let renorm = Renorm { channels, channel_axis, r_min: 1.0 / 3.0, r_max: 3.0, d_max: 5.0 };
    nchw(&|| ruled(&renorm, &shape, "nchw"), &[&channel]);
    nchw(
        &|| ruled(&BatchInstance { channels, channel_axis }, &shape, "nchw"),
        &[&channel, &instance],
    );
    nchw(
        &|| ruled(&Switchable { channels, channel_axis, authors_code: false }, &shape, "nchw"),
        &[&instance, &sample, &channel],
    );
    let response = FilterResponse { channels, channel_axis, learned_epsilon: false };
    nchw(&|| ruled(&response, &shape, "nchw"), &[&instance]);
    nchw(&|| ruled(&MeanVariance { axes: vec![0, 2, 3] }, &shape, "nchw"), &[&channel]);
    for (steps, first) in [(1, 0), (2, 0), (4, 0), (7, 0), (1, 3), (4, 2), (4, 3), (4, 9), (9, 2)] {
        let step = Step { channels: 5, channel_axis: -1, step_axis: 1, steps, first };
        let last = |t: usize| (first + t).min(steps - 1);
        check(
            &ruled(&step, &[3, 4, 5], "ntc"),
            &[&|a, b| last(a[1]) == last(b[1]) && a[2] == b[2]],
        );
    }
    check(&ruled(&WeightDirection { axis: Some(0), outputs: 4 }, &[4, 3, 2], "oit"), &[&sample]);
    check(
        &ruled(&WeightDirection { axis: Some(2), outputs: 4 }, &[2, 3, 4], "tio"),
        &[&|a, b| a[2] == b[2]],
    );
    check(&ruled(&Standardization { outputs: 4, axis: 0 }, &[4, 3, 2], "oit"), &[&sample]);
    let unit = LpNormConfig::new(&[1, 3]).init().unwrap();
    check(&lines(&unit, &shape, named("nchw")).unwrap(), &[&|a, b| a[0] == b[0] && a[2] == b[2]]);
}

pub fn window(size: usize) -> cellnorm::norms::LocalResponseNorm {
    LocalResponseNormConfig::new(size).init().unwrap()
}

#[test]
fn windows_reach_as_far_as_their_size_and_no_further_than_the_axis() {
    for size in [1, 2, 3, 4, 5, 9, 40] {
        for channels in [1, 3, 6] {
            let (before, after) = (size / 2, (size - 1) / 2);
            let same = |a: &[usize], b: &[usize]| {
                a[0] == b[0] && a[2] == b[2] && b[1] + before >= a[1] && b[1] <= a[1] + after
            };
            check(&lines(&window(size), &[2, channels, 2], named("nct")).unwrap(), &[&same]);
        }
    }
}

/// An explanation of all features of a sample.
pub fn all_features(shape: &[usize], layout: Layout) -> Explanation {
    let axis = layout.channels();
    rule(&Layer(features(None, shape, axis)), shape, layout).unwrap()
}

pub fn first(rank: usize) -> Layout {
    Layout::channels_first(rank).unwrap()
}

#[test]
fn noise_is_what_chance_makes() {
    // the spread of the mean and variance of many samples of n normal values
    let n = 8;
    let explanation = all_features(&[2, n], first(2));
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
        let variance =
            values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / values.len() as f64;
        (mean, variance.sqrt())
    };
    assert!((spread(&means).1 / noise.mean.unwrap() - 1.0).abs() < 0.03);
    let (mean, deviation) = spread(&variances);
    assert!((deviation / mean / noise.variance.unwrap() - 1.0).abs() < 0.03);
}
