//! Batch normalization of a batch whose samples are spread over ranks, on arrays: passes over this rank's part, and one exchange a
//! direction between them.

use ndarray::{Array, ArrayD, ArrayView, CowArray, Dimension, IxDyn};

use super::{Communicator, Joined};
use crate::arrays::{Arranged, Grid, like, typed};
use crate::element::Element;
use crate::error::Error;
use crate::moments::Moments;
use crate::norms::{Batch, BatchNorm, Gradients, Kind, Mode, Saved, StatisticsFrom};
use crate::passes::{Affine, Gradient, Sums};
use crate::semantics::OneValue;
use crate::standardize::Statistics;
use crate::tables::{Labels, Mask};

/// The part of a batch that this rank holds.
struct Part<'a, T> {
    /// None where there are no samples.
    x: Option<Arranged<'a, T, Grid>>,
    channel: usize,
}

impl<'a, T: Element> Part<'a, T> {
    fn new(x: CowArray<'a, T, IxDyn>, channel: usize, mask: Option<&Mask>) -> Result<Self, Error> {
        // a sample's sums do not depend on which others lie beside it
        let numbered: Vec<bool> = (0..x.ndim()).map(|axis| axis == 0 || axis == channel).collect();
        let x = if x.is_empty() { None } else { Some(Arranged::in_cells(x, &numbered, mask)?) };
        Ok(Self { x, channel })
    }

    /// The channel of each cell.
    fn channels(&self) -> &[u32] {
        let labels = self.x.as_ref().and_then(|x| x.plan.1[self.channel].as_ref());
        labels.map(Labels::of).unwrap_or_default()
    }

    /// The moments of each channel.
    fn moments(&self, channels: usize) -> Vec<Moments> {
        let mut of_channel = vec![Moments::default(); channels];
        if let Some(x) = &self.x {
            for (moments, channel) in x.plan.0.moments(x.slice()).into_iter().zip(self.channels()) {
                let all = &mut of_channel[*channel as usize];
                *all = all.merge(moments);
            }
        }
        of_channel
    }

    /// (the number of values, Σ dy, Σ dy · (x − mean)) of each channel.
    fn sums(&self, dy: &[T], mean: &[f64]) -> Vec<[f64; 3]> {
        let mut of_channel = vec![[0.0; 3]; mean.len()];
        if let Some(x) = &self.x {
            let region = &x.plan.0;
            let centers: Vec<f64> = self.channels().iter().map(|channel| mean[*channel as usize]).collect();
            let sums = region.sums(x.slice(), dy, &centers);
            for ((Sums { dy, dy_x }, count), channel) in sums.into_iter().zip(region.counts()).zip(self.channels()) {
                let all = &mut of_channel[*channel as usize];
                *all = [all[0] + count, all[1] + dy, all[2] + dy_x];
            }
        }
        of_channel
    }
}

impl BatchNorm {
    /// As [`forward`](BatchNorm::forward), with the statistics of the batch that the ranks hold together; the running ones move
    /// toward these, too, and are the same bits on every rank. Under a mask, which all ranks have or none, only valid values count, as in
    /// [`forward_masked`](BatchNorm::forward_masked). Any rank may have any number of samples, also none: shape \[0, …\].
    ///
    /// Every rank must call it, also one whose x is empty. Where running statistics are used and stay as they are, nothing is
    /// exchanged.
    ///
    /// # Errors
    /// As [`forward`](BatchNorm::forward), by the values of all ranks; or if another rank fails, is gone or does something else.
    /// All ranks get an error then, and nothing has changed.
    ///
    /// ```
    /// use cellnorm::BatchNormConfig;
    /// use cellnorm::ranks::Threads;
    /// use ndarray::{Array2, array, s};
    /// let x: Array2<f32> = array![[1.0], [2.0], [3.0], [6.0]];
    /// let parts = [x.slice(s![..1, ..]), x.slice(s![1.., ..])];
    /// let on_rank = |over: Threads, part| BatchNormConfig::new(1).init()?.forward_over(part, None, &over);
    /// let statistics = std::thread::scope(|scope| {
    ///     let ranks = Threads::split(2).into_iter().zip(parts);
    ///     let threads: Vec<_> = ranks.map(|(over, part)| scope.spawn(move || on_rank(over, part))).collect();
    ///     threads.into_iter().map(|thread| Ok(thread.join().unwrap()?.1.statistics)).collect::<Result<Vec<_>, cellnorm::Error>>()
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
        let part = self.check_over(x.shape()).and_then(|channel| Part::new(x.view().into_dyn().into(), channel, mask));
        let own = part.as_ref().map_err(Clone::clone).map(|part| part.moments(self.running_mean.len()));
        let (batch, values) = self.joined::<T>(over, mask).statistics(own)?;
        let part = part?;
        let one = mask.is_none() && values.iter().all(|values| *values == 1.0);
        if one && matches!(self.one_value, OneValue::Error | OneValue::AlwaysError) {
            return Err(Error::OneValue { layer: Batch::NAME, shape: x.shape().to_vec() });
        }
        if one && self.one_value == OneValue::UseRunning {
            return self.fixed_part(x, mask);
        }
        let used = if running { self.running() } else { batch.clone() };
        let affines = self.affines(part.channels(), &used);
        let y = match part.x {
            Some(arranged) => typed(arranged.map_owned(|(region, _), buffers| region.affine(buffers, &affines))),
            None => typed(like(&x.view().into_dyn(), vec![])),
        };
        if update {
            self.follow(&batch, &values);
        }
        Ok((y, Saved { statistics: used, fixed: running, masked: None }))
    }

    /// The gradients of this rank's part, given what [`forward_over`](Self::forward_over) saved, and its mask. dγ and dβ are this rank's
    /// share, like the gradients of all other parameters: [`sum`](Communicator::sum) them over the ranks.
    ///
    /// # Errors
    /// As [`backward`](BatchNorm::backward); or if another rank fails, is gone or does something else.
    pub fn backward_over<'a, T: Element, D: Dimension>(
        &self,
        saved: &Saved,
        x: ArrayView<'_, T, D>,
        dy: impl Into<CowArray<'a, T, D>>,
        mask: Option<&Mask>,
        over: &dyn Communicator,
    ) -> Result<Gradients<T, D>, Error> {
        let dy = dy.into();
        if saved.fixed && (mask.is_none() || saved.masked.is_some()) && !x.is_empty() {
            return self.backward(saved, x, dy);
        }
        let Statistics { mean, variance } = &saved.statistics;
        let part = self.check_over(x.shape()).and_then(|channel| {
            if dy.shape() != x.shape() {
                let (given, expected) = (dy.shape().to_vec(), x.shape().to_vec());
                return Err(Error::Shape { name: "dy", given, expected });
            }
            Part::new(x.view().into_dyn().into(), channel, mask)
        });
        // dy as x lies
        let dy = match part.as_ref().ok().and_then(|part| part.x.as_ref()) {
            Some(arranged) => {
                let mut copy = like(&arranged.x.view(), vec![T::default(); dy.len()]);
                copy.assign(&dy.into_dyn());
                copy
            }
            None => ArrayD::from_shape_vec(IxDyn(x.shape()), vec![]).unwrap_or_default(),
        };
        let slice = dy.as_slice_memory_order().unwrap_or_default();
        let own = part.as_ref().map_err(Clone::clone).map(|part| part.sums(slice, mean));
        let gamma = self.gamma.as_ref().map(|gamma| gamma.iter().copied().collect::<Vec<f64>>());
        let r = |channel: usize| 1.0 / (variance[channel] + self.epsilon).sqrt();
        let of_channel = if saved.fixed {
            let a = |channel: usize| gamma.as_ref().map_or(1.0, |gamma| gamma[channel]) * r(channel);
            (0..mean.len()).map(|channel| Gradient { a: a(channel), b: 0.0, k: 0.0 }).collect()
        } else {
            self.joined::<T>(over, mask).gradients(own.clone(), &saved.statistics, gamma.as_deref())?
        };
        let (part, own) = (part?, own?);
        let gradients: Vec<Gradient> = part.channels().iter().map(|channel| of_channel[*channel as usize]).collect();
        let centers: Vec<f64> = part.channels().iter().map(|channel| mean[*channel as usize]).collect();
        let dx = match &part.x {
            Some(arranged) => {
                arranged
                    .map_gradient(dy.into(), |x, buffers| arranged.plan.0.gradient(x, buffers, &centers, &gradients))?
                    .0
            }
            None => dy,
        };
        let parameter = |of: &Option<ArrayD<f64>>, values: Vec<f64>| {
            let of = of.as_ref().filter(|_| self.mode.train_parameters);
            of.map(|of| ArrayD::from_shape_vec(of.raw_dim(), values).expect("as many values as channels"))
        };
        let dgamma = own.iter().enumerate().map(|(channel, [_, _, s2])| r(channel) * s2).collect();
        let dbeta = own.iter().map(|[_, s1, _]| *s1).collect();
        Ok(Gradients { dx: typed(dx), dgamma: parameter(&self.gamma, dgamma), dbeta: parameter(&self.beta, dbeta) })
    }

    /// This rank's part with the running statistics, for which it needs no other.
    fn fixed_part<T: Element, D: Dimension>(
        &mut self,
        x: ArrayView<'_, T, D>,
        mask: Option<&Mask>,
    ) -> Result<(Array<T, D>, Saved), Error> {
        if x.is_empty() {
            self.check_over(x.shape())?;
            let saved = Saved { statistics: self.running(), fixed: true, masked: None };
            return Ok((typed(like(&x.into_dyn(), vec![])), saved));
        }
        match mask {
            Some(mask) => self.forward_masked(x, mask),
            None => self.forward_fixed(x),
        }
    }

    /// The channel axis of a tensor of this shape, which may be empty but for its channels.
    fn check_over(&self, shape: &[usize]) -> Result<usize, Error> {
        self.check_running()?;
        self.momentum.check()?;
        self.run(&[self.running_mean.len()]).check()?;
        let roles = self.kind.roles(shape, true)?;
        Ok((0..shape.len()).find(|axis| roles.carries(*axis)).expect("the channel axis carries the parameters"))
    }

    fn affines(&self, channels: &[u32], of: &Statistics) -> Vec<Affine> {
        let affine = |channel: &u32| {
            let channel = *channel as usize;
            let [gamma, beta] = [(&self.gamma, 1.0), (&self.beta, 0.0)]
                .map(|(parameter, absent)| parameter.as_ref().map_or(absent, |parameter| parameter[channel]));
            let scale = gamma / (of.variance[channel] + self.epsilon).sqrt();
            Affine { center: of.mean[channel], scale, offset: beta }
        };
        channels.iter().map(affine).collect()
    }

    /// What all ranks must do alike.
    fn joined<'a, T>(&self, over: &'a dyn Communicator, mask: Option<&Mask>) -> Joined<'a> {
        let Self { epsilon, momentum, running_variance, one_value, mode, .. } = self;
        let element = std::any::type_name::<T>().rsplit("::").next().unwrap_or_default();
        let request = format!(
            "batch normalization of {} channels of {element}, epsilon {epsilon}, {momentum:?}, {running_variance:?} running \
             variance, {one_value:?}, {mode:?}",
            self.running_mean.len()
        ) + if mask.is_some() { ", masked" } else { "" };
        Joined { over, request, epsilon: *epsilon }
    }
}
