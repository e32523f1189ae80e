//! z = scale · y + shift, for each channel; for a batch normalization scale = γ / √(variance + ε),
//! shift = β − scale · mean.

use crate::error::{Error, check_numbers, check_shape};

/// A map of each channel: z = scale·y + shift, all numbers finite.
///
/// ```
/// use cellnorm::fold::Affine;
/// let doubled = Affine::new(vec![2.0, 2.0], vec![0.0, 1.0])?;
/// let both = doubled.then(&Affine::new(vec![3.0, 0.5], vec![1.0, 0.0])?)?;
/// assert_eq!((both.scale(), both.shift()), (&[6.0, 1.0][..], &[1.0, 0.5][..]));
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Affine {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl Affine {
    /// The map of these scales and shifts, one of each a channel.
    ///
    /// # Errors
    /// If there is not one shift for each scale, or a number is not finite.
    pub fn new(scale: Vec<f64>, shift: Vec<f64>) -> Result<Self, Error> {
        same_length("shift", shift.len(), scale.len())?;
        for (name, values) in [("scale", &scale), ("shift", &shift)] {
            check_numbers(name, values, f64::is_finite, "finite in every channel")?;
        }
        Ok(Self { scale, shift })
    }

    /// The map that changes nothing.
    pub fn identity(channels: usize) -> Self {
        Self { scale: vec![1.0; channels], shift: vec![0.0; channels] }
    }

    /// A batch normalization with fixed statistics: γ·(y − mean)/√(variance + ε) + β. γ is 1 and β
    /// is 0 where absent.
    ///
    /// # Errors
    /// If lengths differ, a variance is negative, variance + ε not above 0, or a number not finite.
    pub fn of_batch_norm(
        gamma: Option<&[f64]>,
        beta: Option<&[f64]>,
        mean: &[f64],
        variance: &[f64],
        epsilon: f64,
    ) -> Result<Self, Error> {
        let channels = mean.len();
        same_length("variance", variance.len(), channels)?;
        for (name, values) in [("gamma", gamma), ("beta", beta)] {
            same_length(name, values.map_or(channels, <[f64]>::len), channels)?;
        }
        let sound = |variance| variance >= 0.0 && variance + epsilon > 0.0;
        check_numbers("variance", variance, sound, "at least 0, and above 0 with epsilon")?;
        let gamma = |i: usize| gamma.map_or(1.0, |gamma| gamma[i]);
        let beta = |i: usize| beta.map_or(0.0, |beta| beta[i]);
        let scale: Vec<f64> =
            (0..channels).map(|i| gamma(i) / (variance[i] + epsilon).sqrt()).collect();
        let shift = (0..channels).map(|i| beta(i) - scale[i] * mean[i]).collect();
        Self::new(scale, shift)
    }

    /// The normalization of data: (y − mean)/deviation.
    ///
    /// # Errors
    /// If the lengths differ, a deviation is not above 0 and finite, or a number is not finite.
    pub fn standardize(mean: &[f64], deviation: &[f64]) -> Result<Self, Error> {
        same_length("deviation", deviation.len(), mean.len())?;
        let sound = |deviation: f64| deviation > 0.0 && deviation.is_finite();
        check_numbers("deviation", deviation, sound, "above 0 and finite")?;
        let shift = mean.iter().zip(deviation).map(|(mean, deviation)| -mean / deviation).collect();
        Self::new(deviation.iter().map(|deviation| 1.0 / deviation).collect(), shift)
    }

    /// The scale of each channel.
    pub fn scale(&self) -> &[f64] {
        &self.scale
    }

    /// The shift of each channel.
    pub fn shift(&self) -> &[f64] {
        &self.shift
    }

    /// The number of channels.
    pub fn channels(&self) -> usize {
        self.scale.len()
    }

    /// Whether no channel is shifted.
    pub fn is_linear(&self) -> bool {
        self.shift.iter().all(|shift| *shift == 0.0)
    }

    /// This map, and `next` on its result: next.scale·(scale·y + shift) + next.shift.
    ///
    /// # Errors
    /// If the maps have different numbers of channels, or a result leaves f64.
    pub fn then(&self, next: &Self) -> Result<Self, Error> {
        same_length("the next map", next.channels(), self.channels())?;
        let both = || self.scale.iter().zip(&self.shift).zip(next.scale.iter().zip(&next.shift));
        let scale = both().map(|((scale, _), (next, _))| next * scale).collect();
        Self::new(scale, both().map(|((_, shift), (scale, next))| scale * shift + next).collect())
    }

    /// The same scales without any shift.
    pub fn without_shift(&self) -> Self {
        Self { scale: self.scale.clone(), shift: vec![0.0; self.shift.len()] }
    }

    /// The map of an axis on which these channels follow each other.
    ///
    /// # Panics
    /// If there is no such channel.
    pub fn select(&self, channels: &[usize]) -> Self {
        let chosen = |values: &[f64]| channels.iter().map(|channel| values[*channel]).collect();
        Self { scale: chosen(&self.scale), shift: chosen(&self.shift) }
    }
}

/// An error unless there are as many as channels.
pub(super) fn same_length(name: &'static str, given: usize, expected: usize) -> Result<(), Error> {
    check_shape(name, &[given], &[expected])
}
