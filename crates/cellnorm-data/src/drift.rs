//! How far another data set is from the one that statistics are of.
//!
//! shift = (mean′ − mean) / deviation and scale = deviation′ / deviation say how much it matters: a
//! network sees data with mean `shift` and deviation `scale` instead of 0 and 1. Welch's t = (m′ −
//! m) / √(v′/n′ + v/n), with m, v and n of the means of single samples, says whether it could be
//! chance: the pixels of one image are no independent draws, images are. Of integers the largest
//! distance of the distribution functions is told, too (Kolmogorov, Smirnov).

use cellnorm::data::{Channel, Summary, Values};

use crate::error::Error;
use crate::state::Statistics;

/// How far a channel is from the same channel of other data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// Before.
    pub old: Summary,
    /// Now.
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

/// How far each channel is from the old ones.
///
/// # Errors
/// If the numbers of channels or the scales differ, or a channel has no values.
pub fn drift(old: &Statistics, new: &Statistics) -> Result<Vec<Drift>, Error> {
    let (olds, news) =
        (old.channels.total().unwrap_or_default(), new.channels.total().unwrap_or_default());
    if olds.len() != news.len() || old.full_scale() != new.full_scale() {
        let told = |count: usize, scale: f64| format!("{count} channels of numbers up to {scale}");
        let problem = format!(
            "the statistics are of {}, and the data have {}",
            told(olds.len(), old.full_scale()),
            told(news.len(), new.full_scale())
        );
        return Err(Error::Settings { problem });
    }
    let each = olds.iter().zip(&news).enumerate().map(|(channel, (old, new))| {
        let nothing = || Error::Settings { problem: format!("channel {channel} has no values") };
        Ok(of(old, new, old.summary().ok_or_else(nothing)?, new.summary().ok_or_else(nothing)?))
    });
    each.collect()
}

fn of(a: &Channel, b: &Channel, old: Summary, new: Summary) -> Drift {
    let square = |summary: &Summary| {
        let by = summary.by_sample.filter(|by| by.samples > 1)?;
        let variance = by.deviation_of_means.powi(2) * by.samples as f64 / (by.samples - 1) as f64;
        Some((by.mean, variance / by.samples as f64))
    };
    let t = square(&old).zip(square(&new)).map(|((m, v), (n, w))| match n - m {
        0.0 => 0.0,
        difference => difference / (v + w).sqrt(),
    });
    let distance = match (&a.values, &b.values) {
        (Values::Integers(a), Values::Integers(b)) => {
            let [n, m] = [a.count() as f64, b.count() as f64];
            let (mut below, mut other) = (0, 0);
            let long = a.counts().len().max(b.counts().len());
            let of = |counts: &[u64], value: usize| counts.get(value).copied().unwrap_or(0);
            let gaps = (0..long).map(|value| {
                below += of(a.counts(), value);
                other += of(b.counts(), value);
                (below as f64 / n - other as f64 / m).abs()
            });
            Some(gaps.fold(0.0, f64::max))
        }
        _ => None,
    };
    // without a deviation any difference is infinitely many of them
    let share = |part: f64, whole: f64, equal: f64| {
        if part == whole * equal { equal } else { part / whole }
    };
    let difference = new.mean - old.mean;
    let shift = if difference == 0.0 { 0.0 } else { difference / old.deviation };
    Drift { old, new, shift, scale: share(new.deviation, old.deviation, 1.0), t, distance }
}
