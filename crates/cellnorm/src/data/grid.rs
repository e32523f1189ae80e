//! Which channel each value of a sample belongs to: the axes that are kept number the channels, all
//! others are reduced.

use super::channel::{Channel, Samples, Values};
use super::floats::Floats;
use super::forest::{Merge, tournament};
use super::histogram::Histogram;
use crate::error::{Error, check_shape};
use crate::{kernels::Element, moments::Moments};

/// The channels of samples of one shape.
///
/// ```
/// use cellnorm::data::Grid;
/// let photographs = Grid::new(&[2, 2, 3], &[2])?; // height, width, colour
/// let part =
///     photographs.integers(&[1_u8, 10, 100, 3, 10, 100, 1, 10, 100, 3, 10, 104], None)?;
/// let means: Vec<f64> =
///     part.iter().filter_map(|colour| Some(colour.summary()?.mean)).collect();
/// assert_eq!(means, [2.0, 10.0, 101.0]);
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Values of a sample.
    length: usize,
    /// Values side by side of one channel.
    run: usize,
    /// The channel of each run from the first kept axis on; all before it repeat these.
    labels: Vec<u32>,
    channels: usize,
}

/// From this length on a run is read alone.
const LONG: usize = 64;

impl Grid {
    /// Samples of a shape, which leaves out their own axis; these axes are kept.
    ///
    /// # Errors
    /// If an axis does not exist or is named twice, or the shape has too many values.
    pub fn new(sample: &[usize], keep: &[usize]) -> Result<Self, Error> {
        for (place, axis) in keep.iter().enumerate() {
            if *axis >= sample.len() {
                return Err(Error::Axis { axis: *axis as isize, rank: sample.len() });
            }
            if keep[..place].contains(axis) {
                let axes = keep.iter().map(|axis| *axis as isize).collect();
                return Err(Error::AxisTwice { axis: *axis, axes });
            }
        }
        let length = sample.iter().try_fold(1_usize, |product, len| product.checked_mul(*len));
        let length = length.filter(|length| *length <= u32::MAX as usize);
        let length = length.ok_or_else(|| Error::TooLarge { shape: sample.to_vec() })?;
        let first = keep.iter().min().copied().unwrap_or(sample.len());
        let last = keep.iter().max().map_or(0, |axis| axis + 1);
        let mut labels = vec![0_u32];
        for (axis, size) in sample.iter().enumerate().take(last).skip(first) {
            let kept = keep.contains(&axis);
            let next = |label: &u32| {
                let label = *label;
                (0..*size as u32)
                    .map(move |place| if kept { label * *size as u32 + place } else { label })
            };
            labels = labels.iter().flat_map(next).collect();
        }
        let channels = keep.iter().map(|axis| sample[*axis]).product();
        if channels == 1 {
            // one channel is one run, wherever its axis is
            return Ok(Self { length, run: length, labels: vec![0], channels });
        }
        Ok(Self { length, run: sample[last..].iter().product(), labels, channels })
    }

    /// The number of channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The channel of a value in any number of samples, one after the other.
    pub fn channel(&self, place: usize) -> usize {
        self.labels[place / self.run.max(1) % self.labels.len()] as usize
    }

    /// Values of a sample.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Whether a channel has several values in a sample.
    fn has_spread(&self) -> bool {
        self.length > self.channels
    }

    /// The channels of whole samples of integers, one after the other. Where `valid` is given, the
    /// values that it marks false are ignored.
    ///
    /// # Errors
    /// If the values are no whole samples, or `valid` has another length.
    pub fn integers<T: Copy + Into<u16> + Into<u64>>(
        &self,
        values: &[T],
        valid: Option<&[bool]>,
    ) -> Result<Vec<Channel>, Error> {
        check_valid(values, valid)?;
        let mut histograms = vec![Histogram::default(); self.channels];
        let mut colour = Vec::<T>::new();
        let samples = self.each(values, &mut |place, sample| {
            let mut sums = vec![Sums::default(); self.channels];
            if let Some(valid) = valid {
                for (channel, value) in self.chosen(sample, &valid[place * self.length..]) {
                    histograms[channel].add(&[value]);
                    sums[channel].add(&[value]);
                }
            } else if self.run == 1 && self.has_spread() && self.labels.len() == self.channels {
                // colours side by side are counted one by one
                for (channel, (histogram, sums)) in histograms.iter_mut().zip(&mut sums).enumerate()
                {
                    colour.clear();
                    colour.extend(sample[channel..].iter().step_by(self.channels));
                    histogram.add(&colour);
                    sums.add(&colour);
                }
            } else {
                for part in sample.chunks_exact((self.labels.len() * self.run).max(1)) {
                    for (label, run) in self.labels.iter().zip(part.chunks_exact(self.run)) {
                        histograms[*label as usize].add(run);
                        sums[*label as usize].add(run);
                    }
                }
            }
            sums.iter().map(Sums::moments).collect()
        })?;
        Ok(self.together(histograms.into_iter().map(Values::Integers), samples))
    }

    /// The channels of whole samples of floats, one after the other. Where `valid` is given, the
    /// values that it marks false are ignored.
    ///
    /// # Errors
    /// If the values are no whole samples, or `valid` has another length.
    pub fn floats<T: Element>(
        &self,
        values: &[T],
        valid: Option<&[bool]>,
    ) -> Result<Vec<Channel>, Error> {
        check_valid(values, valid)?;
        if !self.has_spread() && self.channels > 0 && valid.is_none() {
            self.check_whole(values)?;
            let columns = Floats::of_columns(values, self.length);
            let mut all = vec![Floats::default(); self.channels];
            for (label, column) in self.labels.iter().zip(columns) {
                all[*label as usize] = column;
            }
            return Ok(self.together(all.into_iter().map(Values::Floats), None));
        }
        let mut all = vec![Floats::default(); self.channels];
        let samples = self.each(values, &mut |place, sample| {
            let one = match valid {
                None => self.sample(sample),
                Some(valid) => {
                    let mut lists = vec![Vec::new(); self.channels];
                    let chosen = self.chosen(sample, &valid[place * self.length..]);
                    chosen.for_each(|(channel, value)| lists[channel].push(value));
                    lists.iter().map(|list| Floats::of(list)).collect()
                }
            };
            all.iter_mut().zip(&one).for_each(|(all, one)| *all = all.merge(one));
            one.iter().map(|one| one.moments).collect()
        })?;
        Ok(self.together(all.into_iter().map(Values::Floats), samples))
    }

    /// The values of a sample that are valid, with their channels.
    fn chosen<T: Copy>(&self, sample: &[T], valid: &[bool]) -> impl Iterator<Item = (usize, T)> {
        let run = |label: &u32| std::iter::repeat_n(*label as usize, self.run);
        let values = self.labels.iter().cycle().flat_map(run).zip(sample).zip(valid);
        values.filter(|(_, valid)| **valid).map(|((channel, value), _)| (channel, *value))
    }

    /// Calls `moments` with the place and the values of each sample, and merges the moments of its
    /// channels in pairs; `None` where a channel has one value in a sample.
    fn each<T>(
        &self,
        values: &[T],
        moments: &mut impl FnMut(usize, &[T]) -> Vec<Moments>,
    ) -> Result<Option<Vec<Samples>>, Error> {
        self.check_whole(values)?;
        let samples = values.len().checked_div(self.length).unwrap_or(0);
        let mut sample = |n: usize| moments(n, &values[n * self.length..][..self.length]);
        if !self.has_spread() {
            (0..samples).for_each(|n| drop(sample(n)));
            return Ok(None);
        }
        Ok(tournament(0..samples, &mut |n| sample(n).iter().map(Samples::one).collect()))
    }

    fn check_whole<T>(&self, values: &[T]) -> Result<(), Error> {
        match values.len().checked_rem(self.length) {
            Some(0) => Ok(()),
            None if values.is_empty() => Ok(()),
            _ => check_shape("the values of whole samples", &[values.len()], &[self.length]),
        }
    }

    fn sample<T: Element>(&self, sample: &[T]) -> Vec<Floats> {
        let mut all = vec![Floats::default(); self.channels];
        let mut add =
            |label: u32, more: &Floats| all[label as usize] = all[label as usize].merge(more);
        if self.run >= LONG {
            let runs = sample.chunks_exact(self.run).zip(self.labels.iter().cycle());
            runs.for_each(|(run, label)| add(*label, &Floats::of(run)));
            return all;
        }
        let columns = Floats::of_columns(sample, self.labels.len() * self.run);
        for (column, more) in columns.iter().enumerate() {
            add(self.labels[column / self.run], more);
        }
        all
    }

    fn together(
        &self,
        values: impl Iterator<Item = Values>,
        samples: Option<Vec<Samples>>,
    ) -> Vec<Channel> {
        let samples = samples.unwrap_or_else(|| vec![Samples::default(); self.channels]);
        values.zip(samples).map(|(values, samples)| Channel { values, samples }).collect()
    }
}

fn check_valid<T>(values: &[T], valid: Option<&[bool]>) -> Result<(), Error> {
    valid.map_or(Ok(()), |valid| check_shape("valid", &[valid.len()], &[values.len()]))
}

/// Exact sums of integers of one sample.
#[derive(Clone, Copy, Default)]
struct Sums {
    count: u64,
    sum: u64,
    squares: u64,
}

impl Sums {
    #[inline]
    fn add<T: Copy + Into<u64>>(&mut self, values: &[T]) {
        self.count += values.len() as u64;
        if size_of::<T>() > 1 {
            for value in values {
                let value = (*value).into();
                self.sum += value;
                self.squares += value * value;
            }
            return;
        }
        // as many squares of bytes as 32 bits hold, of which more are added at once
        for part in values.chunks(1 << 16) {
            let (mut sum, mut squares) = (0_u32, 0_u32);
            for value in part {
                let value = (*value).into() as u32;
                sum += value;
                squares += value * value;
            }
            self.sum += u64::from(sum);
            self.squares += u64::from(squares);
        }
    }

    /// Σ (v − mean)² = (n Σ v² − (Σ v)²) / n; 128 bits hold the products of 2³² values of
    /// 16 bits.
    fn moments(&self) -> Moments {
        let [n, sum, squares] = [self.count, self.sum, self.squares].map(u128::from);
        let n_or_one = n.max(1);
        Moments {
            count: self.count as f64,
            mean: self.sum as f64 / n_or_one as f64,
            m2: (n * squares - sum * sum) as f64 / n_or_one as f64,
        }
    }
}
