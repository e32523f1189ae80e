//! Batch normalization of a batch whose samples are spread over ranks, on arrays: passes over this
//! rank's part, and one exchange a direction between them.

use ndarray::{Array, ArrayD, ArrayView, ArrayViewD, CowArray, Dimension};

use super::Communicator;
use super::joined::{CellSums, Joined, Slopes};
use crate::arrays::{Arranged, Grid, like, typed};
use crate::element::Element;
use crate::error::Error;
use crate::moments::Moments;
use crate::norms::{Batch, BatchNorm, Gradients, Kind, Mode, Saved, StatisticsFrom};
use crate::passes::Gradient;
use crate::semantics::OneValue;
use crate::standardize::Statistics;
use crate::tables::{Labels, Mask};

/// The part of a batch that this rank holds, and the channel of each of its cells; None where it
/// has no samples.
struct Part<'a, T>(Option<(Arranged<'a, T, Grid>, Labels)>);

impl<'a, T: Element> Part<'a, T> {
    fn new(x: ArrayViewD<'a, T>, channel: usize, mask: Option<&Mask>) -> Result<Self, Error> {
        if x.is_empty() {
            return Ok(Self(None));
        }
        // a sample's sums do not depend on which others lie beside it
        let numbered: Vec<bool> = (0..x.ndim()).map(|axis| axis == 0 || axis == channel).collect();
        let mut x = Arranged::in_cells(x.into(), &numbered, mask)?;
        let of_cell = x.plan.1[channel].take().expect("channels number the cells");
        Ok(Self(Some((x, of_cell))))
    }

    fn of_cell(&self) -> &[u32] {
        self.0.as_ref().map(|(_, of_cell)| of_cell.of()).unwrap_or_default()
    }

    fn moments(&self) -> Vec<Moments> {
        self.0.as_ref().map(|(x, _)| x.plan.0.moments(x.slice())).unwrap_or_default()
    }
}

impl BatchNorm {
    /// As [`forward`](BatchNorm::forward), with the statistics of the batch that the ranks hold
    /// together; the running ones move toward these, too, and are the same bits on every rank.
    /// Under a mask, which all ranks have or none, only valid values count, as in
    /// [`forward_masked`](BatchNorm::forward_masked). Any rank may have any number of samples, also
    /// none: shape \[0, …\].
    ///
    /// Every rank must call it, also one whose x is empty. Where running statistics are used and
    /// stay as they are, nothing is exchanged.
    ///
    /// # Errors
    /// As [`forward`](BatchNorm::forward), by the values of all ranks; or if another rank fails, is
    /// gone or does something else. All ranks get an error then, and nothing has changed.
    ///
    /// ```
    /// use cellnorm::BatchNormConfig;
    /// use cellnorm::ranks::Threads;
    /// use ndarray::{Array2, array, s};
    /// let x: Array2<f32> = array![[1.0], [2.0], [3.0], [6.0]];
    /// let parts = [x.slice(s![..1, ..]), x.slice(s![1.., ..])];
    /// let on_rank =
    ///     |over: Threads, part| BatchNormConfig::new(1).init()?.forward_over(part, None, &over);
    /// let statistics = std::thread::scope(|scope| {
    ///     let ranks = Threads::split(2).into_iter().zip(parts);
    ///     let threads: Vec<_> =
    ///         ranks.map(|(over, part)| scope.spawn(move || on_rank(over, part))).collect();
    ///     threads
    ///         .into_iter()
    ///         .map(|thread| Ok(thread.join().unwrap()?.1.statistics))
    ///         .collect::<Result<Vec<_>, cellnorm::Error>>()
    /// })?;
    /// assert_eq!((statistics[0].mean[0], statistics[0].variance[0]), (3.0, 3.5));
    /// assert_eq!(statistics[0], statistics[1]);
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn forward_over<T: Element, D: Dimension>(
        &mut self,
        x: ArrayView<'_, T, D>,
        mask: Option<&Mask>,
        over: &dyn Communicator,
    ) -> Result<(Array<T, D>, Saved), Error> {
        let Mode { statistics, update, .. } = self.mode;
        let running = statistics == StatisticsFrom::Running;
        if running && !update {
            return self.fixed_part(x, mask);
        }
        let part = self
            .channel_of(x.shape())
            .and_then(|channel| Part::new(x.view().into_dyn(), channel, mask));
        let of_cell = part.as_ref().map(Part::of_cell).unwrap_or_default();
        let joined = self.joined::<T>(over, mask, of_cell);
        let own = part.as_ref().map(Part::moments).map_err(Clone::clone);
        let (batch, values) = joined.statistics(own.as_deref().map_err(Clone::clone))?;
        let one = mask.is_none() && values.iter().all(|values| *values == 1.0);
        if one && matches!(self.one_value, OneValue::Error | OneValue::AlwaysError) {
            return Err(Error::OneValue { layer: Batch::NAME, shape: x.shape().to_vec() });
        }
        if one && self.one_value == OneValue::UseRunning {
            return self.fixed_part(x, mask);
        }
        let (y, saved) = if running {
            let mut fixed = self.clone();
            fixed.mode.update = false;
            fixed.fixed_part(x, mask)?
        } else {
            let [gamma, beta] = [&self.gamma, &self.beta].map(flat);
            let affines = joined.affines(&batch, gamma.as_deref(), beta.as_deref());
            let y = match &part?.0 {
                Some((x, _)) => x.map(|buffers| x.plan.0.affine(buffers, &affines)).0,
                None => like(&x.view().into_dyn(), vec![]),
            };
            (typed(y), Saved { statistics: batch.clone(), fixed: false, masked: None })
        };
        if update {
            self.follow(&batch, &values);
        }
        Ok((y, saved))
    }

    /// The gradients of this rank's part, given what [`forward_over`](Self::forward_over) saved,
    /// and its mask; dx is written over dy where that is handed over. dγ and dβ are this rank's
    /// share, like the gradients of all other parameters: [`sum`](Communicator::sum) them over the
    /// ranks.
    ///
    /// # Errors
    /// As [`backward`](BatchNorm::backward); or if another rank fails, is gone or does something
    /// else.
    pub fn backward_over<'a, T: Element, D: Dimension>(
        &self,
        saved: &Saved,
        x: ArrayView<'_, T, D>,
        dy: impl Into<CowArray<'a, T, D>>,
        mask: Option<&Mask>,
        over: &dyn Communicator,
    ) -> Result<Gradients<T, D>, Error> {
        let dy = dy.into();
        let fits = self.fits(saved, x.shape(), dy.shape());
        match (saved.fixed, x.is_empty()) {
            (true, false) if mask.is_some() != saved.masked.is_some() => {
                let what = "has a mask in one pass and none in the other; hand the same to both";
                return Err(Error::Unsupported { layer: Batch::NAME, what });
            }
            (true, false) => return self.backward(saved, x, dy),
            (true, true) => {
                return fits
                    .map(|_| self.gradients(dy.into_owned(), Slopes::none(self.kind.channels)));
            }
            (false, _) => {}
        }
        let part = fits.and_then(|channel| Part::new(x.view().into_dyn(), channel, mask));
        let of_cell = part.as_ref().map(Part::of_cell).unwrap_or_default();
        let (joined, gamma) = (self.joined::<T>(over, mask, of_cell), flat(&self.gamma));
        let slopes = |own: Result<CellSums<'_>, Error>| {
            joined.slopes(own, &saved.statistics, gamma.as_deref())
        };
        let (dx, slopes) = match part.as_ref().map(|part| &part.0) {
            Err(error) => {
                return Err(slopes(Err(error.clone())).err().unwrap_or_else(|| error.clone()));
            }
            Ok(None) => (dy.into_owned().into_dyn(), slopes(Ok(CellSums::default()))),
            Ok(Some((x, _))) => x.map_gradient(dy.into_dyn(), |values, buffers| {
                let region = &x.plan.0;
                let centers: Vec<f64> = of_cell
                    .iter()
                    .map(|channel| saved.statistics.mean[*channel as usize])
                    .collect();
                let (sums, counts) =
                    (region.sums(values, buffers.source(), &centers), region.counts());
                let slopes =
                    slopes(Ok(CellSums { counts: &counts, centers: &centers, sums: &sums }));
                let none = vec![Gradient::default(); centers.len()];
                region.gradient(
                    values,
                    buffers,
                    &centers,
                    slopes.as_ref().map_or(&none, |slopes| &slopes.of_cell),
                );
                slopes
            })?,
        };
        Ok(self.gradients(typed(dx), slopes?))
    }

    /// The channel axis, if what is given to a backward pass belongs together.
    fn fits(&self, saved: &Saved, x: &[usize], dy: &[usize]) -> Result<usize, Error> {
        let channel = self.channel_of(x)?;
        if dy != x {
            return Err(Error::Shape { name: "dy", given: dy.to_vec(), expected: x.to_vec() });
        }
        let Statistics { mean, variance } = &saved.statistics;
        for (name, table) in [("the saved mean", mean), ("the saved variance", variance)] {
            if table.len() != self.kind.channels {
                return Err(Error::Parameter {
                    name,
                    given: vec![table.len()],
                    expected: vec![self.kind.channels],
                });
            }
        }
        Ok(channel)
    }

    /// dx, and this rank's share of the gradients of the parameters that are trained.
    fn gradients<T, D: Dimension>(
        &self,
        dx: Array<T, D>,
        Slopes { dgamma, dbeta, .. }: Slopes,
    ) -> Gradients<T, D> {
        let parameter = |of: &Option<ArrayD<f64>>, values: Vec<f64>| {
            let of = of.as_ref().filter(|_| self.mode.train_parameters);
            of.map(|of| {
                ArrayD::from_shape_vec(of.raw_dim(), values).expect("as many values as channels")
            })
        };
        Gradients {
            dx,
            dgamma: parameter(&self.gamma, dgamma),
            dbeta: parameter(&self.beta, dbeta),
        }
    }

    /// This rank's part with the running statistics, for which it needs no other.
    fn fixed_part<T: Element, D: Dimension>(
        &mut self,
        x: ArrayView<'_, T, D>,
        mask: Option<&Mask>,
    ) -> Result<(Array<T, D>, Saved), Error> {
        if x.is_empty() {
            self.channel_of(x.shape())?;
            let saved = Saved { statistics: self.running(), fixed: true, masked: None };
            return Ok((typed(like(&x.into_dyn(), vec![])), saved));
        }
        match mask {
            Some(mask) => self.forward_masked(x, mask),
            None => self.forward_fixed(x),
        }
    }

    /// The channel axis of a tensor of this shape, which may be empty but for its channels.
    fn channel_of(&self, shape: &[usize]) -> Result<usize, Error> {
        self.check_running()?;
        self.momentum.check()?;
        self.run(&[self.running_mean.len()]).check()?;
        let roles = self.kind.roles(shape, true)?;
        Ok((0..shape.len())
            .find(|axis| roles.carries(*axis))
            .expect("the channel axis carries the parameters"))
    }

    /// What all ranks must do alike.
    fn joined<'a, T>(
        &self,
        over: &'a dyn Communicator,
        mask: Option<&Mask>,
        of_cell: &'a [u32],
    ) -> Joined<'a> {
        let Self {
            epsilon,
            momentum,
            running_variance,
            one_value,
            mode,
            kind: Batch { channels, .. },
            ..
        } = self;
        let element = std::any::type_name::<T>().rsplit("::").next().unwrap_or_default();
        let request = format!(
            "batch normalization of {channels} channels of {element}, epsilon {epsilon}, \
             {momentum:?}, {running_variance:?} running variance, {one_value:?}, {mode:?}"
        ) + if mask.is_some() { ", masked" } else { "" };
        Joined { over, request, epsilon: *epsilon, channels: *channels, of_cell }
    }
}

fn flat(of: &Option<ArrayD<f64>>) -> Option<Vec<f64>> {
    of.as_ref().map(|of| of.iter().copied().collect())
}
