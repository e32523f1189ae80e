//! Batch normalization over ranks against one process on the joined batch, by threads: any number
//! of ranks, of any size, none included.

use std::sync::Arc;
use std::thread;

use cellnorm::ranks::{Communicator, Threads, exchange, merge};
use cellnorm::rule::Running;
use cellnorm::{
    BatchNorm, BatchNormConfig, Element, Error, Mask, Mode, Moments, momentum::StatisticsFrom,
    rule::Gradients,
};
use ndarray::{ArrayD, Axis, IxDyn, Slice};

use crate::common::{Numbers, distance, running};
use crate::elements::{element, wide};

/// How a batch of 8 samples is split.
const SPLITS: [&[usize]; 8] =
    [&[8], &[4, 4], &[5, 3], &[8, 0], &[3, 3, 2], &[0, 1, 7], &[2, 2, 2, 2], &[1, 0, 6, 1]];

/// The outcome of a step on one rank.
#[derive(Clone, Debug)]
struct Outcome<T> {
    y: ArrayD<T>,
    dx: ArrayD<T>,
    /// dγ, dβ, running mean, running variance.
    tables: [Vec<f64>; 4],
}

/// Runs a rank on a thread of its own for each communicator, and returns what they return.
pub fn on_ranks<R: Send>(size: usize, rank: impl Fn(Threads) -> R + Sync) -> Vec<R> {
    let rank = &rank;
    thread::scope(|scope| {
        let threads: Vec<_> =
            Threads::split(size).into_iter().map(|over| scope.spawn(move || rank(over))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// The parts of an array of 8 samples.
fn parts<T: Clone>(x: &ArrayD<T>, split: &[usize]) -> Vec<ArrayD<T>> {
    let mut start = 0;
    let part = |len: &usize| {
        start += len;
        x.slice_axis(Axis(0), Slice::from(start - len..start)).to_owned()
    };
    split.iter().map(part).collect()
}

pub fn layer(channels: usize, channel_axis: isize) -> BatchNorm {
    let mut numbers = Numbers::new(3);
    let mut layer = BatchNormConfig::new(channels).channel_axis(channel_axis).init().unwrap();
    layer.gamma = Some(numbers.tensor(&[channels], 1.0));
    layer.beta = Some(numbers.tensor(&[channels], 0.0));
    layer
}

fn step<T: Element>(
    split: &[usize],
    layer: &BatchNorm,
    x: &ArrayD<T>,
    dy: &ArrayD<T>,
    mask: Option<&Mask>,
) -> Vec<Outcome<T>> {
    let (x, dy) = (parts(x, split), parts(dy, split));
    on_ranks(split.len(), |over| {
        let (x, dy, mut layer) = (&x[over.rank()], &dy[over.rank()], layer.clone());
        let mask = mask.map(|mask| match mask {
            Mask::Values(valid) => Mask::Values(parts(valid, split)[over.rank()].clone()),
            lengths => lengths.clone(),
        });
        let (y, saved) = layer.forward_over(x.view(), mask.as_ref(), &over).unwrap();
        let gradients = layer.backward_over(&saved, x.view(), dy.view(), &over).unwrap();
        // over dy where it is handed over, also where it lies in another order
        let mut reversed = ArrayD::from_elem(dy.t().raw_dim(), T::default()).reversed_axes();
        reversed.assign(dy);
        for dy in [dy.clone(), reversed] {
            let again = layer.backward_over(&saved, x.view(), dy, &over).unwrap();
            assert_eq!(again, gradients);
        }
        let mut tables = tables(&gradients, &layer);
        over.sum(&mut tables[0]).unwrap();
        over.sum(&mut tables[1]).unwrap();
        Outcome { y, dx: gradients.dx, tables }
    })
}

/// dγ, dβ, running mean, running variance.
fn tables<T>(gradients: &Gradients<T, IxDyn>, layer: &BatchNorm) -> [Vec<f64>; 4] {
    let Running { mean, variance } = running(layer);
    [gradients.dgamma.as_ref().unwrap(), gradients.dbeta.as_ref().unwrap(), mean, variance]
        .map(|table| table.iter().copied().collect())
}

/// The largest difference in units of the last place of an f32 near the largest value.
fn units<T: Element>(ours: &[T], expected: &[T]) -> f64 {
    let most = expected.iter().map(|v| wide(v).abs()).fold(0.0, f64::max);
    assert_eq!(ours.len(), expected.len());
    distance(ours.iter().map(wide), expected.iter().map(wide)) / (most * f64::from(f32::EPSILON))
}

fn ranks_are_one_process<T: Element>(shape: &[usize], channel_axis: isize, masked: bool) {
    let channels = shape[if channel_axis == 1 { 1 } else { shape.len() - 1 }];
    let mut numbers = Numbers::new(11);
    let x = numbers.tensor(shape, 100.0).mapv(element::<T>);
    let dy = numbers.tensor(shape, 0.0).mapv(element::<T>);
    let valid = numbers.tensor(shape, 0.5).mapv(|value| value > 0.0);
    let mask = masked.then(|| Mask::Values(valid));
    let layer = layer(channels, channel_axis);
    let mut alone = layer.clone();
    let (y, saved) = match &mask {
        Some(mask) => alone.forward_masked(x.view(), mask).unwrap(),
        None => alone.forward(x.view()).unwrap(),
    };
    let gradients = alone.backward(&saved, x.view(), dy.view()).unwrap();
    let expected = tables(&gradients, &alone);
    let [one] = <[Outcome<T>; 1]>::try_from(step(&[8], &layer, &x, &dy, mask.as_ref())).unwrap();
    let flat = |of: &ArrayD<T>| of.iter().copied().collect::<Vec<T>>();
    for split in SPLITS {
        let outcomes = step(split, &layer, &x, &dy, mask.as_ref());
        let joined = |of: fn(&Outcome<T>) -> &ArrayD<T>| {
            outcomes.iter().flat_map(|outcome| of(outcome).iter().copied()).collect::<Vec<T>>()
        };
        let (joined_y, joined_dx) = (joined(|o| &o.y), joined(|o| &o.dx));
        // the plain layer adds up in f32 what lies side by side: several samples, which is another
        // rounding
        for (other_y, other_dx, tables, bar) in
            [(&one.y, &one.dx, &one.tables, 0.5), (&y, &gradients.dx, &expected, 2.0)]
        {
            let (of_y, of_dx) =
                (units(&joined_y, &flat(other_y)), units(&joined_dx, &flat(other_dx)));
            assert!(
                of_y <= bar && of_dx <= bar,
                "{split:?}: y {of_y}, dx {of_dx} units of {bar}, masked {masked}"
            );
            for (ours, expected) in outcomes[0].tables.iter().zip(tables) {
                let units = units(ours, expected);
                assert!(units <= bar, "{split:?}: a table is {units} units off, masked {masked}");
            }
        }
        for (part, outcome) in outcomes.iter().enumerate() {
            assert_eq!(outcome.tables, outcomes[0].tables, "rank {part} of {split:?}");
        }
    }
}

#[test]
fn any_ranks_are_one_process() {
    for masked in [false, true] {
        ranks_are_one_process::<f32>(&[8, 5, 7, 3], 1, masked);
        ranks_are_one_process::<f32>(&[8, 7, 3, 5], -1, masked);
        ranks_are_one_process::<f64>(&[8, 70], 1, masked);
        // more channels than one message holds
        ranks_are_one_process::<f32>(&[8, 300, 4], 1, masked);
    }
}

/// The loss of the whole batch and its slope by central differences, through the communicator.
#[test]
fn slopes_over_ranks_agree_with_finite_differences() {
    let mut numbers = Numbers::new(5);
    let (x, dy) = (numbers.tensor(&[8, 2, 3], 3.0), numbers.tensor(&[8, 2, 3], 0.0));
    let layer = layer(2, 1);
    let split = [3, 0, 5];
    let loss = |layer: &BatchNorm, x: &ArrayD<f64>| {
        let outcomes = step(&split, layer, x, &dy, None);
        outcomes.iter().flat_map(|of| &of.y).zip(&dy).map(|(y, dy)| y * dy).sum::<f64>()
    };
    let outcomes = step(&split, &layer, &x, &dy, None);
    let dx: Vec<f64> = outcomes.iter().flat_map(|of| of.dx.iter().copied()).collect();
    let h = 1e-5;
    for (i, dx) in dx.iter().enumerate() {
        let moved = |by: f64| {
            let mut x = x.clone();
            *x.iter_mut().nth(i).unwrap() += by;
            loss(&layer, &x)
        };
        let slope = (moved(h) - moved(-h)) / (2.0 * h);
        assert!((slope - dx).abs() < 1e-7, "dx[{i}]: {dx} and {slope}");
    }
    for channel in 0..2 {
        let moved = |of: fn(&mut BatchNorm) -> &mut Option<ArrayD<f64>>, by: f64| {
            let mut layer = layer.clone();
            of(&mut layer).as_mut().unwrap()[channel] += by;
            loss(&layer, &x)
        };
        let slope = |of| (moved(of, h) - moved(of, -h)) / (2.0 * h);
        let [dgamma, dbeta] = [0, 1].map(|table| outcomes[0].tables[table][channel]);
        assert!((slope(|layer| &mut layer.gamma) - dgamma).abs() < 1e-7);
        assert!((slope(|layer| &mut layer.beta) - dbeta).abs() < 1e-7);
    }
}

/// Fails the test where it is used.
#[derive(Debug)]
struct Silent;

impl Communicator for Silent {
    fn rank(&self) -> usize {
        0
    }
    fn size(&self) -> usize {
        2
    }
    fn all_gather(&self, _own: &[f64]) -> Result<Vec<f64>, Error> {
        panic!("nothing should be exchanged")
    }
}

#[test]
fn running_statistics_need_no_ranks() {
    let x = Numbers::new(1).tensor(&[4, 2], 0.0);
    let mut layer = layer(2, 1);
    layer.mode = Mode::inference();
    let (y, saved) = layer.forward_over(x.view(), None, &Silent).unwrap();
    assert_eq!(y, layer.infer(x.view()).unwrap());
    let dx = layer.backward_over(&saved, x.view(), y.view(), &Silent).unwrap().dx;
    assert_eq!(dx, layer.backward(&saved, x.view(), y.view()).unwrap().dx);
}

#[test]
fn running_statistics_follow_all_ranks_while_they_normalize() {
    let mut numbers = Numbers::new(1);
    let x = numbers.tensor(&[8, 2], 5.0);
    let mask = Mask::Values(numbers.tensor(&[8, 2], 0.5).mapv(|value| value > 0.0));
    for mask in [None, Some(&mask)] {
        let mut layer = layer(2, 1);
        layer.mode = Mode { statistics: StatisticsFrom::Running, ..Mode::training() };
        let mut alone = layer.clone();
        let (y, saved) = match mask {
            Some(mask) => alone.forward_masked(x.view(), mask).unwrap(),
            None => alone.forward(x.view()).unwrap(),
        };
        let dx = alone.backward(&saved, x.view(), x.view()).unwrap().dx;
        let outcomes = step(&[3, 5], &layer, &x, &x, mask);
        // under a mask, each part is mapped about its own mean
        assert!(distance(outcomes.iter().flat_map(|of| of.y.iter().copied()), y) < 1e-14);
        assert!(distance(outcomes.iter().flat_map(|of| of.dx.iter().copied()), dx) < 1e-14);
        let [_, _, mean, variance] = outcomes[1].tables.clone();
        assert!(distance(mean, running(&alone).mean.iter().copied()) < 1e-15);
        assert!(distance(variance, running(&alone).variance.iter().copied()) < 1e-14);
    }
}

/// No samples on a rank whose layer uses running statistics: none to normalize, and no error.
#[test]
fn an_empty_part_has_nothing_to_normalize() {
    for (update, over_ranks) in [(false, false), (true, true)] {
        let x = Numbers::new(1).tensor(&[8, 2], 5.0);
        let mut layer = layer(2, 1);
        layer.mode = Mode { statistics: StatisticsFrom::Running, update, ..Mode::training() };
        let mut alone = layer.clone();
        let (y, saved) = alone.forward(x.view()).unwrap();
        let dx = alone.backward(&saved, x.view(), x.view()).unwrap().dx;
        let outcomes = step(&[8, 0], &layer, &x, &x, None);
        assert_eq!((outcomes[1].y.shape(), outcomes[1].dx.shape()), (&[0, 2][..], &[0, 2][..]));
        assert!(distance(outcomes[0].y.iter().copied(), y) < 1e-15);
        assert!(distance(outcomes[0].dx.iter().copied(), dx) < 1e-15);
        let moved = running(&layer).mean.iter().ne(&outcomes[0].tables[2]);
        assert_eq!(moved, over_ranks);
    }
}

#[test]
fn tables_of_any_length_come_through() {
    for len in [0, 1, 252, 253, 254, 5000] {
        let own = |rank: usize| (0..len).map(|i| (i * 7 + rank) as f64 / 3.0).collect::<Vec<f64>>();
        let tables =
            on_ranks(3, |over| exchange::<Error>(&over, "numbers", Ok(own(over.rank()))).unwrap());
        assert!(tables.iter().all(|of| *of == [own(0), own(1), own(2)]), "{len}");
    }
}

#[test]
fn moments_merge_in_the_order_of_ranks() {
    let values: Vec<f64> = Numbers::new(9).tensor(&[30], 7.0).into_iter().collect();
    let parts = Arc::new([&values[..4], &values[4..4], &values[4..]].map(<[f64]>::to_vec));
    let merged = on_ranks(3, |over| {
        merge::<Error>(&over, "values", Ok(vec![Moments::of(&parts[over.rank()])])).unwrap()[0]
    });
    let all = Moments::of(&values);
    assert!(merged.iter().all(|of| *of == merged[0] && of.count == 30.0));
    assert!((merged[0].mean - all.mean).abs() < 1e-14 && (merged[0].m2 - all.m2).abs() < 1e-13);
}

/// `fixtures/pytorch/sync_batch_norm.py`.
#[test]
fn uneven_ranks_give_what_sync_batch_norm_gives() {
    let text = include_str!("../fixtures/pytorch/sync_batch_norm.json");
    let fixture: serde_json::Value = serde_json::from_str(text).unwrap();
    let table = |name: &str| serde_json::from_value::<Vec<f64>>(fixture[name].clone()).unwrap();
    let of_ranks =
        |name: &str| serde_json::from_value::<Vec<Vec<f64>>>(fixture[name].clone()).unwrap();
    let split: Vec<usize> = serde_json::from_value(fixture["counts"].clone()).unwrap();
    let tensor =
        |name: &str| ArrayD::from_shape_vec(vec![8, 3, 4], of_ranks(name).concat()).unwrap();
    let mut layer = BatchNormConfig::new(3).init().unwrap();
    [layer.gamma, layer.beta] =
        ["gamma", "beta"].map(|name| Some(ArrayD::from_shape_vec(vec![3], table(name)).unwrap()));
    let outcomes = step(&split, &layer, &tensor("x"), &tensor("dy"), None);
    for (rank, outcome) in outcomes.into_iter().enumerate() {
        assert!(distance(outcome.y, of_ranks("y")[rank].iter().copied()) < 1e-12);
        assert!(distance(outcome.dx, of_ranks("dx")[rank].iter().copied()) < 1e-12);
        for (ours, name) in
            outcome.tables.into_iter().zip(["dgamma", "dbeta", "running_mean", "running_var"])
        {
            assert!(distance(ours, table(name)) < 1e-12, "{name}");
        }
    }
}
