//! The drift of another data set from the one that statistics are of.
//!
//! shift = (mean′ − mean) / deviation and scale = deviation′ / deviation say how much it matters: a
//! network sees data with mean `shift` and deviation `scale` instead of 0 and 1. Welch's t = (m′ −
//! m) / √(v′/n′ + v/n), with m, v and n of the means of single samples, says whether it could be
//! chance: images are independent draws, the pixels of one image are not. For integers there is
//! also the largest distance of the distribution functions (Kolmogorov, Smirnov).

use cellnorm::data::{Channel, Summary, Values};

use crate::error::Error;
use crate::state::Statistics;

/// The drift of a channel from the same channel of other data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// The statistics of the old data.
    pub old: Summary,
    /// The statistics of the new data.
    pub new: Summary,
    /// The difference of the means in old deviations.
    pub shift: f64,
    /// The new deviation in old ones.
    pub scale: f64,
    /// Welch's t of the samples' means; `None` where a sample has one value or there are fewer than
    /// two.
    pub t: Option<f64>,
    /// The largest distance of the two distribution functions; `None` for floats.
    pub distance: Option<f64>,
}

/// The drift of each channel.
///
/// # Errors
/// If the numbers of channels or the scales differ, or a channel has no values.
pub fn drift(old: &Statistics, new: &Statistics) -> Result<Vec<Drift>, Error> {
    let (olds, news) =
        (old.channels.total().unwrap_or_default(), new.channels.total().unwrap_or_default());
    if olds.len() != news.len() || old.full_scale() != new.full_scale() {
        let words = |count: usize, scale: f64| {
            let plural = if count == 1 { "" } else { "s" };
            format!("{count} channel{plural} of numbers up to {scale}")
        };
        let (old, new) = (words(olds.len(), old.full_scale()), words(news.len(), new.full_scale()));
        let problem = format!("the statistics are of {old}, and the data have {new}");
        return Err(Error::Settings { problem });
    }
    let drift = |(channel, (old, new)): (usize, (&Channel, &Channel))| {
        let summary = |of: &Channel| {
            let problem = || format!("the channel with index {channel} has no values");
            of.summary().ok_or_else(|| Error::Settings { problem: problem() })
        };
        Ok(channel_drift(old, new, summary(old)?, summary(new)?))
    };
    olds.iter().zip(&news).enumerate().map(drift).collect()
}

fn channel_drift(a: &Channel, b: &Channel, old: Summary, new: Summary) -> Drift {
    // the mean of the samples' means, and its squared standard error
    let mean_and_square = |summary: &Summary| {
        let by = summary.by_sample.filter(|by| by.samples > 1)?;
        let variance = by.deviation_of_means.powi(2) * by.samples as f64 / (by.samples - 1) as f64;
        Some((by.mean, variance / by.samples as f64))
    };
    let means = mean_and_square(&old).zip(mean_and_square(&new));
    let t = means.map(|((m, v), (n, w))| match n - m {
        0.0 => 0.0,
        difference => difference / (v + w).sqrt(),
    });
    let distance = match (&a.values, &b.values) {
        (Values::Integers(a), Values::Integers(b)) => {
            let [n, m] = [a.count() as f64, b.count() as f64];
            let (mut a_sum, mut b_sum) = (0, 0);
            let length = a.counts().len().max(b.counts().len());
            let count = |counts: &[u64], value: usize| counts.get(value).copied().unwrap_or(0);
            let distances = (0..length).map(|value| {
                a_sum += count(a.counts(), value);
                b_sum += count(b.counts(), value);
                (a_sum as f64 / n - b_sum as f64 / m).abs()
            });
            Some(distances.fold(0.0, f64::max))
        }
        _ => None,
    };
    // with a deviation of 0, any difference is infinitely many deviations
    let difference = new.mean - old.mean;
    let shift = if difference == 0.0 { 0.0 } else { difference / old.deviation };
    let is_same = new.deviation == old.deviation;
    let scale = if is_same { 1.0 } else { new.deviation / old.deviation };
    Drift { old, new, shift, scale, t, distance }
}
