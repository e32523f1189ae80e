//! Statistics of data sets against sums in integers of 128 bits, and their bits against every way
//! to cut and order the data.

use cellnorm::Moments;
use cellnorm::data::{Channel, Floats, Forest, Grid, Histogram, Merge, Samples, Values};
use proptest::prelude::*;

fn numbers(count: usize, seed: u64) -> Vec<f64> {
    (0..count).map(|place| ((place as u64 * 7 + seed * 13 + 5) as f64).sin()).collect()
}

/// Mean and variance of multiples of 2⁻¹⁰, exact until the last division.
fn exactly(values: &[f64]) -> (f64, f64) {
    let scaled: Vec<i128> = values.iter().map(|value| (value * 1024.0) as i128).collect();
    assert!(values.iter().zip(&scaled).all(|(value, scaled)| *scaled as f64 / 1024.0 == *value));
    let (n, sum) = (values.len() as i128, scaled.iter().sum::<i128>());
    let squares: i128 = scaled.iter().map(|value| value * value).sum();
    (
        sum as f64 / n as f64 / 1024.0,
        (n * squares - sum * sum) as f64 / (n * n) as f64 / 1024.0 / 1024.0,
    )
}

#[test]
fn floats_far_from_zero_keep_twelve_digits() {
    for (offset, length) in [(0.0, 100_000), (1e6, 100_000), (1e6, 1), (-1e9, 4_097), (1e6, 7)] {
        let values: Vec<f64> = numbers(length, 5)
            .iter()
            .map(|x| offset + (x * 4.0 * 1024.0).round() / 1024.0)
            .collect();
        let (mean, variance) = exactly(&values);
        let found = Floats::of(&values).moments;
        assert!(
            (found.mean - mean).abs() <= 1e-15 * mean.abs().max(1.0),
            "{offset}: {} {mean}",
            found.mean
        );
        assert!(
            (found.variance().sqrt() - variance.sqrt()).abs() <= 1e-12 * variance.sqrt(),
            "{offset}"
        );
        let columns = Floats::of_columns(&values, 1)[0].moments;
        assert!(
            (columns.variance().sqrt() - variance.sqrt()).abs() <= 1e-12 * variance.sqrt(),
            "{offset}, columns"
        );
    }
}

#[test]
fn equal_values_have_no_variance_and_the_first_one_decides_nothing() {
    let equal = Floats::of(&[0.1_f64; 10_000]);
    assert_eq!((equal.moments.mean, equal.moments.m2), (0.1, 0.0));
    let mut far = numbers(4_096, 9);
    far[0] = 1e9;
    let rest = Floats::of(&far[1..]).moments.merge(Moments::of(&far[..1]));
    let all = Floats::of(&far).moments;
    assert!((all.m2 - rest.m2).abs() <= 1e-12 * rest.m2);
}

#[test]
fn a_histogram_holds_exact_sums() {
    let values: Vec<u16> =
        (0..100_000_u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 16) as u16).collect();
    let mut histogram = Histogram::default();
    histogram.add(&values);
    assert_eq!(histogram.sum(), values.iter().map(|value| u128::from(*value)).sum());
    assert_eq!(
        histogram.sum_of_squares(),
        values.iter().map(|value| u128::from(*value).pow(2)).sum()
    );
    let mut sorted = values.clone();
    sorted.sort_unstable();
    for percent in [0.0, 1.0, 50.0, 99.9, 100.0] {
        let rank = ((percent / 100.0 * values.len() as f64).ceil() as usize).max(1);
        assert_eq!(histogram.percentile(percent), Some(sorted[rank - 1]), "{percent}");
    }
    let bytes: Vec<u8> = values.iter().map(|value| *value as u8).collect();
    let (mut long, mut short) = (Histogram::default(), Histogram::default());
    long.add(&bytes);
    bytes.chunks(100).for_each(|part| short.add(part));
    assert_eq!(long, short);
    // bytes among 16-bit integers
    let (mut mixed, sum) = (histogram.clone(), long.sum());
    mixed.add(&bytes);
    assert_eq!((mixed.count(), mixed.sum()), (200_000, histogram.sum() + sum));
    assert_eq!(Histogram::default().percentile(50.0), None);
}

#[test]
fn squares_of_the_largest_bytes_are_exact() {
    let bytes = vec![255_u8; 3 << 16];
    let found = Grid::new(&[bytes.len()], &[]).unwrap().integers(&bytes, None).unwrap();
    let one = found[0].summary().unwrap();
    let by_sample = one.by_sample.unwrap();
    assert_eq!(
        (one.mean, one.deviation, by_sample.mean, by_sample.mean_of_deviations),
        (255.0, 0.0, 255.0, 0.0)
    );
}

/// The statistics of each channel by a loop over all values.
fn by_hand(shape: &[usize], keep: &[usize], values: &[f64]) -> Vec<Vec<f64>> {
    let channels: usize = keep.iter().map(|axis| shape[*axis]).product();
    let length: usize = shape.iter().product();
    let mut lists = vec![Vec::new(); channels];
    for (place, value) in values.iter().enumerate() {
        let mut rest = place % length;
        let mut at = vec![0; shape.len()];
        for axis in (0..shape.len()).rev() {
            at[axis] = rest % shape[axis];
            rest /= shape[axis];
        }
        let mut sorted = keep.to_vec();
        sorted.sort_unstable();
        lists[sorted.iter().fold(0, |label, axis| label * shape[*axis] + at[*axis])].push(*value);
    }
    lists
}

proptest! {
    #[test]
    fn any_axes_of_any_shape(
        shape in prop::collection::vec(1..5_usize, 0..4),
        kept in any::<u8>(),
        samples in 1..5_usize,
        inner in prop::sample::select(vec![1_usize, 3, 70]),
        seed in 0..1000_u64,
    ) {
        let shape = [shape, vec![inner]].concat();
        let keep: Vec<usize> = (0..shape.len()).filter(|axis| kept >> axis & 1 == 1).collect();
        let grid = Grid::new(&shape, &keep).unwrap();
        let values: Vec<f64> =
            numbers(samples * grid.length(), seed).iter().map(|x| (x * 3000.0).round() / 1024.0).collect();
        let lists = by_hand(&shape, &keep, &values);
        prop_assert_eq!(lists.len(), grid.channels());
        let floats = grid.floats(&values, None).unwrap();
        let bytes: Vec<u8> = values.iter().map(|value| (value * 1024.0) as i64 as u8).collect();
        let integers = grid.integers(&bytes, None).unwrap();
        let byte_lists = by_hand(&shape, &keep, &bytes.iter().map(|byte| f64::from(*byte)).collect::<Vec<_>>());
        for (found, lists) in [(floats, lists), (integers, byte_lists)] {
            for (channel, list) in found.iter().zip(&lists) {
                let one = channel.summary().unwrap();
                let (mean, variance) = exactly(list);
                prop_assert!((one.mean - mean).abs() <= 1e-13 * (1.0 + mean.abs()), "{} {}", one.mean, mean);
                prop_assert!((one.deviation - variance.sqrt()).abs() <= 1e-12 * (1e-3 + variance.sqrt()));
                prop_assert_eq!(one.count as usize, list.len());
                prop_assert_eq!(one.max, list.iter().copied().fold(f64::NEG_INFINITY, f64::max));
                if let Some(by) = one.by_sample {
                    let each: Vec<(f64, f64)> = list.chunks(list.len() / samples).map(exactly).collect();
                    let deviations = each.iter().map(|(_, variance)| variance.sqrt()).sum::<f64>() / samples as f64;
                    prop_assert!((by.mean_of_deviations - deviations).abs() <= 1e-12 * (1e-3 + deviations));
                    prop_assert!((by.mean - each.iter().map(|(mean, _)| mean).sum::<f64>() / samples as f64).abs() <= 1e-12 * (1.0 + mean.abs()));
                }
            }
        }
    }

    #[test]
    fn masks_leave_out_what_they_say(length in 1..40_usize, seed in 0..1000_u64) {
        let grid = Grid::new(&[length, 2], &[1]).unwrap();
        let values = numbers(2 * grid.length(), seed);
        let valid: Vec<bool> = numbers(values.len(), seed + 1).iter().map(|x| *x > 0.0).collect();
        let bytes: Vec<u8> = values.iter().map(|value| (value * 100.0) as i64 as u8).collect();
        let found = grid.floats(&values, Some(&valid)).unwrap();
        let counted = grid.integers(&bytes, Some(&valid)).unwrap();
        for channel in 0..2 {
            let of = |all: &dyn Fn(usize) -> f64| -> Vec<f64> {
                (0..values.len()).filter(|place| place % 2 == channel && valid[*place]).map(all).collect()
            };
            let (floats, ints) = (of(&|place| values[place]), of(&|place| f64::from(bytes[place])));
            prop_assert_eq!(found[channel].summary().map_or(0, |one| one.count) as usize, floats.len());
            if !ints.is_empty() {
                let one = counted[channel].summary().unwrap();
                prop_assert!((one.mean - exactly(&ints).0).abs() < 1e-12 * 256.0);
            }
        }
        prop_assert!(grid.floats(&values, Some(&valid[1..])).is_err());
    }

    #[test]
    fn a_forest_has_the_same_bits_in_any_order_and_any_split(count in 1..60_usize, seed in 0..1000_u64) {
        let parts: Vec<Moments> = numbers(count, seed).chunks(1).map(Moments::of).collect();
        let mut straight = Forest::default();
        for (place, part) in parts.iter().enumerate() {
            straight.insert(place as u64, 0, *part).unwrap();
        }
        let keys = numbers(count, seed + 1);
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|a, b| keys[*a].total_cmp(&keys[*b]));
        let mut shards = vec![Forest::default(); 3];
        for place in &order {
            shards[*place % 3].insert(*place as u64, 0, parts[*place]).unwrap();
        }
        let mut all = shards.swap_remove(1);
        shards.into_iter().for_each(|shard| all.merge(shard).unwrap());
        prop_assert_eq!(&all, &straight);
        prop_assert_eq!(all.places() as usize, count);
        prop_assert!(all.contains(count as u64 - 1) && !all.contains(count as u64));
        prop_assert!(all.merge(straight).is_err());
    }
}

#[test]
fn places_that_cannot_be_are_refused() {
    let mut forest = Forest::default();
    let one = Moments::of(&[1.0]);
    assert!(
        forest.insert(3, 1, one).is_err()
            && forest.insert(0, 63, one).is_err()
            && forest.insert(u64::MAX, 0, one).is_err()
    );
    forest.insert(4, 2, one).unwrap();
    for (start, level) in [(4, 0), (7, 0), (0, 3), (6, 1)] {
        assert!(forest.insert(start, level, one).is_err(), "{start} {level}");
    }
    assert_eq!(Forest::<Moments>::default().total(), None);
    assert!(Grid::new(&[2, 3], &[2]).is_err() && Grid::new(&[2, 3], &[1, 1]).is_err());
    assert!(Grid::new(&[4], &[0]).unwrap().floats(&[1.0_f32; 6], None).is_err());
}

#[test]
fn a_sample_of_one_value_a_channel_has_no_spread_with_or_without_a_mask() {
    let features = Grid::new(&[2], &[0]).unwrap();
    let valid = [true, true, false, true];
    for valid in [None, Some(&valid[..])] {
        for channel in features.floats(&[1.0, 2.0, 3.0, 4.0], valid).unwrap() {
            assert_eq!(channel.summary().unwrap().by_sample, None);
        }
    }
}

#[test]
fn a_channel_without_values_has_no_statistics() {
    let nothing =
        Channel { values: Values::Floats(Floats::of(&[f32::NAN])), samples: Samples::default() };
    assert_eq!(nothing.summary(), None);
    let merged = nothing.merge(&Channel {
        values: Values::Floats(Floats::of(&[2.0_f32])),
        samples: Samples::default(),
    });
    let one = merged.summary().unwrap();
    assert_eq!(
        (one.mean, one.deviation, one.sample_deviation, one.nan, one.is_constant()),
        (2.0, 0.0, None, 1, true)
    );
}
