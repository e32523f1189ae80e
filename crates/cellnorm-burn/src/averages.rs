//! Running averages as Burn holds them.
//!
//! running += weight · (batch − running), with the weight that [`Momentum`] says: cumulative or
//! pooled, 1 over the number of batches so far. Pooled, weight · (1 − weight) · (mean − running
//! mean)² comes to the running variance. A batch without values is no step, nor is one whose
//! statistics are not all finite in the type of the averages. While a thread records, they stay
//! instead, and count, mean and Σ (x − mean)² of what the layers see are merged over batches.
//!
//! Burn's [`RunningState`] keeps an update apart until the next one, or until someone asks for it:
//! records and clones would lack it, and it would undo what is loaded. [`set`] leaves none apart.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::{Add, Mul, Neg};
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param, ParamId, RunningState};
use burn::tensor::{DType, Device, Tensor};
use cellnorm::rule::Tracked;
use cellnorm::{Moments, Momentum, OneValue, RunningVariance};

use crate::composed::wide;
use crate::ops::is_fused;
use crate::tables::{Table, numbers};

/// A running average, flat; None where the layer keeps none.
pub(crate) type Average = Option<RunningState<Tensor<1>>>;

/// A running state of these numbers, in f32 at least: smaller steps than those of half precision
/// move it.
pub(crate) fn state(values: &[f64], device: &Device) -> RunningState<Tensor<1>> {
    let dtype = wide(device.settings().float_dtype.into());
    RunningState::new(Tensor::from_data(values, (device, dtype)))
}

/// Gives a running state its next value, which records and clones have from here on.
pub(crate) fn set(state: &RunningState<Tensor<1>>, to: Tensor<1>) {
    state.update(to);
    state.value_sync();
}

/// A clone of the module with running statistics of its own, which move and load apart from the
/// module's; those of a plain clone are the module's. Parameters are equal, and train apart as
/// those of every clone. Training flags are the module's: what is frozen stays so, on every device.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use cellnorm_burn::{BatchNormConfig, clone_with_statistics};
/// let device = Device::flex().autodiff();
/// let teacher = BatchNormConfig::new(1).init(&device);
/// let (student, shared) = (clone_with_statistics(&teacher), teacher.clone());
/// let x = Tensor::<2>::from_floats([[9.0], [11.0]], &device);
/// student.forward(x.clone());
/// assert_eq!(teacher.running_mean.value().into_scalar::<f32>(), 0.0);
/// shared.forward(x);
/// assert_eq!(teacher.running_mean.value().into_scalar::<f32>(), 1.0);
/// ```
pub fn clone_with_statistics<M: Module>(module: &M) -> M {
    // Burn makes running states anew on the way into inference and back
    let inference = module.valid();
    let clone = match module.devices().iter().any(Device::is_autodiff) {
        true => inference.train(),
        false => inference,
    };
    let mut flags = Flags(HashMap::new());
    module.visit(&mut flags);
    clone.map(&mut flags)
}

/// The training flags of a module, which inference turns off.
struct Flags(HashMap<ParamId, bool>);

impl ModuleVisitor for Flags {
    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.0.insert(flag.id, flag.is_enabled());
    }
}

impl ModuleMapper for Flags {
    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        let enabled = self.0.get(&flag.id).copied();
        flag.map(|flag| flag.with(enabled.unwrap_or(flag.is_enabled())))
    }
}

/// A running mean and a running variance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Averages<'a> {
    pub(crate) mean: &'a RunningState<Tensor<1>>,
    pub(crate) variance: &'a RunningState<Tensor<1>>,
    /// How often they have moved; there is one where momentum counts the batches.
    pub(crate) batches: Option<&'a RunningState<Tensor<1>>>,
    /// Where those that a forward pass looks at and moves begin, and how many they are; None for
    /// all.
    pub(crate) part: Option<(usize, usize)>,
}

impl<'a> Averages<'a> {
    /// The averages of a layer, where it keeps any.
    pub(crate) fn of(
        mean: &'a Average,
        variance: &'a Average,
        batches: &'a Average,
    ) -> Option<Self> {
        let pair = mean.as_ref().zip(variance.as_ref());
        pair.map(|(mean, variance)| Self { mean, variance, batches: batches.as_ref(), part: None })
    }

    /// The running mean and variance.
    pub(crate) fn values(self) -> (Tensor<1>, Tensor<1>) {
        (self.value(self.mean), self.value(self.variance))
    }

    fn value(self, average: &RunningState<Tensor<1>>) -> Tensor<1> {
        let all = average.value_sync();
        match self.part {
            Some((start, len)) => all.narrow(0, start, len),
            None => all,
        }
    }

    fn update(self, average: &RunningState<Tensor<1>>, to: Tensor<1>) {
        let start = self.part.map_or(0, |(start, _)| start);
        // into the tensor that was there, which keeps its place on a training device
        let (all, len) = (average.value_sync(), to.dims()[0]);
        let all = if all.dtype() == to.dtype() { all } else { all.cast(to.dtype()) };
        set(average, all.slice_assign(start..start + len, to));
    }

    /// Counts a batch, and returns how many there are; `step` is 0 where it is no step.
    fn count(self, batches: &RunningState<Tensor<1>>, step: Tensor<1>) -> Tensor<1> {
        let kept = batches.value_sync().without_autodiff();
        let (device, dtype) = (kept.device(), wide(kept.dtype()));
        let counted = kept.cast(dtype) + step.to_device(&device).cast(dtype);
        self.update(batches, counted.clone());
        counted
    }
}

/// The number of batches so far, where momentum needs it: other layers' records stay those of
/// Burn's own.
pub(crate) fn batches(momentum: Momentum, so_far: u64, device: &Device) -> Average {
    momentum.counts_batches().then(|| state(&[so_far as f64], device))
}

/// How running averages move.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) momentum: Momentum,
    pub(crate) variance: RunningVariance,
}

impl Pace {
    /// running += weight · (batch − running), where the batch has any values; the variance where
    /// there is one to move toward ([`RunningVariance::moves`]). They stay where the batch's are
    /// not all finite. `correction` are further averages, with their own momentum.
    ///
    /// # Panics
    /// If momentum counts the batches and the layer has no count.
    pub(crate) fn follow(
        self,
        averages: Averages<'_>,
        correction: Option<(Averages<'_>, Momentum)>,
        tracked: Tracked<Table>,
        (epsilon, one_value): (f64, OneValue),
    ) {
        if record(averages, &tracked, self, epsilon, one_value) {
            return;
        }
        let Tracked { mean: Table(mean), variance: Table(variance), values } = tracked;
        // a batch without values is no step
        if values.iter().all(|n| *n == 0.0) {
            return;
        }
        // no gradient flows here, and each operation on a training device has a price
        let (mean, variance) = (mean.without_autodiff(), variance.without_autodiff());
        // clones of a layer may train in several threads, one step after another
        let _lock = lock();
        for (averages, momentum) in correction.into_iter().chain([(averages, self.momentum)]) {
            let batches = averages.batches.filter(|_| momentum.counts_batches());
            assert!(
                !momentum.counts_batches() || batches.is_some(),
                "{momentum:?} momentum counts the batches, and this layer has no \
                 num_batches_tracked; name it in the config, so that the layer is made with one"
            );
            let share =
                |moves: &dyn Fn(f64) -> bool| values.iter().map(|n| f64::from(moves(*n))).collect();
            let step = Step {
                averages,
                momentum,
                batches,
                stored: wide(averages.mean.value().dtype()),
                factors: values.iter().map(|n| self.variance.factor(*n, epsilon)).collect(),
                shares: [share(&|n| n > 0.0), share(&|n| self.variance.moves(n, one_value))],
                values: values.clone(),
            };
            if is_fused(mean.device().as_dispatch()) {
                step.take_numbers(numbers(mean.clone()), numbers(variance.clone()));
            } else {
                step.take_tensors(mean.clone(), variance.clone());
            }
        }
    }
}

/// A step of the running averages toward the statistics of a batch.
struct Step<'a> {
    averages: Averages<'a>,
    momentum: Momentum,
    /// The count of batches, where momentum needs it.
    batches: Option<&'a RunningState<Tensor<1>>>,
    /// The type that the averages are stored in.
    stored: DType,
    /// Times the variance of the batch, these are the targets of the running variance.
    factors: Vec<f64>,
    /// 1 where the mean and where the variance move, else 0.
    shares: [Vec<f64>; 2],
    /// The number of values of each statistic.
    values: Vec<f64>,
}

impl Step<'_> {
    /// Whether the spread of the batches' means is part of the variance; σ, which renormalization
    /// keeps of infinitely many values, has none.
    fn spreads(&self) -> bool {
        self.momentum == Momentum::Pooled && self.values.iter().all(|n| n.is_finite())
    }

    /// In a loop over the numbers, where an operation costs more than all of them.
    fn take_numbers(self, mean: Vec<f64>, mut variance: Vec<f64>) {
        let spreads = self.spreads();
        let Self { averages, momentum, batches, stored, factors, shares, .. } = self;
        variance.iter_mut().zip(factors).for_each(|(of, factor)| *of *= factor);
        let pair = [averages.mean, averages.variance];
        let before = pair.map(|average| averages.value(average).without_autodiff());
        let device = before[0].device();
        let kept = before.map(numbers);
        let square = |(mean, kept): (&f64, &f64)| (mean - kept) * (mean - kept);
        let apart: Vec<f64> =
            if spreads { mean.iter().zip(&kept[0]).map(square).collect() } else { vec![] };
        let finite = |value: &f64| match stored {
            DType::F64 => value.is_finite(),
            _ => (*value as f32).is_finite(),
        };
        if !mean.iter().chain(&variance).chain(&apart).all(finite) {
            return;
        }
        let weight = match batches {
            Some(batches) => {
                numbers(averages.count(batches, Tensor::ones([1], &device)))[0].recip()
            }
            None => momentum.weight(1),
        };
        let targets = [mean, variance];
        let mut to: [Vec<f64>; 2] = std::array::from_fn(|i| {
            let all = kept[i].iter().zip(&targets[i]).zip(&shares[i]);
            all.map(|((kept, target), share)| moved(*kept, *target, share * weight)).collect()
        });
        for ((variance, apart), share) in to[1].iter_mut().zip(apart).zip(&shares[0]) {
            *variance += share * momentum.spread(weight) * apart;
        }
        for (average, values) in pair.into_iter().zip(to) {
            averages.update(average, Tensor::from_data(&values[..], (&device, stored)));
        }
    }

    /// On the device, which the host would have to wait for.
    fn take_tensors(self, mean: Tensor<1>, variance: Tensor<1>) {
        let spreads = self.spreads();
        let Self { averages, momentum, batches, stored, factors, shares, .. } = self;
        let (device, dtype) = (mean.device(), mean.dtype());
        let table = |values: Vec<f64>| Tensor::<1>::from_data(&values[..], (&device, dtype));
        let pair = [averages.mean, averages.variance];
        let before = pair.map(|average| averages.value(average).without_autodiff());
        let kept = before.each_ref().map(|of| of.clone().to_device(&device).cast(dtype));
        let mut targets = vec![mean.clone(), variance * table(factors)];
        if spreads {
            targets.push((mean - kept[0].clone()).square());
        }
        let finite = Tensor::cat(targets.clone(), 0).cast(stored).is_finite().all();
        let step = finite.clone().float().cast(dtype);
        let weight = match batches {
            Some(batches) => {
                let counted = averages.count(batches, step.clone()).to_device(&device).cast(dtype);
                step / counted.clamp_min(1.0)
            }
            None => step * momentum.weight(1),
        };
        let ignored = finite.bool_not();
        // 0 times what is not finite is not 0
        let sound = |target: Tensor<1>, instead: Tensor<1>| {
            target.mask_where(ignored.clone().expand(instead.shape()), instead)
        };
        let shares = shares.map(table);
        let mut to: [Tensor<1>; 2] = std::array::from_fn(|i| {
            let target = sound(targets[i].clone(), kept[i].clone());
            moved(kept[i].clone(), target, shares[i].clone() * weight.clone())
        });
        if let Some(apart) = targets.get(2) {
            let spread = (-weight.clone() + 1.0) * weight;
            let apart = sound(apart.clone(), apart.zeros_like());
            to[1] = to[1].clone() + apart * shares[0].clone() * spread;
        }
        for ((average, before), values) in pair.into_iter().zip(before).zip(to) {
            averages.update(average, values.cast(stored).to_device(&before.device()));
        }
    }
}

/// Held by the thread whose step moves running averages.
static STEP: Mutex<()> = Mutex::new(());

/// Waits until no other thread moves a running state.
pub(crate) fn lock() -> MutexGuard<'static, ()> {
    STEP.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a running average stands after a step; as a difference, a full step would round a small
/// batch away.
fn moved<V>(running: V, batch: V, share: V) -> V
where
    V: Clone + Neg<Output = V> + Mul<Output = V> + Add<Output = V> + Add<f64, Output = V>,
{
    running * (-share.clone() + 1.0) + batch * share
}

thread_local! {
    static RECORDED: RefCell<Option<Records>> = const { RefCell::new(None) };
}

/// By the id of the running mean.
pub(crate) type Records = HashMap<ParamId, Recorded>;

/// The batches that one layer has seen, and the rule of its running variance.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) moments: Vec<Moments>,
    pub(crate) rule: RunningVariance,
    pub(crate) epsilon: f64,
    pub(crate) one_value: OneValue,
}

impl Recorded {
    pub(crate) fn new(
        sets: usize,
        rule: RunningVariance,
        epsilon: f64,
        one_value: OneValue,
    ) -> Self {
        Self { moments: vec![Moments::default(); sets], rule, epsilon, one_value }
    }

    /// Merges a batch: the number of values, the mean and the variance of each set from one on.
    pub(crate) fn merge(&mut self, start: usize, batch: impl Iterator<Item = (f64, f64, f64)>) {
        for (moments, (count, mean, variance)) in self.moments[start..].iter_mut().zip(batch) {
            *moments = moments.merge(Moments { count, mean, m2: variance * count });
        }
    }

    /// The statistics of all batches together, with those that the layer has for sets that say
    /// nothing.
    pub(crate) fn statistics(&self, mean: &[f64], variance: &[f64]) -> [Vec<f64>; 2] {
        let with_running = || self.moments.iter().zip(mean.iter().zip(variance));
        let means = with_running()
            .map(|(moments, (mean, _))| if moments.count > 0.0 { moments.mean } else { *mean });
        let variances = with_running().map(|(moments, (_, variance))| {
            if self.rule.moves(moments.count, self.one_value) {
                moments.variance() * self.rule.factor(moments.count, self.epsilon)
            } else {
                *variance
            }
        });
        [means.collect(), variances.collect()]
    }
}

/// While it is there, layers that train on this thread report what they see, and their running
/// averages stay.
pub(crate) struct Recording;

impl Recording {
    pub(crate) fn start() -> Self {
        RECORDED.set(Some(Records::default()));
        Self
    }

    pub(crate) fn finish(self) -> Records {
        RECORDED.take().unwrap_or_default()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        RECORDED.set(None);
    }
}

/// Takes what a batch says in place of the running averages; false if nobody records.
fn record(
    averages: Averages<'_>,
    tracked: &Tracked<Table>,
    pace: Pace,
    epsilon: f64,
    one_value: OneValue,
) -> bool {
    RECORDED.with_borrow_mut(|records| {
        let Some(records) = records else { return false };
        let mut id = Id(None);
        averages.mean.visit(&mut id);
        let Some(id) = id.0 else { return false };
        let sets = averages.mean.value().dims()[0];
        let new = || Recorded::new(sets, pace.variance, epsilon, one_value);
        let recorded = records.entry(id).or_insert_with(new);
        let [means, variances] =
            [&tracked.mean, &tracked.variance].map(|table| numbers(table.0.clone()));
        let start = averages.part.map_or(0, |(start, _)| start);
        let batch = means.into_iter().zip(variances).zip(&tracked.values);
        recorded.merge(start, batch.map(|((mean, variance), count)| (*count, mean, variance)));
        true
    })
}

/// The id of a running average, which it tells visitors alone.
struct Id(Option<ParamId>);

impl ModuleVisitor for Id {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0 = Some(param.id);
    }
}
