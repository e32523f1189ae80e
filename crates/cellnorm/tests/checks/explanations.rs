//! The warnings, counts and refusals of `explain`.

use cellnorm::Error;
use cellnorm::explain::{Explanation, Layout, lines, rule};
use cellnorm::norms::{Batch, Features, Instance, Layer, Step, Switchable};
use cellnorm::weights::{Standardization, WeightDirection};

use crate::sharing::{all_features, features, first, ghost, group, named, ruled, window};

/// The codes of the warnings.
fn codes(explanation: Explanation) -> Vec<&'static str> {
    explanation.warnings.iter().map(|warning| warning.code).collect()
}

fn of_batch(shape: &[usize]) -> Explanation {
    rule(&Batch::new(shape[1], 1), shape, first(shape.len())).unwrap()
}

#[test]
fn each_warning_is_given_where_it_is_due_and_not_elsewhere() {
    let over = |axes: &[isize], shape: &[usize], layout: Layout| {
        let axes = axes.iter().map(|axis| axis.rem_euclid(shape.len() as isize)).collect();
        codes(rule(&Layer(features(Some(axes), shape, 1)), shape, layout).unwrap())
    };
    assert_eq!(over(&[1], &[8, 28, 28, 32], named("nhwc")), ["not-the-channels"]);
    assert_eq!(over(&[-1], &[8, 28, 28, 32], named("nhwc")), [""; 0]);
    // where nobody named the axes, the last may be the channels, as a transformer's
    assert_eq!(over(&[-1], &[2, 10, 512], first(3)), [""; 0]);
    assert_eq!(over(&[-1], &[2, 10, 512], named("nct")), ["not-the-channels"]);
    assert_eq!(over(&[2], &[8, 28, 28, 32], first(4)), ["not-the-channels"]);
    assert_eq!(over(&[1, 2, 3], &[8, 32, 28, 28], first(4)), ["parameter-per-element"]);
    let layer = |shape: &[usize]| codes(all_features(shape, first(shape.len())));
    assert_eq!(layer(&[8, 32, 28, 28]), [""; 0]);
    assert_eq!(layer(&[8, 2]), ["two-values"]);
    assert_eq!(layer(&[8, 19]), ["few-values"]);
    assert_eq!(layer(&[8, 20]), [""; 0]);
    assert_eq!(layer(&[100, 32, 32]), ["missing-channel-axis"]);
    assert_eq!(codes(all_features(&[100, 32, 32], named("nct"))), [""; 0]);
    assert_eq!(codes(of_batch(&[4, 64])), ["few-values"]);
    assert_eq!(codes(of_batch(&[1, 64, 1, 1])), ["one-value", "batch-of-one"]);
    assert_eq!(codes(of_batch(&[1, 64, 7, 7])), ["batch-of-one"]);
    assert_eq!(codes(ruled(&ghost(1, 64), &[8, 64, 7, 7], "nchw")), ["batch-of-one"]);
    // statistics of each sample, or of each step, are no instance normalization
    let over_samples = Batch { axes: vec![0], lengths: vec![4] };
    assert_eq!(codes(ruled(&over_samples, &[4, 8, 5, 5], "nchw")), [""; 0]);
    let step = Step { channels: 3, channel_axis: 1, step_axis: 2, steps: 9, first: 0 };
    assert_eq!(codes(ruled(&step, &[1, 3, 9], "nct")), ["one-value"]);
    let instance = Instance { channels: 64, channel_axis: 1 };
    assert_eq!(codes(rule(&instance, &[8, 64, 1, 1], first(4)).unwrap()), ["one-value"]);
    // what is not estimated is not noisy
    assert_eq!(codes(lines(&window(5), &[8, 32, 28, 28], first(4)).unwrap()), [""; 0]);
    assert_eq!(
        codes(ruled(&WeightDirection { axis: Some(0), outputs: 10 }, &[10, 3], "oi")),
        [""; 0]
    );
    assert_eq!(
        codes(ruled(&Standardization { outputs: 10, axis: 0 }, &[10, 3], "oi")),
        ["few-values"]
    );
}

#[test]
fn remedies_are_enough_and_no_more_than_needed() {
    let remedy = |explanation: Explanation| explanation.warnings[0].remedy.clone();
    assert!(remedy(of_batch(&[4, 64, 2, 1])).contains("at least 10 samples"));
    assert!(
        remedy(rule(&group(16, 64, 1), &[4, 64, 2, 2], first(4)).unwrap())
            .contains("at most 8 groups")
    );
    assert!(remedy(ruled(&ghost(2, 3), &[8, 3, 2, 2], "nchw")).contains("at least 5"));
    // parts of the whole batch: the batch is short
    assert!(
        remedy(ruled(&ghost(32, 3), &[4, 3, 4], "nct")).contains("batches of at least 5 samples")
    );
    // a last part of one sample
    assert!(
        remedy(ruled(&ghost(7, 3), &[8, 3, 2, 2], "nchw")).contains("at least 5, which divide")
    );
}

#[test]
fn bytes_are_counted_by_what_the_cache_holds() {
    let traffic = |explanation: Explanation| {
        let traffic = explanation.traffic;
        (traffic.held, traffic.forward() / traffic.x, traffic.backward() / traffic.x)
    };
    // a channel of the batch is 8 runs of 784 values, which stay in the cache
    assert_eq!(traffic(of_batch(&[8, 32, 28, 28])), (8 * 784 * 4, 2, 3));
    // channels-last they lie between all others: all but the last 31 values
    let all = 64 * 112 * 112 * 32;
    let channels_last = ruled(&Batch::new(32, -1), &[64, 112, 112, 32], "nhwc");
    assert_eq!(traffic(channels_last), (4 * (all - 31), 3, 5));
    // 600 KB of x fit, with as much of dy they do not
    let instance = Instance { channels: 3, channel_axis: 1 };
    assert_eq!(traffic(rule(&instance, &[2, 3, 150_000], first(3)).unwrap()), (600_000, 2, 5));
    // of three statistics all must be there
    let switchable = Switchable { channels: 64, channel_axis: 1, authors_code: false };
    assert_eq!(traffic(ruled(&switchable, &[8, 64, 28, 28], "nchw")), (4 * 8 * 64 * 784, 3, 5));
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let expect = |refused: Result<Explanation, Error>, part: &str| {
        let message = refused.unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    let nc = || named("nc");
    let of_channels = |shape: &[usize], letters: &str| {
        let layout = Layout::named(letters, shape.len());
        layout.and_then(|layout| rule(&Batch::new(shape[1], 1), shape, layout))
    };
    expect(rule(&group(5, 32, 1), &[8, 32, 4, 4], first(4)), "possible: 1, 2, 4, 8, 16, 32");
    expect(rule(&ghost(0, 32), &[8, 32], nc()), "at least 1");
    expect(of_channels(&[8, 0, 4, 4], "nchw"), "an axis of length 0");
    expect(of_channels(&[usize::MAX, 8], "nc"), "too many elements");
    expect(of_channels(&[8, 4], "nchw"), "one letter for each axis");
    expect(of_channels(&[8, 4], "nn"), "there twice");
    expect(of_channels(&[8, 4], "cn"), "the first axis");
    expect(of_channels(&[8, 4], "n1"), "must be letters");
    expect(of_channels(&[8, 4], "oi"), "need n (samples)");
    expect(rule(&Batch::new(4, 1), &[8, 4], first(3)), "one letter for each axis");
    expect(
        rule(&WeightDirection { axis: Some(0), outputs: 8 }, &[8, 4], nc()),
        "needs o (outputs)",
    );
    let step = Step { channels: 4, channel_axis: -1, step_axis: 1, steps: 3, first: 0 };
    expect(rule(&step, &[8, 4], nc()), "3");
    let over = |axes: Vec<isize>, lengths: Vec<usize>| {
        rule(&Layer(Features::Axes(axes, lengths)), &[8, 4], nc())
    };
    expect(over(vec![4], vec![1]), "possible: -2 to 1");
    expect(over(vec![], vec![]), "name at least one");
    assert!(Layout::channels_first(1).is_err() && Layout::channels_first(6).is_err());
    assert!(Layout::channels_first(4).unwrap().channel_axis(0).is_err());
}
