//! A rule applied to a Burn tensor: one operation on Flex, composed of Burn's own elsewhere.
//!
//! ```text
//!                     the rule is plain, no mask, no ranks    otherwise
//! Flex                the closed form                         its formula on a tape, in f64
//! other devices       Burn's operations on sets of values     moments of cells, tables of Burn
//!                                                             tensors, an affine map of cells
//! ```

use std::sync::Arc;

use burn::backend::Dispatch;
use burn::tensor::{Bool, DType, Tensor};
use cellnorm::momentum::StatisticsFrom;
use cellnorm::ranks::{Communicator, report};
use cellnorm::rule::{
    CellTables, Coefficients, Context, Formula, Grid, Region, Rule, RunningTables, Settings,
    Statistics, Tracked,
};
use cellnorm::shape::{Excluded, Labels, Roles, cells_of};
use cellnorm::{
    Activation, Error, Mask, Mode, Momentum, OneValue, RunningVariance, shape::Centering,
};
use cellnorm::{rule::check_epsilon, shape::Cells};
use ndarray::{ArrayD, IxDyn};

use crate::averages::{Averages, Pace};
use crate::composed;
use crate::ops::{CellSpec, Form, NormOps, Ranks, RuleFormula, Spec, is_fused};
use crate::tables::{Table, numbers};

/// A rule with the parts of a layer that it runs on.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a, R> {
    pub(crate) rule: R,
    pub(crate) epsilon: f64,
    /// The policy for one value a statistic, where there is no mask.
    pub(crate) one_value: OneValue,
    /// The treatment of values that a mask excludes.
    pub(crate) excluded: Excluded,
    /// The parameters in the order of the rule's, flat.
    pub(crate) parameters: Vec<(&'static str, Option<Tensor<1>>)>,
    /// The running averages, which move as the mode says.
    pub(crate) averages: Option<Averages<'a>>,
    /// The averages that training takes in their place, which have a pace of their own.
    pub(crate) correction: Option<(Averages<'a>, Momentum)>,
    /// The mean and the variance that normalize instead of those of x, as the mode says: those of
    /// the running averages, where there are any.
    pub(crate) running: Option<(Tensor<1>, Tensor<1>)>,
    pub(crate) mode: Mode,
    pub(crate) activation: Activation,
    /// The ranks that share the statistics of the batch.
    pub(crate) ranks: Option<&'a Arc<dyn Communicator>>,
    /// The pace of the running averages, which ranks must have alike.
    pub(crate) pace: Pace,
}

/// A normalized tensor, and the statistics that running averages move toward.
pub(crate) type Applied<const D: usize> = (Tensor<D>, Option<Tracked<Table>>);

impl<'a, R: Rule + 'static> Call<'a, R> {
    /// The rule with these parameters and the statistics of x.
    pub(crate) fn new(
        rule: R,
        epsilon: f64,
        parameters: Vec<(&'static str, Option<Tensor<1>>)>,
    ) -> Self {
        Self {
            rule,
            epsilon,
            one_value: OneValue::Beta,
            excluded: Excluded::Zero,
            parameters,
            averages: None,
            correction: None,
            running: None,
            mode: Mode::training(),
            activation: Activation::Identity,
            ranks: None,
            pace: Pace { momentum: Momentum::Step(0.0), variance: RunningVariance::default() },
        }
    }

    /// y, and the statistics of the batch; the running averages have moved toward them where the
    /// mode says so. `mask` is true where a value is valid.
    ///
    /// # Panics
    /// If the shape of x does not suit the rule, the mask does not broadcast to it, the policy
    /// refuses its number of values, or a rank fails.
    pub(crate) fn run<const D: usize>(
        mut self,
        x: Tensor<D>,
        mask: Option<Tensor<D, Bool>>,
    ) -> Applied<D> {
        self.mode.update &= self.averages.is_some();
        if let Some(averages) = self.averages {
            self.running = Some(averages.values());
        }
        for (name, parameter) in &mut self.parameters {
            if !self.mode.train_parameters {
                *parameter = parameter.take().map(Tensor::detach);
            }
            if *name == "gamma" && R::GAMMA_OFFSET != 0.0 {
                // half precision has no room for the digits of a small number beside the offset
                let offset = |stored: Tensor<1>| {
                    stored.clone().cast(composed::wide(stored.dtype())) + R::GAMMA_OFFSET
                };
                *parameter = parameter.take().map(offset);
            }
        }
        // in inference a rank may run alone
        let training = self.mode.statistics == StatisticsFrom::Batch || self.mode.update;
        if self.ranks.is_some() && !self.rule.exchanges(&x.dims(), training) {
            assert!(
                !self.mode.update,
                "{} keeps running averages of statistics that ranks do not share; move them on \
                 one rank, and let the others have a mode without update",
                R::NAME
            );
            self.ranks = None;
        }
        let Self { averages, correction, pace, epsilon, one_value, mode, .. } = self;
        let (y, tracked) = self.attempt(x, mask).unwrap_or_else(|error| panic!("{error}"));
        if let (true, Some(averages), Some(tracked)) = (mode.update, averages, &tracked) {
            pace.follow(averages, correction, tracked.clone(), (epsilon, one_value));
        }
        (y, tracked)
    }

    fn batch(&self) -> bool {
        self.running.is_none() || self.mode.statistics == StatisticsFrom::Batch
    }

    /// Whether statistics of x are taken, to normalize or to move the running averages.
    fn takes_statistics(&self) -> bool {
        self.batch() || self.mode.update
    }

    /// The policy for one value a statistic of x, where such statistics normalize or are tracked;
    /// [`OneValue::Error`] only acts in training, and where running averages are missing.
    fn policy(&self) -> Option<OneValue> {
        let batch = self.mode.statistics == StatisticsFrom::Batch;
        let update = self.mode.update && self.running.is_some();
        // the statistics of x are those of inference, too
        let untracked = self.running.is_none() && self.rule.running().is_some();
        self.takes_statistics().then_some(match self.one_value {
            // a formula asks the policy with its own idea of training
            OneValue::Error if update || untracked => OneValue::AlwaysError,
            OneValue::Error if !batch => OneValue::Beta,
            policy => policy,
        })
    }

    /// Whether the running averages take the place of statistics of one value.
    fn uses_running(&self, one_value: bool, shape: &[usize]) -> Result<bool, Error> {
        match self.policy() {
            Some(policy) if one_value => policy.uses_running(R::NAME, shape, true),
            _ => Ok(false),
        }
    }

    fn affine(&self) -> bool {
        let has =
            |(name, of): &(&str, Option<_>)| matches!(*name, "gamma" | "beta") && of.is_some();
        self.parameters.iter().any(has)
    }

    fn attempt<const D: usize>(
        self,
        x: Tensor<D>,
        mask: Option<Tensor<D, Bool>>,
    ) -> Result<Applied<D>, Error> {
        let (shape, fused) = (x.dims(), is_fused(x.device().as_dispatch()));
        if shape.contains(&0) && self.ranks.is_none() {
            check_epsilon(self.epsilon)?;
            self.rule.check()?;
            let sharings = self.rule.sharings(&shape)?;
            if !self.takes_statistics() || sharings.iter().all(|sharing| sharing.sets() == 0) {
                return self.run_empty(x, mask);
            }
        }
        if let Some(over) = self.ranks {
            assert!(
                fused,
                "ranks share statistics on the CPU backend Flex alone; put the module and its \
                 input on Device::flex()"
            );
            let request = self.request(&x, mask.is_some());
            let cells = self.cells(&shape, mask, Some((over, request.clone())));
            let forward = format!("the forward pass of {request}");
            return Ok(self.run_cells(x, cells.map_err(|e| report(&**over, &forward, e))?));
        }
        check_epsilon(self.epsilon)?;
        self.rule.check()?;
        if mask.is_none()
            && let Some(roles) = self.rule.roles(&shape, self.affine())?
        {
            roles.check(&shape)?;
            return self.run_plain(x, roles);
        }
        if fused {
            let cells = self.cells(&shape, mask, None)?;
            return Ok(self.run_cells(x, cells));
        }
        self.compose_cells(x, mask)
    }

    /// A tensor without elements, of which no statistic is taken. Its gradients of the parameters
    /// are zeros.
    fn run_empty<const D: usize>(
        self,
        x: Tensor<D>,
        mask: Option<Tensor<D, Bool>>,
    ) -> Result<Applied<D>, Error> {
        mask.map_or(Ok(()), |mask| values_of_mask(mask).over(&x.dims()).map(drop))?;
        let none = || Table(Tensor::zeros([0], &x.device().inner()));
        let tracked = self.takes_statistics();
        let tracked = tracked.then(|| Tracked { mean: none(), variance: none(), values: vec![] });
        // adds a number to no values, so that y depends on the parameters
        let parameters = self.parameters.into_iter().filter_map(|(_, value)| value);
        let y = parameters.fold(x, |y, value| {
            let sum = value.sum().cast(y.dtype()).reshape([1; D]);
            y + sum
        });
        Ok((y, tracked))
    }

    /// The closed form, or Burn's operations in its place.
    fn run_plain<const D: usize>(self, x: Tensor<D>, roles: Roles) -> Result<Applied<D>, Error> {
        let (shape, device) = (x.dims(), x.device());
        let sets = roles.sets(&shape);
        let values = shape.iter().product::<usize>() as f64 / sets as f64;
        let one_value = R::CENTERING == Centering::Mean && values == 1.0;
        let uses_running = self.uses_running(one_value, &shape)?;
        let labels = self.rule.running_labels(&shape);
        let given = self.running.clone().filter(|_| uses_running || !self.batch());
        if let Some((mean, variance)) = &given {
            let expected = labels.as_ref().map_or(sets, Labels::count);
            for (name, of) in [("running_mean", mean), ("running_var", variance)] {
                let (given, expected) = (of.dims().to_vec(), vec![expected]);
                if given != expected {
                    return Err(Error::Parameter { name, given, expected });
                }
            }
        }
        let given = given.map(|(mean, variance)| {
            let spread = |of: Tensor<1>| match &labels {
                Some(labels) => Table(of.to_device(&device)).take_rows(labels),
                None => of.to_device(&device),
            };
            (spread(mean), spread(variance))
        });
        let affine = ["gamma", "beta"].map(|name| self.parameter(name));
        let rule = (&roles, R::CENTERING, self.epsilon);
        let track = self.mode.update && !uses_running;
        // a batch that does not normalize may move the running averages all the same
        let apart = (track && given.is_some())
            .then(|| plain(x.clone().detach(), [None, None], None, rule, Activation::Identity).1);
        let own = given.is_none();
        let (y, statistics) = plain(x, affine, given, rule, self.activation);
        let (mean, variance) = apart.unwrap_or(statistics);
        let tracked = (own || track).then(|| {
            let values = vec![values; sets];
            let tracked = Tracked { mean: Table(mean), variance: Table(variance), values };
            labels.map_or(tracked.clone(), |labels| tracked.mean_by(&labels))
        });
        Ok((y, tracked))
    }

    /// A formula's operation on Flex.
    fn run_cells<const D: usize>(self, x: Tensor<D>, cells: CellSpec) -> Applied<D> {
        let count = cells.region.counts().len();
        let [gamma, beta] = ["gamma", "beta"].map(|name| self.parameter(name));
        let spec = Spec {
            form: Form::Cells(Arc::new(cells)),
            scale: gamma.is_some(),
            center: beta.is_some(),
            activation: self.activation,
        };
        let others = self.parameters.into_iter().filter(|(name, _)| *name != "gamma");
        let mut others: Vec<Tensor<1>> = others.filter_map(|(_, of)| of).collect();
        let others = match others.len() {
            0 => None,
            1 => Some(others.remove(0)),
            _ => Some(Tensor::cat(others, 0)),
        };
        let (y, tables) = operation(x, gamma, others, spec);
        let sets = (tables.dims()[0] - 2 * count) / 3;
        let part = |i: usize| tables.clone().narrow(0, 2 * count + i * sets, sets);
        let tracked = (sets > 0).then(|| Tracked {
            mean: Table(part(0)),
            variance: Table(part(1)),
            values: numbers(part(2)),
        });
        (y, tracked)
    }

    /// The rule for the cells of x; over ranks, samples number them too: the sums of one do not
    /// depend on which others lie beside it.
    fn cells<const D: usize>(
        &self,
        shape: &[usize; D],
        mask: Option<Tensor<D, Bool>>,
        ranks: Option<(&Arc<dyn Communicator>, String)>,
    ) -> Result<CellSpec, Error> {
        check_epsilon(self.epsilon)?;
        self.rule.check()?;
        let mut numbered = self.rule.cell_axes(shape, self.affine())?;
        if ranks.is_some() {
            numbered[0] = true;
        } else if shape.contains(&0) {
            return Err(Error::Empty { shape: shape.to_vec() });
        }
        let one_value = self.policy().filter(|_| mask.is_none());
        let mask = mask.map(values_of_mask);
        let mask = mask.as_ref().map(|mask| (mask, self.excluded));
        let (region, coordinates) = Region::row_major(shape, &numbered, mask)?;
        let numbers_of =
            |(mean, variance)| Statistics { mean: numbers(mean), variance: numbers(variance) };
        let correction = self.correction.map(|(averages, _)| averages.values());
        let running = RunningTables {
            inference: self.running.clone().map(numbers_of),
            training: correction.map(numbers_of),
        };
        let settings = Settings { epsilon: self.epsilon, one_value, batch: self.batch(), running };
        let counts = region.counts();
        let grid = Grid { shape, coordinates: &coordinates, counts: &counts };
        let formula = Formula::new(self.rule.clone(), settings, grid)?;
        let ranks = ranks.map(|(over, request)| Ranks { over: Arc::downgrade(over), request });
        let len = |of: &Option<Tensor<1>>| of.as_ref().map(|of| of.dims()[0]);
        let parameters = self.parameters.iter().map(|(name, of)| (*name, len(of))).collect();
        let fixed = match self.running {
            Some(_) if self.batch() => None,
            _ => Some(self.running.is_some()),
        };
        let formula = Box::new(RuleFormula::new(formula, ranks, fixed));
        Ok(CellSpec { region, formula, parameters })
    }

    /// The formula on Burn tensors.
    fn compose_cells<const D: usize>(
        self,
        x: Tensor<D>,
        mask: Option<Tensor<D, Bool>>,
    ) -> Result<Applied<D>, Error> {
        let (shape, device, own) = (x.dims(), x.device(), x.dtype());
        let x = x.cast(composed::wide(own));
        let numbered = self.rule.cell_axes(&shape, self.affine())?;
        if shape.contains(&0) {
            return Err(Error::Empty { shape: shape.to_vec() });
        }
        let (cells, coordinates) = cells_of(&shape, &numbered);
        let mask = mask.map(|mask| expand_mask(mask, shape)).transpose()?;
        let (picked, (mean, variance, counts)) = match &mask {
            // what is masked may hold anything
            Some(mask) => {
                let picked = x.clone().mask_fill(mask.clone().bool_not(), 0.0);
                (picked.clone(), composed::masked_moments(picked, mask.clone(), cells))
            }
            None => (x.clone(), moments(x.clone(), cells)),
        };
        let x = if self.excluded == Excluded::Zero { picked } else { x };
        let dtype = mean.dtype();
        let grid = Grid { shape: &shape, coordinates: &coordinates, counts: &counts };
        let sets = self.rule.sets(&grid)?;
        let merged = vec![None; sets.len()];
        let moments = (Table(mean), Table(variance));
        let tables = CellTables::new(grid, &sets, &merged, moments, self.excluded);
        let all_one = |k| tables.values(k).iter().all(|values| *values <= 1.0);
        let single = mask.is_none() && self.rule.variance_sharing().is_some_and(all_one);
        let uses_running = self.uses_running(single, &shape)?;
        let batch = self.batch() && !uses_running;
        let parameters: Vec<_> = self
            .parameters
            .into_iter()
            .map(|(name, value)| (name, value.map(|value| Table(value.cast(dtype)))))
            .collect();
        let correction = self.correction.filter(|_| batch).map(|(averages, _)| averages.values());
        let running = correction.or(self.running).map(|(mean, variance)| {
            let [mean, variance] =
                [mean, variance].map(|of| Table(of.to_device(&device).detach().cast(dtype)));
            Statistics { mean, variance }
        });
        let (rule, epsilon, parameters) = (self.rule, self.epsilon, &parameters);
        let apply = |x: Tensor<D>, cell_tables: &CellTables<'_, Table>| {
            let running = running.clone();
            let context = Context { cells: cell_tables, epsilon, batch, running, parameters };
            let Coefficients { scale, offset } = rule.table(&context);
            let center = cell_tables.center.0.clone();
            let maps = [center, scale.0, offset.0].map(|table| table.unsqueeze());
            let y = composed::activated(affine_of_cells(x, maps, cells), self.activation);
            (y.cast(own), rule.tracked(&context).filter(|_| !uses_running))
        };
        let (mut y, tracked) = apply(x.clone(), &tables);
        let Some(mask) = mask else { return Ok((y, tracked)) };
        let is_plain = R::CENTERING == Centering::Mean && rule.roles(&shape, true)?.is_some();
        let values = tables.values(0);
        let one = |set: &u32| values[*set as usize] <= 1.0;
        if is_plain && batch && values.iter().any(|values| *values <= 1.0) {
            // the only value of a statistic is its mean: y is β, and its dy has no part in dx
            let constant = sets[0].as_slice().iter().map(one).collect();
            let constant = composed::spread(constant, cells, &shape, &device);
            let [mean, variance] =
                [&tables.mean, &tables.variance].map(|of| Table(of.0.clone().detach()));
            let (fixed, _) = apply(x.detach(), &CellTables { mean, variance, ..tables });
            y = y.mask_where(constant.bool_and(mask.clone()), fixed);
        }
        if self.excluded == Excluded::Zero {
            y = y.mask_fill(mask.bool_not(), 0.0);
        }
        Ok((y, tracked))
    }

    fn parameter(&self, name: &str) -> Option<Tensor<1>> {
        self.parameters.iter().find(|(own, _)| *own == name).and_then(|(_, value)| value.clone())
    }

    /// In words, the settings that all ranks must have alike.
    fn request<const D: usize>(&self, x: &Tensor<D>, masked: bool) -> String {
        let channels = self.rule.running().map_or(0, |(shape, _)| shape.iter().product());
        let Self { rule, epsilon, one_value, mode, pace, .. } = self;
        let Pace { momentum, variance } = pace;
        let correction = self.correction.as_ref().map(|(_, momentum)| momentum);
        format!(
            "{} of {channels} channels of {:?}, epsilon {epsilon}, {one_value:?}, {momentum:?}, \
             {variance:?} running variance, {mode:?}, {rule:?}{}{}",
            R::NAME,
            x.dtype(),
            correction.map_or(String::new(), |of| format!(", {of:?} correction")),
            match (masked, self.excluded) {
                (false, _) => "",
                (true, Excluded::Zero) => ", masked",
                (true, Excluded::Normalized) => ", masked, with excluded values normalized",
            }
        )
    }
}

/// The plain case, fused or composed: y, and the mean and the variance of each set.
fn plain<const D: usize>(
    x: Tensor<D>,
    affine: [Option<Tensor<1>>; 2],
    given: Option<(Tensor<1>, Tensor<1>)>,
    (roles, centering, epsilon): (&Roles, Centering, f64),
    activation: Activation,
) -> (Tensor<D>, (Tensor<1>, Tensor<1>)) {
    if !is_fused(x.device().as_dispatch()) {
        let given = given.map(|(mean, variance)| (mean.detach(), variance.detach()));
        return composed::normalize(x, affine, given, (roles, centering, epsilon), activation);
    }
    let [gamma, beta] = affine;
    let (scale, center) = (gamma.is_some(), beta.is_some());
    let statistics = given.clone().map(|(mean, variance)| {
        Arc::new(Statistics { mean: numbers(mean), variance: numbers(variance) })
    });
    let form = Form::Plain { roles: roles.clone(), centering, epsilon, given: statistics };
    let (y, tables) = operation(x, gamma, beta, Spec { form, scale, center, activation });
    let sets = tables.dims()[0] / 2;
    let part = |i: usize| tables.clone().narrow(0, i * sets, sets);
    (y, given.unwrap_or_else(|| (part(0), part(1))))
}

/// The operation; a tensor that is ignored stands for a parameter that is absent.
pub(crate) fn operation<const D: usize, const Y: usize>(
    x: Tensor<D>,
    gamma: Option<Tensor<1>>,
    others: Option<Tensor<1>>,
    spec: Spec,
) -> (Tensor<Y>, Tensor<1>) {
    let absent = || Tensor::<1>::zeros([1], (&x.device(), x.dtype()));
    let [gamma, others] = [gamma, others].map(|of| of.unwrap_or_else(absent).into_dispatch());
    let (y, tables) = <Dispatch as NormOps>::normalize(x.into_dispatch(), gamma, others, spec);
    (Tensor::from_dispatch(y), Tensor::from_dispatch(tables))
}

fn values_of_mask<const D: usize>(mask: Tensor<D, Bool>) -> Mask {
    let shape = mask.dims();
    let valid = ArrayD::from_shape_vec(IxDyn(&shape), mask.into_data().iter::<bool>().collect());
    Mask::Values(valid.expect("as many as the mask has"))
}

/// The mask of each value of a tensor.
fn expand_mask<const D: usize>(
    mask: Tensor<D, Bool>,
    shape: [usize; D],
) -> Result<Tensor<D, Bool>, Error> {
    // it says why a mask does not fit
    values_of_mask(mask.clone()).over(&shape)?;
    Ok(mask.expand(shape))
}

/// The mean, the biased variance and the number of values of each cell.
fn moments<const D: usize>(x: Tensor<D>, cells: Cells) -> (Tensor<1>, Tensor<1>, Vec<f64>) {
    let count = cells.count();
    let (mean, variance) = moments_of_cells(x, cells, [1, count]);
    let counts = vec![cells.positions as f64; count];
    (mean.reshape([count]), variance.reshape([count]), counts)
}

/// The mean and the biased variance of each cell, in f64 where the operation is fused.
pub(crate) fn moments_of_cells<const D: usize>(
    x: Tensor<D>,
    cells: Cells,
    shape: [usize; 2],
) -> (Tensor<2>, Tensor<2>) {
    if !is_fused(x.device().as_dispatch()) {
        return composed::cell_moments(x, cells, shape);
    }
    let moments = operation::<D, 2>(x, None, None, Spec::bare(Form::Moments(cells))).0;
    let table = |i: usize| moments.clone().narrow(0, i, 1).reshape(shape);
    (table(0), table(1))
}

/// (x − center) · scale + offset with a value for each cell in every table.
pub(crate) fn affine_of_cells<const D: usize>(
    x: Tensor<D>,
    tables: [Tensor<2>; 3],
    cells: Cells,
) -> Tensor<D> {
    if !is_fused(x.device().as_dispatch()) {
        return composed::cell_affine(x, tables, cells);
    }
    let tables = tables.map(|table| table.cast(DType::F64).reshape([cells.count()]));
    let spec = Spec::bare(Form::Affine(cells));
    operation(x, None, Some(Tensor::cat(tables.into(), 0)), spec).0
}
