//! The layer of every rule: parameters, running averages, and the passes of training and inference.
//!
//! ```text
//! the rule is plain, no mask, no ranks    the closed form on a plan: rows, or cells and sets
//! otherwise                               the formula on tables of the cells
//! ```

use std::borrow::Cow;

use ndarray::{Array, ArrayD, ArrayView, CowArray, Dimension, IxDyn};

use super::arrays::{Arranged, CellGrid, typed};
use super::formula::check_finite;
use super::{
    ClosedForm, Correction, Formula, FormulaOutput, Grid, Merged, NamedValues, Region, Rule,
    Running, RunningTables, Settings, Statistics, Tape, Tracked,
};
use crate::error::{Error, check_dy, check_epsilon, check_numbers, check_shape};
use crate::kernels::{Activation, Affine, Element, Gradient, Parameters, Sums};
use crate::moments::Moments;
use crate::momentum::{Frozen, Mode, Momentum, OneValue, Phase, RunningVariance, StatisticsFrom};
use crate::ranks::{Communicator, report};
use crate::shape::{Centering, Excluded, Mask, Roles};

/// A normalization by a [`Rule`], with its parameters and running averages. Made by
/// [`NormConfig`](super::NormConfig).
#[derive(Clone, Debug)]
pub struct Norm<R> {
    /// The factor γ, less the rule's [`GAMMA_OFFSET`](Rule::GAMMA_OFFSET); None without scale.
    pub gamma: Option<ArrayD<f64>>,
    /// The offset β; None without center.
    pub beta: Option<ArrayD<f64>>,
    pub(crate) extra: Vec<(&'static str, ArrayD<f64>)>,
    /// The running averages, where the rule keeps any. None where it would keep some: the
    /// statistics are always those of x, in inference, too (PyTorch's `track_running_stats=False`).
    pub running: Option<Running>,
    /// The averages that training takes in their place, where they have a pace of their own.
    pub correction: Option<Correction>,
    /// ε.
    pub epsilon: f64,
    /// The pace of the running averages.
    pub momentum: Momentum,
    /// Which variance the running variance follows.
    pub running_variance: RunningVariance,
    /// The policy for one value a statistic in training.
    pub one_value: OneValue,
    /// The treatment of values that a mask excludes.
    pub excluded: Excluded,
    /// The activation after γ x̂ + β.
    pub activation: Activation,
    /// The mode of both passes; [`train`](Self::train) and [`freeze`](Self::freeze) set it, too.
    pub mode: Mode,
    pub(crate) phase: Phase,
    /// How often the running averages moved, for cumulative momentum: PyTorch's
    /// `num_batches_tracked`.
    pub steps: u64,
    pub(crate) frozen_parameters: Vec<&'static str>,
    pub(super) rule: R,
}

/// The numbers of a forward pass that `backward` needs besides x.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// The statistics that x was normalized with, in row-major order of the axes that do not share
    /// them. Where the pass was not the closed form, the running averages, or the statistics of x
    /// that these move toward; empty where the rule keeps none.
    pub statistics: Statistics,
    /// Whether they were given (running averages) rather than taken from x; so it is where x is
    /// empty.
    pub fixed: bool,
    /// The tables of the cells, where the pass was not the closed form.
    cells: Option<SavedCells>,
}

#[derive(Clone, Debug, PartialEq)]
struct SavedCells {
    region: Region,
    moments: Vec<Moments>,
    mask: Option<(Mask, Excluded)>,
    merged: Vec<Option<Merged>>,
    running: RunningTables,
    /// Whether the statistics of x were asked for.
    batch: bool,
}

/// The gradients of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<T, D: Dimension> {
    /// ∂L/∂x.
    pub dx: Array<T, D>,
    /// ∂L/∂γ, in the shape of γ; None where the layer has no γ or does not train it.
    pub dgamma: Option<ArrayD<f64>>,
    /// ∂L/∂β, in the shape of β; None where the layer has no β or does not train it.
    pub dbeta: Option<ArrayD<f64>>,
    extra: Vec<(&'static str, ArrayD<f64>)>,
}

impl<T, D: Dimension> Gradients<T, D> {
    /// The gradient of a parameter by its name, in its shape; None where the layer has no such
    /// parameter or does not train it.
    pub fn parameter(&self, name: &str) -> Option<&ArrayD<f64>> {
        match name {
            "gamma" => self.dgamma.as_ref(),
            "beta" => self.dbeta.as_ref(),
            _ => self.extra.iter().find(|(own, _)| *own == name).map(|(_, value)| value),
        }
    }
}

/// How a forward pass runs.
#[derive(Clone, Copy, Default)]
struct Call<'a> {
    /// Whether statistics are those of x; else the running ones, where there are any.
    batch: bool,
    /// Whether the statistics of x are asked for, to move the running ones.
    track: bool,
    mask: Option<&'a Mask>,
    ranks: Option<&'a dyn Communicator>,
}

/// The result of a forward pass.
struct Forward<T, D: Dimension> {
    y: Array<T, D>,
    saved: Saved,
    tracked: Option<Tracked<Vec<f64>>>,
}

impl<R: Rule> Norm<R> {
    /// The rule.
    pub fn rule(&self) -> &R {
        &self.rule
    }

    /// The rule, to change its numbers between steps; its parameters keep their shapes.
    pub fn rule_mut(&mut self) -> &mut R {
        &mut self.rule
    }

    /// The names of the parameters that the layer has.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let affine = [("gamma", &self.gamma), ("beta", &self.beta)];
        let affine = affine.into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name);
        affine.chain(self.extra.iter().map(|(name, _)| *name))
    }

    /// A parameter by its name; None where the layer has no such parameter.
    pub fn parameter(&self, name: &str) -> Option<&ArrayD<f64>> {
        match name {
            "gamma" => self.gamma.as_ref(),
            "beta" => self.beta.as_ref(),
            _ => self.extra.iter().find(|(own, _)| *own == name).map(|(_, value)| value),
        }
    }

    /// A parameter by its name, to change it.
    pub fn parameter_mut(&mut self, name: &str) -> Option<&mut ArrayD<f64>> {
        match name {
            "gamma" => self.gamma.as_mut(),
            "beta" => self.beta.as_mut(),
            _ => self.extra.iter_mut().find(|(own, _)| *own == name).map(|(_, value)| value),
        }
    }

    /// Stops the training of one parameter until
    /// [`unfreeze_parameter`](Self::unfreeze_parameter): it is applied as before, and has no
    /// gradient.
    ///
    /// # Errors
    /// If the layer has no such parameter.
    ///
    /// ```
    /// let mut layer = cellnorm::LayerNormConfig::new(&[2]).init()?;
    /// layer.freeze_parameter("gamma")?;
    /// let x = ndarray::array![[1.0, 3.0]];
    /// let (_, saved) = layer.forward(x.view())?;
    /// let gradients = layer.backward(&saved, x.view(), x.view())?;
    /// assert!(gradients.dgamma.is_none() && gradients.dbeta.is_some());
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn freeze_parameter(&mut self, name: &str) -> Result<(), Error> {
        let Some(own) = self.names().find(|own| *own == name) else {
            let has = self.names().collect::<Vec<_>>().join(", ");
            let problem = format!("is no parameter of this layer, which has: {has}");
            return Err(Error::tensor(name, problem));
        };
        if !self.frozen_parameters.contains(&own) {
            self.frozen_parameters.push(own);
        }
        Ok(())
    }

    /// Ends [`freeze_parameter`](Self::freeze_parameter), where it was called.
    pub fn unfreeze_parameter(&mut self, name: &str) {
        self.frozen_parameters.retain(|own| *own != name);
    }

    /// Whether a parameter is frozen, by [`freeze_parameter`](Self::freeze_parameter) or by the
    /// semantics of the layer. Where the [`mode`](Self::mode) trains no parameters, none has a
    /// gradient.
    pub fn is_frozen(&self, name: &str) -> bool {
        self.frozen_parameters.contains(&name)
    }

    /// Sets the mode to training or inference, but leaves a frozen layer frozen.
    ///
    /// ```
    /// use cellnorm::{BatchNormConfig, Mode, momentum::Frozen};
    /// let mut layer = BatchNormConfig::new(4).init()?;
    /// layer.freeze(Frozen::Inference);
    /// layer.train(true);
    /// assert_eq!(layer.mode, Mode::frozen(Frozen::Inference));
    /// layer.unfreeze();
    /// assert_eq!(layer.mode, Mode::training());
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn train(&mut self, training: bool) {
        self.phase.training = training;
        self.mode = self.phase.mode();
    }

    /// Freezes the layer until [`unfreeze`](Self::unfreeze): the parameters have no gradients, and
    /// the statistics do as the regime says whenever the layer is in training.
    pub fn freeze(&mut self, regime: Frozen) {
        self.phase.frozen = Some(regime);
        self.mode = self.phase.mode();
    }

    /// Ends [`freeze`](Self::freeze): the mode is that of the last [`train`](Self::train), training
    /// if there was none.
    pub fn unfreeze(&mut self) {
        self.phase.frozen = None;
        self.mode = self.phase.mode();
    }

    /// How the layer is frozen; None where it is not.
    pub fn frozen(&self) -> Option<Frozen> {
        self.phase.frozen
    }

    /// Normalizes as [`mode`](Self::mode) says; in training with the statistics of x, and the
    /// running averages, where the rule keeps any, move toward them.
    ///
    /// # Errors
    /// If x does not have the layer's axes, a statistic has no values, or one value and the policy
    /// forbids it, or x holds NaN or infinity; or if a parameter or a running average was set to a
    /// wrong shape or is not finite. Then nothing has changed.
    ///
    /// A batch without samples is no error where each sample has its own statistics, and none in
    /// inference with running averages: y and dx are empty, the other gradients 0.
    pub fn forward<T: Element, D: Dimension>(
        &mut self,
        x: ArrayView<'_, T, D>,
    ) -> Result<(Array<T, D>, Saved), Error> {
        self.step(x, None, None)
    }

    /// Normalizes the valid values alone: y is 0 at the others, and so is dx of `backward`, unless
    /// [`excluded`](Self::excluded) says that they are normalized as well.
    ///
    /// A set of one valid value gives β, whatever [`one_value`](Self::one_value) says, and moves
    /// its running variance only as [`RunningVariance::moves`] says; a set of none has nothing to
    /// give (where excluded values are normalized, its mean and its variance count as 0), and its
    /// running averages stay. The unbiased variance is by the number of valid values.
    ///
    /// # Errors
    /// Same errors as [`forward`](Self::forward), except [`Error::OneValue`]; also if the mask does
    /// not broadcast to x. Values that are not valid may hold anything.
    ///
    /// ```
    /// use cellnorm::{LayerNormConfig, Mask};
    /// let x = ndarray::array![[1.0, 3.0, f64::NAN], [4.0, 6.0, 8.0]];
    /// let mut layer = LayerNormConfig::new(&[3]).init()?;
    /// let (y, _) = layer.forward_masked(x.view(), &Mask::lengths(&[2, 3], 1))?;
    /// assert!((y[[0, 1]] - 1.0).abs() < 1e-5);
    /// assert_eq!(y[[0, 2]], 0.0);
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn forward_masked<T: Element, D: Dimension>(
        &mut self,
        x: ArrayView<'_, T, D>,
        mask: &Mask,
    ) -> Result<(Array<T, D>, Saved), Error> {
        self.step(x, Some(mask), None)
    }

    /// Normalizes this rank's part of a batch: statistics that samples share are those of the batch
    /// that the ranks hold together. The running averages move toward these, too, and are the same
    /// bits on every rank. Under a mask, which all ranks have or none, only valid values count. Any
    /// rank may have any number of samples, also none: shape \[0, …\].
    ///
    /// Every rank must call it, also one whose x is empty. Where running averages normalize and
    /// stay as they are, and where no statistic is shared among samples, nothing is exchanged.
    ///
    /// # Errors
    /// Same errors as [`forward`](Self::forward), by the values of all ranks; or if another rank
    /// fails, is gone or does something else. All ranks get an error then, and nothing has changed.
    ///
    /// ```
    /// use cellnorm::BatchNormConfig;
    /// use cellnorm::ranks::Threads;
    /// use ndarray::{Array2, array, s};
    /// let x: Array2<f32> = array![[1.0], [2.0], [3.0], [6.0]];
    /// let parts = [x.slice(s![..1, ..]), x.slice(s![1.., ..])];
    /// let run_rank = |ranks: Threads, part| {
    ///     BatchNormConfig::new(1).init()?.forward_over(part, None, &ranks)
    /// };
    /// let statistics = std::thread::scope(|scope| {
    ///     let ranks = Threads::split(2).into_iter().zip(parts);
    ///     let threads: Vec<_> =
    ///         ranks.map(|(ranks, part)| scope.spawn(move || run_rank(ranks, part))).collect();
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
        ranks: &dyn Communicator,
    ) -> Result<(Array<T, D>, Saved), Error> {
        self.step(x, mask, Some(ranks))
    }

    /// Inference, over x itself where the array is handed over: with the running averages, where
    /// the rule keeps any.
    ///
    /// # Errors
    /// Same errors as [`forward`](Self::forward), except that one value per statistic is fine,
    /// unless it is always an error and there are no running averages, or the layer lacks those
    /// that its rule keeps. Where these make the
    /// normalization an affine map of each channel, NaN and infinity pass on to y.
    pub fn infer<'a, T: Element, D: Dimension>(
        &self,
        x: impl Into<CowArray<'a, T, D>>,
    ) -> Result<Array<T, D>, Error> {
        Ok(self.run(x.into(), Call::default())?.y)
    }

    /// Inference over the valid values alone, with 0 at the others, unless
    /// [`excluded`](Self::excluded) says that they are normalized as well.
    ///
    /// # Errors
    /// Same errors as [`infer`](Self::infer); also if the mask does not broadcast to x, or if a
    /// valid value is NaN or infinite.
    pub fn infer_masked<'a, T: Element, D: Dimension>(
        &self,
        x: impl Into<CowArray<'a, T, D>>,
        mask: &Mask,
    ) -> Result<Array<T, D>, Error> {
        Ok(self.run(x.into(), Call { mask: Some(mask), ..Call::default() })?.y)
    }

    /// [`infer`](Self::infer), with the numbers that the backward pass of a frozen layer needs.
    ///
    /// # Errors
    /// Same errors as [`infer`](Self::infer).
    pub fn forward_fixed<T: Element, D: Dimension>(
        &self,
        x: ArrayView<'_, T, D>,
    ) -> Result<(Array<T, D>, Saved), Error> {
        let Forward { y, saved, .. } = self.run(CowArray::from(x), Call::default())?;
        Ok((y, saved))
    }

    /// The gradients, from the saved numbers of the forward pass, its x, and dy; dx is written over
    /// dy where that is handed over.
    ///
    /// # Errors
    /// If dy has another shape than x, x is not that of the forward pass, the saved numbers are of
    /// another layer, or the sums of dy are not finite.
    pub fn backward<'a, T: Element, D: Dimension>(
        &self,
        saved: &Saved,
        x: ArrayView<'_, T, D>,
        dy: impl Into<CowArray<'a, T, D>>,
    ) -> Result<Gradients<T, D>, Error> {
        self.differentiate(saved, x, dy.into(), None)
    }

    /// The gradients of this rank's part, from the saved numbers of
    /// [`forward_over`](Self::forward_over); dx is written over dy where that is handed over. Those
    /// of the parameters are this rank's share, like the gradients of all other parameters of a
    /// network: [`sum`](Communicator::sum) them over the ranks.
    ///
    /// # Errors
    /// Same errors as [`backward`](Self::backward); or if another rank fails, is gone or does
    /// something else.
    pub fn backward_over<'a, T: Element, D: Dimension>(
        &self,
        saved: &Saved,
        x: ArrayView<'_, T, D>,
        dy: impl Into<CowArray<'a, T, D>>,
        ranks: &dyn Communicator,
    ) -> Result<Gradients<T, D>, Error> {
        self.differentiate(saved, x, dy.into(), Some(ranks))
    }

    /// Moves the running averages, where the rule keeps any, toward the statistics of a batch; one
    /// without values is no step, nor is one whose mean or variance is not finite, or whose mean is
    /// too far from the running one for a variance of both ([`Momentum::Pooled`]).
    /// [`forward`](Self::forward) does so itself: this is for callers that normalize elsewhere, as
    /// on a device.
    ///
    /// # Panics
    /// If there is not one mean, variance and number of values for each average.
    pub fn follow(&mut self, tracked: &Tracked<Vec<f64>>) {
        let any = tracked.values.iter().any(|values| *values > 0.0);
        let (rule, one_value, epsilon) = (self.running_variance, self.one_value, self.epsilon);
        let factor = |values| rule.moves(values, one_value).then(|| rule.factor(values, epsilon));
        let target = |(variance, values): (&f64, &f64)| variance * factor(*values).unwrap_or(1.0);
        let mut targets = tracked.variance.iter().zip(&tracked.values).map(target);
        let finite = targets.all(f64::is_finite) && tracked.mean.iter().all(|m| m.is_finite());
        let Some(running) = self.running.as_mut().filter(|_| any && finite) else { return };
        if self.momentum == Momentum::Pooled && !running.is_near(&tracked.mean) {
            return;
        }
        self.steps = self.steps.saturating_add(1);
        running.follow(tracked, (self.momentum, self.steps), factor);
        if let Some(Correction { averages, momentum }) = &mut self.correction {
            averages.follow(tracked, (*momentum, self.steps), factor);
        }
    }

    fn step<T: Element, D: Dimension>(
        &mut self,
        x: ArrayView<'_, T, D>,
        mask: Option<&Mask>,
        ranks: Option<&dyn Communicator>,
    ) -> Result<(Array<T, D>, Saved), Error> {
        let batch = self.mode.statistics == StatisticsFrom::Batch;
        let track = self.mode.update && self.running.is_some();
        let call = Call { batch, track, mask, ranks };
        let Forward { y, saved, tracked } = self.run(CowArray::from(x), call)?;
        if let (true, Some(tracked)) = (track, tracked) {
            self.follow(&tracked);
        }
        Ok((y, saved))
    }

    fn run<T: Element, D: Dimension>(
        &self,
        x: CowArray<'_, T, D>,
        call: Call<'_>,
    ) -> Result<Forward<T, D>, Error> {
        let call = Call { batch: call.batch || self.is_untracked(), ..call };
        let checked = self.check();
        if call.ranks.is_some() && !self.rule.exchanges(x.shape(), call.batch || call.track) {
            if call.track {
                return checked.and(Err(Error::Unsupported { layer: R::NAME, what: OWN_AVERAGES }));
            }
            return self.run(x, Call { ranks: None, ..call });
        }
        if x.is_empty() && call.ranks.is_none() {
            checked.clone()?;
            let sharings = self.rule.sharings(x.shape())?;
            if !self.takes_statistics(call) || sharings.iter().all(|sharing| sharing.sets() == 0) {
                return self.run_empty(x, call.mask);
            }
        }
        if call.mask.is_none() && call.ranks.is_none() {
            checked.clone()?;
            if let Some(roles) = self.rule.roles(x.shape(), self.is_affine())? {
                return self.run_plain(x, &roles, call);
            }
        }
        self.run_cells(x, call, checked)
    }

    /// A tensor without elements, of which no statistic is taken.
    fn run_empty<T: Element, D: Dimension>(
        &self,
        x: CowArray<'_, T, D>,
        mask: Option<&Mask>,
    ) -> Result<Forward<T, D>, Error> {
        mask.map(|mask| mask.over(x.shape())).transpose()?;
        let running = self.running_tables()?.inference;
        let fixed = running.is_some();
        let saved = Saved { statistics: running.unwrap_or_default(), fixed, cells: None };
        Ok(Forward { y: x.into_owned(), saved, tracked: None })
    }

    /// The closed form.
    fn run_plain<T: Element, D: Dimension>(
        &self,
        x: CowArray<'_, T, D>,
        roles: &Roles,
        call: Call<'_>,
    ) -> Result<Forward<T, D>, Error> {
        let (gamma, beta) = (self.scale(), flat(&self.beta));
        let form = self.closed_form(gamma.as_deref(), beta.as_deref());
        let shape = x.shape().to_vec();
        let x = Arranged::new(x.into_dyn(), roles)?;
        let (sets, values) = (x.plan.sets(), x.plan.values_per_set());
        let one_value = R::CENTERING == Centering::Mean && values == 1.0;
        let uses_running = match self.policy(call) {
            Some(policy) if one_value => policy.uses_running(R::NAME, &shape, call.batch)?,
            _ => false,
        };
        let fixed = uses_running || !call.batch;
        let running = self.running_tables()?.inference.filter(|_| fixed);
        let Some(statistics) = running else {
            let mut statistics = Statistics::default();
            let y = x.map_owned(|plan, buffers| statistics = plan.forward(buffers, form));
            check_finite("x", &[&statistics.variance, &statistics.mean])?;
            let tracked = call.track.then(|| self.tracked(&statistics, &shape, values));
            let saved = Saved { statistics, fixed: false, cells: None };
            return Ok(Forward { y: typed(y), saved, tracked });
        };
        let tracked = match call.track && !uses_running {
            true => {
                let own = x.plan.statistics(x.slice());
                check_finite("x", &[&own.variance, &own.mean])?;
                Some(self.tracked(&own, &shape, values))
            }
            false => None,
        };
        let spread = self.spread(&statistics, &shape);
        check_shape("running_mean", &[spread.mean.len()], &[sets])?;
        let y = x.map_owned(|plan, buffers| plan.forward_fixed(buffers, &spread, form));
        let saved = Saved { statistics, fixed: true, cells: None };
        Ok(Forward { y: typed(y), saved, tracked })
    }

    /// The formula on tables of the cells.
    fn run_cells<T: Element, D: Dimension>(
        &self,
        x: CowArray<'_, T, D>,
        call: Call<'_>,
        checked: Result<(), Error>,
    ) -> Result<Forward<T, D>, Error> {
        let request = || self.request::<T>(call.mask.is_some());
        let shape = x.shape().to_vec();
        let running = checked.and_then(|()| self.running_tables());
        let prepared = running.and_then(|running| {
            let mask = call.mask.map(|mask| (mask, self.excluded));
            let x = self.arrange(x.into_dyn(), mask, call.ranks.is_some())?;
            let policy = self.policy(call);
            let formula = self.formula(&shape, &x.plan, call.batch, policy, running.clone())?;
            let moments = x.plan.region.moments(x.slice());
            Ok((x, formula, moments, running))
        });
        let told = || format!("the forward pass of {}", request());
        let (x, formula, moments, running) = tell(prepared, call.ranks, told)?;
        let merged = match call.ranks {
            Some(ranks) => formula.merge_ranks(ranks, &request(), Ok(moments.as_slice()))?,
            None => vec![],
        };
        // NaN and infinity in x show in the moments of their cell
        for part in [|m: &Moments| m.mean, |m: &Moments| m.m2] {
            check_finite("x", &[&moments.iter().map(part).collect()])?;
        }
        let parameters = self.named_values();
        let FormulaOutput { affines, tracked } = formula.forward(&moments, &parameters, &merged)?;
        // cells that are finite each can be too far apart for a common variance
        let targets = tracked.iter().flat_map(|of| [&of.mean, &of.variance]);
        check_finite("x", &targets.collect::<Vec<_>>())?;
        for part in [|map: &Affine| map.scale, |map: &Affine| map.offset] {
            check_finite("x", &[&affines.iter().map(part).collect()])?;
        }
        let fixed = self.running.is_some() && (!call.batch || formula.uses_running(&merged)?);
        if fixed && call.ranks.is_some() {
            // the other ranks have no part in y
            let local = Call { mask: call.mask, ranks: call.ranks, ..Call::default() };
            let Forward { y, saved, .. } = self.run(x.x, local)?;
            return Ok(Forward { y: typed(y), saved, tracked });
        }
        let statistics = match (&running.inference, &tracked) {
            (Some(running), _) if fixed => running.clone(),
            (_, Some(Tracked { mean, variance, .. })) => {
                Statistics { mean: mean.clone(), variance: variance.clone() }
            }
            _ => Statistics::default(),
        };
        let mask = call.mask.map(|mask| (mask.clone(), self.excluded));
        let region = x.plan.region.clone();
        let batch = call.batch;
        let cells = Some(SavedCells { region, moments, mask, merged, running, batch });
        let y = x.map_owned(|grid, buffers| {
            grid.region.affine_activated(buffers, &affines, self.activation);
        });
        let saved = Saved { statistics, fixed, cells };
        Ok(Forward { y: typed(y), saved, tracked })
    }

    fn differentiate<T: Element, D: Dimension>(
        &self,
        saved: &Saved,
        x: ArrayView<'_, T, D>,
        dy: CowArray<'_, T, D>,
        ranks: Option<&dyn Communicator>,
    ) -> Result<Gradients<T, D>, Error> {
        let Some(cells) = &saved.cells else {
            self.check()?;
            if x.is_empty() {
                return self.differentiate_empty(saved, x.shape(), dy);
            }
            return self.differentiate_plain(saved, x, dy);
        };
        let across_ranks = !cells.merged.is_empty();
        if across_ranks && !saved.fixed && ranks.is_none() {
            let what = "normalized x over ranks; take its gradients with backward_over and the \
                        same ranks";
            return Err(Error::Unsupported { layer: R::NAME, what });
        }
        let ranks = ranks.filter(|_| across_ranks && !saved.fixed);
        let request = || self.request::<T>(cells.mask.is_some());
        let arranged = self.arrange_saved(saved, cells, x.into_dyn(), dy.shape());
        let told = || format!("the backward pass of {}", request());
        let (x, formula) = tell(arranged, ranks, told)?;
        let (region, parameters) = (&x.plan.region, self.named_values());
        // cells are numbered as x lies in memory, which may not be as in the forward pass
        let moments = match *region == cells.region {
            true => Cow::Borrowed(&cells.moments),
            false => Cow::Owned(region.moments(x.slice())),
        };
        let dy = match self.activation {
            Activation::Identity => dy.into_dyn(),
            activation => {
                let affines = formula.forward(&moments, &parameters, &cells.merged)?.affines;
                let (dz, ()) = x.map_gradient(dy.into_dyn(), |x, buffers| {
                    region.activation_gradient(x, buffers, &affines, activation);
                })?;
                dz.into()
            }
        };
        let centers = formula.centers(&moments, &cells.merged);
        let request = ranks.map(|ranks| (ranks, request()));
        let ranks = request.as_ref().map(|(ranks, request)| (*ranks, request.as_str()));
        let (dx, gradients) = x.map_gradient(dy, |x, buffers| {
            let sums = region.sums(x, buffers.source(), &centers);
            let (valid, excluded) = sums.split_at(moments.len());
            let finite = check_sums(valid, "dy").and_then(|()| check_sums(excluded, "x"));
            let gradients = formula.backward(&moments, &parameters, &sums, &cells.merged, ranks);
            let none = vec![Gradient::default(); sums.len()];
            let maps = gradients.as_ref().map_or(&none, |gradients| &gradients.cells);
            region.gradient(x, buffers, &centers, maps);
            // the other ranks name the same set
            gradients.and_then(|gradients| finite.map(|()| gradients))
        })?;
        Ok(self.gradients(typed(dx), gradients?.parameters))
    }

    /// x and the formula of a backward pass, where they suit the saved tables of cells.
    fn arrange_saved<'x, T: Element>(
        &self,
        saved: &Saved,
        cells: &SavedCells,
        x: ArrayView<'x, T, IxDyn>,
        dy_shape: &[usize],
    ) -> Result<(Arranged<'x, T, CellGrid>, Formula<R>), Error> {
        self.check()?;
        let shape = x.shape().to_vec();
        check_dy(dy_shape, &shape)?;
        let len = |of: &RunningTables| [of.inference.as_ref().map_or(0, |of| of.mean.len())];
        check_shape("the saved mean", &len(&cells.running), &len(&self.running_tables()?))?;
        if saved.statistics != Statistics::default() {
            let roles = self.rule.roles(&shape, self.is_affine())?;
            self.check_saved(saved, roles.map(|roles| roles.sets(&shape)))?;
        }
        let mask = cells.mask.as_ref().map(|(mask, excluded)| (mask, *excluded));
        let x = self.arrange(CowArray::from(x), mask, !cells.merged.is_empty())?;
        let (batch, running) = (cells.batch && !saved.fixed, cells.running.clone());
        // the forward pass has asked the policy
        let formula = self.formula(&shape, &x.plan, batch, None, running)?;
        Ok((x, formula))
    }

    /// The gradients of [`run_empty`](Self::run_empty).
    fn differentiate_empty<T: Element, D: Dimension>(
        &self,
        saved: &Saved,
        shape: &[usize],
        dy: CowArray<'_, T, D>,
    ) -> Result<Gradients<T, D>, Error> {
        self.rule.sharings(shape)?;
        check_dy(dy.shape(), shape)?;
        self.check_saved(saved, Some(0))?;
        let zeros = |name| self.parameter(name).map(|values| vec![0.0; values.len()]);
        let values = self.names().map(|name| (name, zeros(name))).collect();
        Ok(self.gradients(dy.into_owned(), values))
    }

    fn differentiate_plain<T: Element, D: Dimension>(
        &self,
        saved: &Saved,
        x: ArrayView<'_, T, D>,
        dy: CowArray<'_, T, D>,
    ) -> Result<Gradients<T, D>, Error> {
        let shape = x.shape().to_vec();
        let roles = self.rule.roles(&shape, self.is_affine())?;
        self.check_saved(saved, roles.as_ref().map(|roles| roles.sets(&shape)))?;
        let Some(roles) = roles else {
            let what = "is not plain, and the saved numbers are those of a plain normalization";
            return Err(Error::Unsupported { layer: R::NAME, what });
        };
        let spread = match saved.fixed {
            true => Cow::Owned(self.spread(&saved.statistics, &shape)),
            false => Cow::Borrowed(&saved.statistics),
        };
        let x = Arranged::new(CowArray::from(x.into_dyn()), &roles)?;
        let (gamma, beta) = (self.scale(), flat(&self.beta));
        if saved.fixed && !self.mode.train_parameters && self.activation == Activation::Identity {
            // nothing depends on x, dx = γ r dy: one pass, and NaN in dy passes on
            let mean = vec![0.0; spread.mean.len()];
            let linear = Statistics { mean, variance: spread.variance.clone() };
            let form = self.closed_form(gamma.as_deref(), None);
            let (dx, ()) = x.map_gradient(dy.into_dyn(), |_, buffers| {
                x.plan.forward_fixed(buffers, &linear, form);
            })?;
            return Ok(self.gradients(typed(dx), vec![]));
        }
        // dβ is computed even without β: it shows NaN in dy
        let beta = beta.unwrap_or_else(|| vec![0.0; x.plan.channels()].into());
        let form = self.closed_form(gamma.as_deref(), Some(&beta));
        let (dx, gradients) = x.map_gradient(dy.into_dyn(), |slice, buffers| {
            x.plan.backward(slice, buffers, &spread, form, saved.fixed)
        })?;
        check_finite("dy", &[&gradients.beta])?;
        // with a finite dy, the rest is x
        check_finite("x", &[&gradients.gamma])?;
        let values = vec![("gamma", Some(gradients.gamma)), ("beta", Some(gradients.beta))];
        Ok(self.gradients(typed(dx), values))
    }

    /// Whether there are as many saved statistics as running averages, where these or tables of
    /// cells normalized x; else as many as `sets`, where x has sets.
    fn check_saved(&self, saved: &Saved, sets: Option<usize>) -> Result<(), Error> {
        if saved.fixed && self.rule.running().is_none() {
            let what = "keeps no running averages, and the saved numbers are those of a layer \
                        that was normalized with some";
            return Err(Error::Unsupported { layer: R::NAME, what });
        }
        let averages = self.rule.running().filter(|_| saved.fixed || saved.cells.is_some());
        let averages = averages.map(|(shape, _)| shape.iter().product());
        let Some(expected) = averages.or(sets) else { return Ok(()) };
        let Statistics { mean, variance } = &saved.statistics;
        check_shape("the saved mean", &[mean.len()], &[expected])?;
        check_shape("the saved variance", &[variance.len()], &[expected])
    }

    /// dx, and the gradients of the parameters that are trained, in their shapes.
    fn gradients<T, D: Dimension>(&self, dx: Array<T, D>, values: NamedValues) -> Gradients<T, D> {
        let mut gradients = Gradients { dx, dgamma: None, dbeta: None, extra: vec![] };
        let trained = |name| self.mode.train_parameters && !self.is_frozen(name);
        let trained = values.into_iter().filter(|(name, _)| trained(name));
        for (name, values) in trained {
            let (Some(parameter), Some(values)) = (self.parameter(name), values) else { continue };
            let values = ArrayD::from_shape_vec(parameter.raw_dim(), values);
            let values = values.expect("as many values as the parameter");
            match name {
                "gamma" => gradients.dgamma = Some(values),
                "beta" => gradients.dbeta = Some(values),
                _ => gradients.extra.push((name, values)),
            }
        }
        gradients
    }

    /// The cells of x; over ranks, numbered by the samples too: their sums do not depend on which
    /// others lie beside them.
    fn arrange<'x, T: Element>(
        &self,
        x: CowArray<'x, T, IxDyn>,
        mask: Option<(&Mask, Excluded)>,
        ranks: bool,
    ) -> Result<Arranged<'x, T, CellGrid>, Error> {
        let mut numbered = self.rule.cell_axes(x.shape(), self.is_affine())?;
        if ranks {
            numbered[0] = true;
            if x.is_empty() {
                let plan = Region::row_major(x.shape(), &numbered, None)?.into();
                // a view without elements may have any strides
                let x = ArrayD::default(x.raw_dim()).into();
                return Ok(Arranged { x, plan });
            }
        }
        Arranged::in_cells(x, &numbered, mask)
    }

    fn formula(
        &self,
        shape: &[usize],
        cells: &CellGrid,
        batch: bool,
        one_value: Option<OneValue>,
        running: RunningTables,
    ) -> Result<Formula<R>, Error> {
        let settings = Settings { epsilon: self.epsilon, one_value, batch, running };
        let counts = cells.region.counts();
        let grid = Grid { shape, coordinates: &cells.coordinates, counts: &counts };
        Formula::new(self.rule.clone(), settings, grid)
    }

    /// The policy for one value a statistic: none under a mask, and none in inference with running
    /// averages that stay, where no statistic of x is taken.
    fn policy(&self, call: Call<'_>) -> Option<OneValue> {
        let training = call.track || self.is_untracked();
        let lenient = self.one_value == OneValue::Error && training;
        let policy = if lenient { OneValue::AlwaysError } else { self.one_value };
        (self.takes_statistics(call) && call.mask.is_none()).then_some(policy)
    }

    /// Whether statistics of x are taken, to normalize or to move the running averages.
    fn takes_statistics(&self, call: Call<'_>) -> bool {
        call.batch || call.track || self.running.is_none()
    }

    /// Whether the rule would keep running averages, and the layer has none.
    fn is_untracked(&self) -> bool {
        self.running.is_none() && self.rule.running().is_some()
    }

    fn closed_form<'a>(&self, gamma: Option<&'a [f64]>, beta: Option<&'a [f64]>) -> ClosedForm<'a> {
        let parameters = Parameters { gamma, beta, activation: self.activation };
        ClosedForm { centering: R::CENTERING, epsilon: self.epsilon, parameters }
    }

    fn is_affine(&self) -> bool {
        self.gamma.is_some() || self.beta.is_some()
    }

    fn running_tables(&self) -> Result<RunningTables, Error> {
        let shape = self.rule.running().map_or(vec![], |(shape, _)| shape);
        RunningTables::new(self.running.as_ref(), self.correction.as_ref(), &shape)
    }

    /// The values of γ.
    fn scale(&self) -> Option<Cow<'_, [f64]>> {
        let stored = flat(&self.gamma)?;
        if R::GAMMA_OFFSET == 0.0 {
            return Some(stored);
        }
        Some(stored.iter().map(|stored| stored + R::GAMMA_OFFSET).collect())
    }

    /// The parameters as a formula takes them.
    fn named_values(&self) -> NamedValues {
        let values = |name| match name {
            "gamma" => self.scale().map(Cow::into_owned),
            _ => self.parameter(name).map(|values| values.iter().copied().collect()),
        };
        self.rule.parameters().into_iter().map(|spec| (spec.name, values(spec.name))).collect()
    }

    /// The running statistics of each set.
    fn spread(&self, running: &Statistics, shape: &[usize]) -> Statistics {
        match self.rule.running_labels(shape) {
            Some(labels) if running.mean.len() == labels.count() => {
                let [mean, variance] = [&running.mean, &running.variance].map(|of| labels.take(of));
                Statistics { mean, variance }
            }
            _ => running.clone(),
        }
    }

    /// The target of the running averages, from the statistics of the sets.
    fn tracked(&self, sets: &Statistics, shape: &[usize], values: f64) -> Tracked<Vec<f64>> {
        let Statistics { mean, variance } = sets.clone();
        let values = vec![values; mean.len()];
        let Some(labels) = self.rule.running_labels(shape) else {
            return Tracked { mean, variance, values };
        };
        let tape = Tape::default();
        let sets = Tracked { mean: tape.table(mean), variance: tape.table(variance), values };
        sets.mean_by(&labels).values()
    }

    /// In words, the settings that all ranks must have alike.
    fn request<T>(&self, masked: bool) -> String {
        let element = std::any::type_name::<T>().rsplit("::").next().unwrap_or_default();
        let channels = self.rule.running().map_or(0, |(shape, _)| shape.iter().product());
        let Self { epsilon, momentum, running_variance, one_value, mode, rule, .. } = self;
        let correction = self.correction.as_ref().map(|of| of.momentum);
        let untracked = if self.is_untracked() { ", no running statistics" } else { "" };
        format!(
            "{} of {channels} channels of {element}, epsilon {epsilon}, {momentum:?}, \
             {running_variance:?} running variance, {one_value:?}, {mode:?}, {rule:?}\
             {untracked}{}{}",
            R::NAME,
            correction.map_or(String::new(), |of| format!(", {of:?} correction")),
            match (masked, self.excluded) {
                (false, _) => "",
                (true, Excluded::Zero) => ", masked",
                (true, Excluded::Normalized) => ", masked, with excluded values normalized",
            }
        )
    }

    /// The rule and the fields may have been changed since the layer was made.
    fn check(&self) -> Result<(), Error> {
        check_epsilon(self.epsilon)?;
        self.rule.check()?;
        check_running::<R>(self.one_value, self.running.is_some())?;
        if self.running.is_some() {
            self.momentum.check()?;
            self.running_variance.check(self.epsilon)?;
        }
        for spec in self.rule.parameters() {
            let Some(parameter) = self.parameter(spec.name) else { continue };
            check_shape(spec.name, parameter.shape(), &spec.shape)?;
            // whether one is not finite is asked a vector at a time
            let finite =
                |values: &[f64]| values.iter().fold(true, |all, value| all & value.is_finite());
            if !parameter.as_slice().is_some_and(finite) {
                check_numbers(spec.name, parameter, f64::is_finite, "finite")?;
            }
        }
        Ok(())
    }
}

/// Whether a layer can do without running averages, where it has none.
pub(super) fn check_running<R: Rule>(one_value: OneValue, running: bool) -> Result<(), Error> {
    let what = if running {
        return Ok(());
    } else if R::NEEDS_RUNNING {
        "is computed with running averages, and has none: make it with running_statistics(true), \
         and leave `running` as it is"
    } else if one_value == OneValue::UseRunning {
        "has no running statistics to use for one value; choose Error, AlwaysError or Beta"
    } else {
        return Ok(());
    };
    Err(Error::Unsupported { layer: R::NAME, what })
}

/// Of a rule whose running averages are those of single samples or of parts of a batch.
const OWN_AVERAGES: &str = "keeps running averages of statistics that ranks do not share; move \
                            them on one rank, and let the others have a mode without update";

/// A result, after the other ranks have heard of its error.
fn tell<T>(
    result: Result<T, Error>,
    ranks: Option<&dyn Communicator>,
    request: impl FnOnce() -> String,
) -> Result<T, Error> {
    result.map_err(|error| match ranks {
        Some(ranks) => report(ranks, &request(), error),
        None => error,
    })
}

/// Whether the sums of dy are finite, and those of dy (x − center), which tell of `x`.
fn check_sums(sums: &[Sums], x: &'static str) -> Result<(), Error> {
    check_finite("dy", &[&sums.iter().map(|sum| sum.dy).collect()])?;
    check_finite(x, &[&sums.iter().map(|sum| sum.dy_x).collect()])
}

/// The values of a parameter; an array's iterator takes longer for a row than to normalize it.
fn flat(parameter: &Option<ArrayD<f64>>) -> Option<Cow<'_, [f64]>> {
    parameter.as_ref().map(|parameter| match parameter.as_slice() {
        Some(values) => Cow::Borrowed(values),
        None => parameter.iter().copied().collect(),
    })
}
